"""Rows drawn so that every label keeps its share, or a place on either side of a split."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def draw_stratified(
    rows: NDArray[np.int64], label: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` of ``rows``, with each label's share kept to within one image.

    Args:
        rows: Positions in ``label``.
        label: Of every image, shape (n,).
        count: At most the number of rows.
        rng: Equal states give equal draws.
    """
    shuffled = rng.permutation(rows)
    by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
    marks = (np.arange(count) + rng.random()) * len(rows) / max(count, 1)  # evenly spaced along the sorted rows
    return by_label[marks.astype(np.int64)]


def draw_balanced(label: NDArray[np.int64], rng: np.random.Generator, most: int | None = None) -> NDArray[np.int64]:
    """Rows in which every label is as frequent as the rarest one is in ``label``.

    Args:
        label: Of every row, shape (n,).
        rng: Equal states give equal draws.
        most: Of rows in all, but for one of each label; None: as many as there are.
    """
    kinds, size = np.unique(label, return_counts=True)
    each = size.min() if most is None else min(size.min(), max(1, most // len(kinds)))
    return np.concatenate([rng.permutation(np.flatnonzero(label == kind))[:each] for kind in kinds])


def draw_units(unit: ArrayLike, label: ArrayLike, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A share of the units that several images can be of (a patient, a lesion, a recording), each drawn whole.

    Args:
        unit: Of each image, (n,); the order of the images plays no part in the draw.
        label: Of each image, equal within a unit.
        share: Of the units, in (0, 1): one at least, and not all where there are two.
        rng: Equal states give equal draws.
    Returns:
        Whether each image is drawn, (n,). Each label's share of the units is kept to within one.
    """
    names, first, member = np.unique(np.asarray(unit), return_index=True, return_inverse=True)
    kind = np.unique(np.asarray(label)[first], return_inverse=True)[1]
    count = max(1, min(round(share * len(names)), len(names) - 1))
    drawn = np.zeros(len(names), dtype=bool)
    drawn[draw_stratified(np.arange(len(names)), kind, count, rng)] = True
    return drawn[member]


def draw_held_out(
    group: NDArray[np.int64],
    superclass: NDArray[np.int64],
    share: float,
    rng: np.random.Generator,
    *,
    least: int = 1,
) -> NDArray[np.bool_]:
    """A share of every group, superclasses in proportion, that leaves each group and superclass on both sides.

    Args:
        group: Of each row, shape (n,), any integers; a group may span superclasses.
        superclass: Of each row, (n,).
        share: To hold out, in (0, 1).
        rng: Equal states give equal draws.
        least: So many rows of a group are held out, if one can be left.
    Returns:
        Whether each row is held out, (n,). Each group and each superclass of two rows or more has one there and one
        left; a group's number of rows is its share, as near as that and ``least`` allow.
    """
    side = _part_pairs((group, superclass), rng)
    held_out: NDArray[np.bool_] = side == 1
    for kind in np.unique(group):
        mine = np.flatnonzero(group == kind)
        free = mine[side[mine] < 0]
        wanted = max(round(share * len(mine)), least) - int(held_out[mine].sum())
        held_out[draw_stratified(free, superclass, min(max(wanted, 0), len(free)), rng)] = True
    return held_out


def _part_pairs(labels: tuple[NDArray[np.int64], ...], rng: np.random.Generator) -> NDArray[np.int64]:
    """Sides 0 and 1 for two rows of each label, under two labellings at once; -1 for rows that may go to either.

    A row is in one pair under each labelling at most, so pairs that share rows make a path, or a circle of even length:
    sides that alternate along it part every pair.
    """
    partners = [_pairs(label, rng) for label in labels]
    side = np.full(len(labels[0]), -1)
    for start in rng.permutation(np.unique(np.concatenate([list(pairs) for pairs in partners]).astype(np.int64))):
        reached = [(int(start), int(rng.integers(2)))] if side[start] < 0 else []
        while reached:
            row, value = reached.pop()
            if side[row] < 0:
                side[row] = value
                reached += [(pairs[row], 1 - value) for pairs in partners if row in pairs]
    return side


def _pairs(label: NDArray[np.int64], rng: np.random.Generator) -> dict[int, int]:
    """Two rows of each label that has two, as partners of each other."""
    shuffled = rng.permutation(len(label))
    by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
    _, first, size = np.unique(label[by_label], return_index=True, return_counts=True)
    one, other = by_label[first[size > 1]].tolist(), by_label[first[size > 1] + 1].tolist()
    return dict(zip(one + other, other + one, strict=True))
