"""What one image (or vector) holds, as a short digest: it follows the image through renaming and moving."""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray


def content_of(array: NDArray[Any]) -> str:
    """The first 16 hexadecimal digits of blake2b over an array's shape, type and bytes.

    Args:
        array: One image as an ImageSet holds it, (height, width, channel) uint8, or one vector, (dim,) float32. How it
            lies in memory does not matter.
    Returns:
        16 digits; equal arrays of one shape and type have equal ones.
    Example:
        >>> content_of(np.zeros((2, 2, 1), dtype=np.uint8)) == content_of(np.zeros((1, 4, 1), dtype=np.uint8))
        False
    """
    digest = blake2b(f"{array.shape} {array.dtype.str}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
