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
    columns = math.ceil(math.sqrt(len(shown)))
    own = max(images.size)
    for side, quality in TRIED:
        side = min(side, own)
        sample = _sheet(images, shown[:: max(1, len(shown) // 500)][:500], 23, side, quality)
        if len(sample) * len(shown) / min(len(shown), 500) < 0.9 * ROOM:
            break
    uri = "data:image/webp;base64," + base64.b64encode(_sheet(images, shown, columns, side, quality)).decode()
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


def _sheet(images: ImageSet, rows: NDArray[np.int64], columns: int, side: int, quality: int) -> bytes:
    """Thumbnails side by side, each continued at its edges, as lossy WebP."""
    cell = side + 2 * EDGE
    sheet = Image.new("RGB", (columns * cell, -(-len(rows) // columns) * cell), "white")
    for k, row in enumerate(rows):
        picture = Image.fromarray(images.images[np.array([row])][0].squeeze()).convert("RGB")
        scale = side / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        tile = Image.new("RGB", (side, side), "white")
        corner = ((side - size[0]) // 2, (side - size[1]) // 2)
        tile.paste(picture.resize(size, Image.Resampling.LANCZOS) if scale < 1 else picture, corner)
        continued = np.pad(np.asarray(tile), ((EDGE, EDGE), (EDGE, EDGE), (0, 0)), mode="edge")
        sheet.paste(Image.fromarray(continued), (k % columns * cell, k // columns * cell))
    buffer = io.BytesIO()
    sheet.save(buffer, format="webp", quality=quality)
    return buffer.getvalue()
