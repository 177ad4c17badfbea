"""Files that hold vectors, as other tools write them: .npy, .npz, CSV, TSV; others are read by :mod:`.vector_arrow`."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.data.arrays import PICTURES
from thanos.data.cache import cached_array, identity
from thanos.data.sheet import names_image
from thanos.data.vector_labels import BESIDE_PATHS, REFS, VECTORS, plain, vector_columns
from thanos.errors import DataError
from thanos.storage import npz_headers, read_npz

TABLES = (".csv", ".tsv", ".txt")
IN_MEMORY = 2**29
"""Vectors up to this many bytes are kept in memory once read; more lie in the cache as a memory map."""
AT_ONCE = 2**22
"""Numbers that are converted at a time."""
_SHARED = "numbers of shape (n, dim), a row for each vector"


@dataclass
class Columns:
    """What a file holds."""

    file: str
    labels: dict[str, NDArray[Any]] = field(default_factory=dict)
    """All that may be labels, by name, one entry a row."""
    names: dict[str, NDArray[Any]] = field(default_factory=dict)
    """What the ids of a role are called."""
    vectors: NDArray[np.float32] | None = None
    called: str = ""
    """The name of what holds the vectors."""
    notes: list[str] = field(default_factory=list)


def holds_vectors(path: Path) -> bool:
    """Whether a file, or the folder of a Hugging Face data set, holds vectors; looks at its beginning only."""
    if path.is_dir():
        from thanos.data.vector_arrow import folder_holds

        return folder_holds(path) == "vectors"
    suffix = path.suffix.lower()
    if suffix == ".npz":
        try:
            return _vectors_in(_shapes(path)) is not None
        except DataError:
            return False  # what reads it then says why
    if suffix in TABLES and path.is_file():
        names, first, _ = _head(path)
        return not any(map(names_image, names)) and bool(_places(names, first))  # a list of images without header
    if suffix == ".parquet" and path.is_file():
        from thanos.data.vector_arrow import parquet_holds

        return parquet_holds(path) == "vectors"
    return suffix == ".npy" and path.is_file()


def read_columns(path: Path, *, vectors: bool = True, apart: Collection[str] = ()) -> Columns:
    """The columns of a file, with its vectors if they are wanted.

    Args:
        path: A file, or the folder of a Hugging Face data set.
        vectors: Whether vectors are wanted.
        apart: Columns of numbers that are no part of them.
    Raises:
        DataError: if it cannot be read, or has no vectors where they are wanted.
        ConfigError: if that needs an extra.
    """
    if path.is_file() and not path.stat().st_size:
        raise DataError(f"{path} is empty. Write it again.")
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".parquet":
        from thanos.data.vector_arrow import read_folder, read_parquet

        read = read_folder if path.is_dir() else read_parquet
        return read(path, vectors=vectors, apart=apart)
    if suffix == ".npy":
        return _npy(path) if vectors else _npy_labels(path)
    return _npz(path, vectors=vectors) if suffix == ".npz" else _table(path, vectors=vectors, apart=apart)


def gathered(shape: tuple[int, int], blocks: Iterator[NDArray[Any]], key: str) -> NDArray[np.float32]:
    """Blocks of rows, one below the other, as float32: in memory, or where they are many in the cache, read-only.

    Args:
        shape: Of all of them.
        blocks: Numbers, (some rows, dim).
        key: Of the entry in the cache.
    """

    def fill(out: NDArray[Any]) -> None:
        start = 0
        for block in blocks:
            with np.errstate(over="ignore"):  # what float32 cannot hold is then not finite, and named
                out[start : start + len(block)] = block
            start += len(block)

    if 4 * shape[0] * shape[1] > IN_MEMORY:
        return cached_array(key, shape, fill, dtype=np.float32, folder="vectors", what="converted vectors")
    out = np.empty(shape, dtype=np.float32)
    fill(out)
    return out


def as_float32(values: NDArray[Any], of: str, key: str) -> tuple[NDArray[np.float32], list[str]]:
    """Numbers of any type as float32, and a note where that is another type; what is float32 is not copied.

    Raises:
        DataError: for another shape or type.
    """
    came = f"{of} has {values.dtype} of shape {values.shape}"
    if values.dtype.kind not in "fiub":
        raise DataError(f"vectors are {_SHARED}; {came}. Save them as float32: vectors.astype('float32').")
    if values.ndim != 2:
        ways = {1: "a single vector is [vector]; labels are named by `labels`", 3: "average or flatten its second axis"}
        way = ways.get(values.ndim, "images lie in an .npz, as uint8 under the name images")
        raise DataError(f"vectors are {_SHARED}; {came}: {way}.")
    if not values.size:
        raise DataError(f"vectors are {_SHARED}; {came}: there is nothing in it.")
    if values.dtype == np.float32 and values.flags.c_contiguous:
        return values, []
    rows = max(1, AT_ONCE // values.shape[1])
    blocks = (values[start : start + rows] for start in range(0, len(values), rows))
    converted = [] if values.dtype == np.float32 else [f"{values.dtype} converted to float32"]
    return gathered(values.shape, blocks, key), converted


def _npy(path: Path) -> Columns:
    array = _mapped(path)
    vectors, notes = as_float32(array, path.name, identity(path))
    return Columns(path.name, vectors=vectors, called=path.name, notes=notes)


def _npy_labels(path: Path) -> Columns:
    array = _mapped(path)
    if array.ndim != 1:
        raise DataError(f"labels in an .npy have shape (n,), one for each row; {path.name} has {array.shape}.")
    return Columns(path.name, {"superclass": np.array(array)}, called=path.name)


def _mapped(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise DataError(
                f"{path} holds Python objects (a pickle), which can run code and are never read. Save numbers, or "
                f"names as text: np.save(file, np.array(values.tolist()))."
            ) from None
        raise DataError(f"{path} is no .npy, or is damaged ({str(error).splitlines()[0]}). Write it again.") from None
    except (OSError, EOFError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read as an .npy ({error}). Write it again.") from None
    if not isinstance(found, np.ndarray):
        raise DataError(f"{path} is no .npy of one array. Call it by what it is.")
    return found


def _npz(path: Path, *, vectors: bool) -> Columns:
    shapes = _shapes(path)
    named = _vectors_in(shapes)
    if vectors and named is None:
        has = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
        raise DataError(
            f"{path.name} needs one array of vectors ({', '.join(VECTORS[:4])} or X, of shape (n, dim)); it has {has}. "
            f"Rename one."
        )
    wanted = [name for name, shape in shapes.items() if len(shape) == 1]
    arrays = read_npz(path, [*wanted, *([named] if vectors and named is not None else [])])
    found = Columns(path.name, called=named or "")
    if vectors and named is not None:
        found.vectors, found.notes = as_float32(arrays.pop(named), f"{named} of {path.name}", identity(path))
    for name in wanted:
        if name.endswith("_names"):
            found.names[name.removesuffix("_names")] = arrays.pop(name)
    found.labels = {name: values for name, values in arrays.items() if values.size or name != "refs"}
    return found


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays in an .npz, without their numbers.

    Raises:
        DataError: for what is none.
    """
    return {name: shape for name, (shape, _) in npz_headers(path).items()}


def _vectors_in(shapes: dict[str, tuple[int, ...]]) -> str | None:
    """The array that holds vectors; None where there is none, or where there are pictures."""
    pictures = (*PICTURES, "train_images", "val_images", "test_images")
    if any(name.lower() in pictures and len(shape) in (3, 4) for name, shape in shapes.items()):
        return None
    found = [name for name in shapes if plain(name) in VECTORS]
    found = [name for name in found if plain(name) == "vectors"] or found
    found = found or [name for name, shape in shapes.items() if len(shape) == 2 and shape[1] > 1]
    if len(found) > 1:
        flat = [name for name in found if len(shapes[name]) == 2]
        if len(flat) != 1:
            raise DataError(
                f"two arrays could be the vectors, {found[0]!r} and {found[1]!r}. Rename the right one to 'vectors'."
            )
        found = flat
    return found[0] if found else None


def _head(path: Path) -> tuple[list[str], list[str], str]:
    """Names of the columns, cells of the first row, and what splits them; names are numbers where there are none."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        text = file.readline(2**24)
        splits = next((mark for mark in "\t;" if mark in text), ",")
        names = next(csv.reader([text], delimiter=splits), [])
        first = next(csv.reader(file, delimiter=splits), [])
    return names, first, splits


def _has_header(names: Sequence[str]) -> bool:
    """A first row of numbers is a vector, unless it counts 0, 1, 2, ..."""
    if not all(_is_number(name) for name in names) or not names:
        return True
    return [name.strip() for name in names] == [str(i + int(float(names[0]))) for i in range(len(names))]


def _places(names: Sequence[str], first: Sequence[str], apart: Collection[str] = ()) -> list[int]:
    """Which columns hold the vector: one of lists, or one for each number; none of those that stand ``apart``."""
    if not _has_header(names):
        return list(range(len(names))) if len(names) > 1 else []
    lists = [i for i, cell in enumerate(first[: len(names)]) if cell.lstrip().startswith("[")]
    if any(map(names_image, first)):  # a box, or a few numbers, beside an image's name are about the image
        lists = [i for i in lists if plain(names[i]) in VECTORS or first[i].count(",") >= BESIDE_PATHS - 1]
        numbers = [i for i, cell in enumerate(first[: len(names)]) if _is_number(cell)]
        if not lists and len(numbers) < BESIDE_PATHS:
            return []
    told = [float(cell) for cell in first[: len(names)] if _is_number(cell)]
    if set(told) == {0, 1} and sum(told) == 1 and any(plain(name) in REFS for name in names):
        return []  # one label, as columns of 0 and 1
    if lists:
        return [i for i in lists if plain(names[i]) in VECTORS][:1] or lists[:1]
    return vector_columns(names, lambda i: i < len(first) and _is_number(first[i]), apart)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _table(path: Path, *, vectors: bool, apart: Collection[str]) -> Columns:
    names, first, splits = _head(path)
    titled = _has_header(names)
    places = _places(names, first, apart) if vectors else []
    if vectors and not places:
        raise DataError(f"{path.name} has no column of vectors, and no numbered columns. docs/own-data.md shows some.")
    titles = names if titled else [str(i) for i in range(len(names))]
    found = Columns(path.name, called=_shown(titles, places))
    kept = [i for i in range(len(names)) if i not in set(places) and titles[i].strip()]
    lists = len(places) == 1
    cells = _cells(path, splits, titled, [*kept, *places] if lists else kept)
    found.labels = {titles[i]: np.array(column, dtype=object) for i, column in zip(kept, cells, strict=False)}
    if lists:
        found.vectors = _parsed(cells[-1], path.name)
    elif places:
        found.vectors = _loaded(path, splits, titled, places)
    return found


def _shown(titles: Sequence[str], places: Sequence[int]) -> str:
    return "" if not places else titles[places[0]] + (f" to {titles[places[-1]]}" if len(places) > 1 else "")


def _cells(path: Path, splits: str, titled: bool, kept: Sequence[int]) -> list[list[str]]:
    """Some columns of a table, as text."""
    columns: list[list[str]] = [[] for _ in kept]
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in islice(csv.reader(file, delimiter=splits), int(titled), None):
                for column, i in zip(columns, kept, strict=True):
                    if row:
                        column.append(row[i].strip() if i < len(row) else "")
    except UnicodeDecodeError as error:
        raise DataError(f"a table is read as UTF-8; {path} is not: {error}. Save it anew as CSV UTF-8.") from None
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from None
    return columns


def _loaded(path: Path, splits: str, titled: bool, places: Sequence[int]) -> NDArray[np.float32]:
    """Numbers that stand in a column each."""
    try:
        loaded = np.loadtxt(
            path, dtype=np.float32, delimiter=splits, skiprows=int(titled), usecols=places, ndmin=2, quotechar='"',
            comments=None, encoding="utf-8-sig",
        )  # fmt: skip
    except (ValueError, IndexError) as error:
        said = re.sub(r"at row (\d+)", lambda found: f"at line {int(found[1]) + 1 + titled}", str(error).split(";")[0])
        raise DataError(f"a vector has a number in each of its columns; {path.name}: {said}. Mend it.") from None
    if not len(loaded):
        raise DataError(f"{path.name} has a header and no rows. Add some.")
    return loaded


def _parsed(cells: Sequence[str], of: str) -> NDArray[np.float32]:
    """Lists of numbers, '[0.1, 0.2]' or '[0.1 0.2]'."""
    rows: list[NDArray[np.float32]] = []
    for i, cell in enumerate(cells):
        try:
            row = np.array(cell.strip().strip("[]()").replace(",", " ").split(), dtype=np.float32)
        except ValueError as error:
            raise DataError(f"a vector is a list of numbers; row {i} of {of}: {error}. Write all numbers.") from None
        if rows and len(row) != len(rows[0]):
            raise DataError(f"vectors are of one width; row {i} of {of} has {len(row)}, row 0 has {len(rows[0])}.")
        rows.append(row)
    if not rows or not len(rows[0]):
        raise DataError(f"{of} has no numbers in its column of vectors. Add some.")
    return np.stack(rows)
