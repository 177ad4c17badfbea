"""What an encoder can be trained on: images or vectors, their labels, and how views of them are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from thanos.config import FeatureViewSpec, ViewSpec
from thanos.data.cache import identity_of, remembered
from thanos.data.labels import Labels


class Values(Protocol):
    """Rows of one shape, (n, ...): an array, a memory map, or files decoded on demand."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Samples(Labels):
    """All that training asks of an ImageSet or a VectorSet."""

    kind: ClassVar[str]
    """What a row is, in the plural."""
    livelier: ClassVar[str]
    """What makes views differ."""
    views: ViewSpec | FeatureViewSpec
    """How views of these rows are drawn, unless the configuration says otherwise."""
    name: str
    notes: tuple[str, ...] = ()
    """What was done to the rows on reading: skipped, converted, brought to one size."""
    skipped: tuple[tuple[str, str], ...] = ()
    """(image, reason) for every image left out by ``skip_bad``."""
    left_out: tuple[tuple[str, str], ...] = ()
    """(file, kind of reason) for what lies beside the rows and is none; seen = rows + skipped + left out."""
    together: tuple[str, ...] = field(default=(), repr=False)
    """What each row is of, where several can be of one (a patient, a track): these stay in one split."""
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """What else a table says of each row, by column: tells what discovered subclasses differ in, no more."""
    splits_named: bool = True
    """Whether the data say which rows are for training; else a test split is drawn."""

    @property
    def place(self) -> dict[str, Any]:
        """What a run's data.json says of where the rows lie: nothing where config.yaml does."""
        return {}

    @property
    def values(self) -> Values:
        """The rows themselves."""
        raise NotImplementedError

    @property
    def own(self) -> Values:
        """The same without what of other rows stands beside them, for views."""
        return self.values

    @property
    def view_settings(self) -> dict[str, Any]:
        """What a run's data.json says of views: nothing where config.yaml does."""
        return {}

    def views_with(self, changes: ViewSpec | None) -> ViewSpec | FeatureViewSpec:
        """How views are drawn where the configuration says ``changes``."""
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """Numbers of each pixel, or of each vector."""
        return self.values.shape[-1]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels; None for vectors."""
        return None

    @property
    def shown_size(self) -> str:
        """The size of a row, for people."""
        return str(self.channels) if self.size is None else f"{self.size[0]}x{self.size[1]}"

    @property
    def on_demand(self) -> bool:
        """Whether rows are files that are decoded when asked for."""
        return getattr(self.values, "on_demand", False)

    @property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel, over training rows; what views are normalised by."""
        raise NotImplementedError

    @cached_property
    def fingerprint(self) -> str:
        """Of the rows, labels and splits: equal for the same data however they were read."""
        read = identity_of(self.values)
        if read is None:
            return self._digest()
        labels = [None if each is None else each.tolist() for each in (self.superclass, self.subclass, self.group)]
        names = (self.superclass_names, self.subclass_names, self.group_names)
        return remembered(repr((read, labels, names, self.split.tolist())), self._digest)

    def taken(self, rows: NDArray[Any]) -> dict[str, Any]:
        together = tuple(np.array(self.together, dtype=object)[rows]) if self.together else ()
        further = {name: tuple(np.array(column, dtype=object)[rows]) for name, column in self.further.items()}
        return super().taken(rows) | {"together": together, "further": further}

    def _digest(self) -> str:
        values = self.own
        digest = blake2b(digest_size=16)
        digest.update(repr((values.shape, self.superclass_names, self.subclass_names, self.group_names)).encode())
        for labels in (self.superclass, self.split, self.subclass, self.group):
            digest.update(b"-" if labels is None else np.ascontiguousarray(labels, dtype=np.int64).tobytes())
        chunk = max(1, 2**24 // int(np.prod(values.shape[1:])))
        for start in range(0, len(self), chunk):
            rows = np.ascontiguousarray(values[np.arange(start, min(start + chunk, len(self)))])
            digest.update(rows.data)  # their memory itself: no copy
        return digest.hexdigest()
