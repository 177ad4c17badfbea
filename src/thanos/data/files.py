"""From a list of image files with labels to an ImageSet: every file is opened and checked before anything starts.

Small collections are decoded once into a memory-mapped cache, keyed by the files' names, sizes and times; large ones
are decoded on demand.
"""

import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from os import cpu_count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from thanos.config import DataConfig, ViewSpec
from thanos.data.cache import cached_images, remembered, stamp
from thanos.data.decode import LYING, MOST_THREADS, FileImages, How, allow, decode_all, orientation
from thanos.data.imageset import Images, ImageSet, check_enlarged, cut_off
from thanos.data.labels import known_words, label_fields
from thanos.data.pixels import DEEP, EIGHT_BITS, Scale, limits_of, scale_of
from thanos.data.samples import Samples
from thanos.data.walk import tell_left_out
from thanos.errors import DataError, OutputError

warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of a file is said by its fault
IN_CACHE = 4 * 2**30
"""Collections up to this many decoded bytes are decoded once; larger ones on demand."""


@dataclass
class Listing:
    """Image files with the names of their labels; empty where not known."""

    name: str
    paths: list[Path] = field(default_factory=list)
    superclass: list[str] = field(default_factory=list)
    subclass: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    together: list[str] = field(default_factory=list)
    """What an image is of, where several can be of one: these stay in one split."""
    further: dict[str, list[str]] = field(default_factory=dict)
    """Columns of a table that say none of this, by name: what subclasses may differ in."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """On how the labels were read."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(file, kind of reason) of what is no image of this set: all that was seen is images, skipped, or left out."""

    def add(
        self,
        path: Path,
        *,
        superclass: str,
        subclass: str = "",
        group: str = "",
        split: str = "",
        together: str = "",
    ) -> None:
        self.paths.append(path)
        self.superclass.append(superclass)
        self.subclass.append(subclass)
        self.group.append(group)
        self.split.append(split)
        self.together.append(together)

    def keep(self, rows: Sequence[int]) -> "Listing":
        columns = ("paths", "superclass", "subclass", "group", "split", "together")
        kept: dict[str, Any] = {column: [getattr(self, column)[i] for i in rows] for column in columns}
        further = {name: [column[i] for i in rows] for name, column in self.further.items()}
        return replace(self, **kept, further=further)


def read_listing(listing: Listing, config: DataConfig, views: ViewSpec | None = None) -> ImageSet:
    """Open every file, agree on one size and mode, and hand the images over as an ImageSet.

    Raises:
        DataError: for unreadable files, mixed sizes without ``size``, mixed modes without ``convert``, or too
            little free space for the cache.
    """
    files = _key(listing.paths)
    looks = _look_at_all(listing.paths, files, config.megapixels)
    bad = [i for i, look in enumerate(looks) if look.fault]
    if bad and not config.skip_bad:
        first = listing.paths[bad[0]]
        raise DataError(
            f"{shown(first)} cannot be read as an image ({looks[bad[0]].fault}); {len(bad)} of {len(looks)} files are "
            f"like it. Replace or remove it, or pass `skip_bad` to go on without and list it in skipped.csv."
        )
    listing.skipped += [(shown(listing.paths[i]), looks[i].fault) for i in bad]
    good = [i for i, look in enumerate(looks) if not look.fault]
    if not good:
        raise DataError(f"none of the {len(looks)} files of {listing.name} can be read as an image ({looks[0].fault}).")
    listing, looks = listing.keep(good), [looks[i] for i in good]
    size, size_note = _agree_on_size(listing, looks, config)
    channels, scale, mode_note = _agree_on_mode(listing, looks, config)
    moving = sum(look.frames > 1 for look in looks)
    told = f"{moving} of {len(looks)} have several frames or pages: the first of each is read"
    frames_note = [told] if moving else []
    halved = sum(look.halved for look in looks)
    upper = f"{halved} of {len(looks)} have 16 bits a channel, of which the upper 8 are read"
    frames_note += [upper] if halved else []
    how = How(size, channels, scale, config.megapixels)
    marks = (files, good, size, channels, *([scale] if scale != EIGHT_BITS else []))
    images: Images = FileImages(listing.paths, how, identity=repr(marks))
    if len(good) * size * size * channels <= IN_CACHE:
        kept = blake2b(repr(marks).encode(), digest_size=16).hexdigest()
        try:
            images = cached_images(kept, images.shape, partial(decode_all, listing.paths, how))
        except OutputError as error:
            listing.notes.append(f"images are decoded anew at every use: {error}")
    skipped = len(listing.skipped)
    skip_note = [f"{skipped} skipped (listed in the run's skipped.csv, or in OUT-skipped.csv)"] if skipped else []
    left_note = tell_left_out(reason for _, reason in listing.left_out)
    notes = [*listing.notes, *left_note, *skip_note, *size_note, *mode_note, *frames_note]
    return _labelled(listing, images, views or default_views(channels), notes, config.unknown)


def _labelled(listing: Listing, images: Images, views: ViewSpec, notes: list[str], unknown: str | None) -> ImageSet:
    words = {role: getattr(listing, role) for role in ("superclass", "subclass", "group", "split")}
    alike = [line for role in words if role != "split" for line in known_words(words[role], role, unknown)[1]]
    notes = [*alike, *notes]
    return ImageSet(
        name=listing.name,
        images=images,
        refs=tuple(shown(path) for path in listing.paths),
        together=tuple(listing.together) if any(listing.together) else (),
        further={name: tuple(column) for name, column in listing.further.items()},
        views=views,
        notes=tuple(notes),
        skipped=tuple(listing.skipped),
        left_out=tuple((name.encode("utf-8", "backslashreplace").decode(), why) for name, why in listing.left_out),
        **label_fields(words, len(images), listing.name, unknown=unknown),
    )


def shown(path: Path) -> str:
    """A path as text that can be written anywhere: bytes of its name that are not UTF-8 as backslash and code."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def default_views(channels: int) -> ViewSpec:
    """The paper's augmentation; colour is left alone in grey images."""
    return ViewSpec() if channels == 3 else ViewSpec(saturation=0, hue=0, grey=0)


class _Look(NamedTuple):
    mode: str
    width: int
    height: int
    fault: str
    frames: int = 1
    limits: tuple[float, float, float, float] | None = None
    """Of more than 8 bits: lowest and highest value, and two percentiles."""
    halved: bool = False
    """Pillow reads the upper 8 of 16 bits of each channel."""


def _look_at_all(paths: Sequence[Path], files: str, megapixels: float) -> list[_Look]:
    """Every file opened; what was seen is remembered for as long as no file changes."""

    def look() -> str:
        allow(megapixels)
        with ThreadPoolExecutor(min(cpu_count() or 1, MOST_THREADS)) as pool:
            return json.dumps(list(pool.map(partial(_look, megapixels=megapixels), paths)))

    key = f"looks with frames, limits and halves, {megapixels} {files}"
    return [_Look(*entry) for entry in json.loads(remembered(key, look))]


def _look(path: Path, megapixels: float) -> _Look:
    """Decode a file fully once: a truncated image shows only at its end."""
    try:
        if path.stat().st_size == 0:
            return _Look("", 0, 0, "the file is empty")
        with Image.open(path) as image:
            if image.width * image.height > megapixels * 1e6:
                claimed = f"{image.width}x{image.height} exceeds limit of {megapixels:g} megapixels"
                return _Look("", 0, 0, f"{claimed}; if it is meant, allow it by `megapixels`")
            size, frames = image.size, getattr(image, "n_frames", 1)
            halved = image.mode not in DEEP and any(";16" in str(tile[3]) for tile in image.tile)
            image.draft(None, (1, 1))  # a JPEG is read to its end, without working out every pixel
            image.load()  # before anything else may load it: only the first time it says what is wrong
            width, height = size[::-1] if orientation(image) in LYING else size
            transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            limits = limits_of(image) if image.mode in DEEP else None
            return _Look("RGBA" if transparent else image.mode, width, height, "", frames, limits, halved)
    except UnidentifiedImageError:
        return _Look("", 0, 0, "no image format is recognised")
    except Image.DecompressionBombError as error:
        return _Look("", 0, 0, f"{str(error).split(', could')[0]}; if it is meant, allow it by `megapixels`")
    except Exception as error:  # what a broken file makes a decoder raise is not known
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
    own = int(np.median([min(s) for s in sizes]))
    check_enlarged(size, own)
    changed = sum(s != (size, size) for s in sizes)
    enlarged = f", enlarged from {own} pixels" if size > own else ""
    return size, [f"{changed} of {len(sizes)} brought to {size}x{size}{enlarged}{cut_off(sizes)}"] if changed else []


def _typical_size(sizes: list[tuple[int, int]]) -> int:
    """The median shorter side, at most 224, in steps of 32 above 32."""
    side = int(min(224, np.median([min(s) for s in sizes])))
    return side // 32 * 32 if side >= 32 else side


def _agree_on_mode(listing: Listing, looks: list[_Look], config: DataConfig) -> tuple[int, Scale, list[str]]:
    looks = [look._replace(mode="RGB") if look.mode == "P" else look for look in looks]
    modes = Counter(look.mode for look in looks)
    if len(modes) == 1 and set(modes) <= {"L", "RGB"}:
        return (1 if "L" in modes else 3), EIGHT_BITS, []
    if not config.convert:
        usual = "RGB" if modes["RGB"] >= modes["L"] else "L"
        odd = next(i for i, look in enumerate(looks) if look.mode != usual)
        listed = ", ".join(f"{count} {_MODES.get(mode, mode)}" for mode, count in modes.most_common())
        raise DataError(
            f"8-bit images, all grey or all RGB, are wanted; {listing.paths[odd].name} is "
            f"{_MODES.get(looks[odd].mode, looks[odd].mode)} ({listed}). Pass `convert` to bring all to 8-bit RGB."
        )
    deep = [look for look in looks if look.limits is not None]
    if deep and len(deep) < len(looks):
        odd = next(i for i, look in enumerate(looks) if look.limits is not None)
        raise DataError(
            f"{len(deep)} of {len(looks)} images have more than 8 bits, {listing.paths[odd].name} first, and the "
            f"others 8: no one scale fits both. Convert them to one depth, or name one kind alone."
        )
    scale, note = scale_of([(look.mode, *look.limits) for look in deep if look.limits]) if deep else (EIGHT_BITS, "")
    odd_ones = f"{sum(modes.values()) - modes['RGB']} of {len(looks)} converted to 8-bit RGB"
    return 3, scale, [f"{odd_ones}: {note}" if note else odd_ones]


_MODES = {"L": "grey", "RGBA": "with transparency", "CMYK": "CMYK", "1": "black and white", "F": "32-bit fractions"}
_MODES |= {"I;16": "16 bit", "I;16B": "16 bit", "I": "32 bit"}


def _key(paths: Sequence[Path]) -> str:
    """Of the files' names and stamps."""
    digest = blake2b(digest_size=16)
    for path in paths:
        digest.update(os.fsencode(path) + f"\0{stamp(path)}\0".encode())
    return digest.hexdigest()


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
            "left_out": dict(Counter(reason for _, reason in images.left_out)),
            "skipped": len(images.skipped),
        },
        indent=2,
    )
