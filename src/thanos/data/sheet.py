"""A table as it lies on disk: its delimiter, header and rows, whatever wrote them."""

import csv
import io
import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from thanos.data.columns import COLUMNS
from thanos.data.walk import SUFFIXES
from thanos.errors import ConfigError, DataError

csv.field_size_limit(max(csv.field_size_limit(), 2**30))  # a cell may hold an annotation of any length
ENDS = tuple(SUFFIXES)
_KNOWN = {name for role, others in COLUMNS.items() for name in (role, *others)}


@dataclass(frozen=True)
class Sheet:
    """Rows under names; those of a table without a header are numbered from 1."""

    names: list[str]
    rows: list[tuple[int, list[str]]]
    """(number of the row in the file, its cells), without empty rows."""
    headed: bool = True


def read_sheet(table: Path) -> Sheet:
    """A CSV, TSV, list split by white space (``path label``), lines of JSON, or Parquet.

    Raises:
        ConfigError: for Parquet without pyarrow.
        DataError: if it cannot be read, or a quote that nobody closes swallows rows.
    """
    if table.suffix.lower() == ".parquet":
        return _parquet(table)
    text = _text(table)
    if table.suffix.lower() == ".jsonl":
        return _json_lines(text, table)
    lines = text.splitlines()
    first = 1
    if text.startswith("sep=") or (len(lines) > 1 and lines[0].strip().isdigit()):  # Excel's delimiter, CelebA's count
        lines, text = lines[1:], text[len(lines[0]) :].lstrip("\r\n")
        first = 2
    top = lines[0] if lines else ""
    mark = next((d for d in "\t;" if d in top), "," if "," in top else "")
    if not mark and _split_by_space(lines):
        rows: Iterator[list[str]] = (_cells(line) for line in lines)
    else:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark or ",")
    numbered = [(number, row) for number, row in enumerate(rows, start=first) if any(cell.strip() for cell in row)]
    sheet = _with_header(numbered, spaced=not mark and _split_by_space(lines))
    _refuse_extra_cells(sheet, table)
    _refuse_open_quote(sheet, mark or ",", table)
    return sheet


def _with_header(numbered: list[tuple[int, list[str]]], *, spaced: bool) -> Sheet:
    if not numbered:
        return Sheet([], [])
    names = [name.strip() for name in numbered[0][1]]
    has_image = any(names_image(name) for name in names)
    if has_image and not any(name.lower() in _KNOWN for name in names):
        return Sheet([str(i + 1) for i in range(len(names))], numbered, headed=False)
    if spaced and len(numbered) > 1 and len(numbered[1][1]) == len(names) + 1 and names_image(numbered[1][1][0]):
        names = ["path", *names]  # CelebA's header does not name the first column
    return Sheet(names, numbered[1:])


def _refuse_extra_cells(sheet: Sheet, table: Path) -> None:
    """A row with more cells than there are columns says something that nobody would read; empty ones are dropped."""
    for number, row in sheet.rows:
        while len(row) > len(sheet.names) and not row[-1].strip():
            row.pop()
        if len(row) > len(sheet.names):
            raise DataError(
                f"{table.name} row {number} has {len(row)} cells, and {len(sheet.names)} columns have names "
                f"({', '.join(sheet.names[:6])}). Quote cells that hold the delimiter, or name all columns."
            )


def names_image(cell: str) -> bool:
    """Whether a cell is the name of an image file."""
    cell = cell.strip()
    return cell.rstrip("/").lower().endswith(ENDS) and PurePosixPath(cell).suffix.lower() in SUFFIXES


def _split_by_space(lines: list[str]) -> bool:
    """Whether a table without other delimiters has several columns."""
    some = [line.split() for line in lines[1:20] if line.strip()] or [line.split() for line in lines[:1]]
    return all(len(cells) > 1 for cells in some) and any(names_image(cell) for cells in some for cell in cells[:-1])


def _cells(line: str) -> list[str]:
    """A line split by white space; the name of an image may hold some."""
    cells = line.split()
    last = max((i for i, cell in enumerate(cells) if names_image(cell)), default=0)
    if last == 0:
        return cells
    end = line.rindex(cells[last]) + len(cells[last])
    return [line[:end].strip(), *line[end:].split()]


def _parquet(table: Path) -> Sheet:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise ConfigError(
            f"{table.name} is read by pyarrow: pip install thanos-repr[parquet], or save a CSV."
        ) from None
    try:
        columns = parquet.read_table(table).to_pydict()
    except (ArrowException, OSError) as error:
        raise DataError(f"{table} cannot be read as Parquet ({str(error).splitlines()[0]}). Write it again.") from None
    cells = zip(*columns.values(), strict=True)
    rows = [["" if cell is None else str(cell) for cell in row] for row in cells]
    return Sheet(list(columns), list(enumerate(rows, start=1)))


def _json_lines(text: str, table: Path) -> Sheet:
    names: dict[str, None] = {}
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{table.name} row {number} is no JSON: {error}. Mend it.") from None
        if not isinstance(entry, dict):
            raise DataError(f"{table.name} has one JSON object a line; row {number} is {type(entry).__name__}.")
        names |= dict.fromkeys(entry)
        entries.append((number, entry))
    rows = [(number, [_said(entry.get(name)) for name in names]) for number, entry in entries]
    return Sheet(list(names), rows)


def _said(value: object) -> str:
    """A value of JSON as a cell; a list of one is what is in it, one of several a cell of several."""
    if isinstance(value, list):
        return ",".join(_said(each) for each in value)
    return "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def _refuse_open_quote(sheet: Sheet, mark: str, table: Path) -> None:
    """A quote that opens and is not closed makes one cell of the rows that follow."""
    wanted = len(sheet.names) - 1
    for number, row in sheet.rows:
        for cell in row:
            inner = cell.splitlines()[1:]
            like_rows = [line for line in inner if wanted and line.count(mark) >= wanted]
            if len(like_rows) > 1 or any(names_image(line.split(mark)[0]) for line in like_rows):
                start = cell.splitlines()[0][:40]
                raise DataError(
                    f"{table.name} row {number} opens a quote that swallows the {len(inner)} lines after it (before "
                    f"{start!r}). Close it, or remove it."
                )


def _text(table: Path) -> str:
    try:
        content = table.read_bytes()
        return content.decode("utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"labels are read from a CSV in UTF-8; {table} is not: {error}. Save it anew as CSV UTF-8 (in Excel a kind "
            f"of file of its own; else: iconv -f latin1 -t utf8)."
        ) from None
    except OSError as error:
        raise DataError(f"labels are read from a CSV; {table} cannot be read: {error}.") from None
