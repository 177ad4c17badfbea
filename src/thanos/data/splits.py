"""Which images are held out, where the data do not say."""

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from thanos.data.draw import draw_stratified
from thanos.data.labels import SPLITS, UNLABELLED
from thanos.data.samples import Samples

TEST_SHARE = 0.2
"""Held out for testing where the data name no test split."""
VALIDATE_ON = 5000
"""Validation during training takes at most this many images, evenly spaced."""
Rows = TypeVar("Rows", range, NDArray[np.int64])
Kept = TypeVar("Kept", bound=Samples)


def watched(held_out: Rows) -> Rows:
    """Those of the validation images that training looks at."""
    return held_out[:: max(1, -(-len(held_out) // VALIDATE_ON))]


def with_splits(images: Kept, validation: float, seed: int) -> Kept:
    """Hold out test (where there is none) and validation rows, stratified by superclass; fine labels play no part.

    Rows without labels are there to be embedded, and all for testing.
    """
    if images.superclass_names == (UNLABELLED,) and not images.splits_named:
        return replace(images, split=np.full(len(images), SPLITS.index("test"), dtype=np.int8))
    split = images.split.copy()
    notes = list(images.notes)
    for name, share in (("test", TEST_SHARE), ("validation", validation)):
        if not (split == SPLITS.index(name)).any() and not (name == "test" and images.splits_named):
            notes += [f"{share:.0%} held out for testing"] if name == "test" else []
            train = np.flatnonzero(split == SPLITS.index("train"))
            rng = np.random.default_rng((seed, SPLITS.index(name)))
            split[draw_stratified(train, images.superclass, round(share * len(train)), rng)] = SPLITS.index(name)
    return replace(images, split=split, notes=tuple(notes))
