"""What the columns of a table mean, under the names that people and other tools give them, or as the user says."""

from collections.abc import Mapping, Sequence

from thanos.errors import ConfigError, DataError
from thanos.names import nearest

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": (
        *("file", "filename", "file_name", "filepath", "image", "image_path", "image_name", "img", "img_path"),
        *("img_filename", "image_id"),
    ),
    "superclass": (
        *("label", "labels", "class", "class_name", "category", "coarse", "coarse_label", "target", "y", "dx"),
    ),
    "subclass": ("fine", "fine_label", "subclass_name", "species", "breed", "subtype"),
    "group": ("group_name", "subgroup"),
    "split": ("set", "subset", "partition"),
    "together": (
        *("patient_id", "patient", "subject_id", "subject", "person_id", "lesion_id", "case_id", "study_id"),
        *("individual_id", "track_id", "video_id", "sequence_id"),
    ),
}
"""What a column can be, and other names for it. together: what several images are of; they stay in one split."""
NEEDED = ("path", "superclass")
PROPOSED = 0.5
"""A column with more different values than this share of the rows is proposed for the path, with fewer for a label."""
Roles = dict[str, int]


def said_columns(text: str | None, together: str | None = None) -> dict[str, str]:
    """The settings ``columns`` and ``together``, from role to the name of a column.

    Raises:
        ConfigError: unless it is ``role=name``, split by commas.
    """
    said: dict[str, str] = {}
    for part in (text or "").split(",") if text else ():
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or not name or role not in COLUMNS:
            raise ConfigError(
                f"`columns` takes ROLE=COLUMN, split by commas, where a role is {', '.join(COLUMNS)}; got {part!r}"
                f"{nearest(role, COLUMNS)}."
            )
        if role in said:
            raise ConfigError(f"`columns` names one column for the {role}; got {said[role]!r} and {name!r}. Drop one.")
        said[role] = name
    return said if together is None else said | {"together": together}


def columns_of(
    source: str,
    names: Sequence[str],
    kind: str,
    said: Mapping[str, str] | None = None,
    rows: Sequence[Sequence[str]] = (),
) -> tuple[Roles, str]:
    """Where each of COLUMNS stands among ``names``, and one line on what was taken for what.

    Args:
        source: Named in messages.
        names: Of the columns (or arrays).
        kind: What they are called in messages.
        said: What the user says, from role to name.
        rows: Some rows, from which likely columns are proposed where one is missing.
    Raises:
        DataError: if one that is needed is missing or misspelt, or two could be the same thing.
    """
    places, taken = said_places(source, names, kind, said or {})
    meant = {other: name for name, others in COLUMNS.items() for other in (name, *others)}
    plain = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]
    ignored = []
    for i, word in enumerate(plain):
        name = meant.get(word)
        if i in places.values():
            continue
        if name is None or name in (said or {}) or (word != name and name in plain):
            ignored.append(i)  # beside 'superclass', 'class' is something else
            continue
        if name in places:
            raise DataError(
                f"{source} has two {kind}s for the {name}, {names[places[name]]!r} and {names[i]!r}. Rename the right "
                f"one to {name!r}{'' if kind != 'column' else f', or pass `columns={name}={names[i]}`'}."
            )
        places[name] = i
        taken += [f"{name} from {names[i]!r}"] if word != name else []
    for i in ignored if not said else ():
        close = nearest(plain[i], [name for name in COLUMNS if name not in places], cutoff=0.8)
        if close and plain[i] not in meant:
            raise DataError(
                f"{source} may have the {kind}s {', '.join(COLUMNS)}; it has {names[i]!r}{close}. Rename or remove it."
            )
    unlabelled = set(places) == {"path"} and not ignored  # images alone, to embed
    for name in NEEDED:
        if name not in places and (name != "path" or kind == "column") and not (name == "superclass" and unlabelled):
            raise DataError(_missing(source, name, names, kind, places, rows))
    left = [names[i] for i in ignored]
    parts = [f"{source}: {', '.join(taken)}"] if taken else []
    parts += [f"{'' if taken else f'{source}: '}not used: {', '.join(left)}"] if left else []
    return places, " · ".join(parts)


def said_places(source: str, names: Sequence[str], kind: str, said: Mapping[str, str]) -> tuple[Roles, list[str]]:
    """Where the columns are that the user names, and what to tell of them.

    Raises:
        DataError: for one that there is not.
    """
    places: Roles = {}
    for role, name in said.items():
        position = next((i for i, each in enumerate(names) if each.strip() == name), None)
        if position is None:
            position = next((i for i, each in enumerate(names) if each.strip().lower() == name.lower()), None)
        if position is None:
            shown = ", ".join(repr(each) for each in names[:12])
            raise DataError(
                f"{source} has no {kind} {name!r} for the {role}{nearest(name, list(names))}; it has {shown}. Name one."
            )
        places[role] = position
    return places, [f"{role} from {names[i]!r}" for role, i in places.items() if names[i] != role]


def _missing(
    source: str, name: str, names: Sequence[str], kind: str, places: Roles, rows: Sequence[Sequence[str]]
) -> str:
    shown = ", ".join(repr(each) for each in names[:12]) or "none"
    message = f"{source} needs the {kind} {name!r} (or {', '.join(COLUMNS[name][:6])}, ...); it has {shown}."
    if kind != "column":
        return f"{message} Add or rename one."
    likely = propose(names, rows, places)
    return f"{message} Pass `columns={','.join(f'{role}={column}' for role, column in likely.items())}`" + (
        " or other columns." if rows else ", with names of columns there."
    )


def propose(names: Sequence[str], rows: Sequence[Sequence[str]], places: Roles) -> dict[str, str]:
    """Likely columns for the path and the superclass: one of as many values as rows, and the one of the fewest."""
    chosen = {role: names[places[role]] for role in NEEDED if role in places}
    free = [i for i in range(len(names)) if i not in places.values()]
    values = {i: [row[i].strip() for row in rows if i < len(row)] for i in free}
    kinds = {i: len({value for value in values[i] if value}) for i in free}
    if "path" not in chosen:
        unique = [i for i in free if rows and kinds[i] > PROPOSED * len(rows)]
        dotted = [i for i in unique if any("." in value or "_" in value for value in values[i])]
        chosen["path"] = names[next(iter(dotted or unique), 0)] if unique else "PATH"
    if "superclass" not in chosen:
        labels = [i for i in free if rows and 2 <= kinds[i] <= PROPOSED * len(rows)]
        chosen["superclass"] = names[min(labels, key=lambda i: kinds[i])] if labels else "LABEL"
    return {role: chosen[role] for role in NEEDED}
