"""Effects that move ink. Each is nothing but an exact map (warp.py), which moves lines and words along with the ink.

Ranges of SynthDoG's effects are those it publishes (clovaai/donut @ 4cfcf97, synthdog/config_en.yaml); the others are ours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from qwenvl.data.synth.draws import between, pick
from qwenvl.data.synth.text.ranges import Effect, Range
from qwenvl.data.synth.text.warp import Cylinder, Homography, Map, Shear, rectangles


class Geometric(Effect, ABC):
    """Moves ink. The picture's size (width, height) is that of the document."""

    @abstractmethod
    def draw_map(self, rng: np.random.Generator, size: tuple[int, int]) -> Map | tuple[Map, ...]:
        """The map of this page, or several, one after the other."""


class Elastic(Geometric):
    """Small bends in every direction. SynthDoG moves each pixel by itself, by less than one; here neighbours go together."""

    pixels: Range = (0.0, 1.0)
    """Greatest move, in pixels."""
    wavelength: Range = (32.0, 128.0)
    _DIRECTIONS: ClassVar[int] = 3

    def draw_map(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Map, ...]:
        part = between(rng, *self.pixels) / (2 * self._DIRECTIONS)
        turns = (between(rng, 60.0 * number, 60.0 * number + 60.0) for number in range(self._DIRECTIONS))
        return tuple(Shear(turn, tuple((part, between(rng, *self.wavelength), _phase(rng)) for _ in range(2))) for turn in turns)


class Curl(Geometric):
    """The page bends away from its spine, which is its left side, its middle or its right side."""

    bend: Range = (0.2, 0.8)
    """Angle in radians of the side that is farthest from the spine."""
    depth: Range = (0.0, 0.3)
    """How much what lies deepest could shrink, were it a quarter turn away."""

    def draw_map(self, rng: np.random.Generator, size: tuple[int, int]) -> Map:
        width, height = size
        spine = pick(rng, (0.0, 0.5, 1.0)) * width
        radius = max(spine, width - spine) / max(between(rng, *self.bend), 1e-3)
        return Cylinder((spine, height / 2), radius, between(rng, *self.depth))


class Wave(Geometric):
    """Lines rise and fall from left to right."""

    height: Range = (0.002, 0.015)
    """How far, of the page's height."""
    waves: Range = (0.5, 2.0)
    """How often over the page's width."""

    def draw_map(self, rng: np.random.Generator, size: tuple[int, int]) -> Map:
        length = size[0] / max(between(rng, *self.waves), 1e-3)
        return Shear(90.0, ((between(rng, *self.height) * size[1], length, _phase(rng)),))


class Rotation(Geometric):
    """The page lies askew."""

    degrees: Range = (-8.0, 8.0)

    def draw_map(self, rng: np.random.Generator, size: tuple[int, int]) -> Map:
        return Homography.turned(between(rng, *self.degrees))


# Which of the sides top, right, bottom, left shrink, and how often: the eight sets of percents that SynthDoG draws from.
_SIDES = (
    (750, (True, True, True, True)), (50, (True, False, True, False)), (50, (False, True, False, True)),
    (25, (True, False, False, False)), (25, (False, True, False, False)), (25, (False, False, True, False)),
    (25, (False, False, False, True)), (50, (False, False, False, False)),
)  # fmt: skip


class Perspective(Geometric):
    """Sides of the page shrink, each towards a place of its own."""

    sides: Range = (0.75, 1.0)
    """Length of a side that shrinks, of what it was."""

    def draw_map(self, rng: np.random.Generator, size: tuple[int, int]) -> Map:
        weights = np.cumsum([weight for weight, _ in _SIDES])
        shrinking = _SIDES[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))][1]
        starts, ends = [], []
        for shrinks in shrinking:
            length = between(rng, *self.sides) if shrinks else 1.0
            start = rng.random() * (1.0 - length)
            starts.append(start)
            ends.append(start + length)
        corners = np.array([
            [starts[0], starts[3]], [ends[0], starts[1]], [ends[2], ends[1]], [starts[2], ends[3]],
        ])  # fmt: skip
        return Homography.between(rectangles([(0, 0, *size)])[0], corners * size)


def _phase(rng: np.random.Generator) -> float:
    return rng.random() * 2 * math.pi
