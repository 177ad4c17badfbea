"""Ready-made vectors as the record that training takes: any model's features, with labels and splits."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import FeatureViewSpec, ViewSpec
from thanos.data.neighbours import WithNeighbours, nearest_of_superclass
from thanos.data.samples import Samples, Values
from thanos.errors import ConfigError, DataError

ROUNDING = 1e-12
"""The deviation, of numbers up to 2, that rounding alone may give one value."""
CHUNK = 2**22
"""Numbers that are looked at at a time: vectors may be a memory map larger than the memory."""


@dataclass(frozen=True, kw_only=True)
class VectorSet(Samples):
    """Labelled vectors, for an encoder of vectors (``encoder="mlp"``).

    Raises:
        DataError: for another shape or type, or numbers that are not finite.

    Example:
        >>> rows = np.eye(4, dtype=np.float32)
        >>> kinds, split = np.array([0, 0, 1, 1]), np.zeros(4, dtype=np.int8)
        >>> VectorSet(name="eye", vectors=rows, superclass=kinds, superclass_names=("a", "b"), split=split).mean_std[0]
        (0.25, 0.25, 0.25, 0.25)
    """

    kind, livelier = "vectors", "give their views some `noise` or `dropout`"
    vectors: NDArray[np.float32] = field(repr=False)
    """(n, dim), in memory or memory-mapped"""
    views: FeatureViewSpec = field(default_factory=FeatureViewSpec)
    """The noise of their views."""
    file: str = ""
    """Where they lie; empty: in memory."""
    finite: bool = field(default=False, repr=False)
    """Whether all numbers are known to be finite; else they are looked at."""

    def __post_init__(self) -> None:
        vectors = self.vectors
        if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(self) or not vectors.shape[1]:
            raise DataError(
                f"vectors are float32 of shape (n, dim), one for each of the {len(self)} labels; {self.name} has "
                f"{vectors.dtype} of shape {vectors.shape}. Convert them."
            )
        if not self.finite and len(odd := not_finite(vectors)):
            raise DataError(
                f"vectors are finite numbers; row {odd[0]} of {self.name} is not. Remove or mend such rows."
            )

    @property
    def values(self) -> Values:
        return WithNeighbours(self.own, self._nearest) if self.views.neighbours else self.own

    @property
    def own(self) -> NDArray[np.float32]:
        return self.vectors

    @cached_property
    def _nearest(self) -> NDArray[np.int64]:
        mean, std = (np.array(each, dtype=np.float32) for each in self.mean_std)
        train, count = self.rows_to_train_on(), self.views.neighbours
        return nearest_of_superclass(self.vectors, self.superclass, train, count, mean=mean, std=std)

    @property
    def place(self) -> dict[str, Any]:
        return {"file": self.file} if self.file else {}

    @property
    def view_settings(self) -> dict[str, Any]:
        return {"views": self.views.model_dump()}

    def views_with(self, changes: ViewSpec | None) -> FeatureViewSpec:
        """Raises ConfigError for an augmentation of images."""
        if changes is not None:
            raise ConfigError(
                f"`views` crops, flips and colours images, and {self.name} has vectors. Drop it; the noise of their "
                f"views is the VectorSet's own: `FeatureViewSpec(noise=0.3, dropout=0.2)`."
            )
        return self.views

    def taken(self, rows: NDArray[Any]) -> dict[str, Any]:
        return super().taken(rows) | {"vectors": self.vectors[rows]}

    @cached_property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per feature, over the training rows."""
        mean, std = mean_and_deviation(self.vectors, self.rows_to_train_on())
        return tuple(mean.tolist()), tuple(std.tolist())


def not_finite(vectors: NDArray[Any]) -> NDArray[np.int64]:
    """The rows (n, dim) that have a number that is not finite."""
    rows = max(1, CHUNK // vectors.shape[1])
    starts = range(0, len(vectors), rows)
    found = [start + np.flatnonzero(~np.isfinite(vectors[start : start + rows]).all(axis=1)) for start in starts]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def mean_and_deviation(
    vectors: NDArray[Any], rows: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each feature over these rows; 1 is the deviation of a feature that has one value only.

    Args:
        vectors: Shape (n, dim), any finite numbers, also such as have squares that overflow.
        rows: Default: all.
    Returns:
        Two arrays of shape (dim,).
    """
    rows = np.arange(len(vectors)) if rows is None else rows
    parts = np.array_split(rows, min(len(rows), -(-len(rows) * vectors.shape[1] // CHUNK)))
    largest = np.max([np.abs(vectors[part]).max(axis=0) for part in parts], axis=0).astype(np.float64)
    unit = np.exp2(np.frexp(largest)[1] - 1.0)  # powers of two round nothing

    def scaled(part: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(np.asarray(vectors[part], dtype=np.float64) / unit)

    mean = sum(scaled(part).sum(axis=0) for part in parts) / len(rows)
    squares = sum(((scaled(part) - mean) ** 2).sum(axis=0) for part in parts)
    std = np.sqrt(squares / len(rows))
    return mean * unit, np.where(std > ROUNDING, std * unit, 1.0)
