"""Groups from a table of discovered subclasses, with the names, mergers, moves and marks that a person gave them."""

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from thanos.config import read_yaml
from thanos.data.edits import AtHand, Edits, Moved, holds_edits, parse_edits, still_fitting
from thanos.data.labels import ids_of
from thanos.data.samples import Values
from thanos.data.splits import Kept
from thanos.errors import ConfigError, DataError
from thanos.names import nearest
from thanos.storage import as_written, read_json
from thanos.storage.schemas import Found


@dataclass(frozen=True)
class Member:
    """An image's discovered subclass, and how well it fits (:class:`thanos.Discovered`)."""

    subclass: str
    superclass: str = ""
    distance: float = 0.0
    confidence: float = 0.0
    finest: str = ""
    """Where it is in the superclass's tree of coarser and finer cuts: ``animals/0ab`` is in ``animals/0a``."""
    mark: str = ""
    """What a person marked its subclass as: harmful, look again; not a group: it is the rest of its superclass."""

    @property
    def homes(self) -> list[str]:
        """The subclass and its parts that hold the image, the finest first."""
        part = self.finest if self.finest.startswith(self.subclass) else self.subclass
        return [part[:end] for end in range(len(part), len(self.subclass) - 1, -1)]


def read_table(
    table: Path, names: Path | None = None, here: AtHand | None = None, *, rest: bool = True
) -> dict[str, Member]:
    """Subclass of each image, by the image's reference.

    Args:
        table: A CSV with the columns image and subclass, as ``thanos discover`` writes it.
        names: A YAML file ``discovered name: your name``, of subclasses or of parts that the page's finer cuts show
            (``animals/0a``); equal names merge inside a superclass (in two of them each has its superclass behind it);
            what is not named, or has a blank, keeps its own. Or the edits that a page saved: names, moved images, and
            marks; what is marked as no group is the rest of its superclass (``animals (rest)``).
        here: The images that it is read for; moved ones that are none of them, or hold something else, stay where
            discovery put them. None: all are as they were.
        rest: Whether what is marked as no group becomes the rest of its superclass; else it keeps its name.
    Raises:
        DataError: if the table cannot be read, lacks a column, names an image twice, or has a distance or confidence
            that is no number.
        ConfigError: if the YAML says that it is for another table, names what this one does not have, or gives
            something else than names; if it moves an image that the table lacks, or to another superclass.
    """
    found = _rows_of(table)
    return found if names is None else _renamed(found, names, here, rest)


def _rows_of(table: Path) -> dict[str, Member]:
    """As it was written."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {k: as_written(v) if isinstance(v, str) else v for k, v in row.items()} for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"a table of discovered subclasses is wanted; {table} cannot be read: {error}.") from None
    if not rows or not {"image", "subclass"} <= set(rows[0]):
        came = ", ".join(rows[0]) if rows else "no rows"
        raise DataError(
            f"a table of discovered subclasses has the columns image and subclass; {table} has {came}. Write one with "
            f"thanos discover."
        )
    found = {row["image"]: _member(row, table) for row in rows}
    if len(found) < len(rows):
        twice = Counter(row["image"] for row in rows).most_common(1)[0][0]
        raise DataError(
            f"{table} names {twice!r} twice, so its images cannot be told apart. Give every image its own name."
        )
    return dict(sorted(found.items(), key=lambda each: each[1].subclass))  # names keep their subclass's place


def _member(row: dict[str, str], table: Path) -> Member:
    try:
        distance, confidence = (float(row.get(name) or 0) for name in ("distance", "confidence"))
        home, finest = row.get("superclass") or "", row.get("finest") or ""
        return Member(row["subclass"] or "", home, distance, confidence, finest)
    except ValueError as error:
        raise DataError(f"{table} says of {row['image']!r}: {error}. Write it anew with thanos discover.") from None


def without_place(images: Collection[str]) -> dict[str, str]:
    """The name of each image below the folder that holds them all: the same wherever that folder is moved."""
    if len(images) < 2 or not all(os.path.isabs(image) for image in images):
        return {image: image for image in images}
    folder = os.path.commonpath(images)
    return {image: image[len(folder) :].lstrip(os.sep) for image in images}


def mark(subclass: Mapping[str, str]) -> str:
    """Of each image's subclass: what bears it is of this table and of no other."""
    name = without_place(subclass)
    lines = sorted(f"{name[image]}\0{home}" for image, home in subclass.items())
    return blake2b("\n".join(lines).encode(), digest_size=4).hexdigest()


def mark_of(table: Path | None) -> str | None:
    """That of a table; None without one.

    Raises:
        DataError: as :func:`read_table`.
    """
    return None if table is None else mark({image: one.subclass for image, one in read_table(table).items()})


MARK = "# of the subclasses "
"""Before the mark in a file of names."""
SHAPE = "shape"
"""Under which the JSON beside a table says of what shape its images were: height, width, channels; or numbers."""


def _renamed(found: dict[str, Member], file: Path, here: AtHand | None, rest: bool) -> dict[str, Member]:
    given = read_yaml(file, wanted="names like 'animals/0: horses'")
    if holds_edits(given):
        return _edited(found, parse_edits(given, file), file, here, rest)
    said = re.search(f"^{MARK}([0-9a-f]+)", file.read_text("utf-8"), re.MULTILINE)
    if said is not None and said[1] != mark({image: one.subclass for image, one in found.items()}):
        raise ConfigError(
            f"{file} names the subclasses of another clustering, and would name other images here. Take the names "
            f"beside the table, or remove the line {said[0]!r} if they fit."
        )
    return _told_apart(_named(found, given, file))


def _named(found: dict[str, Member], given: Mapping[Any, Any], file: Path) -> dict[str, Member]:
    """Under the names of their subclasses or parts."""
    known = sorted({home for member in found.values() for home in member.homes})
    for old, new in given.items():
        if str(old) not in known:
            raise ConfigError(f"{file} names {old!r}, which was not discovered{nearest(str(old), known)}.")
        if isinstance(new, dict | list | bool):
            raise ConfigError(f"{file} gives {old} the name {new!r}; a name is wanted; yes, no and lists need quotes.")
    by_name = {str(old): str(new).strip() for old, new in given.items() if new is not None and str(new).strip()}
    return {
        image: replace(one, subclass=next((by_name[home] for home in one.homes if home in by_name), one.subclass))
        for image, one in found.items()
    }


def _told_apart(found: dict[str, Member]) -> dict[str, Member]:
    """A name that two superclasses have has the superclass behind it."""
    homes: dict[str, set[str]] = {}
    for one in found.values():
        homes.setdefault(one.subclass, set()).add(one.superclass)
    return {
        image: replace(one, subclass=f"{one.subclass} ({one.superclass})") if len(homes[one.subclass]) > 1 else one
        for image, one in found.items()
    }


def _edited(found: dict[str, Member], edits: Edits, file: Path, here: AtHand | None, rest: bool) -> dict[str, Member]:
    if edits.table != mark({image: one.subclass for image, one in found.items()}):
        raise ConfigError(
            f"{file} edits the subclasses of another table, and would change other images here. Name that table by "
            f"`table`, or edit the page of this one, which thanos report writes."
        )
    named = _named(found, edits.names, file)
    by_name = _by_shown_name(named)
    going: dict[str, Moved] = {}
    short = {name: image for image, name in without_place(found).items()}
    for one in edits.moved:
        image = _image_of(one.image, found, short, file)
        if image in going:
            raise ConfigError(f"{file} moves {one.image!r} twice. Keep one of the two.")
        going[image] = one.model_copy(update={"to": _destination(one, found[image], by_name, file)})
    if here is not None:
        _warn_of_near_names(going, by_name, file, here.say)
    fitting = still_fitting(going, here, file)
    moved = {image: replace(one, subclass=going[image].to) if image in fitting else one for image, one in named.items()}
    return _told_apart(_marked(moved, edits, by_name | _by_shown_name(moved), going, file, rest))


def _warn_of_near_names(
    going: Mapping[str, Moved], known: Collection[str], file: Path, say: Callable[[str], None]
) -> None:
    """A new name that is nearly another one may be a slip."""
    count = Counter(one.to for one in going.values() if one.to not in known)
    for name, images in count.items():
        if close := nearest(name, [other for other in (*known, *count) if other != name], 0.92):
            say(f"{file} moves {images:,} to {name!r}, a subclass of its own{close}")


def _by_shown_name(found: dict[str, Member]) -> dict[str, set[tuple[str, str]]]:
    """Superclass and name of the subclasses that may be meant by a name, as it was given and as it is shown."""
    meant: dict[str, set[tuple[str, str]]] = {}
    for one in {(each.superclass, each.subclass) for each in found.values()}:
        meant.setdefault(one[1], set()).add(one)
    several = {f"{name} ({home})": {(home, name)} for each in meant.values() if len(each) > 1 for home, name in each}
    return several | meant


def _image_of(name: str, found: Mapping[str, Member], short: Mapping[str, str], file: Path) -> str:
    """What the table calls it; its folder may have moved since."""
    if name in found:
        return name
    steps = name.split(os.sep)
    for first in range(1, len(steps)):
        if (rest := os.sep.join(steps[first:])) in short:
            return short[rest]
    raise ConfigError(f"{file} moves {name!r}, which is no image of the table. Take it out, or mend its name.")


def _destination(one: Moved, member: Member, by_name: Mapping[str, set[tuple[str, str]]], file: Path) -> str:
    """The name of the subclass that an image goes to, inside its superclass."""
    if one.superclass != member.superclass:
        raise ConfigError(
            f"{file} moves {one.image!r} as one of {one.superclass!r}, and its superclass is {member.superclass!r}. "
            f"Images move inside their superclass."
        )
    meant = by_name.get(one.to, set())
    mine = {name for home, name in meant if home == member.superclass}
    if meant and not mine:
        other = min(home for home, _ in meant)
        raise ConfigError(
            f"{file} moves {one.image!r} of {member.superclass!r} to {one.to!r}, a subclass of {other!r}. Images move "
            f"inside their superclass; give a new subclass another name."
        )
    return mine.pop() if mine else one.to


def _marked(
    found: dict[str, Member],
    edits: Edits,
    by_name: Mapping[str, set[tuple[str, str]]],
    going: Mapping[str, Moved],
    file: Path,
    rest: bool,
) -> dict[str, Member]:
    """With their marks; what is no group becomes the rest of its superclass if it shall."""
    new = {one.to: {(one.superclass, one.to)} for one in going.values()}  # also where no image of it fits
    marks: dict[tuple[str, str], str] = {}
    for name, given in edits.marks.items():
        meant = by_name.get(name) or new.get(name, set())
        if len(meant) != 1:
            homes = sorted(home for home, _ in meant)
            way = f"say which: {name} ({homes[0]})" if homes else f"mend its name{nearest(name, by_name)}"
            where = f"{' and '.join(homes)} have each" if homes else "no subclass is called after the edits"
            raise ConfigError(f"{file} marks {name!r}, which {where}; {way}.")
        marks[next(iter(meant))] = given
    marked = {}
    for image, one in found.items():
        said = marks.get((one.superclass, one.subclass), "")
        name = f"{one.superclass} (rest)" if rest and said == "not a group" else one.subclass
        marked[image] = replace(one, subclass=name, mark=said)
    return marked


def grouped(images: Kept, table: Path, names: Path | None = None) -> Kept:
    """The same images, with a table's subclasses in the groups' place.

    Raises:
        DataError: if the table lacks an image.
        ConfigError: as :func:`read_table`.
    """
    notes: list[str] = []
    here = None
    if names is not None:
        here = at_hand(read_table(table), images.names, lambda: images.own, table, images.fingerprint, notes.append)
    found = read_table(table, names, here)
    subclass = {image: one.subclass for image, one in found.items()}
    group, group_names = group_ids(subclass, images.names, table, images.fingerprint)
    return replace(images, group=group, group_names=group_names, notes=(*images.notes, *notes))


def at_hand(
    found: Mapping[str, Any],
    refs: Sequence[str],
    values: Callable[[], Values | None],
    table: Path,
    fingerprint: str,
    say: Callable[[str], None],
) -> AtHand:
    """What moved images are held against.

    Args:
        found: What the table says, by image.
        refs, fingerprint: Of the images.
        values: Reads the images, or vectors, (n, ...); None: they cannot be read.
        table: The JSON beside it says of what shape those were that it was made of.
        say: Receives how many moved images still fit.
    Raises:
        DataError: if the table lacks an image.
    """
    return AtHand(in_table(found, refs, table, fingerprint), values, _beside(table).get(SHAPE), say)


def in_table(found: Mapping[str, Any], refs: Sequence[str], table: Path, fingerprint: str) -> list[str]:
    """What the table calls these images; their folder may have moved since.

    Args:
        found: What the table says, by image.
        refs: The images.
        table: For messages; the JSON beside it says which images it was made of.
        fingerprint: Of the images; empty: not known.
    Raises:
        DataError: if the table lacks an image, or is of other images in another folder.
    """
    absent = [ref for ref in refs if ref not in found]
    if not absent:
        return list(refs)
    there, here = {name: image for image, name in without_place(found).items()}, without_place(refs)
    if there.keys() == set(here.values()):  # some of them alone may be other images of the same names
        of = made_of(table).get("images", "")
        if "" not in (of, fingerprint) and of != fingerprint:
            raise DataError(
                f"{table} is of other images, which have the same names in another folder ({next(iter(found))}). "
                f"Discover again with these images."
            )
        return [there[here[ref]] for ref in refs]
    raise DataError(
        f"{table} names a subclass for every image; {len(absent)} of {len(refs)} are not in it, {absent[0]} first. "
        f"Discover again with the same images."
    )


def made_of(table: Path) -> dict[str, Any]:
    """The marks of the images and the encoder that a table was made of; empty where nothing beside it says so."""
    return _beside(table).get("of") or {}


def _beside(table: Path) -> dict[str, Any]:
    """What the JSON beside a table says; empty where there is none."""
    beside = table.with_suffix(".json")
    return read_json(beside, Found) if beside.is_file() else {}


def group_ids(
    found: dict[str, str], refs: Sequence[str], table: Path, fingerprint: str = ""
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Ids for these images, shape (n,), and their names in the table's order.

    Raises:
        DataError: if the table lacks an image.
    """
    listed = in_table(found, refs, table, fingerprint)
    here = [found[image] for image in listed]
    present = set(here) - {""}
    return ids_of(here, [name for name in dict.fromkeys(found.values()) if name in present])
