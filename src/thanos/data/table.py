"""A table of images: path, superclass[, subclass][, group][, split][, together].

Columns may have the names that other tools give them, or those that the user says. What a column was taken for is
told; others are left out. A path that is not there is repaired where exactly one file can be meant.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from thanos.config import DataConfig
from thanos.data.columns import COLUMNS, columns_of, said_columns
from thanos.data.files import Listing
from thanos.data.labels import (
    CLASS_ROLES,
    SPLITS,
    UNLABELLED,
    known_units,
    known_words,
    numbers_splits,
    split_levels,
    split_names,
    yes_or_no,
)
from thanos.data.sheet import Sheet, read_sheet
from thanos.data.walk import Found, closest, walk
from thanos.errors import DataError

_SUBPOPBENCH = {"filename", "split", "y", "a"}
_PROPOSE_FROM = 1000
Words = dict[str, list[str]]


def list_table(table: Path, config: DataConfig, *, folder: Path | None = None) -> Listing:
    """Every row's image and labels.

    Args:
        table: A CSV or TSV, a list ``path label`` without header, or lines of JSON.
        config: How it is read.
        folder: Where the images are; default: beside the table.
    Raises:
        DataError: naming the row, for columns that are missing, misspelt or there twice, missing labels, missing
            files, unknown splits, one image in two rows, and images of several superclasses.
    """
    sheet = read_sheet(table)
    listing = Listing(name=table.stem)
    sheet, words, written = _words(sheet, table, config, listing)
    finder = _Finder(table.parent if folder is None else folder, folder is not None)
    seen: dict[Path, int] = {}
    for i, (number, cells) in enumerate(sheet.rows):
        entry = {role: words[role][i] for role in words}
        path = finder.find(entry["path"])
        fault = _fault(entry, written[i], path, finder)
        if fault is None and path in seen:
            fault = f"lists {entry['path']} a second time (first in row {seen[path]}); list each image once"
        if fault is not None:
            if not config.skip_bad:
                raise DataError(f"{table.name} row {number} {fault}, or pass `skip_bad` to go on without such rows.")
            listing.skipped.append((f"{table.name} row {number}: {entry['path']}", fault))
            continue
        assert path is not None
        seen[path] = number
        listing.add(path, **{role: word for role, word in entry.items() if role != "path"})
        for name, column in listing.further.items():
            place = sheet.names.index(name)
            column.append(cells[place].strip() if place < len(cells) else "")
    _check_usable(listing, table, folder)
    listing.notes += finder.told()
    if folder is not None:
        listing.left_out += finder.beside(seen, table)
    return listing


def _words(sheet: Sheet, table: Path, config: DataConfig, listing: Listing) -> tuple[Sheet, Words, list[str]]:
    """The rows, what each says by what its columns were taken for, and what stood in the place of its superclass."""
    said = said_columns(config.columns, config.together)
    if said and all(name.isdigit() for name in said.values()) and not {*said.values()} & {*sheet.names}:
        first = (sheet.rows[0][0] - 1 if sheet.rows else 1, sheet.names)  # numbers name columns: there is no header
        sheet = Sheet([str(i + 1) for i in range(len(sheet.names))], [first, *sheet.rows], headed=False)
    names, rows = sheet.names, [row for _, row in sheet.rows]
    if not sheet.headed:
        said = _without_header(sheet, table, said)
    elif {name.lower() for name in names} >= _SUBPOPBENCH and "group" not in said:
        said["group"] = "a"
    hot = _one_hot(sheet, said, table)
    some = rows[:_PROPOSE_FROM]
    places, note = columns_of(
        table.name, [*names, *(["superclass"] if hot else [])], "column", said, [] if hot else some
    )
    rows = [[*_filled(row, len(names)), hot[i]] for i, row in enumerate(rows)] if hot else rows
    listing.notes += [note] if note else []
    listing.notes += [f"superclasses from {len(set(hot))} columns of 0 and 1"] if hot else []
    words = {role: [row[i].strip() if i < len(row) else "" for row in rows] for role, i in places.items()}
    for role in (role for role in CLASS_ROLES if role in words):
        if role in said and not (hot and role == "superclass"):
            words[role] = yes_or_no(words[role], said[role], (role, *COLUMNS[role]))
        words[role] = _from_indices(words[role], role, table, listing)
    _refuse_several(words.get("superclass", []), sheet, table)
    if "superclass" in words:
        split_levels(words, config.level, config.judged_level, table.name)
    written = words.get("superclass", [UNLABELLED] * len(rows))
    for role in (role for role in CLASS_ROLES if role in words):
        words[role], told = known_words(words[role], role, config.unknown)
        listing.notes += told
    words.setdefault("superclass", written)
    words["split"] = _splits(words.get("split", [""] * len(rows)), said.get("split", "split"), table, listing)
    if "together" in words:
        words["together"] = known_units(words["together"])
    listing.further = {name: [] for i, name in enumerate(names) if i not in places.values() and sheet.headed}
    if "together" not in words:
        _point_at_repeats(sheet, places, listing, table.name)
    return sheet, words, written


def _filled(row: Sequence[str], width: int) -> list[str]:
    return [*row, *[""] * (width - len(row))][:width]


def _without_header(sheet: Sheet, table: Path, said: dict[str, str]) -> dict[str, str]:
    """Which column of a list without header is what: the path, and of two columns of labels the coarser above."""
    if said:
        return said
    rows = [row for _, row in sheet.rows]
    kinds = {i: {row[i].strip() for row in rows if i < len(row)} for i in range(len(sheet.names))}
    path = max(kinds, key=lambda i: sum("." in cell for cell in kinds[i]))
    labels = [i for i in kinds if i != path]
    if len(labels) == 2:
        fine, coarse = sorted(labels, key=lambda i: -len(kinds[i]))
        above = {(row[fine].strip(), row[coarse].strip()) for row in rows if len(row) > max(labels)}
        if len(above) == len(kinds[fine]) and len(kinds[coarse]) > 1 and len(kinds[fine]) <= len(rows) / 2:
            return {"path": str(path + 1), "superclass": str(coarse + 1), "subclass": str(fine + 1)}
    if len(labels) > 1:
        raise DataError(
            f"{table.name} has no header and {len(labels)} columns beside the path. Add a header, or pass "
            f"`columns=path={path + 1},superclass={labels[0] + 1}` with the numbers of the right ones."
        )
    return {"path": str(path + 1)} | ({"superclass": str(labels[0] + 1)} if labels else {})


def _one_hot(sheet: Sheet, said: dict[str, str], table: Path) -> list[str]:
    """The superclass of every row where columns of 0 and 1 say it, exactly one of them 1; else nothing.

    Raises:
        DataError: if there are such columns, and nothing else for a superclass, and a row has several or none.
    """
    names, rows = sheet.names, [row for _, row in sheet.rows]
    plain = [name.strip().lower() for name in names]
    if "superclass" in said or {"superclass", *COLUMNS["superclass"]} & set(plain) or not rows:
        return []
    taken = {word for role, others in COLUMNS.items() for word in (role, *others)} | set(said.values())
    binary = [
        i
        for i, name in enumerate(plain)
        if name not in taken and {_filled(row, len(names))[i].strip() for row in rows} <= {"0", "1", "0.0", "1.0"}
    ]
    if len(binary) < 2:
        return []
    hot = [[names[i] for i in binary if float(row[i]) == 1] for row in rows]
    odd = next((i for i, each in enumerate(hot) if len(each) != 1), None)
    if odd is not None:
        what = "none of them" if not hot[odd] else " and ".join(hot[odd])
        raise DataError(
            f"{table.name} has {len(binary)} columns of 0 and 1, and row {sheet.rows[odd][0]} is {what}: an image has "
            f"one superclass. Pass `columns=superclass={names[binary[0]]}` for one of them against the rest."
        )
    return [each[0] for each in hot]


def _from_indices(words: list[str], role: str, table: Path, listing: Listing) -> list[str]:
    """Numbers under the names that a ``class_indices.json`` beside the table gives the superclasses."""
    file = table.parent / "class_indices.json"
    if role != "superclass" or not file.is_file() or not all(word.isdigit() for word in words if word):
        return words
    try:
        names = {str(index): str(name) for name, index in json.loads(file.read_text("utf-8")).items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file} is taken for names of classes, and cannot be read: {error}. Mend or move it."
        ) from None
    if absent := next((word for word in words if word and word not in names), None):
        raise DataError(f"{file} names the classes of {table.name}, and has no {absent}. Add it, or move the file.")
    listing.notes.append(f"superclasses are called as in {file.name}")
    return [names.get(word, "") for word in words]


def _refuse_several(words: Sequence[str], sheet: Sheet, table: Path) -> None:
    """``cat,dog`` beside ``cat`` and ``dog`` is two labels of one image."""
    alone = set(words)
    for i, word in enumerate(words):
        for mark in ",|;":
            parts = [part.strip() for part in word.split(mark)]
            if len(parts) > 1 and all(part in alone for part in parts) and len(set(parts)) > 1:
                raise DataError(
                    f"an image has one superclass; row {sheet.rows[i][0]} of {table.name} has {word!r}. Keep one of "
                    f"them, leave such images out, or train on one against the rest (a column of 0 and 1)."
                )


def _splits(words: Sequence[str], column: str, table: Path, listing: Listing) -> list[str]:
    """Splits under our names; numbers as published sets have them are 0 for train, 1 for validation, 2 for test."""
    plain = [word.removesuffix(".0") for word in words]
    if numbers_splits(plain):
        if "2" not in plain and column.lower() not in ("split", *COLUMNS["split"]):
            raise DataError(
                f"{column} of {table.name} is 0 or 1: as a split it would say train or validation. Write train, "
                f"validation or test in it."
            )
        listing.notes.append("splits: 0 is train, 1 validation, 2 test")
    return split_names(words)


def _point_at_repeats(sheet: Sheet, places: dict[str, int], listing: Listing, name: str) -> None:
    """A column that is not used, and whose values are of a few images each, may say what belongs together."""
    count = len(sheet.rows)
    for i, column in enumerate(sheet.names):
        if i in places.values():
            continue
        often = Counter(row[i].strip() for _, row in sheet.rows if i < len(row) and row[i].strip())
        if count / 20 < len(often) < 0.98 * count and sum(often.values()) > 0.9 * count and max(often.values()) > 1:
            several = sum(n for n in often.values() if n > 1)
            listing.notes.append(
                f"{column} of {name} has {len(often):,} values for {count:,} images, {several:,} of them shared: if "
                f"it says what an image is of, `together={column}` keeps those in one split"
            )


class _Finder:
    """From what a table says to the file, repaired where exactly one can be meant."""

    def __init__(self, home: Path, all_in_folder: bool):
        self.home, self._all = home.resolve(), all_in_folder
        self._closest: Callable[[str], Path | None] | None = None
        self._repaired = Counter[str]()

    def find(self, written: str) -> Path | None:
        path = (self.home / written.replace("\0", "")).absolute() if written else None
        if path is not None and _is_file(path):
            self._repaired["without NUL"] += "\0" in written
            return Path(os.path.normpath(path))
        if not written or (not self._all and self.home == Path(self.home.anchor)):
            return None
        if self._closest is None:
            self._closest = closest(self.home, self.there.images)
        found = self._closest(written)
        if found is not None:
            self._repaired[self._how(written, found)] += 1
        return found

    def _how(self, written: str, found: Path) -> str:
        name = written.replace("\0", "").replace("\\", "/").rsplit("/", 1)[-1]
        if name.lower() == found.stem.lower():
            return "by adding a suffix"
        return "in another case" if name != found.name else "in another folder"

    def told(self) -> list[str]:
        """One line on what was repaired."""
        total = self._repaired.total()
        how = ", ".join(f"{count:,} {way}" for way, count in self._repaired.most_common() if count)
        return (
            [f"{total:,} paths did not exist and are repaired, each to the one file that fits: {how}"] if total else []
        )

    @cached_property
    def there(self) -> Found:
        """All files of the folder."""
        return walk(self.home)

    def beside(self, listed: dict[Path, int], table: Path) -> list[tuple[str, str]]:
        """Files of the folder that the table does not name, with the kind of reason."""
        others = [(path, f"not in {table.name}") for path in self.there.images if path not in listed]
        others += [(path, reason) for path, reason in self.there.left_out if path.resolve() != table.resolve()]
        return [(str(path), reason) for path, reason in others]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no system takes
        return False


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


def _fault(entry: dict[str, str], written: str, path: Path | None, finder: _Finder) -> str | None:
    if entry["superclass"] == "":
        return f"has no superclass (it says {written!r}); give it one"
    if path is None:
        return f"names the image {entry['path']!r}, which does not exist; mend the path (relative to {finder.home})"
    if entry["split"] not in ("", *SPLITS):
        return f"has the split {entry['split']!r}; a split is train, validation, test or empty"
    return None


def names_labels(table: Path, config: DataConfig) -> bool:
    """Whether the columns of a table say which images have which superclass."""
    said = said_columns(config.columns)
    try:
        places, _ = columns_of(table.name, read_sheet(table).names, "column", said)
    except DataError:
        return False
    return {"path", "superclass"} <= set(places)
