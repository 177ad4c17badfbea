"""A folder of images: [SPLIT/]SUPERCLASS/[.../]SUBCLASS/image, SUPERCLASS/SPLIT/image, or images alone, to embed."""

from collections.abc import Sequence
from pathlib import Path

from thanos.config import DataConfig
from thanos.data.files import Listing
from thanos.data.labels import SPLITS, UNLABELLED, at_level, split_name, whole_superclasses
from thanos.data.walk import SUFFIXES, tell_left_out, walk
from thanos.errors import DataError

_NO_LABEL = {"unlabeled", "unlabelled"}
ROLES = ("split", "superclass", "subclass", "*")
"""What a level of folders can be; *: it says nothing."""


def list_folder(folder: Path, config: DataConfig) -> Listing:
    """Every image below ``folder`` with the labels its place gives it; in a folder of images alone, UNLABELLED.

    Args:
        folder: Of images.
        config: ``layout``, ``level`` and ``judged_level`` say what the levels of folders are; default: worked out from
            their names.
    Raises:
        DataError: if there is no image, one lies at a depth that names no superclass, or it is not clear what the
            folders are.
    """
    layout, level, judged_level = config.layout, config.level, config.judged_level
    folder = folder.resolve()  # images keep their names wherever the command is typed
    found = walk(folder)
    listing = Listing(name=folder.name, left_out=[(str(path), reason) for path, reason in found.left_out])
    if not found.images:
        told = "".join(f" ({line})" for line in tell_left_out(reason for _, reason in listing.left_out))
        raise DataError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}){told}. Lay them out as SUPERCLASS/image or "
            f"SUPERCLASS/SUBCLASS/image; images without labels lie in it as they are."
        )
    parts = {path: path.relative_to(folder).parts[:-1] for path in found.images}
    parts = _labelled_parts(parts, listing) if layout is None else parts
    roles = _said(layout, parts) if layout is not None else _roles(folder, parts, listing)
    loose = list[Path]()
    labelled = layout is None and any(_labels(steps, roles, (None, None), named=False)[0] for steps in parts.values())
    for path, steps in parts.items():
        split = next((split_name(s) for s, role in zip(steps, roles, strict=False) if role == "split"), "")
        if layout is None and "split" in roles and (len(steps) <= roles.index("split") or not _is_split(split)):
            top = steps[0] if steps else "no folder"
            listing.left_out.append((str(path), f"in {top}, outside the splits"))
            continue
        superclass, subclass = _labels(steps, roles, (level, judged_level), named=layout is not None)
        if split and not superclass and labelled:
            listing.left_out.append((str(path), f"in {split}, without a folder that says the label"))
            continue
        loose += [] if superclass else [path]
        listing.add(path, superclass=superclass or UNLABELLED, subclass=subclass, split=split)
    deep = max(len(steps) for steps in parts.values()) - sum(role in ("split", "*") for role in roles)
    asked = max(level or 1, judged_level or 1)
    if layout is None and asked > max(deep, 1):
        raise DataError(f"level {asked} is asked for, and {folder} has {deep} below its splits. Ask for one of them.")
    if layout is None and deep > 2 and judged_level is None:
        listing.subclass = whole_superclasses(listing.superclass, listing.subclass)
    if loose and len(loose) < len(listing.paths):
        raise DataError(
            f"images lie in SUPERCLASS/ or SUPERCLASS/SUBCLASS/ below {folder}; {loose[0].relative_to(folder)} does "
            f"not. Move it, or list the images in a CSV with columns path, superclass."
        )
    return listing


def _labelled_parts(parts: dict[Path, tuple[str, ...]], listing: Listing) -> dict[Path, tuple[str, ...]]:
    """The images without those in ``unlabeled/`` beside folders of splits."""
    if not any(steps and _is_split(steps[0]) for steps in parts.values()):
        return parts
    without = {path for path, steps in parts.items() if steps and steps[0].lower() in _NO_LABEL}
    listing.left_out += [(str(path), f"in {parts[path][0]}, outside the splits") for path in sorted(without)]
    return {path: steps for path, steps in parts.items() if path not in without}


def _labels(
    steps: Sequence[str], roles: Sequence[str], levels: tuple[int | None, int | None], *, named: bool
) -> tuple[str, str]:
    """What folders say of an image; those below all that have a role are finer levels of its label."""
    by_role = [(step, roles[i] if i < len(roles) else "label") for i, step in enumerate(steps)]
    if named:
        labels = {role: step for step, role in by_role}
        return labels["superclass"], labels.get("subclass", "")
    below = [step for step, role in by_role if role == "label"]
    return at_level(below, *levels) if below else ("", "")


def _is_split(name: str) -> bool:
    return split_name(name) in SPLITS


def _roles(folder: Path, parts: dict[Path, tuple[str, ...]], listing: Listing) -> list[str]:
    """What the levels of folders are, by their names: nothing (*), splits, labels."""
    roles, above = list[str](), tuple[str, ...]()
    tops = _below(parts, ())
    if len(tops) == 1 and (folder / "labels").is_dir() and tops == ["images"]:
        listing.notes.append("labels/ beside images/ is of another tool, whose labels (of boxes) are not read")
        roles, above = ["*"], ("images",)
    elif len(tops) == 1 and len(inside := _below(parts, (tops[0],))) > 1 and all(map(_is_split, inside)):
        listing.notes.append(f"all images are in {tops[0]}/, which is taken for no label")
        roles, above = ["*"], (tops[0],)
    tops = _below(parts, above)
    splits = [name for name in tops if _is_split(name)]
    if len(splits) == len(tops) == 1 and not roles:
        listing.notes.append(f"all images are in {splits[0]}/, which is taken for no label")
        return ["*"]
    if len(splits) > 1 and _are_splits(splits, tops, parts, above):
        twice = all(_below(parts, (*above, name)) == [name] for name in tops)  # training_set/training_set/
        return [*roles, "split", *(["*"] if twice else [])]
    deep = _deeper(folder, tops, parts, above)
    return [*roles, *deep]


def _are_splits(splits: list[str], tops: list[str], parts: dict[Path, tuple[str, ...]], above: tuple[str, ...]) -> bool:
    """Folders with names of splits are splits if they are alone, or hold the same folders (or images alone)."""
    if len(splits) == len(tops):
        return True
    inside = [names for name in splits if (names := set(_below(parts, (*above, name))))]
    return bool(inside) and bool(set.intersection(*inside))


def _deeper(folder: Path, tops: list[str], parts: dict[Path, tuple[str, ...]], above: tuple[str, ...]) -> list[str]:
    """Labels, with splits on the level where all folders are named so; what could be either is asked."""
    start = len(above)
    for level in range(start + 1, max(map(len, parts.values()))):
        names = {steps[level] for steps in parts.values() if len(steps) > level}
        named = {name for name in names if _is_split(name)}
        if len({split_name(name) for name in named}) > 1 and named == names:
            return ["label"] * (level - start) + ["split"]
        if len({split_name(name) for name in named}) > 1 and level == start + 1:
            raise DataError(
                f"folders below {folder} are called {', '.join(sorted(named)[:2])} beside "
                f"{sorted(names - named)[0]}: splits or subclasses? Pass `layout=superclass/split` or "
                f"`layout=superclass/subclass`."
            )
    inside = {top: frozenset(_below(parts, (*above, top))) for top in tops}
    below = set().union(*inside.values())
    if len(below) > 1 and len(set(inside.values())) == 1 and len(tops) > 1:
        few, many = sorted(below)[:2], sorted(tops)[:2]
        raise DataError(
            f"{len(tops)} folders in {folder} ({', '.join(many)}, ...) hold the same {len(below)} ({', '.join(few)}, "
            f"...): splits or superclasses? Pass `layout=split/superclass`, `layout=superclass/subclass`, or "
            f"`layout=*/superclass`."
        )
    return ["label"]


def _below(parts: dict[Path, tuple[str, ...]], above: tuple[str, ...]) -> list[str]:
    """The folders next below ``above``."""
    depth = len(above)
    return sorted({steps[depth] for steps in parts.values() if len(steps) > depth and steps[:depth] == above})


def _said(layout: str, parts: dict[Path, tuple[str, ...]]) -> list[str]:
    roles = [role.strip().lower() for role in layout.strip("/").split("/")]
    if odd := [role for role in roles if role not in ROLES]:
        raise DataError(
            f"`layout` takes {', '.join(ROLES)}, split by /, one for each level of folders; got {odd[0]!r}."
        )
    if "superclass" not in roles:
        raise DataError(f"`layout` says which folders are superclasses; {layout!r} does not. Add superclass.")
    thin = next((path for path, steps in parts.items() if len(steps) < roles.index("superclass") + 1), None)
    if thin is not None:
        raise DataError(f"{thin} lies in no folder for the superclass of `layout={layout}`. Move it, or say another.")
    return roles
