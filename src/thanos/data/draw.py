"""Rows drawn so that every label keeps its share."""

import numpy as np
from numpy.typing import NDArray


def draw_stratified(
    rows: NDArray[np.int64], label: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` of ``rows``, with each label's share kept to within one image.

    Args:
        rows: Positions in ``label``.
        label: Of every image, shape (n,).
        count: At most the number of rows.
        rng: Equal states give equal draws.
    """
    shuffled = rng.permutation(rows)
    by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
    marks = (np.arange(count) + rng.random()) * len(rows) / max(count, 1)  # evenly spaced along the sorted rows
    return by_label[marks.astype(np.int64)]
