"""Scores of places and times: intersection over union of boxes, convex quads and spans, and one-to-one matching.

Coordinates are fractions of the picture's width and height. A box is (left, top, right, bottom); a quad four (x, y) points.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenvl.types import Point, Region

Box = tuple[float, float, float, float]


def box_iou(first: Box, second: Box) -> float:
    """Intersection over union, in [0, 1]. An empty or swapped box overlaps nothing."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0 or _box_area(first) <= 0 or _box_area(second) <= 0:
        return 0.0
    return width * height / (_box_area(first) + _box_area(second) - width * height)


def span_iou(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Intersection over union of two (start, end), in [0, 1]. An empty or swapped span overlaps nothing."""
    shared = min(first[1], second[1]) - max(first[0], second[0])
    if shared <= 0 or first[0] >= first[1] or second[0] >= second[1]:
        return 0.0
    return shared / (max(first[1], second[1]) - min(first[0], second[0]))


def quad_iou(first: Sequence[Point], second: Sequence[Point]) -> float:
    """Intersection over union of two convex quads, in [0, 1]; either turning direction. A crossed or flat quad overlaps nothing."""
    ours, theirs = _clockwise(first), _clockwise(second)
    if not (_is_convex(ours) and _is_convex(theirs)):
        return 0.0
    shared = _area(_clip(ours, theirs))
    return shared / (_area(ours) + _area(theirs) - shared)


def box_of(region: Region) -> Box:
    """The upright box around a region's points."""
    across, down = zip(*region.points, strict=True)
    return min(across), min(down), max(across), max(down)


def match(overlaps: Sequence[Sequence[float]], threshold: float) -> list[tuple[int, int]]:
    """Pair predictions (rows) with truths (columns), best overlap first, each used once, none below the threshold.

    The greedy order of the PASCAL VOC development kit, with overlap in the place of confidence: replies carry none.
    """
    candidates = sorted(
        ((value, row, column) for row, line in enumerate(overlaps) for column, value in enumerate(line) if value >= threshold),
        key=lambda candidate: (-candidate[0], candidate[1], candidate[2]),
    )
    pairs: list[tuple[int, int]] = []
    for _, row, column in candidates:
        if all(row != taken and column != used for taken, used in pairs):
            pairs.append((row, column))
    return sorted(pairs)


def _box_area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _area(points: Sequence[Point]) -> float:
    """Signed area by the shoelace formula; positive when the points turn clockwise on a screen (y down)."""
    following = [*points[1:], *points[:1]]
    return sum(x * other_y - other_x * y for (x, y), (other_x, other_y) in zip(points, following, strict=True)) / 2


def _clockwise(points: Sequence[Point]) -> list[Point]:
    return list(points) if _area(points) >= 0 else list(reversed(points))


def _side(start: Point, end: Point, point: Point) -> float:
    """Positive when `point` lies on the inner side of an edge of a clockwise polygon."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def _is_convex(points: Sequence[Point]) -> bool:
    count = len(points)
    turns = [_side(points[i], points[(i + 1) % count], points[(i + 2) % count]) for i in range(count)]
    return count >= 3 and _area(points) > 0 and all(turn >= 0 for turn in turns)


def _clip(subject: list[Point], window: list[Point]) -> list[Point]:
    """The part of `subject` inside the clockwise convex `window` (Sutherland and Hodgman, 1974)."""
    for start, end in zip(window, [*window[1:], window[0]], strict=True):
        kept: list[Point] = []
        for here, there in zip(subject, [*subject[1:], *subject[:1]], strict=True):
            from_edge, to_edge = _side(start, end, here), _side(start, end, there)
            if from_edge >= 0:
                kept.append(here)
            if (from_edge >= 0) != (to_edge >= 0):
                share = from_edge / (from_edge - to_edge)
                kept.append((here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])))
        subject = kept
    return subject
