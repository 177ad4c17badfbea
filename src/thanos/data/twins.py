"""Rows that are another row once more: the same pixels, or almost the same picture."""

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thanos.data.labels import SPLITS
from thanos.data.samples import Samples

SMALLEST = 32
"""Pixels a side below which almost equal pictures are the rule (digits), and are not looked for."""
SIDE = 16
"""A picture's mark has so many rows of so many bits: is a pixel of its small grey copy brighter than the next?"""
BITS = 10
"""Marks that differ in no more than so many of 256 bits are of one picture (its copy at another size, recompressed)."""
CLOSE = 6.0
"""And so are their small grey copies no further apart than so many of 255 levels, in the mean."""
MOST_PAIRS = 4_000_000_000
"""Beyond which near twins are not looked for."""


def exact_twins(images: Samples) -> Iterator[tuple[int, int]]:
    """(row, earlier row) of equal pixels or numbers, training rows first, where split or superclass differ."""
    first: dict[bytes, int] = {}
    for i in np.argsort(images.split, kind="stable").tolist():
        mark = blake2b(np.ascontiguousarray(images.values[np.array([i])]).tobytes(), digest_size=16).digest()
        j = first.setdefault(mark, i)
        if j != i and (images.split[i] != images.split[j] or images.superclass[i] != images.superclass[j]):
            yield i, j


def near_twins(images: Samples) -> list[tuple[int, int]] | None:
    """(row outside training, training row) that show almost the same picture, without those of equal pixels.

    Returns:
        None where they were not looked for: vectors, small images, too many pairs.
    """
    train, other = images.rows("train"), np.flatnonzero(images.split != SPLITS.index("train"))
    if images.size is None or min(images.size) < SMALLEST or len(train) * len(other) > MOST_PAIRS:
        return None
    ours, theirs = _small(images, train), _small(images, other)
    marks, looked_for = _marks(ours), _marks(theirs)
    found = []
    for place, mark in enumerate(looked_for):
        apart = np.bitwise_count(marks ^ mark).sum(axis=1, dtype=np.int64)
        for near in np.flatnonzero(apart <= BITS):
            differ = np.abs(ours[near].astype(int) - theirs[place]).mean()
            if differ <= CLOSE and not _equal(images, int(other[place]), int(train[near])):
                found.append((int(other[place]), int(train[near])))
                break
    return found


def _small(images: Samples, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Grey copies of SIDE x (SIDE + 1) pixels."""
    out = np.empty((len(rows), SIDE, SIDE + 1), dtype=np.uint8)
    for start in range(0, len(rows), 1024):
        for i, picture in enumerate(images.values[rows[start : start + 1024]], start=start):
            grey = Image.fromarray(picture.squeeze()).convert("L")
            out[i] = np.asarray(grey.resize((SIDE + 1, SIDE), Image.Resampling.BOX))
    return out


def _marks(small: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Difference hashes (Krawetz 2013), (n, SIDE * SIDE / 64)."""
    brighter = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(small), -1)
    return np.packbits(brighter, axis=1).view(np.uint64)


def _equal(images: Samples, i: int, j: int) -> bool:
    pair = images.values[np.array([i, j])]
    return bool(np.array_equal(pair[0], pair[1]))
