"""A picture being drawn, that knows where its ink is: everything drawn returns the box of its visible pixels.

What is slanted or round is drawn four times larger as a mask and reduced, so that edges are smooth; the faint rim that does not
count as ink (`fonts.INK`) is not drawn at all. Boxes are pixels; right and bottom are exclusive.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw

from qwenvl.data.synth import fonts
from qwenvl.data.synth.figures.lettering import Type, text_mask

Box = tuple[int, int, int, int]
Point = tuple[float, float]
Colour = tuple[int, int, int]
Align = Literal["left", "centre", "right"]
Level = Literal["top", "middle", "baseline", "bottom"]

OVERSAMPLING = 4


@dataclass(slots=True)
class Canvas:
    """An RGB picture and the pen on it."""

    image: Image.Image
    draw: ImageDraw.ImageDraw

    @classmethod
    def blank(cls, width: int, height: int, colour: Colour = (255, 255, 255)) -> Canvas:
        image = Image.new("RGB", (width, height), colour)
        return cls(image, ImageDraw.Draw(image))

    def text(
        self, x: float, y: float, text: str, kind: Type, colour: Colour, align: Align = "left", level: Level = "top", turn: int = 0
    ) -> Box:
        """Write a line, turned counter-clockwise by `turn` degrees. (x, y) is where its edge of that name lies; "top" and "bottom"
        are those of the line, not of its ink. Turned text is placed by its ink. Returns the ink's box."""
        mask, left, top = text_mask(text, kind)
        if turn:
            mask = _turned(mask, turn)
            left_most = {"left": x, "centre": x - mask.width / 2, "right": x - mask.width}[align]
            top_most = {"top": y, "middle": y - mask.height / 2, "baseline": y - mask.height, "bottom": y - mask.height}[level]
            return self.stamp(mask, round(left_most), round(top_most), colour)
        start = x - {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * kind.width(text)
        if level == "middle":
            baseline = y + kind.middle
        else:
            baseline = y + {"top": kind.ascent, "baseline": 0.0, "bottom": -kind.descent}[level]
        return self.stamp(mask, round(start) + left, round(baseline) + top, colour)

    def stamp(self, mask: Image.Image, left: int, top: int, colour: Colour) -> Box:
        """Paint a colour through a mask (L). Returns the box of the mask's ink."""
        self.image.paste(colour, (left, top, left + mask.width, top + mask.height), mask)
        ink = mask.getbbox() or (0, 0, 1, 1)
        return (left + ink[0], top + ink[1], left + ink[2], top + ink[3])

    def paste(self, picture: Image.Image, left: int, top: int) -> Box:
        """Put another picture on this one."""
        self.image.paste(picture, (left, top))
        return (left, top, left + picture.width, top + picture.height)

    def rectangle(
        self,
        box: tuple[float, float, float, float],
        fill: Colour | None,
        outline: Colour | None = None,
        width: int = 1,
        radius: int = 0,
    ) -> Box:
        """An upright rectangle on whole pixels, its outline inside the box; with a radius its corners are round."""
        left, top, right, bottom = whole = (round(box[0]), round(box[1]), round(box[2]), round(box[3]))
        if radius:
            if outline is not None:
                self._rounded(whole, outline, radius)
                whole = (left + width, top + width, right - width, bottom - width)
                radius = max(radius - width, 1)
                fill = fill if fill is not None else (255, 255, 255)
            if fill is not None:
                self._rounded(whole, fill, radius)
        else:
            self.draw.rectangle((left, top, right - 1, bottom - 1), fill, outline, width if outline is not None else 0)
        return (left, top, right, bottom)

    def _rounded(self, box: Box, colour: Colour, radius: int) -> None:
        size = (box[2] - box[0], box[3] - box[1])
        self.image.paste(colour, box, _rounded_mask(size, min(radius, size[0] // 2, size[1] // 2)))

    def rule(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, width: int = 1, dash: int = 0) -> Box:
        """An upright or level line on whole pixels, in dashes of that length if given."""
        left, right, top, bottom = round(min(x0, x1)), round(max(x0, x1)), round(min(y0, y1)), round(max(y0, y1))
        level = right - left >= bottom - top
        box = (left, top, max(right, left + 1), top + width) if level else (left, top, left + width, max(bottom, top + 1))
        step = 2 * dash or max(box[2] - box[0], box[3] - box[1])
        for start in range(box[0] if level else box[1], box[2] if level else box[3], step):
            end = min(start + (dash or step), box[2] if level else box[3])
            piece = (start, box[1], end - 1, box[3] - 1) if level else (box[0], start, box[2] - 1, end - 1)
            self.draw.rectangle(piece, colour)
        return box

    def polygon(self, points: Sequence[Point], colour: Colour, opacity: float = 1.0) -> Box:
        return self._smooth(points, 1, colour, lambda pen, moved: pen.polygon(moved, fill=255), opacity)

    def line(self, points: Sequence[Point], colour: Colour, width: float = 2.0, dash: float = 0.0) -> Box:
        """A line through points, with round joints."""
        thick = max(round(width * OVERSAMPLING), 1)
        pieces = dashes(points, dash) if dash else [list(points)]

        def paint(pen: ImageDraw.ImageDraw, moved: list[Point]) -> None:
            left, top = points[0][0] - moved[0][0] / OVERSAMPLING, points[0][1] - moved[0][1] / OVERSAMPLING
            for piece in pieces:
                pen.line([((x - left) * OVERSAMPLING, (y - top) * OVERSAMPLING) for x, y in piece], 255, thick, "curve")

        return self._smooth(points, width, colour, paint)

    def ellipse(
        self, box: tuple[float, float, float, float], fill: Colour | None, outline: Colour | None = None, width: float = 1.0
    ) -> Box:
        """A filled ellipse, a ring, or a filled one with a rim. Returns the box of all of it."""
        corners, drawn = [(box[0], box[1]), (box[2], box[3])], (0, 0, 0, 0)
        if fill is not None:
            drawn = self._smooth(corners, 0, fill, lambda pen, moved: pen.ellipse([*moved[0], *moved[1]], fill=255))
        if outline is not None:
            thick = max(round(width * OVERSAMPLING), 1)
            drawn = self._smooth(
                corners, 0, outline, lambda pen, moved: pen.ellipse([*moved[0], *moved[1]], outline=255, width=thick)
            )
        return drawn

    def _smooth(
        self,
        points: Sequence[Point],
        margin: float,
        colour: Colour,
        paint: Callable[[ImageDraw.ImageDraw, list[Point]], None],
        opacity: float = 1.0,
    ) -> Box:
        """Paint a shape that lies within `margin` of the box of `points`, enlarged, through a mask."""
        pad = math.ceil(margin) + 1
        left, top = (math.floor(min(point[axis] for point in points)) - pad for axis in (0, 1))
        right, bottom = (math.ceil(max(point[axis] for point in points)) + pad for axis in (0, 1))
        mask = Image.new("L", ((right - left) * OVERSAMPLING, (bottom - top) * OVERSAMPLING))
        paint(ImageDraw.Draw(mask), [((x - left) * OVERSAMPLING, (y - top) * OVERSAMPLING) for x, y in points])
        mask = fonts.clean(mask.reduce(OVERSAMPLING))
        if opacity < 1:
            mask = mask.point([round(value * opacity) for value in range(256)])
        return self.stamp(mask, left, top, colour)


def dashes(points: Sequence[Point], length: float) -> list[list[Point]]:
    """A line through points, cut into dashes with gaps of the same length."""
    pieces: list[list[Point]] = []
    travelled = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        span = math.hypot(x1 - x0, y1 - y0)
        first = math.floor(travelled / (2 * length))
        for number in range(first, math.ceil((travelled + span) / (2 * length))):
            begin = max(2 * length * number - travelled, 0.0)
            end = min(2 * length * number + length - travelled, span)
            if begin < end:
                pieces.append([(x0 + (x1 - x0) * at / span, y0 + (y1 - y0) * at / span) for at in (begin, end)])
        travelled += span
    return pieces


def union(*boxes: Box) -> Box:
    """The box around boxes."""
    return (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))


@lru_cache(maxsize=256)
def _rounded_mask(size: tuple[int, int], radius: int) -> Image.Image:
    mask = Image.new("L", size, 255)
    side = 2 * radius * OVERSAMPLING
    disc = Image.new("L", (side, side))
    ImageDraw.Draw(disc).ellipse((0, 0, side - 1, side - 1), fill=255)
    disc = fonts.clean(disc.reduce(OVERSAMPLING))
    for x in (0, 1):
        for y in (0, 1):
            corner = disc.crop((x * radius, y * radius, (x + 1) * radius, (y + 1) * radius))
            mask.paste(corner, (x * (size[0] - radius), y * (size[1] - radius)))
    return mask


def _turned(mask: Image.Image, degrees: int) -> Image.Image:
    if degrees == 90:
        return mask.transpose(Image.Transpose.ROTATE_90)
    turned = fonts.clean(mask.rotate(degrees, Image.Resampling.BICUBIC, expand=True))
    return turned.crop(turned.getbbox())
