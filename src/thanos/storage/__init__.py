"""Writing files so that a failure midway leaves what was there, and nothing of anyone else's is touched."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from thanos.errors import OutputError
from thanos.storage.arrays import MARK, check_packing, mark_of_arrays, names_in, npz_headers, read_npz, unpacks_too_far
from thanos.storage.jsons import checked, holds, marked, parsed, read_json, read_json_lines
from thanos.storage.locks import clear_part, held_part
from thanos.storage.manifest import entered

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "PART",
    "SKIPPED",
    "append",
    "as_written",
    "begins",
    "check_packing",
    "checked",
    "clear_parts",
    "free_name",
    "has_columns",
    "holds",
    "is_part",
    "is_writable",
    "names_in",
    "naming",
    "npz_headers",
    "parsed",
    "parts_in",
    "read_json",
    "read_json_lines",
    "read_npz",
    "refuse_foreign",
    "says",
    "skipped_list",
    "write_atomically",
    "write_csv",
    "write_json",
    "write_marked_json",
    "write_marked_npz",
    "write_npz",
    "write_text",
]  # fmt: skip

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
        after = after if path.parent.is_dir() else "Its folder is gone: bring it back, or name another place"
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
            with temporary.open("w+b") as file:
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


def write_npz(path: Path, arrays: "Mapping[str, NDArray[Any]]") -> None:
    """Arrays as one .npz, compressed unless that makes them so small that it could not be told from a trap."""
    import numpy as np

    def write(file: IO[bytes]) -> None:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        if unpacks_too_far(file):
            file.seek(0)
            file.truncate()
            np.savez(file, **arrays)  # type: ignore[arg-type]

    write_atomically(path, write)


def write_marked_npz(path: Path, arrays: "Mapping[str, Any]") -> None:
    """With a mark that :func:`read_npz` holds against the rest."""
    import numpy as np

    plain = {name: np.asarray(value) for name, value in arrays.items()}
    write_npz(path, plain | {MARK: np.array(mark_of_arrays(plain))})


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


def write_marked_json(path: Path, content: dict[str, Any]) -> None:
    """With a mark that :func:`read_json` holds against the rest."""
    write_json(path, marked(content))


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
