"""The one record everything else takes: images, their superclass, and whatever else is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thanos.config import ViewSpec
from thanos.data.cache import identity_of, remembered
from thanos.data.samples import Samples
from thanos.errors import DataError

ENLARGED = 16
"""Times a side that images are enlarged at most."""


def check_enlarged(side: int, own: int) -> None:
    """Raise DataError if bringing images of ``own`` pixels a side to ``side`` is surely a slip."""
    if side > ENLARGED * own:
        raise DataError(
            f"`size={side}` would enlarge images of {own} pixels {side / own:.0f} times: no detail comes with that, "
            f"and every step costs {(side / own) ** 2:,.0f} times as much. Give at most {ENLARGED * own}."
        )


def cut_off(sizes: Sequence[tuple[int, int]]) -> str:
    """What bringing images of these widths and heights to a square takes from them, in words; empty: nothing."""
    lost = float(np.median([1 - min(size) / max(size) for size in sizes]))
    return "" if lost < 0.01 else f": their middle, {lost:.0%} of the longer side is cut off"


class Images(Protocol):
    """uint8 images of one size, (n, height, width, channel): an array, a memory map, or files decoded on demand."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, kw_only=True)
class ImageSet(Samples):
    """Labelled images."""

    kind, livelier = "images", "crop (`views.crop_scale=0.2`), flip or change colours"
    images: Images = field(repr=False)
    views: ViewSpec = field(default_factory=ViewSpec)
    """The augmentation that suits these images."""

    @property
    def values(self) -> Images:
        return self.images

    def views_with(self, changes: ViewSpec | None) -> ViewSpec:
        if changes is None:
            return self.views
        return ViewSpec(**(self.views.model_dump() | changes.model_dump(exclude_unset=True)))

    @cached_property
    def pixels(self) -> str:
        """The fingerprint of the pixels alone, whatever their labels."""
        read = identity_of(self.images)
        if read is None:
            return self._digest_pixels()
        if self.on_demand:
            return f"{read} {self.images.shape}"
        return remembered(f"pixels {read}", self._digest_pixels)

    def _digest_pixels(self) -> str:
        digest = blake2b(repr(self.images.shape).encode(), digest_size=16)
        for rows in np.array_split(np.arange(len(self)), max(1, len(self) // 4096)):
            digest.update(np.ascontiguousarray(self.images[rows]).data)
        return digest.hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]

    def taken(self, rows: NDArray[Any]) -> dict[str, Any]:
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        return super().taken(rows) | {"images": Rows(self.images, positions)}

    @cached_property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel over (at most 10,000 evenly spaced) training images, in [0, 1]."""
        rows = self.rows_to_train_on()
        rows = rows[:: max(1, -(-len(rows) // 10_000))]
        chunk = max(1, 2**22 // int(np.prod(self.images.shape[1:])))
        total, squares, count = np.zeros(self.channels), np.zeros(self.channels), 0
        for start in range(0, len(rows), chunk):
            pixels = self.images[rows[start : start + chunk]].astype(np.float64).reshape(-1, self.channels) / 255
            total, squares, count = total + pixels.sum(0), squares + (pixels**2).sum(0), count + len(pixels)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
        return tuple(mean.round(6).tolist()), tuple(std.round(6).clip(1e-4).tolist())


class Rows:
    """Some rows of other images, without copying them."""

    def __init__(self, images: Images, rows: NDArray[np.int64]):
        self._images, self._rows = images, rows
        self.on_demand = getattr(images, "on_demand", False)
        self.shape = (len(rows), *images.shape[1:])
        read = identity_of(images)
        self.identity = read and f"{read} {blake2b(rows.astype(np.int64).tobytes(), digest_size=16).hexdigest()}"

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._images[self._rows[rows]]
