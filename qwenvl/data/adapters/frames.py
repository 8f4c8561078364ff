"""Boxes as datasets write them: as Regions in [0, 1], and which way of writing them a whole dataset shows.

A box that is read in a wrong frame (thousandths as pixels, corners as sizes) often still lies in the picture: one box cannot tell.
Many can. Read in the right frame nearly all boxes lie in their pictures, and some touch each far edge; see `judge`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from qwenvl.processing.image import picture_size
from qwenvl.types import QwenVLError, Region, RegionError

Layout = Literal["xyxy", "xywh", "yxyx"]
Unit = Literal["pixels", "fractions", "percent", "thousandths"]

FULL = {"fractions": 1.0, "percent": 100.0, "thousandths": 1000.0}
"""What the picture's whole width or height is in a unit that does not depend on its size."""

SLACK = {"pixels": 1.0, "fractions": 0.001, "percent": 0.1, "thousandths": 1.0}
"""How far a box may leave its picture, in its own unit, and be moved to the edge: rounding, and pixels counted from 1."""

FINEST = 0.002
"""Narrower or lower boxes are refused: written as integers in [0, 1000), both their sides may be the same number."""


class FrameError(QwenVLError, ValueError):
    """The boxes of a dataset look as if they were written in another way than its schema says."""


@dataclass(frozen=True, slots=True)
class Convention:
    """How a schema writes a box: the order of its four numbers, and what they count."""

    layout: Layout
    unit: Unit

    def __str__(self) -> str:
        return f"{self.layout} in {self.unit}"


CONVENTIONS = [Convention(layout, unit) for layout in get_args(Layout) for unit in get_args(Unit)]


@dataclass(frozen=True, slots=True)
class Box:
    """Four numbers as they are written, and (width, height) in pixels of the picture that they were drawn on, where known."""

    numbers: Sequence[float]
    size: tuple[int, int] | None = None


def to_region(box: Box, convention: Convention, where: str, label: str | None = None) -> Region:
    """The box as a Region.

    Raises RegionError naming `where`: not four numbers, outside of the picture by more than SLACK, swapped, finer than FINEST,
    or pixels without the picture's size.
    """
    numbers = [float(number) for number in box.numbers]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise RegionError(f"{where}: box {list(box.numbers)} is not four numbers")
    if convention.unit == "pixels" and (box.size is None or min(box.size) <= 0):
        raise RegionError(f"{where}: box {numbers} is in pixels of a picture of unknown size ({box.size})")
    if convention.unit == "pixels" and max(map(abs, numbers)) <= 1:
        raise RegionError(f"{where}: box {numbers} is in fractions, where {convention} is expected: the wrong frame")
    left, top, right, bottom, slack_x, slack_y = _fractions(np.array([numbers]), _sizes([box]), convention)[:, 0].tolist()
    shown = f"box {numbers} ({convention}" + (f", picture of {box.size[0]}x{box.size[1]})" if box.size else ")")
    if right < left or bottom < top:
        raise RegionError(f"{where}: {shown} is swapped: its right or lower side comes first")
    if min(left + slack_x, top + slack_y) < 0 or max(right - slack_x, bottom - slack_y) > 1:
        raise RegionError(f"{where}: {shown} leaves the picture: out of range, or the wrong frame")
    left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in (left, top, right, bottom))
    if min(right - left, bottom - top) < FINEST:
        raise RegionError(f"{where}: {shown} is degenerate: a side is shorter than {FINEST:g} of the picture's")
    return Region.box(left, top, right, bottom, label).check(where)


def check_drawn_on(size: tuple[int, int], picture: Any, where: str) -> None:
    """Refuse a picture of another shape than (width, height) of the one that boxes were drawn on; another scale does not matter.

    It was turned, cropped or given a border since. Raises RegionError with both sizes, ImageError for no picture.
    """
    width, height = picture_size(picture)
    # Both sides of a resized picture are rounded by less than a pixel.
    if abs(size[0] * height - size[1] * width) > size[0] + size[1]:
        raise RegionError(
            f"{where}: the picture is {width}x{height}, its boxes were drawn on one of {size[0]}x{size[1]}: another shape, so the "
            "wrong frame (turned, cropped or bordered)"
        )


MIN_BOXES = 30
"""Fewer boxes do not tell in which frame they are."""
MOST = 0.99
"""Share of boxes that lie in their pictures, read in the right frame."""
WORSE = 0.05
"""A frame is wrong if so much less of the boxes lie in their pictures than in another."""
REACHED, NOT_REACHED = 0.95, 0.85
"""Read in the right frame, boxes reach so far across pictures; in too large a frame no farther than the second."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a dataset's boxes show: the share that lies in the picture as declared, how far they reach to the right and down (the
    lesser, of 1), and the convention that explains them better, if one does."""

    boxes: int
    declared: Convention
    share: float
    reach: float
    likelier: Convention | None = None

    def __str__(self) -> str:
        seen = f"of {self.boxes} boxes read as {self.declared} {self.share:.0%} lie in their pictures, reaching {self.reach:.0%}"
        return f"{seen}; as {self.likelier} nearly all do" if self.likelier else seen


def judge(boxes: Sequence[Box], declared: Convention) -> Verdict | None:
    """Whether boxes of a dataset are written as declared; None where there are fewer than MIN_BOXES.

    Another convention is likelier if nearly all boxes lie in their pictures by it, and either clearly fewer do as declared, or
    as declared they stay away from the far edges, which by it they reach. Exchanged axes show in pixels alone.
    """
    usable = [box for box in boxes if _is_four_numbers(box.numbers) and (box.size or declared.unit != "pixels")]
    if len(usable) < MIN_BOXES:
        return None
    numbers = np.array([box.numbers for box in usable], dtype=np.float64)
    sizes = _sizes(usable)
    share, reach = _explained(numbers, sizes, declared)
    sized = all(box.size for box in usable)
    found: list[tuple[float, float, Convention]] = []
    for other in CONVENTIONS:
        if other != declared and (sized or other.unit != "pixels"):
            other_share, other_reach = _explained(numbers, sizes, other)
            nearer = other_reach >= REACHED and reach <= NOT_REACHED
            if other_share >= MOST and (other_share - share >= WORSE or nearer):
                found.append((other_share, other_reach, other))
    best = max(found, key=lambda one: one[:2])[2] if found else None
    return Verdict(len(usable), declared, share, reach, best)


def _is_four_numbers(written: Any) -> bool:
    """Others are refused one by one, when they are converted."""
    return isinstance(written, Sequence) and len(written) == 4 and all(isinstance(number, int | float) for number in written)


def _sizes(boxes: Sequence[Box]) -> np.ndarray:
    """(n, 2) float64; 1 for an unknown size, which no unit but pixels looks at."""
    return np.array([box.size or (1, 1) for box in boxes], dtype=np.float64)


def _fractions(numbers: np.ndarray, sizes: np.ndarray, convention: Convention) -> np.ndarray:
    """Boxes (n, 4) as rows left, top, right, bottom in fractions of the picture, and the slack along x and y: (6, n)."""
    if convention.layout == "yxyx":
        numbers = numbers[:, [1, 0, 3, 2]]
    elif convention.layout == "xywh":
        numbers = np.concatenate([numbers[:, :2], numbers[:, :2] + numbers[:, 2:]], axis=1)
    whole = sizes if convention.unit == "pixels" else np.full_like(sizes, FULL[convention.unit])
    return np.concatenate([numbers / np.tile(whole, 2), SLACK[convention.unit] / whole], axis=1).T


def _explained(numbers: np.ndarray, sizes: np.ndarray, convention: Convention) -> tuple[float, float]:
    """The share of boxes that lie in their pictures and have an area, and how far nearly all of those reach, of 1."""
    left, top, right, bottom, slack_x, slack_y = _fractions(numbers, sizes, convention)
    inside = (left >= -slack_x) & (top >= -slack_y) & (right <= 1 + slack_x) & (bottom <= 1 + slack_y)
    lies = inside & (right > left) & (bottom > top)
    if not lies.any():
        return 0.0, 0.0
    return float(lies.mean()), float(min(np.quantile(side[lies], 0.98) for side in (right, bottom)))
