"""What lies under the text: pictures of a folder, or drawn patterns; paper; noise.

Pictures are (height, width, 3) uint8 arrays. Patterns and noise are windows of two banks that are drawn once from a fixed seed.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qwenvl.data.synth.draws import between, pick, whole
from qwenvl.processing.image import open_image
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from qwenvl.data.synth.text.spec import BackgroundSpec, PaperSpec

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp"))

_BANK = 1024
_SEED = 20231208
_OCTAVES = 7
_LONGEST_KEPT = 1600
"""Pictures are kept decoded at no more than this on their longer side."""
_WIDE_BLUR = 3.0
"""From this deviation on, a blur is done on a smaller picture, where it costs less and looks the same."""


class BackgroundError(QwenVLError, ValueError):
    """A folder of pictures that is missing or empty."""


def backdrop(spec: BackgroundSpec, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """What lies behind the paper, of a size (width, height)."""
    import cv2

    sigma = between(rng, *spec.blur)
    shrink = max(int(sigma / _WIDE_BLUR * 2), 1)
    small = (-(-size[0] // shrink), -(-size[1] // shrink))
    if spec.folder is None:
        picture = _pattern(small, rng)
    else:
        path = pick(rng, pictures(spec.folder))
        picture = _cut(_decoded(path), size[0] / size[1], small, rng)
    if sigma / shrink > 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma / shrink)
    return picture if shrink == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)


def paper(spec: PaperSpec, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(height, width) uint8: white paper under some texture in grey."""
    import cv2

    strength = between(rng, *spec.strength)
    if spec.folder is None:
        texture = _clouds(size, rng)
    else:
        picture = cv2.cvtColor(_decoded(pick(rng, pictures(spec.folder))), cv2.COLOR_RGB2GRAY)
        height, width = picture.shape
        across, down = whole(rng, 1, width), whole(rng, 1, height)
        left, top = whole(rng, 0, width - across), whole(rng, 0, height - down)
        texture = cv2.resize(picture[top : top + down, left : left + across], size, interpolation=cv2.INTER_LINEAR)
    levels = np.rint(255 * (1 - strength) + np.arange(256) * strength).astype(np.uint8)
    return cv2.LUT(texture, levels)


def noise(rng: np.random.Generator, size: tuple[int, int], scale: float) -> np.ndarray:
    """(height, width) int16 Gaussian noise of a standard deviation."""
    import cv2

    # Levels 0..255 of the bank stand for -4 to 4 standard deviations.
    steps = np.rint((np.arange(256) - 128) * (scale * 4 / 128)).astype(np.int16)
    bank = _noise_bank()
    tiled = np.tile(bank, (-(-size[1] // _BANK) + 1, -(-size[0] // _BANK) + 1)) if max(size) > _BANK else bank
    left, top = (whole(rng, 0, have - need) for have, need in zip(tiled.shape[::-1], size, strict=True))
    return cv2.LUT(tiled[top : top + size[1], left : left + size[0]], steps)


@cache
def pictures(folder: str) -> tuple[Path, ...]:
    """Every picture below a folder, in the order of their names. Raises BackgroundError if there is none."""
    found = tuple(sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES))
    if not found:
        raise BackgroundError(f"{folder}: no pictures there ({', '.join(sorted(SUFFIXES))}); give another folder, or none")
    return found


@lru_cache(maxsize=16)
def _decoded(path: Path) -> np.ndarray:
    picture = open_image(path)
    picture.thumbnail((_LONGEST_KEPT, _LONGEST_KEPT))
    return np.asarray(picture)


def _cut(picture: np.ndarray, aspect: float, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The largest window of an aspect, at a random place, resized."""
    import cv2

    height, width = picture.shape[:2]
    across, down = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = whole(rng, 0, width - across), whole(rng, 0, height - down)
    window = picture[top : top + down, left : left + across]
    return cv2.resize(window, size, interpolation=cv2.INTER_AREA if across > size[0] else cv2.INTER_LINEAR)


def _pattern(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Clouds between two colours."""
    import cv2

    low, high = rng.random(3) * 255, rng.random(3) * 255
    steps = np.linspace(0, 1, 256)[:, None]
    return cv2.LUT(cv2.merge([_clouds(size, rng)] * 3), np.rint(low + steps * (high - low)).astype(np.uint8)[:, None, :])


def _clouds(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(height, width) uint8: a window of the bank, enlarged by as much as chance wants."""
    import cv2

    zoom = math.exp(between(rng, 0.0, math.log(8.0)))
    fits = max(size) / (_BANK - 1)
    across, down = (max(int(side / max(zoom, fits)), 1) for side in size)
    left, top = whole(rng, 0, _BANK - across), whole(rng, 0, _BANK - down)
    return cv2.resize(_cloud_bank()[top : top + down, left : left + across], size, interpolation=cv2.INTER_LINEAR)


@cache
def _cloud_bank() -> np.ndarray:
    """(1024, 1024) uint8: random grids from coarse to fine, each half as strong as the one before."""
    import cv2

    rng = np.random.default_rng(_SEED)
    total = np.zeros((_BANK, _BANK), np.float32)
    for octave in range(_OCTAVES):
        grid = rng.random((4 << octave, 4 << octave), dtype=np.float32) - 0.5
        total += cv2.resize(grid, (_BANK, _BANK), interpolation=cv2.INTER_CUBIC) / 2**octave
    return np.clip(np.rint(128 + total * 170), 0, 255).astype(np.uint8)


@cache
def _noise_bank() -> np.ndarray:
    """(1024, 1024) uint8: 128 and 32 levels for each standard deviation."""
    normal = np.random.default_rng(_SEED + 1).standard_normal((_BANK, _BANK), dtype=np.float32)
    return np.clip(np.rint(128 + normal * 32), 0, 255).astype(np.uint8)
