"""What to label next: how much the subclass that is served worst would gain by more images, estimated by leaving out.

A plain classifier is fitted with ever fewer of the subclass's training images; the curve along which its accuracy on
held-out ones falls says how it would rise with more. No fine label plays any part.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import Embeddings, one_size
from thanos.evaluate.intervals import Interval, share_interval, surely_lowest
from thanos.evaluate.scores import Scores
from thanos.robust.head import Head, Standardised, fit_weighted, standardise
from thanos.robust.methods import STRENGTHS, path
from thanos.robust.plain import Errors
from thanos.subclasses.fitted import Discovered

KEPT = (1.0, 0.75, 0.5, 0.3)
"""Shares of the subclass's training images that a classifier is fitted with."""
DRAWS = 8
"""Of each share below one."""
DIMENSIONS = 256
"""Principal components that the classifiers see: a fit takes milliseconds."""
MOST = 3000
"""Training images of the subclass, and of the others, at most: of more a random part stands for all."""
FEWEST, FEWEST_HELD_OUT = 24, 10
"""Training and held-out images of a subclass of which anything is stated."""
MORE = 50
"""Labels that are spoken of; of a small subclass as many as it has."""
WORTH = 0.005
"""A rise that is surely smaller is none."""


@dataclass(frozen=True)
class Expected(Scores):
    """What more labels of a subclass would bring."""

    more: int
    """Labelled images of it beside those that there are."""
    labelled: int
    """Training images that it has."""
    gain: float
    """Rise of the share of its images whose superclass a plain classifier tells."""
    interval: Interval
    """95%, of the mean over draws of the images."""


@dataclass(frozen=True)
class Advice(Scores):
    """What to do next."""

    what: Literal["label", "photograph", "nothing"]
    subclass: str
    """That a plain classifier serves worst."""
    accuracy: float
    """On held-out images of it."""
    n: int
    gain: Expected | None
    """None where there is nothing to do, or too little to tell."""


def advise(embeddings: Embeddings, found: Discovered, errors: Errors | None, seed: int = 0) -> Advice | None:
    """What to do next for the subclass that a plain classifier serves worst.

    ``nothing``: its errors are not surely more frequent than those of all images, or more labels would surely not help.
    ``photograph``: it has too few images to tell what more would bring. ``label``: else, with the gain. Served worst is
    the one whose accuracy is surely lowest, by the upper end of its interval: two images may be wrong by chance.

    Args:
        embeddings: With their splits.
        found: The subclasses.
        errors: Of a plain classifier on held-out images; None: not known.
        seed: Of what is left out.
    Returns:
        None where no errors are known.
    """
    shares = {} if errors is None else errors.accuracies(found)
    whole = None if errors is None else errors.share(np.arange(len(embeddings)))
    if not shares or whole is None:
        return None
    name = surely_lowest(shares)
    worst, number = shares[name], found.names.index(name)
    high = share_interval(worst["accuracy"], worst["n"])[1]
    train = int((embeddings.in_split("train") & (found.cluster == number)).sum())
    said = (name, worst["accuracy"], worst["n"])
    if train < FEWEST or worst["n"] < FEWEST_HELD_OUT:
        return Advice("photograph", *said, None)
    if len(shares) < 2 or high >= 1 - whole[0]:
        return Advice("nothing", *said, None)
    gain = expected_gain(embeddings, found.cluster == number, min(MORE, train), seed)
    if gain.interval[1] < WORTH:
        return Advice("nothing", *said, gain)
    return Advice("label", *said, gain) if gain.gain >= WORTH else Advice("photograph", *said, None)


def expected_gain(embeddings: Embeddings, mine: NDArray[np.bool_], more: int, seed: int = 0) -> Expected:
    """How much more accurate a plain classifier becomes on some images when it is fitted with more of them.

    Args:
        embeddings: Of which the training split is fitted, and the others are held out.
        mine: Which images are meant, (n,); some in training and some held out.
        more: How many are added.
        seed: Of what is left out.
    """
    labelled = int((embeddings.in_split("train") & mine).sum())
    return extrapolated(left_out(embeddings, mine, seed), labelled, more)


def left_out(embeddings: Embeddings, mine: NDArray[np.bool_], seed: int = 0) -> NDArray[np.float64]:
    """Whether classifiers that are fitted with ever fewer of some images tell those that are held out.

    Args:
        embeddings, mine, seed: As for :func:`expected_gain`.
    Returns:
        1 or 0 by draw, share kept (:data:`KEPT`) and held-out image, (draws, shares, images).
    """
    rng, train = np.random.default_rng((seed, 7)), embeddings.in_split("train")
    held = np.flatnonzero(mine & ~train)
    others = np.flatnonzero(train & ~mine)
    own = np.flatnonzero(train & mine)
    own = own if len(own) <= MOST else rng.permutation(own)[:MOST]
    rows, n = np.concatenate([own, rng.permutation(others)[:MOST]]), len(own)
    x = _reduced(embeddings, rows)
    data = standardise(x[rows], embeddings.superclass[rows], len(embeddings.superclass_names))
    strength, whole = _strength(data, x, embeddings, train)
    right = np.empty((DRAWS, len(KEPT), len(held)))
    right[:, 0] = whole.predict(x[held]) == embeddings.superclass[held]
    for draw in range(DRAWS):
        order = rng.permutation(n)
        for at, share in enumerate(KEPT[1:], start=1):
            kept = np.concatenate([order[: max(1, round(share * n))], np.arange(n, len(rows))])
            head = fit_weighted(data.take(kept), None, strength, start=whole)
            right[draw, at] = head.predict(x[held]) == embeddings.superclass[held]
    return right


def extrapolated(right: NDArray[np.float64], n: int, more: int) -> Expected:
    """The rise along the curve through what was left out: the log-odds of being right, straight by the log of n.

    So a subclass that is hardly ever told gains faster and faster, and one that nearly always is gains ever less.

    Args:
        right: As :func:`left_out` gives it.
        n: Training images.
        more: How many are added.
    """
    from scipy.special import expit, logit
    from scipy.stats import t

    x, images = np.log2(KEPT), right.shape[2]
    share = (right.mean(axis=(0, 2)) * images + 0.5) / (images + 1)  # neither 0 nor 1
    slope = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    at = np.stack([1 / len(x) + (ahead - x.mean()) * slope for ahead in (0.0, np.log2(1 + more / n))])
    now, then = expit(at @ logit(share))
    by_share = ((then * (1 - then) * at[1] - now * (1 - now) * at[0]) / (share * (1 - share))) * images / (images + 1)
    each = np.einsum("dsi,s->di", right, by_share)  # what every image adds to the rise, to the first order
    by_image, unseen = each.mean(axis=0), by_share[np.array(KEPT) > 0.5].sum()  # one image more, lost with half of n
    variance = (((by_image - by_image.mean()) ** 2).sum() + unseen**2) / images**2
    variance += each.mean(axis=1).var(ddof=1) / len(each)
    gain, half = float(then - now), float(t.ppf(0.975, images - 1) * np.sqrt(variance))
    return Expected(more, n, gain, (gain - half, gain + half))


def _reduced(embeddings: Embeddings, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """All embeddings in the principal components of some."""
    vectors = one_size(embeddings.vectors).astype(np.float64)
    centre = vectors[rows].mean(axis=0)
    if vectors.shape[1] <= DIMENSIONS:
        return np.asarray(vectors - centre)
    scatter = (vectors[rows] - centre).T @ (vectors[rows] - centre)
    return np.asarray((vectors - centre) @ np.linalg.eigh(scatter)[1][:, -DIMENSIONS:])


def _strength(
    data: Standardised, x: NDArray[np.float64], embeddings: Embeddings, train: NDArray[np.bool_]
) -> tuple[float, Head]:
    """The penalty that serves all held-out images best, and the head that it gives."""
    tried = path(STRENGTHS, partial(fit_weighted, data, None))
    true = embeddings.superclass[~train]
    return max(tried, key=lambda each: float((each[1].predict(x[~train]) == true).mean()))
