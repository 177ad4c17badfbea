"""What lies in a folder: every file is an image, or left out with its reason."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from thanos.errors import DataError

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"),
    *(".avif", ".jp2"),
}
"""Of files that are taken for images whatever they hold: one that is none is a fault. Others are looked into."""
_NOT_PEOPLES = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "#recycle"}
"""Folders that systems and devices leave beside people's own, and those whose name begins with a dot."""
_SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P5",
    b"P6",
    b"\0\0\0\x0cjP  ",
)
_HEIC = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
READS_HEIC = find_spec("pillow_heif") is not None
if READS_HEIC:
    from pillow_heif import register_heif_opener

    register_heif_opener()
NEEDS_HEIC = ".heic (pip install 'thanos-repr[heic]')"
HIDDEN, LINKED, LOST, SPECIAL = "hidden", "linked folders that are read already", "links to nothing", "no files"


@dataclass
class Found:
    """The files of a folder: seen = images + left out."""

    images: list[Path] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    """(file, kind of reason)."""


def walk(folder: Path) -> Found:
    """Every file below ``folder``, in the order of names; linked folders are followed once, under the link's name.

    Raises:
        DataError: if a folder cannot be opened.
    """
    found, links = Found(), list[Path]()
    seen = {_place(folder)}
    _look_into(folder, False, found, links, seen)
    while links:
        link = links.pop(0)
        if _place(link) in seen:
            found.left_out.append((link, LINKED))
            continue
        seen.add(_place(link))
        _look_into(link, False, found, links, seen)
    found.images.sort()
    return found


def _place(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _look_into(folder: Path, hidden: bool, found: Found, links: list[Path], seen: set[tuple[int, int]]) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be opened ({error.strerror}). Allow it, or move it out of the way.") from None
    for entry in entries:
        path = Path(entry.path)
        out_of_sight = hidden or entry.name.startswith(".") or entry.name.lower() in _NOT_PEOPLES
        if entry.is_dir(follow_symlinks=False):
            seen.add(_place(path))
            _look_into(path, out_of_sight, found, links, seen)
        elif out_of_sight:
            found.left_out.append((path, HIDDEN))
        elif entry.is_symlink() and not path.exists():
            found.left_out.append((path, LOST))
        elif path.is_dir():
            links.append(path)
        elif reason := why_no_image(path):
            found.left_out.append((path, reason))
        else:
            found.images.append(path)


def why_no_image(path: Path) -> str:
    """Why a file is not taken for an image; empty: it is. The name counts where it is one of SUFFIXES, else content."""
    if not stat.S_ISREG(path.stat().st_mode):
        return SPECIAL
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC and not READS_HEIC:
        return NEEDS_HEIC
    known = head.startswith(_SIGNATURES) or head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
    return "" if known and _opens(path) else suffix or "without a suffix"


def _opens(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except Image.DecompressionBombError:
        return True  # an image: the check of all files says what is wrong with it
    except Exception:
        return False


def tell_left_out(reasons: Iterable[str]) -> list[str]:
    """One line with the count of each reason, the most frequent first; none where nothing was left out."""
    counted = Counter(reasons).most_common()
    total = sum(count for _, count in counted)
    each = ", ".join(f"{count:,} {reason}" for reason, count in counted)
    return [f"{total:,} {'file' if total == 1 else 'files'} left out: {each}"] if total else []


def closest(folder: Path, files: Sequence[Path]) -> Callable[[str], Path | None]:
    """From a path as a table has it to the one file below ``folder`` that can be meant, or None.

    It may be written with another system's separators or case, lack its suffix, or begin in a place that is not here.
    """
    names: dict[str, list[Path]] = {}
    for path in files:
        for name in {path.name.lower(), path.stem.lower()}:
            names.setdefault(name, []).append(path)

    def find(written: str) -> Path | None:
        steps = [step for step in written.replace("\0", "").replace("\\", "/").lower().split("/") if step]
        if not steps:
            return None
        fitting: dict[int, list[Path]] = {}
        for path in names.get(steps[-1], []):
            there = [step.lower() for step in path.relative_to(folder).parts]
            depth = min(len(there), len(steps))
            if there[-depth:-1] == steps[-depth:-1]:  # one is the end of the other
                fitting.setdefault(depth, []).append(path)
        best = fitting[max(fitting)] if fitting else []
        return best[0] if len(best) == 1 else None

    return find
