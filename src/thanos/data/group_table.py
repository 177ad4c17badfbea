"""Groups from a table of discovered subclasses, with the names and mergers that a person gave them."""

import csv
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from thanos.config import read_yaml
from thanos.data.labels import ids_of
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

    @property
    def homes(self) -> list[str]:
        """The subclass and its parts that hold the image, the finest first."""
        part = self.finest if self.finest.startswith(self.subclass) else self.subclass
        return [part[:end] for end in range(len(part), len(self.subclass) - 1, -1)]


def read_table(table: Path, names: Path | None = None) -> dict[str, Member]:
    """Subclass of each image, by the image's reference.

    Args:
        table: A CSV with the columns image and subclass, as ``thanos discover`` writes it.
        names: A YAML file ``discovered name: your name``, of subclasses or of parts that the page's finer cuts show
            (``animals/0a``); equal names merge inside a superclass (in two of them each has its superclass behind it);
            what is not named, or has a blank, keeps its own.
    Raises:
        DataError: if the table cannot be read, lacks a column, names an image twice, or has a distance or confidence
            that is no number.
        ConfigError: if the YAML says that it is for another table, names what this one does not have, or gives
            something else than names.
    """
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
    found = dict(sorted(found.items(), key=lambda each: each[1].subclass))  # names keep their subclass's place
    return found if names is None else _renamed(found, names)


def renamed(table: Path, names: Path) -> dict[str, str]:
    """What a person called each subclass of a table; one whose parts have several names keeps its own.

    Raises:
        DataError, ConfigError: as :func:`read_table`.
    """
    found, called = read_table(table), read_table(table, names)
    given: dict[str, set[str]] = {}
    for image, member in found.items():
        given.setdefault(member.subclass, set()).add(called[image].subclass)
    return {subclass: names.pop() if len(names) == 1 else subclass for subclass, names in given.items()}


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


def _renamed(found: dict[str, Member], file: Path) -> dict[str, Member]:
    given = read_yaml(file, wanted="names like 'animals/0: horses'")
    said = re.search(f"^{MARK}([0-9a-f]+)", file.read_text("utf-8"), re.MULTILINE)
    if said is not None and said[1] != mark({image: one.subclass for image, one in found.items()}):
        raise ConfigError(
            f"{file} names the subclasses of another clustering, and would name other images here. Take the names "
            f"beside the table, or remove the line {said[0]!r} if they fit."
        )
    known = sorted({home for member in found.values() for home in member.homes})
    for old, new in given.items():
        if str(old) not in known:
            raise ConfigError(f"{file} names {old!r}, which was not discovered{nearest(str(old), known)}.")
        if isinstance(new, dict | list | bool):
            raise ConfigError(f"{file} gives {old} the name {new!r}; a name is wanted; yes, no and lists need quotes.")
    by_name = {str(old): str(new).strip() for old, new in given.items() if new is not None and str(new).strip()}
    renamed = {
        image: replace(one, subclass=next((by_name[home] for home in one.homes if home in by_name), one.subclass))
        for image, one in found.items()
    }
    homes: dict[str, set[str]] = {}
    for one in renamed.values():
        homes.setdefault(one.subclass, set()).add(one.superclass)
    return {
        image: replace(one, subclass=f"{one.subclass} ({one.superclass})") if len(homes[one.subclass]) > 1 else one
        for image, one in renamed.items()
    }


def grouped(images: Kept, table: Path, names: Path | None = None) -> Kept:
    """The same images, with a table's subclasses in the groups' place.

    Raises:
        DataError: if the table lacks an image.
    """
    found = read_table(table, names)
    subclass = {image: one.subclass for image, one in found.items()}
    group, group_names = group_ids(subclass, images.names, table, images.fingerprint)
    return replace(images, group=group, group_names=group_names)


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
    beside = table.with_suffix(".json")
    of = read_json(beside, Found).get("of") if beside.is_file() else None
    return of if isinstance(of, dict) else {}


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
