"""Writing files so that a failure midway leaves what was there, and nothing of anyone else's is touched."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from thanos.errors import DataError, OutputError
from thanos.storage.locks import clear_part, held_part
from thanos.storage.manifest import check_whole, entered

if TYPE_CHECKING:
    from numpy.typing import NDArray

PART = ".thanos-part"
"""How the name of a file ends that is not complete yet."""


@contextmanager
def naming(path: Path, after: str = "Free some space, or name another place") -> Iterator[None]:
    """Let what the system says of a write be an OutputError that names the file.

    Args:
        path: Of the file.
        after: What to do, or how things stand.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}). {after}.") from None


def append(path: Path, text: str) -> None:
    """Write at the end of a file.

    Raises:
        OutputError: if it cannot be written.
    """
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a temporary file beside ``path`` and rename it over ``path`` once it is complete and on disk.

    Raises:
        OutputError: if it cannot be written; what was at ``path`` is still there then.
    """
    with naming(path, "What was there is unchanged"):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_parts(path.parent)
        with held_part(path.parent, f".{path.name[:100]}.", PART) as temporary:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            with entered(path, temporary, write_text):
                os.replace(temporary, path)


_CLEARED: set[Path] = set()
"""Folders that this process has cleared: once is enough."""


def clear_parts(folder: Path, pattern: str = f".*{PART}") -> None:
    """Remove what killed writes left in a folder; what another process writes just now, it holds."""
    if folder in _CLEARED:
        return
    _CLEARED.add(folder)
    for part in folder.glob(pattern):
        if part.is_file() and not part.is_symlink():
            clear_part(part)


def is_part(path: Path) -> bool:
    """Whether it is a file that :func:`write_atomically` did not come to complete."""
    return path.name.startswith(".") and path.name.endswith(PART) and path.is_file() and not path.is_symlink()


def parts_in(folder: Path) -> list[Path]:
    """The incomplete files in a folder."""
    return [path for path in folder.glob(f".*{PART}") if is_part(path)]


def read_npz(path: Path, names: Iterable[str] | None = None) -> "dict[str, NDArray[Any]]":
    """The arrays of an .npz, without pickled objects.

    Args:
        path: The file.
        names: Of the arrays that are wanted; default: all.
    Raises:
        DataError: if it is none, or is not as it was written; what numpy and zipfile then raise is anything.
    """
    import numpy as np

    check_whole(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (file.files if names is None else names)}
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:
        reason = str(error).split("\n")[0]
    raise DataError(
        f"an .npz of arrays, without pickled objects, is wanted; {path} is none, or is damaged ({reason}). Names are "
        f"kept as strings: names.astype(str)."
    )


def names_in(path: Path) -> set[str]:
    """Of the arrays of an .npz; empty for anything else."""
    try:
        with ZipFile(path) as file:
            return {name.removesuffix(".npy") for name in file.namelist()}
    except (OSError, ValueError, BadZipFile):
        return set()


def refuse_foreign(file: Path, is_ours: Callable[[Path], bool], command: str) -> None:
    """Raise OutputError if something stands at ``file`` that ``command`` did not write; it is never written over.

    Args:
        file: Where the command would write.
        is_ours: Whether a file there looks like one of that command's.
        command: For the message, such as ``thanos embed``.
    """
    if (file.exists() or file.is_symlink()) and not (file.is_file() and is_ours(file)):
        raise OutputError(f"{file} is there and was not written by {command}. Name another `out`.")


def says(text: str) -> Callable[[Path], bool]:
    """Whether a file's text has ``text`` in it."""
    return lambda file: text in file.read_text("utf-8", errors="replace")


def begins(line: str) -> Callable[[Path], bool]:
    """Whether a file's first line is ``line``."""
    return lambda file: _first_line(file, len(line) + 2) == line


def _first_line(file: Path, most: int) -> str:
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        return opened.readline(most).rstrip("\r\n")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: if the file is missing, holds something else, or is not as it was written.
    """
    check_whole(file)
    return _parsed(file)


def _parsed(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file} cannot be read ({reason}). Make it anew, or remove it.") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} holds no JSON object. Make it anew, or remove it.")
    return content


def holds(*keys: str) -> Callable[[Path], bool]:
    """Whether a file is a JSON object with these keys."""

    def of(file: Path) -> bool:
        try:
            return set(keys) <= set(_parsed(file))
        except DataError:
            return False

    return of


def is_writable(path: Path) -> bool:
    """Whether a file could be written there, perhaps in folders that are yet to be made."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    return os.access(there, os.W_OK) and (there == path or there.is_dir())


def free_name(path: Path, beside: str) -> Path:
    """The path, or the first of name-2, name-3, ... that does not exist, nor such a name with the suffix ``beside``."""
    number, free = 1, path
    while any(os.path.lexists(each) for each in (free, free.with_suffix(beside))):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def write_text(path: Path, text: str) -> None:
    """Whole or not at all, in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all, with two spaces a level."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """A table, its first row the columns; what a spreadsheet would take for a formula is written as text.

    Such a cell gets an apostrophe before it, as spreadsheets mark text; :func:`as_written` takes it off again.
    """
    write_text(path, _as_csv(rows))


def _as_csv(rows: Iterable[Sequence[object]]) -> str:
    table = io.StringIO(newline="")
    csv.writer(table).writerows([_defused(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return table.getvalue()


def has_columns(columns: Sequence[str]) -> Callable[[Path], bool]:
    """Whether a file is a table of :func:`write_csv` whose first columns are these."""
    line = _as_csv([columns]).rstrip("\r\n")
    return lambda file: _first_line(file, len(line) + 1) in (line, f"{line},")


SKIPPED = ("image", "reason")
"""Columns of a list of images that were left out."""


def skipped_list(outcome: Path) -> Path:
    """Where the images are listed that an outcome in ``outcome`` was made without."""
    return outcome.with_name(f"{outcome.stem}-skipped.csv")


_FORMULA = re.compile("'*[=+\\-@\t\r].")


def _defused(cell: str) -> str:
    if not _FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def as_written(cell: str) -> str:
    """The text that :func:`write_csv` wrote into a cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
