"""A folder of images: [SPLIT/]SUPERCLASS/[.../]SUBCLASS/image, SUPERCLASS/SPLIT/image, or images alone, to embed."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from thanos.data.files import Listing
from thanos.data.labels import UNLABELLED, at_level, split_name, whole_superclasses
from thanos.data.walk import SUFFIXES, tell_left_out, walk
from thanos.errors import DataError

_SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_NO_LABEL = {"unlabeled", "unlabelled"}
ROLES = ("split", "superclass", "subclass", "*")
"""What a level of folders can be; *: it says nothing."""


def list_folder(
    folder: Path, *, layout: str | None = None, level: int | None = None, judged_level: int | None = None
) -> Listing:
    """Every image below ``folder`` with the labels its place gives it; in a folder of images alone, UNLABELLED.

    Args:
        folder: Of images.
        layout: What each level of folders is, such as ``split/superclass``; default: worked out from their names.
        level: Which level of labels is the superclass, from 1.
        judged_level: Which is the subclass; default: the finest.
    Raises:
        DataError: if there is no image, one lies at a depth that names no superclass, or it is not clear what the
            folders are.
    """
    folder = folder.resolve()  # images keep their names wherever the command is typed
    found = walk(folder)
    listing = Listing(name=folder.name, left_out=[(str(path), reason) for path, reason in found.left_out])
    if not found.images:
        told = "".join(f" ({line})" for line in tell_left_out(reason for _, reason in listing.left_out))
        raise DataError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}){told}. Lay them out as SUPERCLASS/image or "
            f"SUPERCLASS/SUBCLASS/image."
        )
    parts = {path: path.relative_to(folder).parts[:-1] for path in found.images}
    roles = _said(layout, parts) if layout is not None else _roles(folder, parts, listing)
    loose = list[Path]()
    for path, steps in parts.items():
        split = next((split_name(s) for s, role in zip(steps, roles, strict=False) if role == "split"), "")
        if layout is None and "split" in roles and (len(steps) <= roles.index("split") or not _is_split(split)):
            top = steps[0] if steps else "no folder"
            listing.left_out.append((str(path), f"in {top}, outside the splits"))
            continue
        superclass, subclass = _labels(steps, roles, (level, judged_level), named=layout is not None)
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
    return name in ("train", "validation", "test")


def _roles(folder: Path, parts: dict[Path, tuple[str, ...]], listing: Listing) -> list[str]:
    """What the upper levels of folders are, by their names: nothing (*), splits, labels."""
    roles = list[str]()
    tops = _below(parts, ())
    if set(tops) == {"images"} and (folder / "labels").is_dir():
        listing.notes.append("labels/ beside images/ is of another tool, whose labels (of boxes) are not read")
        roles, tops = ["*"], _below(parts, ("images",))
    splits = [name for name in tops if name.lower() in _SPLIT_FOLDERS]
    if splits and len(splits) == len(tops) == 1 and not roles:
        listing.notes.append(f"all images are in {splits[0]}/, which is taken for no label")
        return ["*"]
    if len(splits) > 1 and _are_splits(splits, tops, parts, roles):
        return [*roles, "split"]
    if not roles and len(tops) > 1:
        return _second_level(folder, tops, parts)
    return [*roles, "label"]


def _are_splits(splits: list[str], tops: list[str], parts: dict[Path, tuple[str, ...]], roles: list[str]) -> bool:
    """Folders with names of splits are splits if they are alone (but for unlabelled images), or hold the same."""
    if all(name.lower() in _SPLIT_FOLDERS | _NO_LABEL for name in tops):
        return True
    above = ("images",) if roles else ()
    inside = [set(_below(parts, (*above, name))) for name in splits]
    return bool(set.intersection(*inside))


def _second_level(folder: Path, tops: list[str], parts: dict[Path, tuple[str, ...]]) -> list[str]:
    """Superclasses, with splits below where all their folders are named so; a layout that could be either is asked."""
    inside = {top: set(_below(parts, (top,))) for top in tops}
    below = set().union(*inside.values())
    if below and all(name.lower() in _SPLIT_FOLDERS for name in below):
        return ["label", "split"]
    common = Counter(frozenset(names) for names in inside.values())
    if len(below) > 1 and len(common) == 1 and len(tops) > 1:
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
