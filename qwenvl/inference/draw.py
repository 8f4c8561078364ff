"""Draw regions on a picture: outlines, and labels on a dark plate that can be read on any background.

No font is bundled. Pillow's own writes Latin letters; for the characters that it lacks, a font with Chinese glyphs is looked for
where Debian's packages put them. Some of those have no Latin letters, so each character takes the first font that has it. What no
font has is written as "?".
"""

from __future__ import annotations

import math
from bisect import bisect_right
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

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def draw_regions(picture: Image, regions: Sequence[Region], enlarge_to: int = 0) -> Image:
    """A copy of `picture` (RGB) with every region's outline and label, one colour per label.

    Regions are clamped to the picture. A picture whose longer side is well below `enlarge_to` pixels is first enlarged by a
    whole factor, so that labels do not hide it. Labels keep out of each other's way and inside the picture; one that is too
    long for it ends in "…".
    """
    from PIL import Image as Images
    from PIL import ImageDraw as Draws

    canvas = picture.convert("RGB")
    factor = max(round(enlarge_to / max(canvas.size)), 1)
    if factor > 1:
        canvas = canvas.resize((canvas.width * factor, canvas.height * factor), Images.Resampling.BICUBIC)
    elif canvas is picture:
        canvas = canvas.copy()
    scale = math.sqrt(canvas.width * canvas.height)
    line = max(round(scale / 160), 1)
    fonts = find_fonts(max(round(scale / 30), 12))
    draw = Draws.Draw(canvas)
    colours = _colours(regions)
    outlines = [region.pixels(canvas.width - 1, canvas.height - 1) for region in regions]
    for region, points in zip(regions, outlines):
        _outline(draw, region, points, colours[region.label], line)
    plates: list[Box] = []
    boxes = [_bounds(points) for points in outlines]
    for region, box in zip(regions, boxes):  # after all outlines, which would cross them
        if region.label:
            runs = fitting(region.label, fonts, canvas.width - 2 * _pad(line))
            plate = place_label(_plate_size(runs, line), box, canvas.size, boxes, plates, line)
            if plate is not None:
                _label(draw, runs, plate, colours[region.label], line)
                plates.append(plate)
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


@lru_cache(maxsize=8192)
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


def place_label(
    size: tuple[int, int], box: Box, canvas: tuple[int, int], boxes: Sequence[Box], plates: Sequence[Box], line: int
) -> Box | None:
    """Where a label of this (width, height) goes: above its box, else below, else in it, else beside it.

    Of the places inside the picture the one that hides least wins: first of other labels, then of any box. None where the
    label does not fit into the picture at all, which it would only hide.
    """
    (width, height), (left, top, right, bottom) = size, box
    if width > canvas[0] or height > canvas[1]:
        return None
    above, below = top - height - line, bottom + line + 1
    corners = (
        (left, above), (right - width, above), (left, below), (right - width, below),
        (left, top + line), (left, bottom - height - line), (right + line + 1, top), (left - width - line, top),
    )  # fmt: skip
    best: tuple[tuple[float, ...], Box] | None = None
    for rank, (x, y) in enumerate(corners):
        inside = (min(max(x, 0), canvas[0] - width), min(max(y, 0), canvas[1] - height))
        plate = (*inside, inside[0] + width, inside[1] + height)
        moved = abs(inside[1] - y)  # sideways a label may slide along its box; up or down it would leave its place
        hidden = sum(_shared(plate, other) for other in plates), sum(_shared(plate, other) for other in boxes) + moved * width
        cost = (*hidden, rank)
        if best is None or cost < best[0]:
            best = cost, plate
    return best[1] if best else None


def _shared(a: Box, b: Box) -> int:
    """Pixels that two boxes have in common."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _bounds(points: Sequence[Point]) -> Box:
    xs, ys = zip(*points)
    return round(min(xs)), round(min(ys)), round(max(xs)), round(max(ys))


def fitting(label: str, fonts: Sequence[FreeTypeFont], width: int) -> list[tuple[FreeTypeFont, str]]:
    """The label's runs, shortened from its end until they fit."""
    runs = runs_of(label, fonts)
    if length_of(runs) <= width or len(label) == 1:
        return runs
    kept = max(bisect_right(range(1, len(label)), width, key=lambda count: length_of(_cut(label, count, fonts))), 1)
    return _cut(label, kept, fonts)


def _cut(label: str, count: int, fonts: Sequence[FreeTypeFont]) -> list[tuple[FreeTypeFont, str]]:
    return runs_of(label[:count].rstrip() + "…", fonts)


def length_of(runs: Sequence[tuple[FreeTypeFont, str]]) -> int:
    """Pixels that the runs take side by side."""
    return math.ceil(sum(font.getlength(text) for font, text in runs))


def _pad(line: int) -> int:
    return line + 2


def _plate_size(runs: Sequence[tuple[FreeTypeFont, str]], line: int) -> tuple[int, int]:
    ascent, descent = (max(font.getmetrics()[index] for font, _ in runs) for index in (0, 1))
    return length_of(runs) + 2 * _pad(line), ascent + descent + 2 * line


def _label(
    draw: ImageDraw, runs: Sequence[tuple[FreeTypeFont, str]], plate: Box, colour: tuple[int, int, int], line: int
) -> None:
    """Letters on a dark plate with an edge in the region's colour."""
    draw.rectangle((plate[0], plate[1], plate[2] - 1, plate[3] - 1), fill=PLATE, outline=colour, width=line)
    baseline = plate[1] + line + max(font.getmetrics()[0] for font, _ in runs)
    write_runs(draw, runs, (plate[0] + _pad(line), baseline), LETTERS)


def write_runs(
    draw: ImageDraw, runs: Sequence[tuple[FreeTypeFont, str]], place: tuple[float, float], colour: tuple[int, int, int]
) -> None:
    """Write one line; `place` is the left end of its baseline."""
    left, baseline = place
    for font, text in runs:
        draw.text((left, baseline), text, fill=colour, font=font, anchor="ls")
        left += font.getlength(text)


def wrap(text: str, fonts: Sequence[FreeTypeFont], width: int, most: int) -> list[list[tuple[FreeTypeFont, str]]]:
    """`text` in at most so many lines of runs, none wider than `width`, broken at spaces, or anywhere in what has none. What is
    left over ends the last line with "…"."""
    rest = " ".join(text.split())
    lines: list[list[tuple[FreeTypeFont, str]]] = []
    while rest:
        if len(lines) == most - 1:
            return [*lines, fitting(rest, fonts, width)]
        end = bisect_right(range(1, len(rest) + 1), width, key=lambda count: length_of(runs_of(rest[:count], fonts))) or 1
        space = rest.rfind(" ", 0, end + 1) if end < len(rest) else -1
        end = space if space > 0 else end
        lines.append(runs_of(rest[:end], fonts))
        rest = rest[end:].lstrip()
    return lines
