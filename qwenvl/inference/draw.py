"""Draw regions on a picture: outlines, and labels on a dark plate that can be read on any background.

No font is bundled. Pillow's own writes Latin letters; for the characters that it lacks, a font with Chinese glyphs is looked for
where Debian's packages put them. Some of those have no Latin letters, so each character takes the first font that has it. What no
font has is written as "?".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from qwenvl.types import Point, Region

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

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
    line = max(round(scale / 160), 1)
    fonts = find_fonts(max(round(scale / 30), 12))
    draw = Draws.Draw(canvas)
    colours = _colours(regions)
    for region in regions:
        _outline(draw, region, region.pixels(canvas.width - 1, canvas.height - 1), colours[region.label], line)
    for region in regions:  # after all outlines, which would cross them
        if region.label:
            _label(draw, region, fonts, colours[region.label], line)
    return canvas


@lru_cache(maxsize=16)
def find_fonts(size: int) -> tuple[FreeTypeFont, ...]:
    """Pillow's own font, and the first installed one with Chinese glyphs if there is any."""
    from PIL import ImageFont as Fonts

    installed = [path for path in FONT_PATHS if Path(path).is_file()]
    own = Fonts.load_default(size)
    return (cast("FreeTypeFont", own), *(Fonts.truetype(path, size) for path in installed[:1]))


def runs_of(text: str, fonts: Sequence[FreeTypeFont]) -> list[tuple[FreeTypeFont, str]]:
    """`text` on one line, cut into runs that one font can write; "?" for every character that none has."""
    runs: list[tuple[FreeTypeFont, str]] = []
    for character in text:
        character = " " if character.isspace() else character
        font = next((font for font in fonts if _has(font, character)), None)
        if font is None:
            font, character = fonts[0], "?"
        if runs and runs[-1][0] is font:
            runs[-1] = (font, runs[-1][1] + character)
        else:
            runs.append((font, character))
    return runs


def _has(font: FreeTypeFont, character: str) -> bool:
    """Whether the font draws something else than what it draws for a character that no font has."""
    if character == " ":
        return True
    own, missing = font.getmask(character), font.getmask("\U0010ffff")
    return (own.size, bytes(own)) != (missing.size, bytes(missing))


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
    corners = [(round(x), round(y)) for x, y in points]
    closed = [*corners, corners[0], corners[1]]  # past the first corner, so that it is joined like the others
    draw.line(closed, fill=PLATE, width=line + 2 * max(line // 2, 1), joint="curve")
    draw.line(closed, fill=colour, width=line, joint="curve")


def _label(
    draw: ImageDraw, region: Region, fonts: Sequence[FreeTypeFont], colour: tuple[int, int, int], line: int
) -> None:
    """The label above the region's top left corner; inside it where there is no room above."""
    width, height = draw.im.size
    points = region.pixels(width - 1, height - 1)
    runs = runs_of(region.label or "", fonts)
    ascent = max(font.getmetrics()[0] for font, _ in runs)
    descent = max(font.getmetrics()[1] for font, _ in runs)
    pad = line + 2
    plate_width = math.ceil(sum(font.getlength(text) for font, text in runs)) + 2 * pad
    plate_height = ascent + descent + 2 * line
    corner_x, corner_y = (round(min(values)) for values in zip(*points))
    x = max(min(corner_x, width - plate_width), 0)
    above = corner_y - plate_height - line
    y = above if above >= 0 else max(min(corner_y + line, height - plate_height), 0)
    draw.rectangle((x, y, x + plate_width, y + plate_height), fill=PLATE, outline=colour, width=line)
    left = float(x + pad)
    for font, text in runs:
        draw.text((left, y + line + ascent), text, fill=LETTERS, font=font, anchor="ls")
        left += font.getlength(text)
