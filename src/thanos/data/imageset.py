"""The one record everything else takes: images, their superclass, and whatever else is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from thanos.config import ViewSpec
from thanos.data.cache import remembered
from thanos.errors import DataError

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, SplitName, SplitName] = ("train", "validation", "test")
UNKNOWN = -1
"""The subclass or group id of an image whose label is not known."""
UNLABELLED = "unknown"
"""The superclass of images that come without any."""
ENLARGED = 16
"""Times a side that images are enlarged at most."""


def check_enlarged(side: int, own: int) -> None:
    """Raise DataError if bringing images of ``own`` pixels a side to ``side`` is surely a slip."""
    if side > ENLARGED * own:
        raise DataError(
            f"--size {side} would enlarge images of {own} pixels {side / own:.0f} times: no detail comes with that, "
            f"and every step costs {(side / own) ** 2:,.0f} times as much. Give at most {ENLARGED * own}."
        )


class Images(Protocol):
    """uint8 images of one size, (n, height, width, channel): an array, a memory map, or files decoded on demand."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class ImageSet:
    """Labelled images. Row i of every array speaks of image i."""

    name: str
    images: Images = field(repr=False)
    superclass: NDArray[np.int64] = field(repr=False)
    superclass_names: tuple[str, ...]
    split: NDArray[np.int8] = field(repr=False)
    """Index into SPLITS."""
    subclass: NDArray[np.int64] | None = field(default=None, repr=False)
    """Ids into ``subclass_names``; UNKNOWN where not known. Never used in training."""
    subclass_names: tuple[str, ...] = ()
    group: NDArray[np.int64] | None = field(default=None, repr=False)
    group_names: tuple[str, ...] = ()
    refs: tuple[str, ...] = field(default=(), repr=False)
    """Where each image came from: a path, or the data set's name and row."""
    views: ViewSpec = field(default_factory=ViewSpec)
    """The augmentation that suits these images."""
    splits_named: bool = True
    """Whether the data say which images are for training; else a test split is drawn."""
    notes: tuple[str, ...] = ()
    """What was done to the images on reading: skipped, converted, brought to one size."""
    skipped: tuple[tuple[str, str], ...] = ()
    """(image, reason) for every image left out by --skip-bad."""

    def __len__(self) -> int:
        return len(self.superclass)

    @property
    def channels(self) -> int:
        return self.images.shape[3]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def on_demand(self) -> bool:
        """Whether images are files that are decoded when asked for."""
        return getattr(self.images, "on_demand", False)

    def rows(self, split: SplitName) -> NDArray[np.int64]:
        """The positions of one split's images."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def take(self, rows: NDArray[np.int64]) -> "ImageSet":
        """The same record of these images only."""
        return replace(
            self,
            images=Rows(self.images, rows),
            superclass=self.superclass[rows],
            split=self.split[rows],
            subclass=None if self.subclass is None else self.subclass[rows],
            group=None if self.group is None else self.group[rows],
            refs=tuple(self.refs[i] for i in rows),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Of pixels, labels and splits: equal for the same data however they were read."""
        read = getattr(self.images, "identity", None)
        if read is None:
            return self._digest()
        labels = [None if each is None else each.tolist() for each in (self.superclass, self.subclass, self.group)]
        names = (self.superclass_names, self.subclass_names, self.group_names)
        return remembered(repr((read, labels, names, self.split.tolist())), self._digest)

    def _digest(self) -> str:
        digest = blake2b(digest_size=16)
        digest.update(repr((self.images.shape, self.superclass_names, self.subclass_names, self.group_names)).encode())
        for values in (self.superclass, self.split, self.subclass, self.group):
            digest.update(b"-" if values is None else np.ascontiguousarray(values, dtype=np.int64).tobytes())
        chunk = max(1, 2**28 // int(np.prod(self.images.shape[1:])))
        for start in range(0, len(self), chunk):
            digest.update(np.ascontiguousarray(self.images[np.arange(start, min(start + chunk, len(self)))]).tobytes())
        return digest.hexdigest()

    @cached_property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel over (at most 10,000 evenly spaced) training images, in [0, 1]."""
        rows = self.rows("train")
        rows = rows[:: max(1, -(-len(rows) // 10_000))]
        chunk = max(1, 2**22 // int(np.prod(self.images.shape[1:])))
        total, squares, count = np.zeros(self.channels), np.zeros(self.channels), 0
        for start in range(0, len(rows), chunk):
            pixels = self.images[rows[start : start + chunk]].astype(np.float64).reshape(-1, self.channels) / 255
            total, squares, count = total + pixels.sum(0), squares + (pixels**2).sum(0), count + len(pixels)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
        return tuple(mean.round(6).tolist()), tuple(std.round(6).clip(1e-4).tolist())

    def counts(self) -> dict[str, dict[str, int]]:
        """Images of each superclass in each split."""
        return {
            split: dict(
                zip(
                    self.superclass_names,
                    np.bincount(self.superclass[self.rows(split)], minlength=len(self.superclass_names)).tolist(),
                    strict=True,
                )
            )
            for split in SPLITS
        }


class Rows:
    """Some rows of other images, without copying them."""

    def __init__(self, images: Images, rows: NDArray[np.int64]):
        self._images, self._rows = images, rows
        self.on_demand = getattr(images, "on_demand", False)
        self.shape = (len(rows), *images.shape[1:])
        read = getattr(images, "identity", None)
        self.identity = read and f"{read} {blake2b(rows.astype(np.int64).tobytes(), digest_size=16).hexdigest()}"

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._images[self._rows[rows]]


def ids_of(names: Sequence[str], known: Sequence[str] | None = None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Names to ids by sorted order (or by the order of ``known``); the empty name is UNKNOWN."""
    ordered = tuple(known) if known is not None else tuple(sorted(set(names) - {""}))
    position = {name: i for i, name in enumerate(ordered)} | {"": UNKNOWN}
    return np.array([position[name] for name in names], dtype=np.int64), ordered
