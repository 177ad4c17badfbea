"""From a list of image files with labels to an ImageSet: every file is opened and checked before anything starts.

Small collections are decoded once into a memory-mapped cache, keyed by the files' names, sizes and times; large ones
are decoded on demand.
"""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from os import cpu_count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from thanos.config import DataConfig, ViewSpec
from thanos.data.cache import cached_images, remembered
from thanos.data.imageset import Images, ImageSet, check_enlarged
from thanos.data.labels import ids_of, split_ids
from thanos.data.samples import Samples
from thanos.errors import DataError, OutputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
IN_CACHE = 4 * 2**30
"""Collections up to this many decoded bytes are decoded once; larger ones on demand."""
MANY = 512
"""Files at a time above which all cores decode; a batch has fewer, and worker processes of its own."""


@dataclass
class Listing:
    """Image files with the names of their labels; empty where not known."""

    name: str
    paths: list[Path] = field(default_factory=list)
    superclass: list[str] = field(default_factory=list)
    subclass: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """On how the labels were read."""

    def add(self, path: Path, *, superclass: str, subclass: str = "", group: str = "", split: str = "") -> None:
        self.paths.append(path)
        self.superclass.append(superclass)
        self.subclass.append(subclass)
        self.group.append(group)
        self.split.append(split)

    def keep(self, rows: Sequence[int]) -> "Listing":
        return Listing(
            name=self.name,
            paths=[self.paths[i] for i in rows],
            superclass=[self.superclass[i] for i in rows],
            subclass=[self.subclass[i] for i in rows],
            group=[self.group[i] for i in rows],
            split=[self.split[i] for i in rows],
            skipped=self.skipped,
            notes=self.notes,
        )


def read_listing(listing: Listing, config: DataConfig, views: ViewSpec | None = None) -> ImageSet:
    """Open every file, agree on one size and mode, and hand the images over as an ImageSet.

    Raises:
        DataError: for unreadable files, mixed sizes without ``size``, mixed modes without ``convert``, or too
            little free space for the cache.
    """
    files = _key(listing.paths)
    looks = _look_at_all(listing.paths, files)
    bad = [i for i, look in enumerate(looks) if look.fault]
    if bad and not config.skip_bad:
        first = listing.paths[bad[0]]
        raise DataError(
            f"{first} cannot be read as an image ({looks[bad[0]].fault}); {len(bad)} of {len(looks)} files are like "
            f"it. Replace or remove it, or pass `skip_bad` to go on without and list it in skipped.csv."
        )
    skipped = [*listing.skipped, *((str(listing.paths[i]), looks[i].fault) for i in bad)]
    good = [i for i, look in enumerate(looks) if not look.fault]
    if not good:
        raise DataError(f"none of the {len(looks)} files of {listing.name} can be read as an image ({looks[0].fault}).")
    listing, looks = listing.keep(good), [looks[i] for i in good]
    size, size_note = _agree_on_size(listing, looks, config)
    channels, mode_note = _agree_on_mode(listing, looks, config)
    images: Images = FileImages(listing.paths, size, channels, identity=repr((files, good, size, channels)))
    if len(good) * size * size * channels <= IN_CACHE:
        kept = blake2b(repr((files, good, size, channels)).encode(), digest_size=16).hexdigest()
        try:
            images = cached_images(kept, images.shape, partial(_decode_all, listing.paths))
        except OutputError as error:
            listing.notes.append(f"images are decoded anew at every use: {error}")
    skip_note = [f"{len(skipped)} skipped (listed in the run's skipped.csv, or in OUT-skipped.csv)"] if skipped else []
    return _labelled(
        listing, images, views or default_views(channels), [*listing.notes, *skip_note, *size_note, *mode_note], skipped
    )


def _labelled(
    listing: Listing, images: Images, views: ViewSpec, notes: list[str], skipped: list[tuple[str, str]]
) -> ImageSet:
    superclass, superclass_names = ids_of(listing.superclass)
    subclass, subclass_names = ids_of(unique_names(listing.superclass, listing.subclass))
    group, group_names = ids_of(listing.group)
    return ImageSet(
        name=listing.name,
        images=images,
        superclass=superclass,
        superclass_names=superclass_names,
        split=split_ids(listing.split),
        splits_named=any(listing.split),
        subclass=subclass if subclass_names else None,
        subclass_names=subclass_names,
        group=group if group_names else None,
        group_names=group_names,
        refs=tuple(str(p) for p in listing.paths),
        views=views,
        notes=tuple(notes),
        skipped=tuple(skipped),
    )


def unique_names(superclass: list[str], subclass: list[str]) -> list[str]:
    """Subclass names; one that occurs in two superclasses becomes SUPERCLASS/SUBCLASS."""
    homes = Counter(sub for _, sub in set(zip(superclass, subclass, strict=True)) if sub)
    return [f"{sup}/{sub}" if homes[sub] > 1 else sub for sup, sub in zip(superclass, subclass, strict=True)]


def default_views(channels: int) -> ViewSpec:
    """The paper's augmentation; colour is left alone in grey images."""
    return ViewSpec() if channels == 3 else ViewSpec(saturation=0, hue=0, grey=0)


class _Look(NamedTuple):
    mode: str
    width: int
    height: int
    fault: str


def _look_at_all(paths: Sequence[Path], files: str) -> list[_Look]:
    """Every file opened; what was seen is remembered for as long as no file changes."""

    def look() -> str:
        with ThreadPoolExecutor(cpu_count()) as pool:
            return json.dumps(list(pool.map(_look, paths)))

    return [_Look(*entry) for entry in json.loads(remembered(f"looks {files}", look))]


def _look(path: Path) -> _Look:
    """Decode a file fully once: a truncated image shows only at its end."""
    try:
        if path.stat().st_size == 0:
            return _Look("", 0, 0, "the file is empty")
        with Image.open(path) as image:
            width, height = _turned(image)
            image.draft(None, (1, 1))  # a JPEG is read to its end, without working out every pixel
            image.load()
            transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            return _Look("RGBA" if transparent else image.mode, width, height, "")
    except UnidentifiedImageError:
        return _Look("", 0, 0, "no image format is recognised")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return _Look("", 0, 0, str(error).split("\n")[0] or type(error).__name__)


def _agree_on_size(listing: Listing, looks: list[_Look], config: DataConfig) -> tuple[int, list[str]]:
    sizes = [(look.width, look.height) for look in looks]
    if config.size is None:
        other = next((i for i, s in enumerate(sizes) if s != sizes[0]), None)
        first = f"{listing.paths[0].name} is {sizes[0][0]}x{sizes[0][1]}"
        if other is not None:
            raise DataError(
                f"images of one size are wanted; {first} and {listing.paths[other].name} is "
                f"{sizes[other][0]}x{sizes[other][1]}. Pass `size={_typical_size(sizes)}` (or another, or auto) to "
                f"bring them to one square size."
            )
        if sizes[0][0] != sizes[0][1]:
            raise DataError(
                f"square images are wanted; {first}. Pass `size={min(sizes[0])}` to scale and cut them to a square."
            )
        return sizes[0][0], []
    size = _typical_size(sizes) if config.size == "auto" else config.size
    check_enlarged(size, int(np.median([min(s) for s in sizes])))
    changed = sum(s != (size, size) for s in sizes)
    return size, [f"{changed} of {len(sizes)} brought to {size}x{size}"] if changed else []


def _typical_size(sizes: list[tuple[int, int]]) -> int:
    """The median shorter side, at most 224, in steps of 32 above 32."""
    side = int(min(224, np.median([min(s) for s in sizes])))
    return side // 32 * 32 if side >= 32 else side


def _agree_on_mode(listing: Listing, looks: list[_Look], config: DataConfig) -> tuple[int, list[str]]:
    looks = [look._replace(mode="RGB") if look.mode == "P" else look for look in looks]
    modes = Counter(look.mode for look in looks)
    if len(modes) == 1 and set(modes) <= {"L", "RGB"}:
        return (1 if "L" in modes else 3), []
    if not config.convert:
        usual = "RGB" if modes["RGB"] >= modes["L"] else "L"
        odd = next(i for i, look in enumerate(looks) if look.mode != usual)
        listed = ", ".join(f"{count} {_MODES.get(mode, mode)}" for mode, count in modes.most_common())
        raise DataError(
            f"8-bit images, all grey or all RGB, are wanted; {listing.paths[odd].name} is "
            f"{_MODES.get(looks[odd].mode, looks[odd].mode)} ({listed}). Pass `convert` to bring all to 8-bit RGB."
        )
    return 3, [f"{sum(modes.values()) - modes['RGB']} of {len(looks)} converted to 8-bit RGB"]


_MODES = {"L": "grey", "RGBA": "with transparency", "CMYK": "CMYK", "I;16": "16 bit", "1": "black and white"}


def _key(paths: Sequence[Path]) -> str:
    """Of the files' names, sizes and times."""
    digest = blake2b(digest_size=16)
    for path in paths:
        stat = path.stat()
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _decode_all(paths: Sequence[Path], out: NDArray[np.uint8]) -> None:
    def decode_into(i: int) -> None:
        out[i] = decode(paths[i], out.shape[1], out.shape[3])

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(decode_into, range(len(paths))))


def decode(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """One file as uint8 (size, size, channels): upright, scaled by its shorter side, antialiased, cut to the centre.

    A JPEG more than twice as large is decoded at a half, a quarter or an eighth of its size, no smaller than twice
    ``size``: several times as fast.
    """
    with Image.open(path) as opened:
        if min(opened.size) > 2 * size:
            opened.draft(None, (2 * size, 2 * size))
        image = _to_eight_bits(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
    return np.asarray(squared(image, size)).reshape(size, size, channels)


def squared(image: Image.Image, size: int) -> Image.Image:
    """Scaled by its shorter side, antialiased, and cut to the centre."""
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    image = image.resize(
        (max(size, round(image.width * scale)), max(size, round(image.height * scale))), Image.Resampling.BILINEAR
    )
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _turned(image: Image.Image) -> tuple[int, int]:
    """Width and height as a camera's orientation mark wants the image shown."""
    lying = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (image.height, image.width) if lying else (image.width, image.height)


def _to_eight_bits(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bit: PIL's own conversion would clip at 255
        values = np.asarray(image).astype(np.float64)
        image = Image.fromarray((values / (65535 if values.max() > 255 else 255) * 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(mode)


class FileImages:
    """Image files that are decoded when asked for."""

    def __init__(self, paths: Sequence[Path], size: int, channels: int, *, identity: str):
        self._paths = paths
        self.on_demand = True
        self.identity = identity
        """Changes if any of the files does."""
        self.shape = (len(paths), size, size, channels)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        if len(rows) > MANY:
            _decode_all([self._paths[i] for i in rows], out)
            return out
        for place, i in enumerate(rows):
            out[place] = decode(self._paths[i], self.shape[1], self.shape[3])
        return out


def manifest(images: Samples) -> str:
    """Counts, names, fingerprint and what was skipped, as the JSON of a run's data.json."""
    return json.dumps(
        {
            "name": images.name,
            "images": len(images),
            "size": images.size,
            "channels": images.channels,
            **images.place,
            **images.view_settings,
            "counts": images.counts(),
            "subclasses": list(images.subclass_names),
            "groups": list(images.group_names),
            "fingerprint": images.fingerprint,
            "notes": list(images.notes),
            "skipped": len(images.skipped),
        },
        indent=2,
    )
