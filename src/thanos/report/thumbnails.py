"""Thumbnails of a page: in one picture inside it, or in several beside it."""

import base64
import io
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thanos.data.imageset import ImageSet
from thanos.errors import OutputError
from thanos.storage import write_atomically

EMBEDDED = 5000
"""Images that have a thumbnail inside the page; of more, an evenly spaced sample."""
SIDE = 64
"""Pixels of a thumbnail at most; smaller images keep their own size."""
ROOM = 5_500_000
"""Bytes that the thumbnails inside a page may take; as text they are a third longer."""
TRIED = ((64, 75), (64, 55), (64, 35), (48, 50), (32, 60), (32, 30))
"""Pixels and quality, the best first: the first that fits is taken."""
EDGE = 2
"""Pixels by which each is continued on all sides: lossy pictures share colour between neighbouring pixels, and a page
would show that of the thumbnail beside it as a frame."""
SAMPLED = 500
"""Thumbnails that tell how many bytes more of them will take."""
BESIDE = 400
"""Thumbnails in a picture beside the page."""


def stride_of(count: int) -> int:
    """Of so many images every so-manieth has a thumbnail inside the page."""
    return max(1, -(-count // EMBEDDED))


def embedded(images: ImageSet, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Thumbnails of these rows in one picture.

    Returns:
        ``sheets`` (one data URI), ``each`` (thumbnails in a sheet), ``columns``, ``side``, ``edge`` (pixels around
        each) and ``stride`` (every so-manieth row has one).
    """
    stride = stride_of(len(rows))
    shown = rows[::stride]
    sample = shown if len(shown) <= SAMPLED else shown[:: len(shown) // SAMPLED][:SAMPLED]
    own = max(images.size)
    for side, quality in TRIED:
        side = min(side, own)
        sheet, columns = _square(images, sample, side, quality)
        if len(sheet) * len(shown) / len(sample) < 0.9 * ROOM:
            break
    if len(sample) < len(shown):
        sheet, columns = _square(images, shown, side, quality)
    uri = "data:image/webp;base64," + base64.b64encode(sheet).decode()
    return {"sheets": [uri], "each": len(shown), "columns": columns, "side": side, "edge": EDGE, "stride": stride}


def linked(images: ImageSet, rows: NDArray[np.int64], page: Path) -> dict[str, Any]:
    """Thumbnails of all these rows in pictures beside the page; returns what :func:`embedded` returns.

    Raises:
        OutputError: if they cannot be written, or other files lie in their folder.
    """
    check_folder_free(page)
    folder, side, columns = folder_of(page), min(SIDE, max(images.size)), math.isqrt(BESIDE)
    if folder.exists():
        shutil.rmtree(folder)
    sheets = []
    for k, part in enumerate(rows[start : start + BESIDE] for start in range(0, len(rows), BESIDE)):
        file = folder / f"{k:04d}.webp"
        content = _sheet(images, part, columns, side, 80)
        write_atomically(file, lambda target, content=content: target.write(content))  # type: ignore[misc]
        sheets.append(f"{quote(folder.name)}/{file.name}")
    return {"sheets": sheets, "each": BESIDE, "columns": columns, "side": side, "edge": EDGE, "stride": 1}


def folder_of(page: Path) -> Path:
    """Where the thumbnails beside a page lie."""
    return page.with_name(f"{page.stem}-images")


def check_folder_free(page: Path) -> None:
    """Raise OutputError if thumbnails beside the page would be written among files of another's."""
    folder = folder_of(page)
    if not folder.exists():
        return
    foreign = [folder] if not folder.is_dir() or folder.is_symlink() else list(_foreign(folder))
    if foreign:
        raise OutputError(
            f"{folder} is for a page's thumbnails, and {foreign[0]} is none of them. Move it, or name another `out`."
        )


def _foreign(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.iterdir()):
        if not (file.is_file() and file.suffix == ".webp" and len(file.stem) >= 4 and file.stem.isdigit()):
            yield file


def _square(images: ImageSet, rows: NDArray[np.int64], side: int, quality: int) -> tuple[bytes, int]:
    """A sheet about as high as wide, and its columns."""
    columns = math.ceil(math.sqrt(len(rows)))
    return _sheet(images, rows, columns, side, quality), columns


def _sheet(images: ImageSet, rows: NDArray[np.int64], columns: int, side: int, quality: int) -> bytes:
    """Thumbnails side by side, each continued at its edges, as lossy WebP."""
    cell = side + 2 * EDGE
    sheet = np.full((-(-len(rows) // columns) * cell, columns * cell, 3), 255, dtype=np.uint8)
    for k, row in enumerate(rows):
        y, x = k // columns * cell, k % columns * cell
        tile = sheet[y : y + cell, x : x + cell]
        tile[EDGE:-EDGE, EDGE:-EDGE] = _thumbnail(images.images[np.array([row])][0], side)
        tile[:EDGE], tile[-EDGE:] = tile[EDGE], tile[-EDGE - 1]
        tile[:, :EDGE], tile[:, -EDGE:] = tile[:, EDGE, None], tile[:, -EDGE - 1, None]
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="webp", quality=quality)
    return buffer.getvalue()


def _thumbnail(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The image at most ``side`` pixels long, (side, side, 3), in the middle of white."""
    picture = Image.fromarray(image.squeeze()).convert("RGB")
    scale = side / max(picture.size)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    tile = np.full((side, side, 3), 255, dtype=np.uint8)
    left, top = (side - picture.width) // 2, (side - picture.height) // 2
    tile[top : top + picture.height, left : left + picture.width] = np.asarray(picture)
    return tile
