"""What can be measured of an image without understanding it: light, colour, sharpness, file, columns of its table."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from thanos.data.decode import MANY
from thanos.data.imageset import ImageSet
from thanos.data.samples import Samples

AT_ONCE = 128
"""Images whose pixels are floating point at a time."""
MOST = 5000
"""So many images, at most, are measured; of more a seeded sample."""
NUMBERS: dict[str, tuple[str, str]] = {
    "brightness": ("dark", "bright"),
    "contrast": ("flat", "rich in contrast"),
    "sharpness": ("blurred", "sharp or grainy"),
    "colourfulness": ("grey", "colourful"),
    "red": ("little red", "reddish"),
    "green": ("little green", "greenish"),
    "blue": ("little blue", "bluish"),
    "edge brightness": ("darker at the edge", "brighter at the edge"),
    "edge evenness": ("edge with detail", "edge of one colour"),
    "edge red": ("little red at the edge", "reddish at the edge"),
    "edge green": ("little green at the edge", "greenish at the edge"),
    "edge blue": ("little blue at the edge", "bluish at the edge"),
    "light from above": ("lighter below", "lighter above"),
    "width": ("narrow files", "wide files"),
    "height": ("low files", "high files"),
    "aspect": ("upright", "lying"),
    "bytes a pixel": ("strongly compressed", "lightly compressed"),
    "JPEG quality": ("low JPEG quality", "high JPEG quality"),
    "date": ("taken earlier", "taken later"),
    "hour": ("taken earlier in the day", "taken later in the day"),
}
"""Measured numbers, and what little and much of one are called."""
KINDS = ("file type", "colour mode", "camera", "folder")
"""Measured words."""
FEWEST_KINDS, MOST_KINDS = 2, 50
"""A column of more different words than the latter names things one by one, and is left out."""
FRAME = 8
"""The outermost 1 in so many pixels, on each side, are edge."""
_WEIGHT = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Properties:
    """Of some rows of a set."""

    rows: NDArray[np.int64]
    """Which were measured."""
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """By property, (rows,); nan where not known. Properties that are equal everywhere are left out."""
    kinds: dict[str, NDArray[Any]] = field(default_factory=dict)
    """By property, (rows,) of text; empty where not known."""
    left_out: tuple[str, ...] = ()
    """Columns that cannot tell groups apart, with the reason."""

    @property
    def count(self) -> int:
        return len(self.numbers) + len(self.kinds)


def measure(samples: Samples, seed: int = 0) -> Properties:
    """All properties of at most MOST rows: of pixels as they are read, of files as they lie, of columns unused.

    Args:
        samples: Images; or vectors, of which there are the columns alone.
        seed: Of the sample.
    """
    rows = np.arange(len(samples))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MOST])
    numbers, kinds = _of_pictures(samples, rows) if isinstance(samples, ImageSet) else ({}, {})
    left_out = []
    for name, column in samples.further.items():
        values = np.array(column, dtype=object)[rows]
        asnumbers = _numbers(values)
        different = len(set(values.tolist()) - {""})
        if asnumbers is not None and different > MOST_KINDS // 5:
            numbers[name] = asnumbers
        elif different > MOST_KINDS:
            left_out.append(f"{name}: {different:,} different values for {len(rows):,} images")
        else:
            kinds[name] = values
    numbers = {name: each for name, each in numbers.items() if _varies(each)}
    kinds = {name: each for name, each in kinds.items() if len(set(each.tolist()) - {""}) >= FEWEST_KINDS}
    return Properties(rows, numbers, kinds, tuple(left_out))


def _of_pictures(
    images: ImageSet, rows: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[Any]]]:
    """Numbers and words of pixels and files."""
    of_pixels = []
    for start in range(0, len(rows), 2 * MANY):  # so many that files on demand are decoded on all cores
        some = images.images[rows[start : start + 2 * MANY]]
        of_pixels += [_of_pixels(some[i : i + AT_ONCE]) for i in range(0, len(some), AT_ONCE)]
    numbers = {name: np.concatenate([part[name] for part in of_pixels]) for name in of_pixels[0]}
    of_files = [_of_file(images.refs[i]) if images.refs else {} for i in rows]
    for name in NUMBERS:
        if name not in numbers:
            numbers[name] = np.array([each.get(name, np.nan) for each in of_files], dtype=np.float64)
    return numbers, {name: np.array([each.get(name, "") for each in of_files], dtype=object) for name in KINDS}


def _varies(values: NDArray[np.float64]) -> bool:
    known = values[np.isfinite(values)]
    return len(known) > 1 and float(np.ptp(known)) > 1e-9 * max(1.0, float(np.abs(known).max()))


def _numbers(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """Text as numbers, nan where it is empty; None: some is none."""
    try:
        return np.array([float(value) if value else np.nan for value in values.tolist()])
    except ValueError:
        return None


def _of_pixels(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Of (n, height, width, channels).

    Light that changes all pixels alike changes the brightness only, and a frame the edge only: the rest is measured
    inside.
    """
    pixels = images.astype(np.float32) / 255
    grey = pixels @ np.array(_WEIGHT, dtype=np.float32) if pixels.shape[3] == 3 else pixels[..., 0]
    edge, rim = _edge(grey), _edge(pixels).mean(axis=1)
    down, across = (max(1, side // FRAME) if side > 4 else 0 for side in grey.shape[1:])
    pixels = pixels[:, down : pixels.shape[1] - down, across : pixels.shape[2] - across]
    grey = grey[:, down : grey.shape[1] - down, across : grey.shape[2] - across]
    flat = grey.reshape(len(grey), -1)
    mean, spread = flat.mean(axis=1), flat.std(axis=1)
    light = np.maximum(mean, 1e-3)
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    detail = (4 * grey[:, 1:-1, 1:-1] - around).reshape(len(grey), -1).std(axis=1)
    half = grey.shape[1] // 2
    found = {
        "brightness": mean,
        "contrast": spread / light,
        "sharpness": detail / np.maximum(spread, 1e-3),
        "edge evenness": -edge.std(axis=1) / light,
        "edge brightness": edge.mean(axis=1) / light,
        "light from above": (grey[:, :half].mean(axis=(1, 2)) - grey[:, -half:].mean(axis=(1, 2))) / light,
    }
    if pixels.shape[3] == 3:
        channel = pixels.mean(axis=(1, 2))
        found["colourfulness"] = (pixels.max(axis=3) - pixels.min(axis=3)).mean(axis=(1, 2)) / light
        shine = np.maximum(rim.mean(axis=1), 1e-3)
        for i, name in enumerate(("red", "green", "blue")):
            found |= {name: channel[:, i] / light, f"edge {name}": rim[:, i] / shine}
    return {name: values.astype(np.float64) for name, values in found.items()}


def _edge(pixels: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels of each image, in a row."""
    return np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], axis=1)


def _of_file(ref: str) -> dict[str, Any]:
    """What a file says beside its pixels; nothing where there is no such file."""
    path = Path(ref)
    if not path.is_absolute() or not path.is_file():
        return {}
    found: dict[str, Any] = {"folder": path.parent.name}
    try:
        with Image.open(path) as image:
            size = os.path.getsize(path)
            found |= {"width": image.width, "height": image.height, "aspect": image.width / image.height}
            found |= {"bytes a pixel": size / (image.width * image.height), "colour mode": image.mode}
            found["file type"] = image.format or ""
            if tables := getattr(image, "quantization", None):
                found["JPEG quality"] = -float(np.mean(next(iter(tables.values()))))
            if image.format in ("JPEG", "TIFF", "WEBP", "MPO"):
                found |= _of_camera(image)
    except Exception:  # what a file says of itself may be damaged; its pixels were read
        return found
    return found


def _of_camera(image: Image.Image) -> dict[str, Any]:
    exif = image.getexif()
    found: dict[str, Any] = {}
    if model := str(exif.get(ExifTags.Base.Model, "")).strip("\0 "):
        found["camera"] = model
    taken = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
    day, _, hour = str(taken or "").partition(" ")
    if len(day) == 10 and len(hour) >= 5:
        year, month, date = (int(each) for each in day.split(":"))
        found["date"] = year * 372 + month * 31 + date
        found["hour"] = int(hour[:2]) + int(hour[3:5]) / 60
    return found
