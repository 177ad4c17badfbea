"""Embeddings in the plane, for the eye: by t-SNE, where there is something to see."""

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import ordinary_size

COMPONENTS = 50
"""Principal components that t-SNE takes, of more dimensions."""
STEPS = 1000
"""Of t-SNE's descent."""
NEAREST = 5
"""Of the placed rows, those that another one is put among."""


def neighbour_plane(vectors: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """t-SNE of the rows' directions, (n, 2); of very few rows their first two components.

    Returns:
        None where all rows point in one direction to within float32's precision: t-SNE would divide by their spread,
        which is zero.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    unit = directions(vectors)
    if len(unit) < 2 or not np.ptp(unit, axis=0).max() > 1e-6:
        return None
    if unit.shape[1] > COMPONENTS and len(unit) > COMPONENTS:
        unit = PCA(COMPONENTS, random_state=0).fit_transform(unit)
    perplexity = min(30, (len(unit) - 1) // 3)
    if perplexity < 2:
        place = np.zeros((len(unit), 2), dtype=np.float32)
        place[:, : min(2, unit.shape[1])] = unit[:, :2]
        return place
    start = "pca" if min(unit.shape) > 1 else "random"
    with threadpool_limits(1):  # its threads wait for each other by spinning: on busy cores, for minutes
        found = TSNE(random_state=0, perplexity=perplexity, init=start, max_iter=STEPS).fit_transform(unit)
    return np.asarray(found, dtype=np.float32)


def placed_beside(
    vectors: NDArray[np.float32], placed: NDArray[np.int64], plane: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Places of all rows: of some as given, of each other one among its nearest of these.

    Args:
        vectors: All rows, (n, dim).
        placed: Which of them have a place, (m,).
        plane: Their places, (m, 2).
    Returns:
        (n, 2): the mean of the nearest placed rows by cosine, weighted by one over their squared distance.
    """
    result = np.empty((len(vectors), 2), dtype=np.float32)
    result[placed] = plane
    others = np.setdiff1d(np.arange(len(vectors)), placed)
    near, squared = nearest_rows(directions(vectors[others]), directions(vectors[placed]), NEAREST)
    weight = 1 / np.maximum(squared, 1e-6)
    result[others] = (plane[near] * weight[..., None]).sum(axis=1) / weight.sum(axis=1, keepdims=True)
    return result


def nearest_rows(
    x: NDArray[np.float32], y: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows of y that are nearest to each of x, the nearest first, and their squared distances, (n, count) each.

    Args:
        x, y: Rows of unit length.
        count: At most so many.
    """
    count = min(count, len(y))
    near = np.empty((len(x), count), dtype=np.int64)
    squared = np.empty((len(x), count), dtype=np.float32)
    for start in range(0, len(x), 2048):
        cosine = x[start : start + 2048] @ y.T
        best = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(cosine, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        near[start : start + 2048] = best
        squared[start : start + 2048] = np.maximum(2 - 2 * np.take_along_axis(cosine, best, axis=1), 0)
    return near, squared


def directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows at unit length."""
    short = ordinary_size(vectors)
    return np.asarray(short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12))
