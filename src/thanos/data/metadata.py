"""Metadata files of published sets: found, read as rows, and held against the images they list."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from thanos.config import DataConfig
from thanos.data.cache import data_folder
from thanos.data.sheet import read_sheet
from thanos.data.walk import SUFFIXES
from thanos.errors import DataError


def find_folder(
    config: DataConfig, folders: Sequence[str], marks: Sequence[str], wanted: str, *, source: str = "docs/robust.md"
) -> Path:
    """The first of ``folders`` of the data folder that holds one of the files ``marks``.

    Args:
        config: Which set, and where published sets lie.
        folders: In the order of preference.
        marks: Files that tell the set.
        wanted: The layouts, for the message.
        source: Where our documents say where the set comes from.
    Raises:
        DataError: if there is none.
    """
    top = data_folder(config.root)
    for folder in folders:
        if any((top / folder / mark).is_file() for mark in marks):
            return top / folder
    raise DataError(
        f"{config.data} was looked for in {top} as {wanted}, and not found. Put it there, or point `root` (or "
        f"THANOS_DATA) at the folder that holds it; {source} says where it comes from."
    )


def read_rows(table: Path, columns: Iterable[str], *, unnamed: str = "", bare: bool = False) -> list[dict[str, str]]:
    """A table of a published set, every row complete, as :func:`~thanos.data.sheet.read_sheet` reads it.

    Args:
        table: The file.
        columns: Needed ones.
        unnamed: The name of the first column, where the header does not name it.
        bare: The file may have no header at all; then its columns are these.
    Raises:
        DataError: if it cannot be read, or lacks a column or an entry.
    """
    sheet = read_sheet(table)
    if not sheet.names:
        raise DataError(f"{table} is empty. Fetch it again.")
    wanted, header, rows = list(columns), sheet.names, sheet.rows
    if bare and not set(wanted) <= set(header):
        header, rows = wanted, rows if not sheet.headed else [(1, header), *rows]
    elif unnamed and unnamed not in header:
        header = [unnamed, *header[1:]]
    absent = [name for name in wanted if name not in header]
    if absent:
        raise DataError(f"{table} needs a column {absent[0]!r}; it has {', '.join(header[:12])}. Fetch it again.")
    for number, row in rows:
        if len(row) != len(header):
            raise DataError(f"{table} has {len(header)} columns; line {number} has {len(row)} entries. Fetch it again.")
    return [dict(zip(header, row, strict=True)) for _, row in rows]


def code_of(row: dict[str, str], column: str, kinds: int) -> int:
    """An id below ``kinds``; a DataError if it is none."""
    value = row[column].strip().removesuffix(".0")
    if value not in map(str, range(kinds)):
        raise DataError(
            f"column {column!r} holds 0 to {kinds - 1}; it has {row[column]!r} for {next(iter(row.values()))}."
        )
    return int(value)


def check_files(folder: Path, files: Sequence[str], table: Path, *, all_listed: bool = False) -> None:
    """Every image that ``table`` lists exists in ``folder``, and is listed once.

    Args:
        folder: What the names are relative to.
        files: The names.
        table: For the message.
        all_listed: Whether nothing else may lie beside these images.
    Raises:
        DataError: if that is not so.
    """
    listed = set(files)
    if len(listed) < len(files):
        twice = Counter(files).most_common(1)[0][0]
        raise DataError(f"{table} lists {twice} twice. List each image once.")
    homes = {str(Path(file).parent) for file in listed}
    there = {
        str((Path(home) / path.name).as_posix())
        for home in homes
        if (folder / home).is_dir()
        for path in (folder / home).iterdir()
        if path.suffix.lower() in SUFFIXES
    }
    absent, extra = sorted(listed - there), sorted(there - listed)
    if absent:
        also = f"; {len(extra)} that are there are not listed, {extra[0]} first" if extra else ""
        raise DataError(
            f"{table} lists {len(listed)} images; {len(absent)} of them are not in {folder}, {absent[0]} first{also}. "
            f"Fetch images and table again, from one source."
        )
    if extra and all_listed:
        raise DataError(
            f"{table} lists {len(listed)} images; {len(extra)} beside them in {folder} are not, {extra[0]} first. "
            f"Remove these, or fetch images and table again, from one source."
        )
