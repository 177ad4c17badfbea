"""The names that a person gave to discovered subclasses: they follow their images when subclasses are found anew."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import yaml

from thanos.config import read_yaml
from thanos.data.edits import holds_edits
from thanos.data.group_table import MARK, Member, mark, read_table, without_place
from thanos.errors import OutputError, ThanosError
from thanos.storage import free_name, write_atomically, write_text

SHARED = 0.5
"""A subclass takes a name over if it shares more than this part of the images that either has: at most one can."""

Given = list[tuple[str, AbstractSet[str]]]


class GivenNames:
    """What a table's subclasses were called, read before the table is written anew.

    Args:
        table: The CSV.
        names: A person's file of names or edits of it; None: the one beside the table.
    Raises:
        ConfigError, DataError: if that file was given, and is not for this table.
    """

    def __init__(self, table: Path, names: Path | None = None):
        self._table, self._file = table, table.with_suffix(".yaml")
        self._before = table.read_bytes() if table.is_file() else b""
        self._asked = None if names in (None, self._file) else names
        if names is not None:
            read_table(table, names)  # what is wrong with it shows
        files = [self._file] if self._asked is None else [self._asked, self._file]
        self._given = {file: _given(file, table) for file in files}
        self._texts = {file: file.read_text("utf-8", errors="replace") if file.is_file() else "" for file in files}
        self._aside: Given = []
        for file in sorted(table.parent.glob(f"{table.stem}-earlier*.yaml")):
            self._aside += _given(file, file.with_suffix(".csv")) or []

    def hand_on(self, found: Mapping[str, AbstractSet[str]]) -> list[str]:
        """Write the file of names for the table that is there now; names without a subclass step aside.

        Args:
            found: The images of each of its subclasses.
        Returns:
            What a person should know of the names they gave.
        """
        same = self._before == self._table.read_bytes()
        if same and self._asked is not None:
            lines = [f"{self._asked} still fits the subclasses, which are the same; thanos report takes it by `names`"]
        if same and self._file.exists():
            kept_whole = f"your names in {self._file} are kept; thanos report shows the page under them"
            return lines if self._asked is not None else [kept_whole] if self._given[self._file] != [] else []
        place = without_place({image for images in found.values() for image in images})
        names, here = {}, [pair for given in self._given.values() for pair in given or []]
        for subclass, members in found.items():
            mine = {place[image] for image in members}
            shared = [(len(mine & images) / len(mine | images), name) for name, images in (*here, *self._aside)]
            share, name = max(shared, key=lambda each: each[0], default=(0.0, subclass))  # of equals one in use
            names[subclass] = name if share > SHARED else subclass
        if not (same and self._asked is not None):
            lines = self._follow([name for subclass, name in names.items() if name != subclass])
        self._write(names, {image: name for name, images in found.items() for image in images})
        return lines

    def _follow(self, kept: list[str]) -> list[str]:
        """What became of the names; files that say more than what was kept step aside, each with the earlier table."""
        lines = []
        if kept:
            lines.append(f"names that follow their images to the new subclasses: {', '.join(dict.fromkeys(kept))}")
        for file, given in self._given.items():
            homeless = [pair for pair in given or [] if pair[0] not in kept]
            text = self._texts[file]
            whole = given is None or _has_words(text) or _is_edits(file)
            if not (homeless or whole):
                continue
            aside = self._file.with_name(f"{self._file.stem}-earlier.yaml")
            if whole or any(pair not in self._aside for pair in homeless):
                aside = free_name(aside, ".csv")
                write_atomically(aside.with_suffix(".csv"), lambda file: file.write(self._before))
                if file == self._file:
                    self._file.rename(aside)
                else:
                    write_text(aside, text)
            named = ", ".join(dict.fromkeys(name for name, _ in homeless)) or "your names"
            why = f"no subclass has most of the images of {named}, or another name fits better"
            if given is not None and not homeless:
                why = "what you wrote beside the names of other subclasses"
            lines.append(f"{why}: kept in {aside}")
        return lines

    def _write(self, names: dict[str, str], subclass: dict[str, str]) -> None:
        table, file = self._table.name, self._file
        if self._file.is_symlink():
            raise OutputError(f"{self._file} is a link to a file that is not there. Remove it, or name another `out`.")
        head = (
            "# Name discovered subclasses; equal names merge inside a superclass. thanos report then shows them so,\n"
            "# and thanos robust picks a classifier that is fair to them (of a run or an .npz by themselves; else with "
            f"--table {table}).\n"
            f"{MARK}{mark(subclass)}: other subclasses are not named by these\n"
        )
        shown = yaml.safe_dump(names, allow_unicode=True, sort_keys=False)
        if yaml.safe_load(shown) != names:  # line breaks that YAML would fold, unless they are escaped
            shown = yaml.safe_dump(names, sort_keys=False)
        write_text(file, head + shown)


def _has_words(text: str) -> bool:
    """Whether a person left comments in a file of names."""
    ours = (
        "# Name discovered subclasses;",
        "# and thanos robust is fair",
        "# and thanos robust --method groupdro is fair",
        "# and thanos robust picks",
        MARK,
        "# Edits of discovered subclasses, made",
    )
    return any(line.lstrip().startswith("#") and not line.startswith(ours) for line in text.splitlines())


def _is_edits(file: Path) -> bool:
    """Whether it is a file that a page saved."""
    try:
        return holds_edits(read_yaml(file))
    except ThanosError:
        return False


def _given(file: Path, table: Path) -> Given | None:
    """The names that are not those of discovery, each with its images; None: there is a file, but it cannot be read."""
    if not file.exists():
        return []
    try:
        words = read_yaml(file, wanted="names like 'animals/0: horses'")
        listed = read_table(table)
        place = without_place(listed)
        if holds_edits(words):
            return _edited(listed, read_table(table, file), place)
        members = {place[image]: one.homes for image, one in listed.items()}
    except ThanosError:
        return None
    given: Given = []
    merged: dict[str, AbstractSet[str]] = {}
    for old, new in words.items():
        if str(new) != str(old) and new is not None:
            images = frozenset(image for image, homes in members.items() if str(old) in homes)
            given.append((str(new), images))
            merged[str(new)] = merged.get(str(new), frozenset()) | images
    return [*merged.items(), *given]


def _edited(listed: Mapping[str, Member], called: Mapping[str, Member], place: Mapping[str, str]) -> Given:
    """The subclasses that edits name, each with its images."""
    found = {one.subclass for one in listed.values()}
    members: dict[str, set[str]] = {}
    for image, one in called.items():
        if one.subclass not in found:
            members.setdefault(one.subclass, set()).add(place[image])
    return list(members.items())
