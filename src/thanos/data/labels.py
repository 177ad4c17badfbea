"""What is known of images, or of vectors, beside themselves: superclass, split, and the labels that nobody may use."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thanos.errors import DataError, MissingLabels

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, SplitName, SplitName] = ("train", "validation", "test")
UNKNOWN = -1
"""The subclass or group id of an image whose label is not known."""
UNLABELLED = "unknown"
"""The superclass of images that come without any."""
_SPLIT_NAMES = dict.fromkeys(("validation", "val", "valid", "dev"), "validation")
_SPLIT_NAMES |= dict.fromkeys(("train", "training"), "train") | dict.fromkeys(("test", "testing"), "test")
CLASS_ROLES = ("superclass", "subclass", "group")
"""Labels that name a class or a group."""
LEVEL = " > "
"""Stands between the levels of a label: animal > dog > beagle."""
_NOTHING = {"", "nan"}
_PERHAPS_NOTHING = {"none", "na", "n/a", "null"}
FREQUENT = 0.05
"""A word that may mean nothing is asked about where this share of the rows has it."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Row i of every array speaks of image (or vector) i."""

    superclass: NDArray[np.int64] = field(repr=False)
    superclass_names: tuple[str, ...]
    split: NDArray[np.int8] = field(repr=False)
    """Index into SPLITS."""
    subclass: NDArray[np.int64] | None = field(default=None, repr=False)
    """Ids into ``subclass_names``; UNKNOWN where not known. Never used in training."""
    subclass_names: tuple[str, ...] = ()
    group: NDArray[np.int64] | None = field(default=None, repr=False)
    """Ids into ``group_names``; UNKNOWN where not known."""
    group_names: tuple[str, ...] = ()
    unseen: NDArray[np.bool_] | None = field(default=None, repr=False)
    """Training images that no encoder is trained on; None: it may see them all. Of embeddings none are, where it is
    known that the encoder was trained on them all."""
    refs: tuple[str, ...] = field(default=(), repr=False)
    """Where each image came from: a path, or the data set's name and row; empty: not known."""

    def __len__(self) -> int:
        return len(self.superclass)

    @property
    def names(self) -> tuple[str, ...]:
        """The references, or where there are none the numbers of the rows."""
        return self.refs or tuple(str(row) for row in range(len(self)))

    def in_split(self, split: SplitName) -> NDArray[np.bool_]:
        """Which rows are of one split, (n,)."""
        return np.asarray(self.split == SPLITS.index(split))

    def rows(self, split: SplitName) -> NDArray[np.int64]:
        """The positions of one split's rows."""
        return np.flatnonzero(self.in_split(split))

    def rows_to_train_on(self) -> NDArray[np.int64]:
        """The positions of the training rows that an encoder may see."""
        rows = self.rows("train")
        return rows if self.unseen is None else rows[~self.unseen[rows]]

    def of(self, split: SplitName) -> Self:
        """The same record of one split's rows only."""
        return self.take(self.rows(split))

    def split_or_all(self, split: SplitName) -> Self:
        """One split's rows, or all where that split is empty."""
        return self.of(split) if self.in_split(split).any() else self

    def take(self, rows: ArrayLike) -> Self:
        """The same record of these rows (positions, or a mask) only."""
        return replace(self, **self.taken(np.asarray(rows)))

    def taken(self, rows: NDArray[Any]) -> dict[str, Any]:
        """The labels of these rows, by field."""
        return {
            "superclass": self.superclass[rows],
            "split": self.split[rows],
            "subclass": None if self.subclass is None else self.subclass[rows],
            "group": None if self.group is None else self.group[rows],
            "unseen": None if self.unseen is None else self.unseen[rows],
            "refs": tuple(np.array(self.refs, dtype=object)[rows]) if self.refs else (),
        }

    def labels(self) -> dict[str, Any]:
        """All labels by field, for another record of the same rows."""
        return {each.name: getattr(self, each.name) for each in fields(Labels)}

    def without_hidden(self) -> Self:
        """What a label-free method may see: neither true subclasses nor groups."""
        return replace(self, subclass=None, subclass_names=(), group=None, group_names=())

    def groups_outside(self, split: SplitName) -> tuple[str, ...]:
        """Groups that have images, but none in this split."""
        if self.group is None:
            return ()
        absent = np.setdiff1d(self.group[self.group >= 0], self.group[self.in_split(split)])
        return tuple(self.group_names[i] for i in absent)

    def known_subclass(self, needed_by: str) -> NDArray[np.int64]:
        """The fine labels.

        Raises:
            MissingLabels: if there are none.
        """
        if self.subclass is None:
            raise MissingLabels(
                f"{needed_by} needs fine labels, and these images carry superclasses only. Add subclasses to the "
                f"images (SUPERCLASS/SUBCLASS/image, or a column subclass), or run `thanos geometry`, which needs none."
            )
        return self.subclass

    def by_level(self) -> dict[int, Self]:
        """The same record by how many levels below the superclass its fine labels are cut off, the coarsest first.

        Only those above the finest: none where no label has levels (``dog > beagle``).
        """
        steps = [name.split(LEVEL) for name in self.subclass_names]
        if self.subclass is None:
            return {}
        home = {int(sub): self.superclass_names[sup] for sub, sup in zip(self.subclass, self.superclass, strict=True)}
        homes = [home.get(i, "") for i in range(len(steps))]
        records = {}
        for depth in range(1, max(map(len, steps), default=1)):
            ids, names = ids_of(unique_names(homes, [LEVEL.join(each[:depth]) for each in steps]))
            known = self.subclass >= 0
            subclass = np.where(known, ids[np.where(known, self.subclass, 0)], UNKNOWN)
            records[depth] = replace(self, subclass=subclass, subclass_names=names)
        return records

    def counts(self) -> dict[str, dict[str, int]]:
        """Rows of each superclass in each split."""
        kinds = len(self.superclass_names)
        return {
            split: dict(
                zip(
                    self.superclass_names,
                    np.bincount(self.superclass[self.in_split(split)], minlength=kinds).tolist(),
                    strict=True,
                )
            )
            for split in SPLITS
        }


def split_name(text: str) -> str:
    """A split under our name for it: val, valid and dev are validation."""
    plain = text.strip().lower()
    return _SPLIT_NAMES.get(plain.removesuffix("set").rstrip("_- "), plain)


def split_names(words: Sequence[str]) -> list[str]:
    """Splits under our names; numbers, as published sets have them, are 0 for train, 1 for validation, 2 for test."""
    plain = [word.strip().removesuffix(".0") for word in words]
    if numbers_splits(plain):
        return [SPLITS[int(word)] if word else "" for word in plain]
    return [split_name(word) for word in words]


def numbers_splits(words: Sequence[str]) -> bool:
    """Whether splits are said by number."""
    return {""} < {*words, ""} <= {"", "0", "1", "2"}


def split_ids(names: Iterable[str]) -> NDArray[np.int8]:
    """Indices into SPLITS; the empty name is the training split."""
    return np.array([SPLITS.index(name or "train") for name in names], dtype=np.int8)


def ids_of(names: Sequence[str], known: Sequence[str] | None = None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Names to ids by sorted order (or by the order of ``known``); the empty name is UNKNOWN."""
    ordered = tuple(known) if known is not None else tuple(sorted(set(names) - {""}))
    position = {name: i for i, name in enumerate(ordered)} | {"": UNKNOWN}
    return np.array([position[name] for name in names], dtype=np.int64), ordered


def unique_names(superclass: Sequence[str], subclass: Sequence[str]) -> list[str]:
    """Subclass names; one that occurs in two superclasses becomes SUPERCLASS/SUBCLASS."""
    homes = Counter(sub for _, sub in set(zip(superclass, subclass, strict=True)) if sub)
    return [f"{sup}/{sub}" if homes[sub] > 1 else sub for sup, sub in zip(superclass, subclass, strict=True)]


def label_fields(
    words: dict[str, list[str]], count: int, name: str, kind: str = "image", unknown: str | None = None
) -> dict[str, Any]:
    """Labels as text, by role, as the fields of a record; nothing stands where one is not known.

    Args:
        words: Of every row, by role: superclass, subclass, group, split.
        count: Rows.
        name: Of the set, for messages.
        kind: What a row is.
        unknown: The setting: labels that mean not known; see :func:`known_words`.
    Raises:
        DataError: for a row without superclass, an unknown split, or a word of which it is not clear what it means.
    """
    none = [""] * count
    known = {role: known_words(words.get(role, none), role, unknown)[0] for role in CLASS_ROLES}
    if "" in known["superclass"]:
        row = known["superclass"].index("")
        raise DataError(f"every {kind} has a superclass; row {row} of {name} has none. Give it one, or leave it out.")
    splits = words.get("split", none)
    if odd := sorted({*splits} - {"", *SPLITS}):
        raise DataError(f"a split is train, validation, test or empty; {name} has {odd[0]!r}. Rename it.")
    superclass, superclass_names = ids_of(known["superclass"])
    subclass, subclass_names = ids_of(unique_names(known["superclass"], known["subclass"]))
    group, group_names = ids_of(known["group"])
    return {
        "superclass": superclass,
        "superclass_names": superclass_names,
        "split": split_ids(splits),
        "splits_named": any(splits),
        "subclass": subclass if subclass_names else None,
        "subclass_names": subclass_names,
        "group": group if group_names else None,
        "group_names": group_names,
    }


def known_words(words: Sequence[str], role: str, unknown: str | None = None) -> tuple[list[str], list[str]]:
    """Labels as they are compared, empty where not known: one rule for folders, tables, arrays and vectors.

    What cannot be seen (composed or not, of no width, white space around) tells no labels apart, nor does the ``.0`` of
    a whole number. Empty and ``nan`` are not known. ``none``, ``na``, ``n/a`` and ``null`` are not, unless
    ``unknown`` says otherwise; where they are frequent, it has to say so.

    Args:
        words: Of every row.
        role: For messages.
        unknown: Labels that mean not known, split by commas; "" for none of them; None: as above.
    Returns:
        The labels, and what to tell: which that looked different are one.
    Raises:
        DataError: for a frequent word that may mean nothing.
    """
    kept = {word: unicodedata.normalize("NFC", word).strip() for word in dict.fromkeys(words)}
    alike = Counter(_visible(plain) for plain in set(kept.values()))
    kept = {word: _visible(plain) if alike[_visible(plain)] > 1 else plain for word, plain in kept.items()}
    if all(not word or _is_whole(word) for word in kept.values()):
        kept = {word: plain.removesuffix(".0") for word, plain in kept.items()}
    else:  # 1 and 1.0 are one label also beside text
        plain = set(kept.values())
        kept = {
            w: p.removesuffix(".0") if _is_whole(p) and p.removesuffix(".0") in plain else p for w, p in kept.items()
        }
    nothing = set(_NOTHING)
    if unknown is not None:
        nothing |= {word.strip().lower() for word in unknown.split(",")}
    else:
        count = Counter(kept[word] for word in words)
        for word, often in count.items():
            if word.lower() in _PERHAPS_NOTHING and often > FREQUENT * len(words):
                raise DataError(
                    f"{often:,} of {len(words):,} rows have the {role} {word!r}: is it a class, or not known? Pass "
                    f'`unknown=""` if it is a class, or `unknown={word}` if it is not known.'
                )
        nothing |= _PERHAPS_NOTHING
    kept = {word: "" if plain.lower() in nothing else plain for word, plain in kept.items()}
    return [kept[word] for word in words], _one_label(kept, role)


def known_units(words: Sequence[str]) -> list[str]:
    """What rows are of (a patient, a lesion) as labels are compared; empty where a word for nothing stands."""
    return known_words(words, "together", ",".join(_PERHAPS_NOTHING))[0]


def _one_label(kept: dict[str, str], role: str) -> list[str]:
    """A line for each label that was spelt in several ways that look alike."""
    spelt: dict[str, list[str]] = {}
    for word, plain in kept.items():
        if plain and word.strip():
            spelt.setdefault(plain, []).append(word.strip())
    several = {plain: sorted(set(ways)) for plain, ways in spelt.items() if len(set(ways)) > 1}
    return [
        f"the {role} {plain!r} is spelt in {len(ways)} ways that look alike, and is one: {', '.join(map(ascii, ways))}"
        for plain, ways in several.items()
    ]


def _visible(word: str) -> str:
    """Without what has no width, and without white space at the ends."""
    seen = "".join(c for c in word if c in _JOINERS or unicodedata.category(c) not in ("Cf", "Cc"))
    return seen.strip(" \t\n\u200d")


_JOINERS = {"\u200d", "\n", "\t"}
"""Of the characters without width those that a label can need: emoji are joined by one."""


def _is_whole(word: str) -> bool:
    digits = word.removeprefix("-").removesuffix(".0")
    return digits.isascii() and digits.isdigit()


def whole_superclasses(superclass: Sequence[str], subclass: Sequence[str]) -> list[str]:
    """Subclass names; a superclass that is nowhere divided further is its own only subclass."""
    divided = {above for above, below in zip(superclass, subclass, strict=True) if below}
    pairs = zip(superclass, subclass, strict=True)
    return [below if above in divided else above.rsplit("/", 1)[-1] for above, below in pairs]


def at_level(steps: Sequence[str], level: int | None, judged: int | None = None) -> tuple[str, str]:
    """Superclass and subclass of a label of several levels, the coarsest first.

    Args:
        steps: One name a level, at least one.
        level: Which is the superclass, from 1; deeper than the label goes: its last. None: the first.
        judged: Which is the subclass; not known where the label does not go so deep. None: its last.
    Returns:
        The name of that level, with those above it where it is not the first; and the finer name, with all that lie
        between, empty where there is none.
    """
    depth = min(level or 1, len(steps))
    fine = steps[depth:judged] if judged is None or judged <= len(steps) else ()
    return "/".join(steps[:depth]), LEVEL.join(fine)


def split_levels(words: dict[str, list[str]], level: int | None, judged: int | None, source: str) -> None:
    """``animal > dog > beagle`` as superclass and subclass, in place.

    Args:
        words: Of every row, by role; superclasses among them.
        level: As in :func:`at_level`.
        judged: The same.
        source: Named in messages.
    Raises:
        DataError: if a level is asked for, and labels have none.
    """
    if not any(LEVEL in word for word in words["superclass"]):
        if (asked := max(level or 1, judged or 1)) > 1:
            raise DataError(
                f"level {asked} is asked for, of labels of several levels split by {LEVEL.strip()!r}; {source} has "
                f"none."
            )
        return
    split = [[step.strip() for step in word.split(LEVEL.strip())] for word in words["superclass"]]
    pairs = [at_level(steps, level, judged) for steps in split]
    words["superclass"] = [superclass for superclass, _ in pairs]
    if "subclass" not in words:
        words["subclass"] = [subclass for _, subclass in pairs]
    if max(map(len, split)) > 2 and judged is None:
        words["subclass"] = whole_superclasses(words["superclass"], words["subclass"])


def yes_or_no(words: list[str], column: str, plain: Collection[str]) -> list[str]:
    """Labels of a column of 0 and 1, or -1 and 1, that the user named are called by its name: Male and not Male.

    Args:
        words: Of every row.
        column: Its name.
        plain: Names that say nothing.
    """
    kinds = {word.removesuffix(".0") for word in words if word}
    if kinds not in ({"0", "1"}, {"-1", "1"}) or column.lower() in plain or column.isdigit():
        return words
    return ["" if not word else column if word.removesuffix(".0") == "1" else f"not {column}" for word in words]
