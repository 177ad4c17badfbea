"""Embeddings in the plane, for the eye: by t-SNE, where there is something to see."""

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import ordinary_size

COMPONENTS = 50
"""Principal components that t-SNE takes, of more dimensions."""


def neighbour_plane(vectors: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """t-SNE of the rows' directions, (n, 2); of very few rows their first two components.

    Returns:
        None where all rows point in one direction to within float32's precision: t-SNE would divide by their spread,
        which is zero.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    short = ordinary_size(vectors)
    unit = short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12)
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
        found = TSNE(random_state=0, perplexity=perplexity, init=start).fit_transform(unit)
    return np.asarray(found, dtype=np.float32)
