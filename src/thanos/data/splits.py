"""Which images are held out, where the data do not say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from thanos.data.draw import draw_stratified, draw_units
from thanos.data.labels import SPLITS
from thanos.data.samples import Samples
from thanos.errors import DataError

TEST_SHARE = 0.2
"""Held out for testing where the data name no test split."""
GROUP_VALIDATION_SHARE = 0.2
"""Of each group, held out for validation where sets with groups are split here; as many again for testing."""
VALIDATE_ON = 5000
"""Validation during training takes at most this many images, evenly spaced."""
Rows = TypeVar("Rows", range, NDArray[np.int64])
Kept = TypeVar("Kept", bound=Samples)


def watched(held_out: Rows) -> Rows:
    """Those of the validation images that training looks at."""
    return held_out[:: max(1, -(-len(held_out) // VALIDATE_ON))]


def with_splits(images: Kept, validation: float, seed: int) -> Kept:
    """Hold out test (where there is none) and validation rows, stratified by superclass; fine labels play no part.

    Rows of one thing (``together``) are in one split.
    """
    split = images.split.copy()
    notes = list(images.notes)
    for name, share in (("test", TEST_SHARE), ("validation", validation)):
        if not (split == SPLITS.index(name)).any() and not (name == "test" and images.splits_named):
            notes += [f"{share:.0%} held out for testing"] if name == "test" else []
            train = np.flatnonzero(split == SPLITS.index("train"))
            rng = np.random.default_rng((seed, SPLITS.index(name)))
            if images.together and len(train):
                drawn = _whole(images, train, share, rng)
            else:
                drawn = draw_stratified(train, images.superclass, round(share * len(train)), rng)
            split[drawn] = SPLITS.index(name)
    if images.together:
        notes.append(_tell_together(images.together, split))
    return replace(images, split=split, notes=tuple(notes))


def split_by_group(unit: Sequence[str], group: Sequence[str], seed: int) -> list[str]:
    """A split of each image in which every group keeps its share, and has images everywhere.

    Args:
        unit: What each image is of; images of one unit and group stay together. Their order plays no part.
        group: Of each image.
        seed: Equal seeds give equal splits.
    Raises:
        DataError: if a group has fewer units than there are splits.
    """
    units, groups = np.asarray(unit), np.asarray(group)
    split = np.full(len(groups), "train", dtype=object)
    rng = np.random.default_rng((seed, 102))
    for name in np.unique(groups).tolist():
        mine = np.flatnonzero(groups == name)
        if (size := len(np.unique(units[mine]))) < len(SPLITS):
            raise DataError(
                f"a group is split into training, validation and test; {name!r} has {size} "
                f"{'image' if size == 1 else 'different images'}. Add some, or name the splits in a CSV of your own "
                f"(columns path, superclass, group, split)."
            )
        for part, share in (("test", TEST_SHARE), ("validation", GROUP_VALIDATION_SHARE / (1 - TEST_SHARE))):
            rest = mine[split[mine] == "train"]
            split[rest[draw_units(units[rest], np.zeros(len(rest)), share, rng)]] = part
    return list(split)


def all_for_testing(images: Kept) -> Kept:
    """The same, with no row to train on."""
    return replace(images, split=np.full(len(images), SPLITS.index("test"), dtype=np.int8))


def _whole(images: Samples, train: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """The rows of a share of all things that are among ``train``; a row whose thing is not known is one of its own."""
    unit = np.array([images.together[i] or f"\0{i}" for i in train], dtype=object).astype(str)
    _, first, member = np.unique(unit, return_index=True, return_inverse=True)
    superclass = images.superclass[train][first][member]  # where a thing has several, that of its first row
    return train[draw_units(unit, superclass, share, rng)]


def torn(together: Sequence[str], split: NDArray[np.int8]) -> list[str]:
    """The things that are in more than one split."""
    home: dict[str, int] = {}
    return sorted(
        {name for name, at in zip(together, split.tolist(), strict=True) if name and home.setdefault(name, at) != at}
    )


def _tell_together(together: Sequence[str], split: NDArray[np.int8]) -> str:
    several = torn(together, split)
    count = len({name for name in together if name})
    if not several:
        return f"what images are of (together) has {count:,} values, each in one split"
    return (
        f"of {count:,} values of what images are of (together) {len(several):,} are in several of the named splits, "
        f"{several[0]} first: scores on them are not honest"
    )
