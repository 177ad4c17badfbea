"""Pixels of more than 8 bits: one scale for a whole set, so that equal values stay equal from image to image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thanos.errors import DataError

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
"""Pillow's modes of more than 8 bits a pixel."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras and scanners give."""
TAIL = 0.1
"""Percentile, and that from above, between which values lie that follow no depth."""


class Scale(NamedTuple):
    """What becomes 0 and what 255; values outside are the nearer of them."""

    low: float
    high: float

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """The same values in 8 bits, rounded."""
        share = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return (share * 255).round().clip(0, 255).astype(np.uint8)


EIGHT_BITS = Scale(0, 255)


def limits_of(image: Image.Image) -> tuple[float, float, float, float]:
    """Lowest and highest value of a loaded image, and its percentiles TAIL and 100 - TAIL.

    Raises:
        DataError: for values that are no numbers.
    """
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise DataError("some of its pixels are no numbers")
    low, high = np.percentile(values, (TAIL, 100 - TAIL))
    return float(values.min()), float(values.max()), float(low), float(high)


def scale_of(limits: Sequence[tuple[str, float, float, float, float]]) -> tuple[Scale, str]:
    """One scale for all images, and a line on it.

    Whole numbers from 0 on take the least bit depth that holds the highest; fractions in 0 to 1, and in 0 to 255, those
    ranges; others the range between the percentiles of all.

    Args:
        limits: Of every image: its mode, and what :func:`limits_of` found.
    """
    low, high = min(each[1] for each in limits), max(each[2] for each in limits)
    whole = all(each[0] != "F" for each in limits)
    if whole and low >= 0 and high < 2 ** DEPTHS[-1]:
        bits = next(bits for bits in DEPTHS if high < 2**bits)
        return Scale(0, 2**bits - 1), f"0 to {2**bits - 1} ({bits} bits) becomes 0 to 255"
    if not whole and low >= 0 and high <= 255:
        top = 1 if high <= 1 else 255
        return Scale(0, top), f"0 to {top} becomes 0 to 255"
    low, high = min(each[3] for each in limits), max(each[4] for each in limits)
    high = high if high > low else low + 1
    return Scale(low, high), f"{low:g} to {high:g} (percentiles {TAIL:g} and {100 - TAIL:g}) becomes 0 to 255"
