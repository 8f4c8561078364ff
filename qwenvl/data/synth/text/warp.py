"""Exact maps of the plane, and what they do to pictures and to the boxes of what is drawn in them.

Coordinates are pixels whose first one covers [0, 1): a picture of width w spans [0, w]. Points are (n, 2) float64 arrays. Every
map is one-to-one with both directions in closed form, so that a quad follows its ink without any fitting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qwenvl.data.synth.ink import Box

_STEP = 4
"""The map is worked out at every fourth pixel and interpolated between: maps bend by less than a tenth of a pixel in that."""
_BLEED = 0.75
"""Bilinear resampling spreads ink by up to half a pixel of the source; the rest is for the steps of map and resampling."""
_SPACING = 6.0
"""Distance between the points of a box's outline that are followed through a map that bends lines."""


class Map(Protocol):
    """From a document to a picture of it, and back."""

    @property
    def straight(self) -> bool:
        """Whether lines stay lines."""
        ...

    def forward(self, points: np.ndarray) -> np.ndarray: ...

    def inverse(self, points: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Homography:
    """A projective map, by its 3 x 3 matrix: moving, scaling, turning, tilting."""

    matrix: np.ndarray
    straight: bool = True

    def forward(self, points: np.ndarray) -> np.ndarray:
        return _project(self.matrix, points)

    def inverse(self, points: np.ndarray) -> np.ndarray:
        return _project(np.linalg.inv(self.matrix), points)

    @classmethod
    def scaled(cls, scale: float, left: float, top: float) -> Homography:
        """Scaled about the origin, then moved."""
        return cls(np.array([[scale, 0.0, left], [0.0, scale, top], [0.0, 0.0, 1.0]]))

    @classmethod
    def turned(cls, degrees: float) -> Homography:
        """Turned counter-clockwise, as seen, about the origin."""
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return cls(np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]]))

    @classmethod
    def between(cls, source: np.ndarray, target: np.ndarray) -> Homography:
        """The one that takes four points (4, 2) to four others, no three of them on a line."""
        rows = []
        for (x, y), (u, v) in zip(source, target, strict=True):
            rows.append([x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y])
            rows.append([0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y])
        solved = np.linalg.solve(np.array(rows), np.asarray(target, np.float64).reshape(8))
        return cls(np.append(solved, 1.0).reshape(3, 3))


def _project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    projected = points @ matrix[:, :2].T + matrix[:, 2]
    return projected[:, :2] / projected[:, 2:]


@dataclass(frozen=True)
class Shear:
    """Moves points along a direction by a sum of sines of their distance across it, which the move leaves as it was.

    `waves` holds (amplitude in pixels, wavelength in pixels, phase). Several shears one after another, in different directions,
    make a field that bends every way and still has an exact inverse.
    """

    degrees: float
    waves: tuple[tuple[float, float, float], ...]
    straight: bool = False

    def forward(self, points: np.ndarray) -> np.ndarray:
        return points + self._moves(points)

    def inverse(self, points: np.ndarray) -> np.ndarray:
        return points - self._moves(points)

    def _moves(self, points: np.ndarray) -> np.ndarray:
        cosine, sine = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        across = points[:, 1] * cosine - points[:, 0] * sine
        moved = sum(size * np.sin(across * (2 * math.pi / length) + phase) for size, length, phase in self.waves)
        return np.outer(moved, (cosine, sine))


@dataclass(frozen=True)
class Cylinder:
    """A page bent about an upright cylinder and seen from the front, as beside a book's spine.

    `centre` is the point that touches the picture plane, `radius` in pixels; what lies deeper looks smaller by `depth` (0: seen
    from infinity). Points must be nearer to the centre line than a quarter turn: |x - centre| < pi / 2 * radius.
    """

    centre: tuple[float, float]
    radius: float
    depth: float
    straight: bool = False

    def forward(self, points: np.ndarray) -> np.ndarray:
        turn = (points[:, 0] - self.centre[0]) / self.radius
        return self._placed(np.sin(turn) * self.radius, (points[:, 1] - self.centre[1]) * self._shrink(turn))

    def inverse(self, points: np.ndarray) -> np.ndarray:
        # Beyond the cylinder's edge there is no page: those points are sent to the edge and further, outside the page.
        sine = (points[:, 0] - self.centre[0]) / self.radius
        turn = np.arcsin(np.clip(sine, -1.0, 1.0)) + (sine - np.clip(sine, -1.0, 1.0))
        return self._placed(turn * self.radius, (points[:, 1] - self.centre[1]) / self._shrink(turn))

    def _shrink(self, turn: np.ndarray) -> np.ndarray:
        return 1.0 - self.depth * (1.0 - np.cos(turn))

    def _placed(self, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        return np.stack([across + self.centre[0], down + self.centre[1]], axis=1)


@dataclass(frozen=True)
class Chain:
    """Maps one after another."""

    maps: tuple[Map, ...]

    @property
    def straight(self) -> bool:
        return all(step.straight for step in self.maps)

    def forward(self, points: np.ndarray) -> np.ndarray:
        for step in self.maps:
            points = step.forward(points)
        return points

    def inverse(self, points: np.ndarray) -> np.ndarray:
        for step in reversed(self.maps):
            points = step.inverse(points)
        return points


def rectangles(boxes: Sequence[Box] | np.ndarray) -> np.ndarray:
    """(n, 4, 2) corners of boxes, clockwise from the top left."""
    return np.asarray(boxes, np.float64).reshape(-1, 4)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


Sources = tuple[np.ndarray, np.ndarray]
"""For every pixel of a canvas, where in the picture its middle comes from: columns and rows (height, width) float32, in which whole
numbers are the middles of pixels, as OpenCV counts."""


def resample(picture: np.ndarray, sources: Sources, repeat_edge: bool = False) -> np.ndarray:
    """(height, width) or (height, width, C) uint8, seen through a map. What lies outside of it is 0, or its edge repeated."""
    import cv2

    border = cv2.BORDER_REPLICATE if repeat_edge else cv2.BORDER_CONSTANT
    return cv2.remap(picture, *sources, cv2.INTER_LINEAR, borderMode=border, borderValue=(0, 0, 0, 0))


def sources_of(moved: Map, size: tuple[int, int]) -> Sources:
    """The sources of a canvas of `size` (width, height) that shows a picture through a map."""
    import cv2

    width, height = size
    # One node more on each side than cover the canvas, so that its edges too lie between nodes.
    across, down = -(-width // _STEP) + 2, -(-height // _STEP) + 2
    x = (np.arange(across) - 0.5) * _STEP
    y = (np.arange(down) - 0.5) * _STEP
    nodes = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=2).reshape(-1, 2)
    sources = (moved.inverse(nodes) - 0.5).astype(np.float32).reshape(down, across, 2)
    # A node of the small grid is the middle of a square of _STEP pixels in the large one: that is how OpenCV enlarges.
    large = (across * _STEP, down * _STEP)
    columns, rows = (cv2.resize(sources[:, :, axis], large, interpolation=cv2.INTER_LINEAR) for axis in (0, 1))
    inside = np.s_[_STEP : _STEP + height, _STEP : _STEP + width]
    return columns[inside], rows[inside]


def fitted(moved: Map, size: tuple[int, int], canvas: tuple[int, int], place: np.ndarray | tuple[float, float]) -> Chain:
    """The map and then a scaling down, if need be, and a move, so that a picture of `size` lies inside a canvas.

    `place` says where, in the room that is left: (0, 0) is the top left corner, (1, 1) the bottom right one.
    """
    outline, _ = _outlines(rectangles([(0, 0, *size)]))
    points = moved.forward(outline)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = min(1.0, *(np.array(canvas) / (high - low)).tolist())
    left, top = (np.asarray(place) * (canvas - (high - low) * scale) - low * scale).tolist()
    return Chain((moved, Homography.scaled(scale, left, top)))


def follow(boxes: Sequence[Box], moved: Map) -> np.ndarray:
    """(n, 4, 2) quads, clockwise from each box's own top left, that hold all ink of the boxes after a map and a resampling.

    Each side of a quad is parallel to the chord between the moved corners and lies so far out that the whole moved outline is
    inside: under a projective map it is the moved side itself.
    """
    if not boxes:
        return np.zeros((0, 4, 2))
    corners = rectangles(np.asarray(boxes, np.float64) + (-_BLEED, -_BLEED, _BLEED, _BLEED))
    moved_corners = moved.forward(corners.reshape(-1, 2)).reshape(-1, 4, 2)
    if moved.straight:
        return moved_corners
    outlines, starts = _outlines(corners)
    counts = np.diff(starts, append=len(outlines))
    outlines = moved.forward(outlines)
    sides = np.roll(moved_corners, -1, axis=1) - moved_corners
    normals = np.stack([sides[:, :, 1], -sides[:, :, 0]], axis=2)
    distances = np.einsum("pk,psk->ps", outlines, np.repeat(normals, counts, axis=0))
    return _crossings(normals, np.maximum.reduceat(distances, starts, axis=0))


def _outlines(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points along the outlines of rectangles (n, 4, 2), one after another (p, 2), and where each one's begin (n,)."""
    sides = (np.roll(corners, -1, axis=1) - corners).reshape(-1, 2)
    counts = np.ceil(np.abs(sides).max(axis=1) / _SPACING).astype(np.int64)
    starts = np.cumsum(counts) - counts
    side = np.repeat(np.arange(len(sides)), counts)
    steps = (np.arange(len(side)) - starts[side]) / counts[side]
    return corners.reshape(-1, 2)[side] + steps[:, None] * sides[side], starts[::4]


def _crossings(normals: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Corners (n, 4, 2) of quads whose sides are the lines normal . p = offset: corner i lies on sides i - 1 and i."""
    before, offsets_before = np.roll(normals, 1, axis=1), np.roll(offsets, 1, axis=1)
    area = before[:, :, 0] * normals[:, :, 1] - before[:, :, 1] * normals[:, :, 0]
    x = (offsets_before * normals[:, :, 1] - offsets * before[:, :, 1]) / area
    y = (before[:, :, 0] * offsets - normals[:, :, 0] * offsets_before) / area
    return np.stack([x, y], axis=2)
