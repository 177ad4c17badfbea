"""An image file as pixels of one size: upright, in 8 bits, scaled and cut to the centre."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from thanos.data.pixels import DEEP, EIGHT_BITS, Scale

MOST_THREADS = 8
"""Images of many pixels that are in memory at a time."""
MANY = 512
"""Files at a time above which all cores decode; a batch has fewer, and worker processes of its own."""


class How(NamedTuple):
    """What a file is brought to."""

    size: int
    channels: int
    scale: Scale = EIGHT_BITS
    megapixels: float = 0


def allow(megapixels: float) -> None:
    """Let Pillow open images of so many pixels; what it takes by itself, it goes on to take."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and 2 * most < megapixels * 1e6:  # it refuses at twice what it warns at
        Image.MAX_IMAGE_PIXELS = int(megapixels * 1e6 / 2) + 1


def decode_all(paths: Sequence[Path], how: How, out: NDArray[np.uint8]) -> None:
    """Each file into its row of ``out``, (n, height, width, channels)."""
    allow(how.megapixels)

    def decode_into(i: int) -> None:
        out[i] = decode(paths[i], how.size, how.channels, how.scale)

    with ThreadPoolExecutor(min(cpu_count() or 1, MOST_THREADS)) as pool:
        list(pool.map(decode_into, range(len(paths))))


def decode(path: Path, size: int, channels: int, scale: Scale = EIGHT_BITS) -> NDArray[np.uint8]:
    """One file as uint8 (size, size, channels): upright, scaled by its shorter side, antialiased, cut to the centre.

    A JPEG more than twice as large is decoded at a half, a quarter or an eighth of its size, no smaller than twice
    ``size``: several times as fast.

    Args:
        path: Of the file; of several frames the first.
        size: Pixels a side.
        channels: 1 or 3.
        scale: Of images of more than 8 bits: what becomes 0 and 255.
    """
    with Image.open(path) as opened:
        if min(opened.size) > 2 * size:
            opened.draft(None, (2 * size, 2 * size))
        opened.load()
        turn = _TURNS.get(orientation(opened))
        image = opened if turn is None else opened.transpose(turn)
        image = to_eight_bits(image, "L" if channels == 1 else "RGB", scale)
    return np.asarray(squared(image, size)).reshape(size, size, channels)


def squared(image: Image.Image, size: int) -> Image.Image:
    """Scaled by its shorter side, antialiased, and cut to the centre; of a strip no more than that is worked out."""
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    width, height = max(size, round(image.width * scale)), max(size, round(image.height * scale))
    left, top = (width - size) // 2, (height - size) // 2
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by its EXIF orientation."""
LYING = (5, 6, 7, 8)
"""Orientations in which width and height change places."""


def orientation(image: Image.Image) -> int:
    """The mark of a camera in a loaded image, 1 to 8; 1 where there is none, or it cannot be read."""
    try:
        mark = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken tag says nothing about the pixels
        return 1
    return mark if isinstance(mark, int) else 1


def to_eight_bits(image: Image.Image, mode: str, scale: Scale) -> Image.Image:
    """In the mode L or RGB: what is transparent on white, what has more bits by ``scale``."""
    if image.mode in DEEP:  # PIL's own conversion would clip at 255
        image = Image.fromarray(scale.apply(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(mode)


class FileImages:
    """Image files that are decoded when asked for."""

    def __init__(self, paths: Sequence[Path], how: How, *, identity: str):
        self._paths, self._how = paths, how
        self.on_demand = True
        self.identity = identity
        """Changes if any of the files does."""
        self.shape = (len(paths), how.size, how.size, how.channels)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        if len(rows) > MANY:
            decode_all([self._paths[i] for i in rows], self._how, out)
            return out
        allow(self._how.megapixels)
        for place, i in enumerate(rows):
            out[place] = decode(self._paths[i], self._how.size, self._how.channels, self._how.scale)
        return out
