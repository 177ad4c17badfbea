"""Reading arrays from an .npz: what it says of itself is looked at before anything of it is unpacked."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zipfile import ZipFile, ZipInfo, is_zipfile

from thanos.errors import DataError
from thanos.storage.manifest import check_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

FREE, TIMES = 64 * 2**20, 40
"""Bytes that any archive may unpack to, and how many times its own size a larger one."""
Header = tuple[tuple[int, ...], Any]


class _Odd(ValueError):
    """What no writer of arrays writes."""


def read_npz(path: Path, names: Iterable[str] | None = None) -> "dict[str, NDArray[Any]]":
    """The arrays of an .npz, without pickled objects.

    Args:
        path: The file.
        names: Of the arrays that are wanted; default: all.
    Raises:
        DataError: if it is none, or is not as it was written.
    """
    import numpy as np

    check_whole(path)
    npz_headers(path)
    with _refusing(path), np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in (file.files if names is None else names)}
        kept = found.pop(MARK, None) if names is None else None
        if kept is not None and str(kept) != mark_of_arrays(found):
            raise _Odd("its arrays are not those that were written")
        return found


MARK = "blake2b"
"""The array that holds the mark of the others, where they bear one."""


def mark_of_arrays(arrays: "Mapping[str, NDArray[Any]]") -> str:
    """Of names, types, shapes and numbers."""
    digest = blake2b(digest_size=16)
    for name in sorted(set(arrays) - {MARK}):
        value = arrays[name]
        digest.update(repr((name, value.dtype.str, value.shape)).encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever numpy and zipfile raise on what is no .npz becomes a DataError."""
    try:
        yield
        return
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:
        reason = str(error).split("\n")[0]
    raise DataError(
        f"an .npz of arrays, without pickled objects, is wanted; {path} is none, or is damaged ({reason}). Names are "
        f"kept as strings: names.astype(str)."
    )


def npz_headers(path: Path) -> dict[str, Header]:
    """Shape and type of each array, by name; nothing is unpacked but that.

    Raises:
        DataError: if it is no .npz, or one that would take far more memory than its size.
    """
    headers: dict[str, Header] = {}
    with _refusing(path), ZipFile(path) as file:
        entries, size = file.infolist(), path.stat().st_size
        whole = sum(entry.file_size for entry in entries)
        if whole > max(FREE, TIMES * size) or sum(entry.compress_size for entry in entries) > size:
            raise _Odd(
                f"{size:,} bytes that unpack to {whole:,}; if that is meant, save it without compression: np.savez"
            )
        if len({entry.filename for entry in entries}) < len(entries):
            raise _Odd("two arrays have one name")
        for entry in entries:
            with file.open(entry) as opened:
                headers[entry.filename.removesuffix(".npy")] = _header(opened, entry)
    return headers


def _header(opened: IO[bytes], entry: ZipInfo) -> Header:
    """Of one array; it says how many bytes follow, and they do."""
    from math import prod

    from numpy.lib import format as npy

    version = npy.read_magic(opened)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(opened)
    if dtype.hasobject:  # numpy refuses it, if it is asked for it
        return shape, dtype
    count: int = prod(shape)
    left = entry.file_size - opened.tell()
    if any(side < 0 for side in shape) or count * dtype.itemsize != left or (count and not dtype.itemsize):
        raise _Odd(f"{entry.filename} has {left:,} bytes for shape {shape} of {dtype}")
    return shape, dtype


def check_packing(path: Path) -> None:
    """Raise ValueError for an archive that unpacks to more than its size, which torch writes none of."""
    if is_zipfile(path):
        with ZipFile(path) as file:
            whole, size = sum(entry.file_size for entry in file.infolist()), path.stat().st_size
        if whole > size:
            raise _Odd(f"{size:,} bytes that unpack to {whole:,}")


def names_in(path: Path) -> set[str]:
    """Of the arrays of an .npz; empty for anything else."""
    try:
        with ZipFile(path) as file:
            return {name.removesuffix(".npy") for name in file.namelist()}
    except Exception:  # zipfile raises anything
        return set()


def unpacks_too_far(file: IO[bytes]) -> bool:
    """Whether an archive that was just written is smaller than :func:`read_npz` would believe."""
    size = file.tell()
    with ZipFile(file) as archive:
        return sum(entry.file_size for entry in archive.infolist()) > max(FREE, TIMES * size)
