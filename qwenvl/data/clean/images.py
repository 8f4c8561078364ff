"""What a picture's rules need of it: its size, read from the header, and after one decoding its perceptual hash."""

from __future__ import annotations

import math
import warnings
from functools import cache

import numpy as np
from PIL import Image

from qwenvl.processing.image import ImageError, open_image, picture_size

SIDE = 32
"""The picture is reduced to a square of this side before its frequencies are taken."""
KEPT = 8
"""The lowest frequencies that are kept each way: 64 bits."""
_SCALE = 1 << 14


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height from the header alone. Raises ImageError where it cannot be read or claims no pixels."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of a size that open_image may still accept, and of odd metadata
        width, height = picture_size(content)
    if not width or not height:
        raise ImageError(f"picture of {width}x{height} pixels")
    return width, height


def decode(content: bytes) -> Image.Image:
    """The picture as the trainer will see it. Raises ImageError, one line, for what is broken, truncated or too large."""
    return open_image(content)


@cache
def _waves() -> np.ndarray:
    """The KEPT slowest waves of the discrete cosine transform (DCT-II) over SIDE samples, as (KEPT, SIDE) whole numbers.

    Whole numbers, so that a hash has the same bits on every machine.
    """
    angles = [[math.pi * wave * (2 * place + 1) / (2 * SIDE) for place in range(SIDE)] for wave in range(KEPT)]
    return np.round(np.cos(angles) * _SCALE).astype(np.int64)


def perceptual_hash(picture: Image.Image) -> int:
    """pHash: 64 bits that stay nearly the same when the picture is resized or compressed anew.

    Bit (row, column) says whether that frequency of the reduced grey picture is above the median of the 64. Defined as `phash` in
    imagehash/__init__.py, JohannesBuchner/imagehash @ 054216f; daft's image_hash has the same. It is taken here, from the picture
    that is decoded for the rule broken_image, so that none is decoded twice.
    """
    grey = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    waves = _waves()
    frequencies = waves @ np.asarray(grey, dtype=np.int64) @ waves.T
    return int.from_bytes(np.packbits(frequencies > np.median(frequencies)).tobytes(), "big")
