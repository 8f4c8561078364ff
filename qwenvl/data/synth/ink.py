"""Ink: emoji, shapes and lettering as stamps with exact boxes, before they have a place in a scene.

Coordinates are pixels from the top left corner of the thing's own ink; right and bottom are exclusive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

from qwenvl.data.synth import fonts
from qwenvl.data.synth.names import EMOJI

Box = tuple[float, float, float, float]
Quad = tuple[tuple[float, float], ...]
Colour = tuple[int, int, int]

_OVERSAMPLING = 4


@dataclass(frozen=True, slots=True)
class Stamp:
    """A mask (L, drawn in the thing's colour) or a sprite (RGBA, its own colours) at a place of the ink."""

    image: Image.Image
    left: int
    top: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the image."""
        return (self.left, self.top, self.left + self.image.width, self.top + self.image.height)


@dataclass(frozen=True, slots=True)
class Ink:
    """A drawn thing: its size, stamps, quad (clockwise from the top left) and, for lettering, the box of each character."""

    width: int
    height: int
    stamps: tuple[Stamp, ...]
    quad: Quad
    glyphs: tuple[Box, ...] = ()

    def paint(self, picture: Image.Image, left: int, top: int, colour: Colour = (0, 0, 0)) -> None:
        """Draw on an RGB picture with the ink's top left corner at (left, top); `colour` is for masks."""
        for stamp in self.stamps:
            place = (left + stamp.left, top + stamp.top)
            if stamp.image.mode == "RGBA":
                picture.paste(stamp.image, place, stamp.image)
            else:
                picture.paste(colour, (*place, place[0] + stamp.image.width, place[1] + stamp.image.height), stamp.image)


def _upright(image: Image.Image) -> Ink:
    """Ink of one stamp, whose box is the whole image."""
    width, height = image.size
    return Ink(width, height, (Stamp(image, 0, 0),), ((0, 0), (width, 0), (width, height), (0, height)))


@lru_cache(maxsize=128)
def _emoji_sprite(name: str) -> Image.Image:
    sprite = Image.new("RGBA", (2 * fonts.EMOJI_SIZE, 2 * fonts.EMOJI_SIZE))
    drawn = fonts.font(fonts.EMOJI_FACE, fonts.EMOJI_SIZE)
    ImageDraw.Draw(sprite).text((20, 20), chr(EMOJI[name]), font=drawn, embedded_color=True)
    return sprite.crop(sprite.getchannel("A").getbbox())


@lru_cache(maxsize=8192)
def emoji(name: str, size: int) -> Ink:
    """An emoji whose longer side is about `size` pixels."""
    sprite = _emoji_sprite(name)
    scale = size / max(sprite.size)
    sprite = sprite.resize((max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale))), Image.Resampling.LANCZOS)
    alpha = fonts.clean(sprite.getchannel("A"))
    sprite.putalpha(alpha)
    return _upright(sprite.crop(alpha.getbbox()))


@lru_cache(maxsize=2048)
def shape(name: str, size: int) -> Ink:
    """A shape whose longer side is about `size` pixels, as a mask."""
    side = size * _OVERSAMPLING
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    if name == "circle":
        draw.ellipse((0, 0, side - 1, side - 1), fill=255)
    elif name == "square":
        draw.rectangle((0, 0, side - 1, side - 1), fill=255)
    else:
        draw.polygon([(x * side, y * side) for x, y in _CORNERS[name]], fill=255)
    mask = fonts.clean(mask.reduce(_OVERSAMPLING))
    return _upright(mask.crop(mask.getbbox()))


def _star_corners() -> list[tuple[float, float]]:
    """A five-pointed star that fills the unit square's width; inner points lie on the lines between outer ones."""
    ratio = math.sin(math.radians(18)) / math.sin(math.radians(54))
    radius = 0.5 / math.cos(math.radians(18))
    turns = [(math.radians(36 * k - 90), radius if k % 2 == 0 else radius * ratio) for k in range(10)]
    return [(0.5 + r * math.cos(t), radius + r * math.sin(t)) for t, r in turns]


_CORNERS = {"triangle": [(0.5, 0.0), (1.0, 0.9), (0.0, 0.9)], "star": _star_corners()}


def lettering(text: str, face: fonts.Face, size: int, degrees: float = 0.0) -> Ink:
    """A line of text at a font size in pixels, turned counter-clockwise by some degrees.

    Every character is a stamp of its own, so that its box is the box of its ink. The quad is the upright line's ink box,
    turned. Raises fonts.FontError if the face lacks a character.
    """
    pen = 0.0
    stamps = []
    for character in text:
        glyph = fonts.glyph(face, size, character)
        stamps.append(Stamp(glyph.mask, round(pen) + glyph.left, glyph.top))
        pen += glyph.advance
    left, top, right, bottom = _bounds(stamps)
    quad: Quad = ((left, top), (right, top), (right, bottom), (left, bottom))
    if degrees:
        centre = ((left + right) / 2, (top + bottom) / 2)
        stamps = [_turned(stamp, degrees, centre) for stamp in stamps]
        quad = tuple(_turn(point, degrees, centre) for point in quad)
        left, top, right, bottom = _bounds(stamps)
    moved = tuple(Stamp(stamp.image, stamp.left - left, stamp.top - top) for stamp in stamps)
    glyphs = tuple(stamp.box for stamp in moved)
    return Ink(right - left, bottom - top, moved, tuple((x - left, y - top) for x, y in quad), glyphs)


def _bounds(stamps: list[Stamp]) -> tuple[int, int, int, int]:
    return (
        min(stamp.left for stamp in stamps),
        min(stamp.top for stamp in stamps),
        max(stamp.left + stamp.image.width for stamp in stamps),
        max(stamp.top + stamp.image.height for stamp in stamps),
    )


def _turn(point: tuple[float, float], degrees: float, centre: tuple[float, float]) -> tuple[float, float]:
    """Turn a point counter-clockwise as seen (y grows downwards)."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = point[0] - centre[0], point[1] - centre[1]
    return (centre[0] + cosine * x + sine * y, centre[1] - sine * x + cosine * y)


def _turned(stamp: Stamp, degrees: float, centre: tuple[float, float]) -> Stamp:
    """A stamp turned about a point, resampled and cropped to its ink again."""
    width, height = stamp.image.size
    corners = [(stamp.left + x, stamp.top + y) for x in (0, width) for y in (0, height)]
    turned = [_turn(corner, degrees, centre) for corner in corners]
    left, top = (math.floor(min(point[axis] for point in turned)) - 1 for axis in (0, 1))
    right, bottom = (math.ceil(max(point[axis] for point in turned)) + 1 for axis in (0, 1))
    # Pillow asks where each output pixel comes from: the inverse turn, from the output frame into the stamp's own.
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    origin = _turn((left, top), -degrees, centre)
    inverse = (cosine, -sine, origin[0] - stamp.left, sine, cosine, origin[1] - stamp.top)
    size = (right - left, bottom - top)
    mask = fonts.clean(stamp.image.transform(size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR))
    box = mask.getbbox() or (0, 0, 1, 1)
    return Stamp(mask.crop(box), left + box[0], top + box[1])
