"""Features of images by a frozen backbone, as the record that training takes: their views were drawn as images."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import FeatureViewSpec, ViewSpec
from thanos.data.vectors import VectorSet

LEAST = 0.1
"""A feature is divided by no less than this part of the mean deviation: of many networks some hardly ever fire, and one
that does would outweigh all others."""


@dataclass(frozen=True, kw_only=True)
class FeatureSet(VectorSet):
    """Labelled features; ``vectors`` are those of the images themselves."""

    stack: NDArray[np.float32] = field(repr=False)
    """(n, 1 + views, dim): of the image, then of its augmented views; in memory or memory-mapped."""
    made_of: str
    """The fingerprint of the images."""

    @property
    def own(self) -> NDArray[np.float32]:
        return self.stack

    @cached_property
    def fingerprint(self) -> str:
        """That of the images: what is made of features is made of them."""
        return self.made_of

    @cached_property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per feature, over the training rows; features that hardly vary count for little."""
        mean, std = super().mean_std
        rows = self.rows_to_train_on()
        varies = (self.vectors[rows] != self.vectors[rows[:1]]).any(axis=0)
        deviation = np.where(varies, std, 0.0)
        least = LEAST * float(deviation[varies].mean()) if varies.any() else 1.0
        return mean, tuple(np.maximum(deviation, least).tolist())

    def views_with(self, changes: ViewSpec | None) -> FeatureViewSpec:
        """The noise on top: ``changes`` were heeded when the images' views were drawn."""
        return self.views

    def taken(self, rows: NDArray[Any]) -> dict[str, Any]:
        return super().taken(rows) | {"stack": self.stack[rows]}
