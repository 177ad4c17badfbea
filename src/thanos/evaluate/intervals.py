"""95% intervals that know how many images they rest on, down to one; and of a mean over few seeds.

Wilson's and the bootstrap's intervals of few images are too sure: of three images that are all right the bootstrap says
100% to 100%, and Wilson's covers a share of .99 in 84% of samples of 17 instead of 95%. What stands here covers its
truth in at least 93% of samples of any size from one on (tests/evaluate/test_intervals.py); most cover it more often.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]
FEW = 50
"""A number that rests on fewer images is marked: one image moves a share by more than two points."""
DRAWS = 2000


def share_interval(share: float, n: int) -> Interval:
    """Of a share of n independent cases, exact: it covers the truth in 95% of samples or more.

    Source: Clopper and Pearson, Biometrika 1934.

    Example:
        >>> [round(limit, 4) for limit in share_interval(1.0, 3)]
        [0.2924, 1.0]
    """
    low, high = _limits(share, n, 0.05)
    return float(low), float(high)


def _limits(share: ArrayLike, n: ArrayLike, miss: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clopper and Pearson's limits of shares, each side of which misses the truth in half of ``miss``."""
    from scipy.special import betaincinv

    size = np.asarray(n, dtype=np.float64)
    count = np.asarray(share, dtype=np.float64) * size
    wrong = size - count
    low = np.where(count > 0, betaincinv(np.maximum(count, 1e-9), wrong + 1, miss / 2), 0.0)
    high = np.where(wrong > 0, betaincinv(count + 1, np.maximum(wrong, 1e-9), 1 - miss / 2), 1.0)
    return low, high


def lowest_share_interval(share: Sequence[float], n: Sequence[int]) -> Interval:
    """Of the lowest of several true shares, whichever it is.

    Every group's limits miss in a share of 5% that groups divide among them (Bonferroni), so all of them hold at once;
    the lowest share then lies between the lowest lower and the lowest upper limit. A group of three images draws the
    interval down however well they come out, as long as the truth may be that low.

    Args:
        share: Of each group, measured.
        n: Images of each group, >= 1.
    """
    low, high = _limits(share, n, 0.05 / len(share))
    return float(low.min()), float(high.min())


def mean_share_interval(
    share: NDArray[np.float64], n: NDArray[np.int64], weight: NDArray[np.float64], seed: int = 0
) -> Interval:
    """Of a weighted mean of independent shares; of a single one that of :func:`share_interval`.

    The lower limit is a quantile of means of draws whose own quantiles are Clopper and Pearson's lower limits, and so
    for the upper one.

    Args:
        share, n, weight: Measured share, images (>= 1) and weight of each group; weights sum to one.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    right = np.round(share * n)
    low, high = (_drawn(rng, right + more, n - right + 1 - more) @ weight for more in (0, 1))
    return float(np.quantile(low, 0.025)), float(np.quantile(high, 0.975))


def _drawn(rng: np.random.Generator, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Beta draws, (DRAWS, groups); where a parameter is 0 they lie at that end."""
    drawn = rng.beta(np.maximum(a, 1e-300), np.maximum(b, 1e-300), (DRAWS, len(a)))
    drawn[:, a <= 0] = 0.0
    drawn[:, b <= 0] = 1.0
    return drawn


def difference_interval(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """Of a - b, from both intervals. For measures on the same images it is wider than it need be.

    Source: MOVER, Zou and Donner, Statistics in Medicine 2008, which is Newcombe's for two shares.
    """
    low = a - b - math.hypot(a - of_a[0], of_b[1] - b)
    high = a - b + math.hypot(of_a[1] - a, b - of_b[0])
    return low, high


def paired_difference_interval(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Interval:
    """Of the difference of two shares measured on the same images: only images on which they differ count.

    MOVER on the shares of images where a alone and where b alone is right, which exclude each other.

    Args:
        a, b: Whether each is right on an image, shapes (n,).
    """
    n = len(a)
    x, y = float((a & ~b).mean()), float((b & ~a).mean())
    (low_x, high_x), (low_y, high_y) = share_interval(x, n), share_interval(y, n)
    together = -min(1.0, math.sqrt(x * y / max((1 - x) * (1 - y), 1e-12)))  # correlation of the two counts
    low = x - y - math.sqrt((x - low_x) ** 2 + (high_y - y) ** 2 - 2 * together * (x - low_x) * (high_y - y))
    high = x - y + math.sqrt((high_x - x) ** 2 + (y - low_y) ** 2 - 2 * together * (high_x - x) * (y - low_y))
    return max(-1.0, low), min(1.0, high)


def lowest_share(groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The group with the lowest ``accuracy``, from ``accuracy`` and ``n`` by name.

    Returns:
        ``name``, ``accuracy``, its ``n``, ``small`` (n < 50), and the ``interval`` of the lowest true accuracy.
    """
    name = min(groups, key=lambda each: groups[each]["accuracy"])
    accuracy, n = groups[name]["accuracy"], groups[name]["n"]
    around = lowest_share_interval(*zip(*((g["accuracy"], g["n"]) for g in groups.values()), strict=True))
    return {"name": name, "accuracy": accuracy, "n": n, "small": n < FEW, "interval": around}


def surely_lowest(groups: dict[str, dict[str, Any]]) -> str:
    """Of groups with ``accuracy`` and ``n`` the one whose interval ends lowest: one image may be wrong by chance.

    Example:
        >>> surely_lowest({"rare": {"accuracy": 0.0, "n": 1}, "hard": {"accuracy": 0.4, "n": 50}})
        'hard'
    """
    return min(groups, key=lambda name: share_interval(groups[name]["accuracy"], groups[name]["n"])[1])


def mean_interval(values: Sequence[float]) -> Interval:
    """95% interval of a mean by Student's t over seeds; infinite for one seed."""
    if len(values) < 2:
        return -math.inf, math.inf
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p values, in their order, corrected for how many they are (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(steps, 1)
    return corrected
