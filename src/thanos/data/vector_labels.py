"""What the columns of a file of vectors mean, under the names that people and other tools give them."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.data.arrays import words_of
from thanos.data.columns import COLUMNS
from thanos.data.labels import CLASS_ROLES, split_names, yes_or_no
from thanos.errors import DataError

LABELS: dict[str, tuple[str, ...]] = {
    "superclass": (*COLUMNS["superclass"], "targets", "coarse_labels"),
    "subclass": (*COLUMNS["subclass"], "fine_labels"),
    "group": COLUMNS["group"],
    "split": COLUMNS["split"],
    "together": COLUMNS["together"],
}
"""What a column of labels can be, and other names for it."""
REFS = ("refs", "ref", "path", *COLUMNS["path"], "id", "ids")
"""Names of the column that says what a row is of; the first that is there is taken."""
VECTORS = ("vectors", "embeddings", "embedding", "features", "vector", "image_embeds", "x", "z")
"""Names of the array, or of the column of lists, that holds the vectors."""
BESIDE_PATHS = 8
"""So many numbered columns, at least, are a vector in a table that names files; fewer are numbers about an image."""
SHOWN = 4
"""Unused columns that are named."""
_NUMBERED = re.compile(r"(.*?)[ _.\-]?(\d+)")


def plain(name: str) -> str:
    """A name as names are compared."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def roles_of(names: Sequence[str], of: str, said: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which column is the superclass, subclass, group, split, thing and reference of each row.

    Args:
        names: Of the columns.
        of: The file, for messages.
        said: What the user says, from role to name; names of no column here are passed over.
    Raises:
        DataError: if two columns could be the same thing.
    """
    known = {plain(name): name for name in reversed(names)}
    named = {"refs" if role == "path" else role: known.get(plain(name)) for role, name in (said or {}).items()}
    roles = {role: name for role, name in named.items() if name is not None}
    known = {word: name for word, name in known.items() if name not in roles.values()}
    for role, others in LABELS.items():
        if role in roles:
            continue
        found = [known[role]] if role in known else [known[word] for word in others if word in known]
        if len(found) > 1:
            raise DataError(
                f"{of} has two columns for the {role}, {found[0]!r} and {found[1]!r}. Rename the right one to {role!r}."
            )
        roles |= {role: found[0]} if found else {}
    refs = next((known[word] for word in REFS if word in known), None)
    return roles if refs is None or "refs" in roles else roles | {"refs": refs}


def vector_columns(names: Sequence[str], is_number: Callable[[int], bool], apart: Collection[str] = ()) -> list[int]:
    """Which columns, one number each, are the vector: a numbered series such as f0, f1, ..., else all numbers.

    Args:
        names: Of the columns.
        is_number: Whether a column holds numbers.
        apart: Columns that the user says are something else.
    Returns:
        Positions in ``names``, in the order of their numbers; empty: there is no vector.
    """
    taken = {*(word for role, others in LABELS.items() for word in (role, *others)), *REFS, "", *map(plain, apart)}
    free = [i for i, name in enumerate(names) if plain(name) not in taken and is_number(i)]
    series: dict[str, dict[int, int]] = {}
    for i in free:
        if found := _NUMBERED.fullmatch(plain(names[i])):
            series.setdefault(found[1], {})[int(found[2])] = i
    longest = max(series.values(), key=len, default={})
    has_paths = any(plain(name) in ("path", *COLUMNS["path"]) for name in names)
    if len(longest) >= (BESIDE_PATHS if has_paths else 2):
        return [longest[number] for number in sorted(longest)]
    return [] if has_paths or len(free) < 2 else free


def label_words(
    columns: Mapping[str, NDArray[Any]],
    roles: Mapping[str, str],
    count: int,
    of: str,
    names: Mapping[str, NDArray[Any]],
    said: Collection[str] = (),
) -> dict[str, list[str]]:
    """The labels of each row as text, by role; nothing where one is not known.

    Args:
        columns: By name, one entry a row.
        roles: From role to name.
        count: Rows.
        of: The file, for messages.
        names: What ids are called, by role, where a file says so.
        said: Roles whose columns the user named.
    Raises:
        DataError: for another number of rows, or labels that are neither whole numbers nor text.
    """
    words: dict[str, list[str]] = {}
    for role, column in roles.items():
        values = np.asarray(columns[column])
        values = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
        if values.dtype.kind in "iu" and role in names:
            values = _called(values, names[role], column, of)
        words[role] = words_of(_numbers(values), column, count, of, "vector")
        if role in said and role in CLASS_ROLES:
            words[role] = yes_or_no(words[role], column, (role, *LABELS[role]))
    if "split" in words:
        words["split"] = split_names(words["split"])
    return words


def _called(ids: NDArray[Any], names: NDArray[Any], column: str, of: str) -> NDArray[Any]:
    if ids.max(initial=-1) >= len(names):
        raise DataError(f"{column} of {of} has the id {ids.max()}, and names are given for {len(names)}. Add them.")
    return np.where(ids < 0, "", np.asarray(names).astype(str)[np.maximum(ids, 0)]) if len(names) else ids


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Text that is all whole numbers, as numbers: 3 and 3.0 are one label however a file writes them."""
    if values.dtype.kind not in "OUT" or not len(values):
        return values
    known = [value for value in values.tolist() if value is not None and str(value).strip()]
    try:
        numbers = np.array([str(value) for value in known], dtype=str).astype(np.float64)
    except ValueError:
        return values
    if not len(numbers) or not (np.isfinite(numbers) & (numbers == np.round(numbers))).all():
        return values
    whole = iter(numbers.tolist())
    return np.array(
        [np.nan if v is None or not str(v).strip() else next(whole) for v in values.tolist()], dtype=np.float64
    )


def describe_roles(roles: Mapping[str, str], unused: Collection[str], vectors: str = "") -> str:
    """One line on what was taken for what."""
    parts = [f"vectors: {vectors}"] if vectors else []
    parts += [f"{role}: {name}" for role, name in roles.items()]
    shown = list(unused)[:SHOWN]
    more = f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
    return ", ".join([*parts, *([f"not used: {', '.join(shown)}{more}"] if shown else [])])
