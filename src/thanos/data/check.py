"""Every fault of a set of images at once, with its place and its remedy; the refusals of loading stop at the first."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import DataConfig
from thanos.data.labels import SPLITS
from thanos.data.load import check_superclasses, is_of_vectors, load_samples, load_together
from thanos.data.samples import Samples
from thanos.data.splits import torn
from thanos.data.twins import exact_twins, near_twins
from thanos.data.walk import tell_left_out
from thanos.errors import DataError
from thanos.names import nearest
from thanos.storage import has_columns, refuse_foreign, write_csv

SHOWN, WIDE = 20, 6
"""Faults and rows that are printed, and columns; all faults go to the file."""
RARE = 0.1
"""A superclass with no more than this share of the images of one that is spelt almost like it may be a misspelling."""
FEW = 2
"""With no more than so many images it is taken for one."""
UNEVEN = 10
"""Times as many images in the largest superclass as in the smallest that are worth a remark."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one image or one label."""

    where: str
    what: str


@dataclass(frozen=True)
class Checked:
    """What a check found: the images that can be used, the faults, and remarks that stop nothing."""

    images: Samples
    faults: list[Fault]
    remarks: list[str]


def check(config: DataConfig) -> Checked:
    """Read everything that can be read, and list what cannot, or should not be trained on.

    Raises:
        DataError: if nothing is left that could be checked.
        ConfigError: if the name is neither a data set nor a path.
    """
    config, changes = config.model_copy(update={"skip_bad": True}), dict[str, Any]()
    images: Samples
    if is_of_vectors(config.data):
        images = load_samples(config)
    else:
        images, changes = load_together(config)
    remarks = []
    if changes and images.size is not None:
        wanted = " and ".join(["one square size"] * ("size" in changes) + ["one mode"] * ("convert" in changes))
        told = [f"`size={images.size[0]}`"] * ("size" in changes) + ["`convert`"] * ("convert" in changes)
        remarks.append(
            f"images of {wanted} are wanted; thanos discover brings them together by itself, thanos train if told "
            f"{' '.join(told)}."
        )
    faults = [Fault(where, what) for where, what in images.skipped]
    for fault, certain in _misspelt(images):
        if certain:
            faults.append(fault)
        else:
            remarks.append(f"{fault.where}: {fault.what}")
    faults += twins(images) + _torn(images)
    remarks += _almost_twins(images)
    try:
        check_superclasses(images)
    except DataError as error:
        faults.append(Fault("training", str(error)))
    counts = np.bincount(images.superclass, minlength=len(images.superclass_names))
    if counts.max() >= UNEVEN * max(counts.min(), 1):
        large, small = (images.superclass_names[i] for i in (counts.argmax(), counts.argmin()))
        remarks.append(
            f"{large} has {counts.max() / max(counts.min(), 1):.0f} times the {images.kind} of {small}; "
            f"`sampling=class-balanced` draws them alike."
        )
    return Checked(images, faults, remarks)


def _misspelt(images: Samples) -> list[tuple[Fault, bool]]:
    """Rare superclasses spelt almost like a common one, and whether that is taken for a fault."""
    count = Counter(images.superclass.tolist())
    faults = []
    plain = Counter(name.casefold() for name in images.superclass_names)
    for value, name in enumerate(images.superclass_names):
        if plain[name.casefold()] > 1:
            alike = [v for v, n in enumerate(images.superclass_names) if n.casefold() == name.casefold()]
            usual = max(alike, key=lambda v: count[v])
            if usual == value:
                continue
            same = images.superclass_names[usual]
            first = _place(images, int(np.flatnonzero(images.superclass == value)[0]))
            faults.append((Fault(first, f"has the superclass {name!r}, and most have {same!r}"), True))
            continue
        common = [images.superclass_names[v] for v, n in count.items() if count[value] <= RARE * n]
        if meant := nearest(name, common):
            first = _place(images, int(np.flatnonzero(images.superclass == value)[0]))
            fault = Fault(first, f"has the superclass {name!r}, which {count[value]} of {len(images)} have{meant}")
            faults.append((fault, count[value] <= FEW))
    return faults


def twins(images: Samples) -> list[Fault]:
    """Images outside training with the pixels of a training image, and one picture under two superclasses."""
    faults = []
    one, same = ("vector", "numbers") if images.size is None else ("image", "pixels")
    for i, j in exact_twins(images):
        if images.split[i] != images.split[j]:
            what = (
                f"is a {SPLITS[images.split[i]]} {one} with the {same} of the {SPLITS[images.split[j]]} {one} "
                f"{_place(images, j)}; scores on it are not honest: remove one"
            )
        else:
            mine, other = (images.superclass_names[images.superclass[k]] for k in (i, j))
            what = f"is {mine!r}, and {_place(images, j)} with the same {same} is {other!r}; mend a label"
        faults.append(Fault(_place(images, i), what))
    return faults


def _almost_twins(images: Samples) -> list[str]:
    """A remark on images outside training that are almost a training image."""
    found = near_twins(images)
    if not found:
        return []
    (i, j), count = found[0], len(found)
    return [
        f"{count:,} {'image' if count == 1 else 'images'} outside training {'is' if count == 1 else 'are'} almost a "
        f"training image (the first: {_place(images, i)}, {_place(images, j)}): scores on "
        f"{'it' if count == 1 else 'them'} flatter; `together` keeps images of one thing in one split"
    ]


def _torn(images: Samples) -> list[Fault]:
    """What several images are of, and that is in more than one split."""
    if not images.together:
        return []
    rows = {name: i for i, name in reversed(list(enumerate(images.together)))}
    return [
        Fault(_place(images, rows[name]), f"is of {name!r}, which is in several splits; scores are not honest")
        for name in torn(images.together, images.split)
    ]


def _place(images: Samples, i: int) -> str:
    return images.refs[i] if images.refs else f"{'row' if images.size is None else 'image'} {i}"


def write_fates(checked: Checked, path: Path) -> None:
    """Every file that was seen, and what became of it, as a CSV: read, fault, skipped or left out, and why.

    Raises:
        OutputError: if another file is there.
    """
    refuse_foreign(path, has_columns(("where", "fate", "why")), "thanos check")
    images = checked.images
    skipped = {where for where, _ in images.skipped}
    faulty = {fault.where for fault in checked.faults}
    rows = [(f.where, "skipped" if f.where in skipped else "fault", f.what) for f in checked.faults]
    for i in range(len(images)):
        place = _place(images, i)
        if place not in faulty:
            rows.append((place, "read", f"{images.superclass_names[images.superclass[i]]}, {SPLITS[images.split[i]]}"))
    rows += [(where, "left out", why) for where, why in images.left_out]
    write_csv(path, [("where", "fate", "why"), *rows])


def account(images: Samples) -> str:
    """One line: all that was seen is images, skipped, or left out with its reason."""
    seen = len(images) + len(images.skipped) + len(images.left_out)
    parts = [f"{len(images):,} {images.kind}"]
    parts += [f"{len(images.skipped):,} faulty"] if images.skipped else []
    parts += tell_left_out(why for _, why in images.left_out)
    return f"seen {seen:,}: {', '.join(parts)}"


def report(checked: Checked, say: Callable[[str], None]) -> None:
    """A screenful: what was read, the faults, the counts."""
    images = checked.images
    say(account(images))
    colours = "" if images.size is None else f", {'grey' if images.channels == 1 else 'colour'}"
    say(f"{images.name}: {len(images):,} {images.kind} of {images.shown_size}{colours}")
    names = images.superclass_names
    counts = np.stack([np.bincount(images.superclass[images.in_split(s)], minlength=len(names)) for s in SPLITS])
    _table("superclass", names, SPLITS, counts.T, say)
    if images.group is not None:
        known = images.group >= 0
        crossed = np.zeros((len(images.group_names), len(names)), dtype=np.int64)
        np.add.at(crossed, (images.group[known], images.superclass[known]), 1)
        _table("group", images.group_names, names, crossed, say)
    told = {*tell_left_out(why for _, why in images.left_out)}
    for remark in (*(n for n in images.notes if "skipped.csv" not in n and n not in told), *checked.remarks):
        say(f"note: {remark}")
    for fault in checked.faults[:SHOWN]:
        say(f"fault: {fault.where}: {fault.what}")
    if len(checked.faults) > SHOWN:
        say(f"... and {len(checked.faults) - SHOWN:,} more; `out=FILE.csv` lists all, with what became of every file")


def _table(
    kind: str, rows: Sequence[str], columns: Sequence[str], counts: NDArray[np.int64], say: Callable[[str], None]
) -> None:
    shown = columns[:WIDE]
    more = f"  (and {len(columns) - WIDE} more columns)" if len(columns) > WIDE else ""
    say(f"  {kind:<28.28}" + "".join(f"{name:>13.12}" for name in shown) + more)
    for name, row in list(zip(rows, counts, strict=True))[:SHOWN]:
        say(f"  {name:<28.28}" + "".join(f"{count:>13,}" for count in row[:WIDE]))
    if len(rows) > SHOWN:
        say(f"  ... and {len(rows) - SHOWN} more")
