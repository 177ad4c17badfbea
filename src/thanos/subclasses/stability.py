"""Whether a discovered subclass would be found again in other images of the same kind.

Parts of the training images are clustered anew, with other starts. A subclass holds in such a draw if it and its best
match share more than half of the images that either has (Jaccard; below a half Hennig 2007, "Cluster-wise assessment of
cluster stability", calls it dissolved). An estimate from a third of n differs from that of all n, which contain it, by
a variance of 3/n - 1/n, as much as two fresh draws of n do: so the probability that is told rests on thirds.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Ids = NDArray[np.int64]
DRAWS, THIRD, HELD, MOST = 20, 1 / 3, 0.5, 5000
"""Of more images a sample of MOST is looked at."""


def probability_of_holding(
    x: Rows,
    found: Ids,
    cluster: Callable[[Rows, int], Callable[[Rows], Ids]],
    rng: np.random.Generator,
    *,
    numbers: Sequence[int] = (),
) -> list[float]:
    """Of each cluster, the share of draws in which it holds.

    Args:
        x: Rows that were clustered, (n, dim).
        found: Their clusters, (n,), 0 to k - 1, none empty.
        cluster: Fits k clusters to some rows, and returns what tells the cluster of any.
        rng: Of the draws.
        numbers: Of clusters, which draws take in turn, as a fresh draw chooses its own; empty: as many as were found.
    """
    count = int(found.max()) + 1
    rows = np.sort(rng.permutation(len(x))[:MOST])
    x, found = x[rows], found[rows]
    held = np.zeros(count)
    for draw in range(DRAWS):
        wanted = numbers[draw % len(numbers)] if numbers else count
        some = rng.permutation(len(x))[: max(wanted, round(THIRD * len(x)))]
        held += best_overlaps(found, cluster(x[some], wanted)(x), count) > HELD
    return [float(each) for each in held / DRAWS]


def best_overlaps(found: Ids, again: Ids, count: int) -> Rows:
    """Of each cluster of ``found`` the largest Jaccard overlap with one of ``again``, (count,)."""
    other = int(again.max()) + 1
    both = np.bincount(found * other + again, minlength=count * other).reshape(count, other)
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
    return np.asarray((both / np.maximum(either, 1)).max(axis=1))
