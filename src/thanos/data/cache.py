"""Decoded images kept on disk as one memory-mapped array, so that small files are opened once and not every epoch."""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from hashlib import blake2b
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.errors import DataError, OutputError
from thanos.storage import clear_parts, is_writable, naming, write_text
from thanos.storage.locks import held_part


def cache_folder() -> Path:
    """$THANOS_CACHE, else ~/.cache/thanos.

    Raises:
        OutputError: if there is neither.
    """
    if named := os.environ.get("THANOS_CACHE"):
        return Path(named)
    try:
        return Path.home() / ".cache" / "thanos"
    except RuntimeError:
        raise OutputError("no home folder is known, to keep a cache in. Set THANOS_CACHE to a folder.") from None


def data_folder(root: Path | None) -> Path:
    """Where published data sets lie: ``root``, else $THANOS_DATA, else data/ in the cache."""
    return root or Path(os.environ.get("THANOS_DATA") or cache_folder() / "data")


def remembered(key: str, find: Callable[[], str]) -> str:
    """What ``find`` once found for ``key``: for what takes long and can change only if the key does."""
    file = cache_folder() / "images" / f"{_mark(key)}.txt"
    with suppress(OSError, ValueError):
        mark, _, kept = file.read_text("utf-8").partition("\n")
        if mark == _mark(kept):
            return kept
    found = find()  # also what was damaged
    with suppress(OutputError):  # where it cannot be kept, it is found anew each time
        write_text(file, f"{_mark(found)}\n{found}")
    return found


def _mark(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def stamp(path: Path) -> str:
    """Of a file under its name: size, time of its content, and time of any change, which nobody can set.

    The last one tells files apart that took each other's names, or got other content with the old time.
    """
    stat = path.stat()
    return f"{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"


def identity(path: Path) -> str:
    """Changes if the file does."""
    return blake2b(f"{path.resolve()}\0{stamp(path)}".encode(), digest_size=16).hexdigest()


def identity_of(values: Any) -> str | None:
    """What changes if these rows do, for such as lie in a file; None: they lie in memory alone.

    A read-only memory map of a whole file has that of its file; others say it themselves.
    """
    if isinstance(values, np.memmap) and isinstance(values.base, mmap) and not values.flags.writeable:
        return identity(Path(str(values.filename)))
    return getattr(values, "identity", None)


def cached_images(key: str, shape: tuple[int, ...], fill: Callable[[NDArray[np.uint8]], None]) -> NDArray[np.uint8]:
    """Decoded images, as :func:`cached_array` keeps them."""
    return cached_array(key, shape, fill, dtype=np.uint8, folder="images", what="decoded images")


def cached_array(
    key: str, shape: tuple[int, ...], fill: Callable[[NDArray[Any]], None], *, dtype: type, folder: str, what: str
) -> NDArray[Any]:
    """A read-only memory map of the cache entry ``key``, made by ``fill`` if it is not there.

    A half-written entry never appears under its name: it is filled in a temporary file and renamed.

    Args:
        key: Of the entry.
        shape: Of the array.
        fill: Writes into it.
        dtype: Of the array.
        folder: Of the cache.
        what: It is, for messages.
    Raises:
        DataError: if the disk has too little room for it; nothing has been written then.
        OutputError: if the cache cannot be written.
    """
    file = cache_folder() / folder / f"{key}.npy"
    kept = mapped(file, dtype, shape)
    if kept is None:
        check_room(file.parent, int(np.prod(shape)) * np.dtype(dtype).itemsize, what)
        clear_parts(file.parent, "*.????????.part")
        with ExitStack() as held:
            with naming(file, OTHER_DISK):
                temporary = held.enter_context(held_part(file.parent, f"{key}.", ".part"))
            array = claimed(temporary, file, dtype, shape)
            fill(array)
            with naming(file, OTHER_DISK):
                array.flush()
                os.replace(temporary, file)
        kept = np.load(file, mmap_mode="r")
    return kept


def mapped(file: Path, dtype: type, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """A read-only memory map of an entry; None where there is none, or a damaged one, which is made anew."""
    try:
        found: NDArray[Any] = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError, SyntaxError):
        return None
    return found if isinstance(found, np.ndarray) and found.dtype == dtype and found.shape == shape else None


def check_room(folder: Path, size: int, what: str) -> None:
    """Make a folder of the cache, if it can take so many bytes.

    Raises:
        DataError: if the disk has too little room; nothing has been written then.
        OutputError: if the cache cannot be written.
    """
    if not is_writable(folder):
        raise OutputError(f"{folder} cannot be written; set THANOS_CACHE to a folder that can.")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size * 1.05 + 2**20 > free:
        raise DataError(
            f"the {what} take {size / 2**20:,.0f} MB in {folder}; {free / 2**20:,.0f} MB are free. Free some space, or "
            f"set THANOS_CACHE to a folder on another disk."
        )


OTHER_DISK = "Free some space, or set THANOS_CACHE to a folder on another disk"


def claimed(
    path: Path, entry: Path, dtype: type, shape: tuple[int, ...], *, begun: bool = False
) -> "np.memmap[Any, Any]":
    """An array in a file that has its blocks: a full disk is an error here, and a crash on writing to it later.

    Args:
        path: Of the file.
        entry: Of the cache, that it is to become; for messages.
        dtype, shape: Of the array.
        begun: Whether it is there already.
    Raises:
        OutputError: if there is no room for it.
    """
    with naming(entry, OTHER_DISK):
        array = np.lib.format.open_memmap(path, mode="r+" if begun else "w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
