"""A CSV of images: path, superclass[, subclass][, group][, split]; split by commas, semicolons or tabs.

Columns may have the names that other tools give them. What a column was taken for is told; others are left out.
"""

import csv
import io
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path

from thanos.data.files import SUFFIXES, Listing
from thanos.data.labels import SPLITS, UNLABELLED
from thanos.errors import DataError
from thanos.names import nearest

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("file", "filename", "file_name", "filepath", "image", "image_path", "image_name", "img", "img_path"),
    "superclass": ("label", "labels", "class", "class_name", "category", "coarse", "coarse_label", "target", "y"),
    "subclass": ("fine", "fine_label", "subclass_name", "species", "breed", "subtype"),
    "group": ("group_name", "subgroup"),
    "split": ("set", "subset", "partition"),
}
"""What a column can be, and other names for it."""
NEEDED = ("path", "superclass")
_NOT_A_LABEL = {"", "nan", "na", "n/a", "none", "null"}
_SPLIT_NAMES = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train", "testing": "test"}


def list_table(table: Path, *, folder: Path | None = None, skip_bad: bool = False) -> Listing:
    """Every row's image and labels.

    Args:
        table: A CSV or TSV with a header.
        folder: Where the images are; default: beside the table.
        skip_bad: Leave out rows without superclass or file, and list them, instead of stopping.
    Raises:
        DataError: naming the row, for columns that are missing, misspelt or there twice, missing labels, missing
            files, unknown splits, and one image in two rows.
    """
    first, columns, rows = _read(table)
    places, note = columns_of(table.name, columns, "column")
    listing = Listing(name=table.stem, notes=[note] if note else [])
    seen: dict[Path, int] = {}
    home = table.parent if folder is None else folder
    for number, row in enumerate(rows, start=first):
        if not row:
            continue
        entry = _entry(row, places)
        path = (home / entry["path"]).resolve()
        fault = _fault(entry, path, home)
        if fault is None and path in seen:
            fault = f"lists {entry['path']} a second time (first in row {seen[path]}); list each image once"
        if fault is not None:
            fault += "" if listing.skipped else _near(path)  # the first tells for all: looking around takes long
            if not skip_bad:
                raise DataError(f"{table.name} row {number} {fault}, or pass `skip_bad` to go on without such rows.")
            listing.skipped.append((f"{table.name} row {number}: {entry['path']}", fault))
            continue
        seen[path] = number
        subclass, group = label_or_none(entry["subclass"]), label_or_none(entry["group"])
        listing.add(path, superclass=entry["superclass"], subclass=subclass, group=group, split=entry["split"])
    _check_usable(listing, table, folder)
    if folder is not None:
        unlisted = sum(p.suffix.lower() in SUFFIXES and p.resolve() not in seen for p in folder.rglob("*"))
        many = "1 image of {} is" if unlisted == 1 else f"{unlisted:,} images of {{}} are"
        listing.notes += [f"{many.format(folder)} not in {table.name} and left out"] if unlisted else []
    return listing


def _read(table: Path) -> tuple[int, list[str], Iterator[list[str]]]:
    """The number of the first row after the header, the header's names, and the rows."""
    text, first = _text(table), 2
    if text.startswith("sep="):  # Excel's word on the delimiter
        text, first = text.partition("\n")[2], 3
    header = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=next((d for d in "\t;" if d in header), ","))
    return first, next(rows, []), rows


def _entry(row: Sequence[str], places: dict[str, int]) -> dict[str, str]:
    """What a row says, by what its columns were taken for."""
    entry = dict.fromkeys(COLUMNS, "") | {k: row[i].strip() for k, i in places.items() if i < len(row)}
    if "superclass" not in places:
        entry["superclass"] = UNLABELLED
    entry["split"] = split_name(entry["split"])
    return entry


def split_name(text: str) -> str:
    """A split under our name for it: val, valid and dev are validation."""
    return _SPLIT_NAMES.get(text.lower(), text.lower())


def _check_usable(listing: Listing, table: Path, folder: Path | None) -> None:
    """Raise DataError if no row is left."""
    if listing.paths:
        return
    if not listing.skipped:
        raise DataError(f"{table} lists no images. Add rows with path and superclass.")
    (where, fault), count = listing.skipped[0], len(listing.skipped)
    beside = table.parent / where.partition(": ")[2]
    hint = f" They lie beside the table: name {table} alone." if folder is not None and beside.is_file() else ""
    raise DataError(f"{table} has no usable row; the first of {count}: {where} {fault}.{hint}")


def label_or_none(text: str) -> str:
    """The label, or nothing where a word for nothing stands."""
    return "" if text.lower() in _NOT_A_LABEL else text


def columns_of(source: str, names: Sequence[str], kind: str) -> tuple[dict[str, int], str]:
    """Where each of COLUMNS stands among ``names``, and one line on what was taken for what.

    Args:
        source: Named in messages.
        names: Of the columns (or arrays).
        kind: What they are called in messages.
    Raises:
        DataError: if one that is needed is missing or misspelt, or two could be the same thing.
    """
    meant = {other: name for name, others in COLUMNS.items() for other in (name, *others)}
    places: dict[str, int] = {}
    taken, ignored = [], []
    plain = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]
    for i, word in enumerate(plain):
        name = meant.get(word)
        if name is None or (word != name and name in plain):  # beside 'superclass', 'class' is something else
            ignored.append(i)
            continue
        if name in places:
            raise DataError(
                f"{source} has two {kind}s for the {name}, {names[places[name]]!r} and {names[i]!r}. Rename the right "
                f"one to {name!r}."
            )
        places[name] = i
        taken += [f"{name} from {names[i]!r}"] if word != name else []
    for i in ignored:
        close = nearest(plain[i], [name for name in COLUMNS if name not in places], cutoff=0.8)
        if close and plain[i] not in meant:
            raise DataError(
                f"{source} may have the {kind}s {', '.join(COLUMNS)}; it has {names[i]!r}{close}. Rename or remove it."
            )
    unlabelled = set(places) == {"path"} and not ignored  # images alone, to embed
    for name in NEEDED:
        if name not in places and (name != "path" or kind == "column") and not (name == "superclass" and unlabelled):
            shown = ", ".join(repr(each) for each in names) or "none"
            others = ", ".join(COLUMNS[name])
            raise DataError(f"{source} needs the {kind} {name!r} (or {others}); it has {shown}. Add or rename one.")
    left = [names[i] for i in ignored]
    parts = [f"{source}: {', '.join(taken)}"] if taken else []
    parts += [f"{'' if taken else f'{source}: '}not used: {', '.join(left)}"] if left else []
    return places, " · ".join(parts)


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


def _near(path: Path) -> str:
    """What may have been meant by an image that does not exist."""
    if path.exists():
        return ""
    named = next((p.name for p in path.parent.glob(f"{escape(path.name)}.*") if p.suffix.lower() in SUFFIXES), None)
    if named is not None:
        return f"; {named} is there"
    inside = next(path.parent.glob(f"*/{escape(path.name)}"), None)
    return "" if inside is None else f"; for images in {inside.parent} name that folder, and the table by `labels`"


def _fault(entry: dict[str, str], path: Path, home: Path) -> str | None:
    if entry["superclass"].lower() in _NOT_A_LABEL:
        return f"has no superclass (it says {entry['superclass']!r}); give it one"
    if entry["path"] == "" or not path.is_file():
        return f"names the image {entry['path']!r}, which does not exist; mend the path (relative to {home})"
    if entry["split"] not in ("", *SPLITS):
        return f"has the split {entry['split']!r}; a split is train, validation, test or empty"
    return None
