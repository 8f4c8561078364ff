"""Effects that change colours and leave every pixel's place as it is.

Ranges of SynthDoG's effects are those it publishes (clovaai/donut @ 4cfcf97, synthdog/config_en.yaml), their meaning is read from
clovaai/synthtiger @ c00cc7b, synthtiger/components; the others are ours. Pictures are (height, width, 3) uint8.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from qwenvl.data.synth.draws import between, whole
from qwenvl.data.synth.text.background import noise
from qwenvl.data.synth.text.ranges import Effect, Range, Whole


class Photometric(Effect, ABC):
    """Changes colours: (height, width, 3) uint8 to the same."""

    @abstractmethod
    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        """The picture changed."""


class Noise(Photometric):
    """Gaussian noise of the paper, the same in all channels."""

    scale: Range = (0.0, 8.0)
    """Standard deviation, in levels."""

    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        import cv2

        levels = noise(rng, (picture.shape[1], picture.shape[0]), between(rng, *self.scale))
        return cv2.add(picture, cv2.merge([levels] * 3), dtype=cv2.CV_8U)


class Tint(Photometric):
    """Coloured light: mixed with one colour."""

    strength: Range = (0.0, 0.2)

    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        colour, strength = rng.random(3) * 255, between(rng, *self.strength)
        return _by_level(picture, np.arange(256)[:, None] * (1 - strength) + colour * strength)


class Shadow(Photometric):
    """A band of shadow from one side, at any angle."""

    intensity: Range = (0.0, 160.0)
    """Opacity of the shadow, of 255."""
    amount: Range = (0.0, 1.0)
    """How much of the picture it covers."""
    smoothing: Range = (0.5, 1.0)
    """How much of its edge is soft."""

    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        amount = between(rng, *self.amount)
        soft = max(min(amount, 1 - amount) * between(rng, *self.smoothing), 1e-3)
        along = _along(picture, rng.random() * 2 * math.pi)
        step = np.clip((along - (1 - amount - soft)) / (2 * soft), 0.0, 1.0)
        eased = np.where(step < 0.5, 2 * step**2, 1 - 2 * (1 - step) ** 2)
        return _lit(picture, 1.0 - eased * (between(rng, *self.intensity) / 255))


class Light(Photometric):
    """A lamp: brighter about one point, darker away from it."""

    strength: Range = (0.1, 0.4)

    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        x, y = _grid(picture)
        distance = np.hypot(x - rng.random(), y - rng.random())
        return _lit(picture, 1.0 + between(rng, *self.strength) * (0.4 - distance))


class Contrast(Photometric):
    """Levels pulled away from the middle one."""

    factor: Range = (1.0, 1.5)

    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        return _by_level(picture, (np.arange(256) - 128.0) * between(rng, *self.factor) + 128.0)


class Brightness(Photometric):
    """All levels moved."""

    levels: Range = (-48.0, 0.0)

    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        return _by_level(picture, np.arange(256) + between(rng, *self.levels))


class MotionBlur(Photometric):
    """The camera moved, along a line at any angle."""

    pixels: Whole = (3, 5)

    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        import cv2

        pixels, angle = whole(rng, *self.pixels), rng.random() * math.pi
        reach = pixels // 2
        steps = np.linspace(-(pixels - 1) / 2, (pixels - 1) / 2, 8 * pixels + 1)
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        rows, columns = (np.rint(steps * part).astype(int) + reach for part in (math.sin(angle), math.cos(angle)))
        np.add.at(kernel, (rows, columns), 1.0)
        return cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


class Blur(Photometric):
    """Out of focus."""

    sigma: Range = (0.0, 1.5)
    """Standard deviation of a Gaussian, in pixels."""

    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        import cv2

        sigma = between(rng, *self.sigma)
        return picture if sigma < 0.1 else cv2.GaussianBlur(picture, (0, 0), sigma)


class Resolution(Photometric):
    """Made smaller and enlarged again, as by a screen shot that was sent on."""

    factor: Range = (0.5, 0.9)

    def paint(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        import cv2

        height, width = picture.shape[:2]
        factor = between(rng, *self.factor)
        small = cv2.resize(picture, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _by_level(picture: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Every level replaced by another: levels (256,) or, by channel, (256, 3)."""
    import cv2

    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return cv2.LUT(picture, table if table.ndim == 1 else np.ascontiguousarray(table[:, None, :]))


_COARSE = 16
"""Light changes slowly: it is worked out for squares of so many pixels and interpolated between."""


def _grid(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x (1, columns) and y (rows, 1) in [0, 1] of a picture, for its squares."""
    height, width = picture.shape[:2]
    return np.linspace(0, 1, -(-width // _COARSE))[None, :], np.linspace(0, 1, -(-height // _COARSE))[:, None]


def _along(picture: np.ndarray, angle: float) -> np.ndarray:
    """How far each square lies in a direction: 0 at the picture's first corner that way, 1 at its last."""
    x, y = _grid(picture)
    along = (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle)
    return along / (abs(math.cos(angle)) + abs(math.sin(angle))) + 0.5


def _lit(picture: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The picture times a gain that is given for its squares."""
    import cv2

    height, width = picture.shape[:2]
    large = cv2.resize(gain.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(picture, cv2.merge([large] * 3), dtype=cv2.CV_8U)
