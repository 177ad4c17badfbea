"""Neighbours as views: training rows of a row's own superclass that lie nearest to it.

What is pulled together then is a row and its surroundings, not a row and noise on it; so groups of a superclass become
denser while the whole of it is spread (the idea of nearest-neighbour contrast: Dwibedi et al., ICCV 2021).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

AMONG = 20_000
"""Training rows of a superclass, at most, among which neighbours are looked for."""
AT_ONCE = 1024
"""Rows whose neighbours are looked for together."""


@dataclass(frozen=True)
class WithNeighbours:
    """Rows (n, dim), or with views made before (n, 1 + views, dim), and behind each its neighbours' own vectors."""

    values: NDArray[np.float32]
    nearest: NDArray[np.int64]
    """(n, count)"""

    @property
    def shape(self) -> tuple[int, ...]:
        own = self.values.shape[1:-1] or (1,)
        return (len(self.values), own[0] + self.nearest.shape[1], self.values.shape[-1])

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        own, near = self.values[rows], self.values[self.nearest[rows]]
        if own.ndim == 2:
            return np.concatenate([own[:, None], near], axis=1)
        return np.concatenate([own, near[:, :, 0]], axis=1)


def nearest_of_superclass(
    vectors: NDArray[np.float32],
    superclass: NDArray[np.int64],
    train: NDArray[np.int64],
    count: int,
    *,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> NDArray[np.int64]:
    """The training rows of its superclass that are nearest to each training row, by the cosine of standardised rows.

    Args:
        vectors: (n, dim), in memory or memory-mapped.
        superclass: (n,)
        train: The training rows.
        count: Neighbours of each.
        mean, std: Of each feature, (dim,).
    Returns:
        (n, count), nearest first, a row itself left out; where there are too few, and for other rows, the row itself.
    """
    import torch  # data are read without it
    from torch.nn.functional import normalize

    found = np.repeat(np.arange(len(vectors))[:, None], count, axis=1)

    def directions(rows: NDArray[np.int64]) -> "torch.Tensor":
        return normalize(torch.from_numpy((vectors[rows] - mean) / std), dim=1)

    for value in np.unique(superclass[train]):
        members = train[superclass[train] == value]
        among = members[np.linspace(0, len(members) - 1, min(AMONG, len(members))).astype(np.int64)]
        keys, kept = directions(among), min(count, len(among) - 1)
        if kept < 1:
            continue
        for start in range(0, len(members), AT_ONCE):
            rows = members[start : start + AT_ONCE]
            near = among[(directions(rows) @ keys.T).topk(kept + 1, dim=1).indices.numpy()]
            itself = near == rows[:, None]
            itself[~itself.any(axis=1), -1] = True  # one of so many equal rows, or not among those looked at
            first = itself & (itself.cumsum(axis=1) == 1)
            found[rows, :kept] = near[~first].reshape(len(rows), kept)
    return found
