"""The names that a person gave to discovered subclasses: they follow their images when subclasses are found anew."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import yaml

from thanos.config import read_yaml
from thanos.data.group_table import MARK, mark, read_table, without_place
from thanos.errors import OutputError, ThanosError
from thanos.storage import free_name, write_atomically, write_text

SHARED = 0.5
"""A subclass takes a name over if it shares more than this part of the images that either has: at most one can."""

Given = list[tuple[str, AbstractSet[str]]]


class GivenNames:
    """What a table's subclasses were called, read before the table is written anew."""

    def __init__(self, table: Path):
        self._table, self._file = table, table.with_suffix(".yaml")
        self._before = table.read_bytes() if table.is_file() else b""
        self._here = _given(self._file, table)
        self._text = self._file.read_text("utf-8", errors="replace") if self._file.is_file() else ""
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
        if self._file.exists() and self._before == self._table.read_bytes():
            kept_whole = f"your names in {self._file} are kept; thanos report shows the page under them"
            return [kept_whole] if self._here != [] else []
        place = without_place({image for images in found.values() for image in images})
        names, here = {}, self._here or []
        for subclass, members in found.items():
            mine = {place[image] for image in members}
            shared = [(len(mine & images) / len(mine | images), name) for name, images in (*here, *self._aside)]
            share, name = max(shared, key=lambda each: each[0], default=(0.0, subclass))  # of equals one in use
            names[subclass] = name if share > SHARED else subclass
        kept = [name for subclass, name in names.items() if name != subclass]
        lines = []
        if kept:
            lines.append(f"names that follow their images to the new subclasses: {', '.join(dict.fromkeys(kept))}")
        homeless = [given for given in here if given[0] not in kept]
        if homeless or self._here is None or _has_words(self._text):
            aside = self._file.with_name(f"{self._file.stem}-earlier.yaml")
            if any(given not in self._aside for given in homeless) or self._here is None or _has_words(self._text):
                aside = free_name(aside, ".csv")
                write_atomically(aside.with_suffix(".csv"), lambda file: file.write(self._before))
                self._file.rename(aside)
            named = ", ".join(dict.fromkeys(name for name, _ in homeless)) or "your names"
            why = f"no subclass has most of the images of {named}, or another name fits better"
            if self._here == []:
                why = "what you wrote beside the names of other subclasses"
            lines.append(f"{why}: kept in {aside}")
        self._write(names, {image: name for name, images in found.items() for image in images})
        return lines

    def _write(self, names: dict[str, str], subclass: dict[str, str]) -> None:
        table, file = self._table.name, self._file
        if self._file.is_symlink():
            raise OutputError(f"{self._file} is a link to a file that is not there. Remove it, or name another `out`.")
        head = (
            "# Name discovered subclasses; equal names merge inside a superclass. thanos report then shows them so,\n"
            f"# and thanos robust is fair to them (of a run or an .npz by themselves; else with --table {table}).\n"
            f"{MARK}{mark(subclass)}: other subclasses are not named by these\n"
        )
        shown = yaml.safe_dump(names, allow_unicode=True, sort_keys=False)
        if yaml.safe_load(shown) != names:  # line breaks that YAML would fold, unless they are escaped
            shown = yaml.safe_dump(names, sort_keys=False)
        write_text(file, head + shown)


def _has_words(text: str) -> bool:
    """Whether a person left comments in a file of names."""
    ours = ("# Name discovered subclasses;", "# and thanos robust is fair", MARK)
    return any(line.lstrip().startswith("#") and not line.startswith(ours) for line in text.splitlines())


def _given(file: Path, table: Path) -> Given | None:
    """The names that are not those of discovery, each with its images; None: there is a file, but it cannot be read."""
    if not file.exists():
        return []
    try:
        words = read_yaml(file, wanted="names like 'animals/0: horses'")
        listed = read_table(table)
        place = without_place(listed)
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
