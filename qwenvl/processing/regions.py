"""Regions and their markup: written for the model, read back from whatever the model writes.

In tags, coordinates are integers in [0, scale) of the picture's width and height (scale 1000 in the published models); in JSON
pixels of the resized picture. A Region holds them in [0, 1]. This is the one place that chooses between the styles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby

from qwenvl.families.spec import Markup
from qwenvl.processing.json_list import JsonList
from qwenvl.processing.markup_style import Frame, MarkupStyle, Piece, Reading, markup_text
from qwenvl.processing.tags import Tags
from qwenvl.types import CoordinatesPart, Part, Region, RegionPart, TextPart

STYLES: dict[str, type[MarkupStyle]] = {"tags": Tags, "json": JsonList}


@lru_cache
def style_of(markup: Markup) -> MarkupStyle:
    """What writes and reads places as a family's markup says."""
    return STYLES[markup.style](markup)


def write_parts(
    parts: Sequence[RegionPart], markup: Markup, frames: Mapping[int, Frame] | None = None, where: str = "sample"
) -> list[Piece]:
    """The pieces of phrases and places that follow each other: tags one after the other, in JSON one list.

    `frames` by Region.image, which markup in pixels needs: (width, height) of the resized pictures.
    Raises RegionError naming `where` for a region that cannot be taught.
    """
    return style_of(markup).write(parts, frames or {}, where)


def write_coordinates(
    part: CoordinatesPart, markup: Markup, frames: Mapping[int, Frame] | None = None, where: str = "sample"
) -> str:
    """The numbers of a place without any markup: integers of the scale of tags, or pixels of the frame. Raises RegionError."""
    return part.separator.join(style_of(markup).numbers(part.region, frames or {}, where))


def parts_text(parts: Sequence[Part], markup: Markup, frames: Mapping[int, Frame] | None = None, picture: str = "") -> str:
    """Parts as text: phrases and places as `write_parts` writes them, `picture` in place of every picture and video."""
    written = ""
    for kind, group in groupby(parts, type):
        if kind is RegionPart:
            marked = [part for part in group if isinstance(part, RegionPart)]
            written += markup_text(write_parts(marked, markup, frames))
        elif kind is CoordinatesPart:
            written += "".join(write_coordinates(part, markup, frames) for part in group if isinstance(part, CoordinatesPart))
        else:
            written += "".join(part.text if isinstance(part, TextPart) else picture for part in group)
    return written


def read_regions(
    text: str, markup: Markup | None = None, scale: float | None = None, image: int = 0, frame: Frame | None = None
) -> list[Region]:
    """The places named in a model's text, in order: those of `read_places`."""
    return list(read_places(text, markup, scale, image, frame).regions)


def read_places(
    text: str, markup: Markup | None = None, scale: float | None = None, image: int = 0, frame: Frame | None = None
) -> Reading:
    """The places named in a model's text, in order, and how many of their numbers had to be clamped to the picture.

    Closing tags may be missing; brackets, commas and spaces may be misplaced; corners may be swapped; values beyond the frame
    are clamped. What has too few numbers or no area is dropped. Any text is read without an error.
    Tags: a phrase labels every place up to the next phrase; `scale` is what a coordinate is divided by: the markup's 1000, or 999
    where the published grounding evaluation is reproduced (eval_mm of QwenLM/Qwen-VL @ aa00ed0).
    JSON: `frame` is the (width, height) in pixels of the resized picture, which coordinates are divided by; without a frame there
    is no picture, and no place. XML points and HTML are read too (`json_regions`).
    """
    return style_of(markup or Markup()).read(text, scale, image, frame)


def text_to_parts(text: str, markup: Markup | None = None) -> tuple[Part, ...]:
    """Split a model's answer, fed back as history, into text and regions, so that it is rendered with special tokens again.

    Only markup exactly as `write_parts` writes it becomes a RegionPart; anything else stays text, and so does JSON.
    """
    return style_of(markup or Markup()).split(text)


def strip_markup(text: str, markup: Markup | None = None) -> str:
    """The text without places: of a list in JSON its labels remain, of a phrase in tags the phrase."""
    return style_of(markup or Markup()).strip(text)
