"""A CSV of images: path, superclass[, subclass][, group][, split]; split by commas, semicolons or tabs."""

import csv
from pathlib import Path

from thanos.data.files import Listing
from thanos.data.imageset import SPLITS
from thanos.errors import DataError
from thanos.names import nearest

COLUMNS = ("path", "superclass", "subclass", "group", "split")
_NOT_A_LABEL = {"", "nan", "na", "n/a", "none", "null"}


def list_table(table: Path, *, skip_bad: bool = False) -> Listing:
    """Every row's image and labels.

    Args:
        table: A CSV or TSV with a header; columns other than COLUMNS are an error.
        skip_bad: Leave out rows without superclass or file, and list them, instead of stopping.
    Raises:
        DataError: naming the row, for unknown columns, missing labels, missing files, unknown splits, and one image
            in two rows.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"--data takes a data set, a folder or a CSV in UTF-8; {table} cannot be read: {error}."
        ) from None
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(text.splitlines(), delimiter=next((d for d in "\t;" if d in header), ","))
    columns = reader.fieldnames or []
    _check_columns(table, list(columns))
    listing = Listing(name=table.stem)
    seen: dict[Path, int] = {}
    for number, row in enumerate(reader, start=2):
        entry = {name: (row.get(name) or "").strip() for name in COLUMNS}
        path = (table.parent / entry["path"]).resolve()
        fault = _fault(entry, path)
        if fault is None and path in seen:
            fault = f"lists {entry['path']} a second time (first in row {seen[path]}); list each image once"
        if fault is not None:
            if not skip_bad:
                raise DataError(f"{table.name} row {number} {fault}, or pass --skip-bad to go on without such rows.")
            listing.skipped.append((f"{table.name} row {number}: {entry['path']}", fault))
            continue
        seen[path] = number
        listing.add(
            path,
            superclass=entry["superclass"],
            subclass="" if entry["subclass"].lower() in _NOT_A_LABEL else entry["subclass"],
            group="" if entry["group"].lower() in _NOT_A_LABEL else entry["group"],
            split=entry["split"].replace("val", "validation") if entry["split"] == "val" else entry["split"],
        )
    if not listing.paths:
        raise DataError(f"{table} lists no images. Add rows with path and superclass.")
    return listing


def _check_columns(table: Path, columns: list[str]) -> None:
    unknown = [c for c in columns if c not in COLUMNS]
    if unknown:
        raise DataError(
            f"{table.name} may have the columns {', '.join(COLUMNS)}; it has {unknown[0]!r}"
            f"{nearest(unknown[0], COLUMNS)}. Rename or remove it; the first row names the columns."
        )
    missing = [c for c in COLUMNS[:2] if c not in columns]
    if missing:
        raise DataError(f"{table.name} needs a column {missing[0]!r}; it has {', '.join(columns) or 'none'}. Add it.")


def _fault(entry: dict[str, str], path: Path) -> str | None:
    if entry["superclass"].lower() in _NOT_A_LABEL:
        return f"has no superclass (it says {entry['superclass']!r}); give it one"
    if entry["path"] == "" or not path.is_file():
        return f"names the image {entry['path']!r}, which does not exist; mend the path (relative to the CSV)"
    if entry["split"] not in ("", "val", *SPLITS):
        return f"has the split {entry['split']!r}; a split is train, validation, test or empty"
    return None
