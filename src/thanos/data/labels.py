"""What is known of images, or of vectors, beside themselves: superclass, split, and the labels that nobody may use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thanos.errors import MissingLabels

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, SplitName, SplitName] = ("train", "validation", "test")
UNKNOWN = -1
"""The subclass or group id of an image whose label is not known."""
UNLABELLED = "unknown"
"""The superclass of images that come without any."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Row i of every array speaks of image (or vector) i."""

    superclass: NDArray[np.int64] = field(repr=False)
    superclass_names: tuple[str, ...]
    split: NDArray[np.int8] = field(repr=False)
    """Index into SPLITS."""
    subclass: NDArray[np.int64] | None = field(default=None, repr=False)
    """Ids into ``subclass_names``; UNKNOWN where not known. Never used in training."""
    subclass_names: tuple[str, ...] = ()
    group: NDArray[np.int64] | None = field(default=None, repr=False)
    """Ids into ``group_names``; UNKNOWN where not known."""
    group_names: tuple[str, ...] = ()
    refs: tuple[str, ...] = field(default=(), repr=False)
    """Where each image came from: a path, or the data set's name and row; empty: not known."""

    def __len__(self) -> int:
        return len(self.superclass)

    @property
    def names(self) -> tuple[str, ...]:
        """The references, or where there are none the numbers of the rows."""
        return self.refs or tuple(str(row) for row in range(len(self)))

    def in_split(self, split: SplitName) -> NDArray[np.bool_]:
        """Which rows are of one split, (n,)."""
        return np.asarray(self.split == SPLITS.index(split))

    def rows(self, split: SplitName) -> NDArray[np.int64]:
        """The positions of one split's rows."""
        return np.flatnonzero(self.in_split(split))

    def of(self, split: SplitName) -> Self:
        """The same record of one split's rows only."""
        return self.take(self.rows(split))

    def split_or_all(self, split: SplitName) -> Self:
        """One split's rows, or all where that split is empty."""
        return self.of(split) if self.in_split(split).any() else self

    def take(self, rows: ArrayLike) -> Self:
        """The same record of these rows (positions, or a mask) only."""
        return replace(self, **self.taken(np.asarray(rows)))

    def taken(self, rows: NDArray) -> dict[str, Any]:
        """The labels of these rows, by field."""
        return {
            "superclass": self.superclass[rows],
            "split": self.split[rows],
            "subclass": None if self.subclass is None else self.subclass[rows],
            "group": None if self.group is None else self.group[rows],
            "refs": tuple(np.array(self.refs, dtype=object)[rows]) if self.refs else (),
        }

    def labels(self) -> dict[str, Any]:
        """All labels by field, for another record of the same rows."""
        return {each.name: getattr(self, each.name) for each in fields(Labels)}

    def without_hidden(self) -> Self:
        """What a label-free method may see: neither true subclasses nor groups."""
        return replace(self, subclass=None, subclass_names=(), group=None, group_names=())

    def known_subclass(self, needed_by: str) -> NDArray[np.int64]:
        """The fine labels.

        Raises:
            MissingLabels: if there are none.
        """
        if self.subclass is None:
            raise MissingLabels(
                f"{needed_by} needs fine labels, and these images carry superclasses only. Add subclasses to the "
                f"images (SUPERCLASS/SUBCLASS/image, or a column subclass), or run `thanos geometry`, which needs none."
            )
        return self.subclass

    def counts(self) -> dict[str, dict[str, int]]:
        """Rows of each superclass in each split."""
        kinds = len(self.superclass_names)
        return {
            split: dict(
                zip(
                    self.superclass_names,
                    np.bincount(self.superclass[self.in_split(split)], minlength=kinds).tolist(),
                    strict=True,
                )
            )
            for split in SPLITS
        }


def split_ids(names: Iterable[str]) -> NDArray[np.int8]:
    """Indices into SPLITS; the empty name is the training split."""
    return np.array([SPLITS.index(name or "train") for name in names], dtype=np.int8)


def ids_of(names: Sequence[str], known: Sequence[str] | None = None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Names to ids by sorted order (or by the order of ``known``); the empty name is UNKNOWN."""
    ordered = tuple(known) if known is not None else tuple(sorted(set(names) - {""}))
    position = {name: i for i, name in enumerate(ordered)} | {"": UNKNOWN}
    return np.array([position[name] for name in names], dtype=np.int64), ordered
