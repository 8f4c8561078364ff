"""Draw regions on a picture: outlines, and labels on a dark plate that can be read on any background.

No font is bundled. A font with Chinese glyphs is taken from the places where Debian's packages put them; without one,
Pillow's own font serves and characters that it lacks are written as "?".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from qwenvl.types import Point, Region

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

FONT_PATHS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",  # fonts-noto-cjk
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",  # fonts-wqy-microhei
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",  # fonts-wqy-zenhei
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",  # fonts-droid-fallback
    "/usr/share/fonts/truetype/arphic/uming.ttc",  # fonts-arphic-uming
    "/usr/share/fonts/truetype/arphic/ukai.ttc",  # fonts-arphic-ukai
)

# The colour-blind safe palette of Okabe and Ito (2008), without its black.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))
PLATE = (16, 16, 20)
LETTERS = (255, 255, 255)


def draw_regions(picture: Image, regions: Sequence[Region], enlarge_to: int = 0) -> Image:
    """A copy of `picture` (RGB) with every region's outline and label, one colour per label.

    Regions are clamped to the picture. Where its longer side is shorter than `enlarge_to` pixels, the picture is first
    enlarged by a whole factor, so that labels on a very small picture do not hide it.
    """
    from PIL import Image as Images
    from PIL import ImageDraw as Draws

    canvas = picture.convert("RGB")
    factor = max(enlarge_to // max(canvas.size), 1)
    if factor > 1:
        canvas = canvas.resize((canvas.width * factor, canvas.height * factor), Images.Resampling.NEAREST)
    elif canvas is picture:
        canvas = canvas.copy()
    scale = math.sqrt(canvas.width * canvas.height)
    line = max(round(scale / 200), 1)
    font = find_font(max(round(scale / 30), 12))
    draw = Draws.Draw(canvas)
    colours = _colours(regions)
    for region in regions:
        _outline(draw, region, region.pixels(canvas.width - 1, canvas.height - 1), colours[region.label], line)
    for region in regions:  # after all outlines, which would cross them
        if region.label:
            _label(draw, region, font, colours[region.label], line)
    return canvas


@lru_cache(maxsize=16)
def find_font(size: int) -> FreeTypeFont | ImageFont:
    """The first installed font with Chinese glyphs, else Pillow's own."""
    from PIL import ImageFont as Fonts

    for path in FONT_PATHS:
        if Path(path).is_file():
            return Fonts.truetype(path, size)
    return Fonts.load_default(size)


def printable(text: str, font: FreeTypeFont | ImageFont) -> str:
    """`text` on one line, with "?" for every character that the font has no glyph for."""
    missing = _shape(font, "\U0010ffff")

    def shown(character: str) -> str:
        if character.isspace():
            return " "
        try:
            return "?" if _shape(font, character) == missing else character
        except UnicodeError:  # Pillow's bitmap font, in a build without FreeType, is Latin-1 only
            return "?"

    return "".join(map(shown, text))


def _shape(font: FreeTypeFont | ImageFont, character: str) -> tuple[tuple[int, int], bytes] | None:
    try:
        mask = font.getmask(character)
    except UnicodeError:
        if character == "\U0010ffff":
            return None
        raise
    return mask.size, bytes(mask)


def _colours(regions: Sequence[Region]) -> dict[str | None, tuple[int, int, int]]:
    labels = dict.fromkeys(region.label for region in regions)
    return {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}


def _outline(draw: ImageDraw, region: Region, points: tuple[Point, ...], colour: tuple[int, int, int], line: int) -> None:
    """A coloured line on a wider dark one: seen on light and dark pictures alike."""
    if region.kind == "point":
        (x, y), radius = points[0], line * 3
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=PLATE, width=line)
        return
    if region.kind == "box":
        (left, top), (right, bottom) = points
        points = ((left, top), (right, top), (right, bottom), (left, bottom))
    closed = [*points, points[0], points[1]]  # past the first corner, so that it is joined like the others
    draw.line(closed, fill=PLATE, width=line + 2 * max(line // 2, 1), joint="curve")
    draw.line(closed, fill=colour, width=line, joint="curve")


def _label(draw: ImageDraw, region: Region, font: FreeTypeFont | ImageFont, colour: tuple[int, int, int], line: int) -> None:
    """The label above the region's top left corner; inside it where there is no room above."""
    width, height = draw.im.size
    points = region.pixels(width - 1, height - 1)
    text = printable(region.label or "", font)
    pad = line + 2
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    plate_width, plate_height = right - left + 2 * pad, bottom - top + 2 * pad
    corner_x, corner_y = min(x for x, _ in points), min(y for _, y in points)
    x = max(min(corner_x, width - plate_width), 0)
    above = corner_y - plate_height - line
    y = above if above >= 0 else max(min(corner_y + line, height - plate_height), 0)
    draw.rectangle((x, y, x + plate_width, y + plate_height), fill=PLATE, outline=colour, width=line)
    draw.text((x + pad - left, y + pad - top), text, fill=LETTERS, font=font)
