"""Backgrounds of scenes: flat, gradient, stripe or checker in one named colour, with noise.

A picture of levels (uint8, 128 = the colour itself) goes through a palette from a darker to a lighter tone of that colour,
which costs a tenth of mixing three float channels.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image

from qwenvl.data.synth.names import COLOURS

Pattern = Literal["flat", "gradient", "stripe", "checker"]

MAX_SIDE = 512
_BANK = 640
_NOISE = (0, 8, 16, 25)
"""Standard deviations of the noise, in levels."""
_NOISE_LIMIT = 50
_CONTRAST = 77
"""Largest distance of a pattern from the middle level; with the noise it stays inside a byte."""
_TONE = 0.30
"""How far the darkest and lightest levels are mixed towards black and white."""
_JITTER = 8
"""Largest shift of the named colour, per channel."""


@cache
def _noise_bank() -> np.ndarray:
    """(4, 640, 640) int8 noise of each strength, drawn once from a fixed seed; a scene takes a window of it."""
    noise = np.random.default_rng(20231208).standard_normal((_BANK, _BANK), dtype=np.float32)
    scaled = np.asarray(_NOISE, dtype=np.float32)[:, None, None] * noise
    return np.clip(np.rint(scaled), -_NOISE_LIMIT, _NOISE_LIMIT).astype(np.int8).view(np.uint8)


def jitter(colour: str, rng: np.random.Generator, amount: int = _JITTER) -> tuple[int, int, int]:
    """The named colour, each channel moved a little."""
    shift = rng.integers(-amount, amount + 1, 3).tolist()
    red, green, blue = (min(255, max(0, value + moved)) for value, moved in zip(COLOURS[colour], shift, strict=True))
    return (red, green, blue)


def draw_background(colour: str, size: tuple[int, int], pattern: Pattern, rng: np.random.Generator) -> Image.Image:
    """An RGB picture of that colour, of a size (width, height)."""
    width, height = size
    levels = _levels(pattern, width, height, rng)
    strength, top, left = int(rng.integers(len(_NOISE))), int(rng.integers(_BANK - height)), int(rng.integers(_BANK - width))
    # Unsigned bytes wrap around, and so adding a negative byte's bit pattern subtracts.
    levels = levels + _noise_bank()[strength, top : top + height, left : left + width]
    picture = Image.fromarray(levels)
    picture.putpalette(_palette(jitter(colour, rng)))
    return picture.convert("RGB")


def _palette(colour: tuple[int, int, int]) -> bytes:
    """256 RGB entries: darker below level 128, the colour at it, lighter above."""
    tone = (np.arange(256) - 128)[:, None] * (_TONE / 128)
    base = np.asarray(colour)
    return (base + np.where(tone < 0, base * tone, (255 - base) * tone)).astype(np.uint8).tobytes()


def _levels(pattern: Pattern, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """(height, width) uint8 levels within 128 +- _CONTRAST."""
    if pattern == "flat":
        return np.full((height, width), 128, np.uint8)
    contrast = int(rng.integers(_CONTRAST // 3, _CONTRAST + 1))
    angle = rng.random() * 2 * math.pi
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    along_x, along_y = columns * math.cos(angle), rows * math.sin(angle)
    if pattern == "gradient":
        ramp = along_y[:, None] + along_x[None, :]
        low, high = float(ramp.min()), float(ramp.max())
        return (128 - contrast + (ramp - low) * (2 * contrast / (high - low))).astype(np.uint8)
    period = min(width, height) * (0.08 + 0.16 * rng.random())
    if pattern == "stripe":
        bright = np.floor((along_y[:, None] + along_x[None, :]) / period).astype(np.int32) & 1
    else:
        start = period * rng.random()
        across, down = (np.floor((steps + start) / period).astype(np.int32) for steps in (columns, rows))
        bright = (down[:, None] + across[None, :]) & 1
    return np.where(bright, np.uint8(128 + contrast), np.uint8(128 - contrast))
