"""Images of a Hugging Face data set on disk, decoded once into the cache."""

from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import DataConfig
from thanos.data.cache import cached_images
from thanos.data.columns import said_columns, said_places
from thanos.data.decode import squared, to_eight_bits
from thanos.data.files import default_views
from thanos.data.imageset import ImageSet, check_enlarged
from thanos.data.labels import UNLABELLED, known_units, label_fields, split_levels
from thanos.data.load_vectors import words_of_columns
from thanos.data.pixels import DEEP, EIGHT_BITS, Scale, limits_of, scale_of
from thanos.data.vector_arrow import opened, read_folder
from thanos.errors import DataError


def read_saved_images(path: Path, config: DataConfig) -> ImageSet:
    """What ``datasets.save_to_disk`` wrote, with its column of images and its labels.

    Raises:
        DataError: for images of several sizes without ``size``, of several modes without ``convert``, or what cannot be
            read.
        ConfigError: without the package.
    """
    parts = list(opened(path).values())
    column = next(name for name, each in parts[0].features.items() if type(each).__name__ == "Image")
    count = sum(len(part) for part in parts)
    if not count:
        raise DataError(f"{path} has no images. Save it again.")
    sizes, modes, scale, scaled = _looks(parts, column, path)
    side = _agree(sizes, config, path)
    mode = "L" if modes == {"L"} else "RGB"
    if modes - {mode} and not config.convert:
        raise DataError(
            f"8-bit images, all grey or all RGB, are wanted; {path.name} has others. Pass `convert` to bring all to "
            f"8-bit RGB."
        )
    marks = repr(([part._fingerprint for part in parts], column, side, mode, scale))
    shape = (count, side[1], side[0], 1 if mode == "L" else 3)
    key = blake2b(marks.encode(), digest_size=16).hexdigest()
    images = cached_images(key, shape, partial(_decode_all, parts, column, mode, scale))
    found = read_folder(path, vectors=False)
    found.labels.pop(column, None)
    named = said_columns(config.columns, config.together)
    said_places(path.name, list(found.labels), "column", named)
    words, further, said = words_of_columns(found, count, named)
    if "superclass" in words:
        split_levels(words, config.level, config.judged_level, path.name)
    words.setdefault("superclass", [UNLABELLED] * count)
    refs = words.pop("refs", None) or [f"{path.name}/{i}" for i in range(count)]
    return ImageSet(
        name=path.resolve().name,
        images=images,
        refs=tuple(refs),
        views=default_views(shape[3]),
        notes=(f"images: {column}, {said}", *([scaled] if scaled else [])),
        together=tuple(known_units(words["together"])) if "together" in words else (),
        further={name: tuple(values) for name, values in further.items()},
        **label_fields(words, count, path.name, unknown=config.unknown),
    )


def _looks(parts: list[Any], column: str, path: Path) -> tuple[set[tuple[int, int]], set[str], Scale, str]:
    """Sizes, modes, and the one scale of all pictures with what to tell of it."""
    looks, limits = list[tuple[tuple[int, int], str]](), list[tuple[str, float, float, float, float]]()
    for image in (image for part in parts for image in _pictures(part, column)):
        looks.append((image.size, image.mode))
        limits += [(image.mode, *limits_of(image))] if image.mode in DEEP else []
    if limits and len(limits) < len(looks):
        raise DataError(
            f"{len(limits)} of {len(looks)} images of {path.name} have more than 8 bits, and the others 8: no one "
            f"scale fits both. Convert them to one depth."
        )
    return {size for size, _ in looks}, {mode for _, mode in looks}, *(scale_of(limits) if limits else (EIGHT_BITS, ""))


def _pictures(part: Any, column: str) -> Any:
    return (row[column] for row in part.select_columns([column]))


def _agree(sizes: set[tuple[int, int]], config: DataConfig, path: Path) -> tuple[int, int]:
    """Width and height of all images."""
    if config.size is None:
        if len(sizes) > 1:
            shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:2])
            raise DataError(f"images of one size are wanted; {path.name} has {shown}, ... Pass `size=64` or another.")
        return next(iter(sizes))
    shorter = int(np.median([min(size) for size in sizes]))
    side = min(224, shorter) if config.size == "auto" else config.size
    check_enlarged(side, shorter)
    return side, side


def _decode_all(parts: list[Any], column: str, mode: str, scale: Scale, out: NDArray[np.uint8]) -> None:
    pictures = (image for part in parts for image in _pictures(part, column))
    for i, image in enumerate(pictures):
        picture = to_eight_bits(image, mode, scale)
        scaled = picture if picture.size == (out.shape[2], out.shape[1]) else squared(picture, out.shape[1])
        out[i] = np.asarray(scaled).reshape(out.shape[1:])
