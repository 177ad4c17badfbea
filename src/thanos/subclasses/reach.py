"""Whether a new image is like any that discovery saw, or nobody's.

By the distance to its fifth nearest training image (Sun et al. 2022, "Out-of-distribution detection with deep nearest
neighbours"), in the backbone's features where there are some: what a head makes of its training images says nothing of
images of another kind. The limit lets 99% of the validation images pass, which the encoder was not trained on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import Embeddings
from thanos.subclasses.fitted import of_length, squared_distances

KNOWN, NEAREST, PASS, FEWEST = 2000, 5, 0.99, 50
"""Training images that are kept, at most; which neighbour counts; the share of validation images that pass; and how
many of these there must be, else no image is called nobody's."""
_AT_ONCE = 4096


@dataclass(frozen=True)
class Reach:
    """How far an image may be from those that are known."""

    known: NDArray[np.float32]
    """Of unit length, (images, dim)."""
    limit: float
    columns: tuple[int, int] | None
    """From which number of a vector to which; None: all."""

    def is_beyond(self, vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which vectors, (n, dim), are further from what is known than the limit."""
        return np.asarray(self.apart(vectors) > self.limit)

    def apart(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distance of each to the NEAREST-th of those that are known, (n,)."""
        x, known = of_length(vectors[:, slice(*self.columns or (None,))], "unit"), self.known.astype(np.float64)
        parts = [
            np.partition(squared_distances(x[start : start + _AT_ONCE], known), NEAREST - 1, axis=1)[:, NEAREST - 1]
            for start in range(0, len(x), _AT_ONCE)
        ]
        return np.asarray(np.sqrt(np.concatenate([np.zeros(0), *parts])))


def fit_reach(embeddings: Embeddings, seed: int = 0) -> Reach | None:
    """From training and validation rows, labels unseen; None where these are too few.

    Args:
        embeddings: What was clustered.
        seed: Of the sample that is kept.
    """
    train, held_out = embeddings.rows("train"), embeddings.rows("validation")
    if len(train) < FEWEST or len(held_out) < FEWEST:
        return None
    columns = embeddings.columns.get("features")
    some = np.sort(np.random.default_rng(seed).permutation(train)[:KNOWN])
    known = of_length(embeddings.vectors[some][:, slice(*columns or (None,))], "unit").astype(np.float32)
    limit = float(np.quantile(Reach(known, 0.0, columns).apart(embeddings.vectors[held_out]), PASS))
    return Reach(known, limit, columns)
