"""An action drawn on its screen: a ring around the place, an arrow from place to place."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from PIL import ImageDraw

from qwenvl.agent.actions import Action, points_of

if TYPE_CHECKING:
    from PIL.Image import Image

INK, EDGE = (213, 94, 0), (255, 255, 255)
"""Vermilion of the colour-blind safe palette (`inference/draw.py`), with a light edge that shows on dark screens."""


def draw_action(screen: Image, action: Action | None) -> Image:
    """A copy of the screen with the places of the action."""
    picture = screen.copy()
    draw = ImageDraw.Draw(picture)
    size = max(math.sqrt(picture.width * picture.height) / 1000, 0.6)
    points = [(x * picture.width, y * picture.height) for x, y in points_of(action)]
    for (ax, ay), (bx, by) in pairwise(points):
        _arrow(draw, (ax, ay), (bx, by), size)
    for x, y in points[:1]:
        _ring(draw, x, y, size)
    return picture


def _ring(draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    """The place itself stays to be seen."""
    for radius, width, colour in ((20, 8, EDGE), (18, 4, INK)):
        reach = radius * size
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=colour, width=max(round(width * size), 1))
    for radius, colour in ((5, EDGE), (3, INK)):
        draw.ellipse((x - radius * size, y - radius * size, x + radius * size, y + radius * size), fill=colour)


def _arrow(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], size: float) -> None:
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    for width, colour in ((8, EDGE), (4, INK)):
        draw.line((*start, *end), colour, max(round(width * size), 1))
        head = (16 + width / 2) * size
        wings = [(end[0] - head * math.cos(angle + turn), end[1] - head * math.sin(angle + turn)) for turn in (0.5, -0.5)]
        tip = (end[0] + width / 2 * size * math.cos(angle), end[1] + width / 2 * size * math.sin(angle))
        draw.polygon([tip, *wings], colour)
