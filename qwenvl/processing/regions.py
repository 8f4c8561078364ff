"""Regions and their markup: written for the model, read back from whatever the model writes.

In tags, coordinates are integers in [0, scale) of the picture's width and height (scale 1000 in the published models); in JSON
(`json_regions`) pixels of the resized picture. A Region holds them in [0, 1].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwenvl.families.spec import Markup
from qwenvl.processing.json_regions import Frame, Kind, Written, find_places, strip_places, write_places
from qwenvl.types import Part, Point, Region, RegionError, RegionPart, TextPart


@dataclass(frozen=True, slots=True)
class Special:
    """A special token in a rendered text, by name; plain text beside it is str."""

    name: str


Piece = str | Special

NUMBER = r"-?\d+(?:\.\d+)?"
# Between two coordinates models write commas (also full-width), spaces and brackets, in any order.
GAP = r"[\s,;()\[\]，；（）]+"
LEAD = r"[\s(\[（]*"
COORDINATES = {
    "box": re.compile(LEAD + GAP.join([NUMBER] * 4)),
    "quad": re.compile(LEAD + GAP.join([NUMBER] * 8)),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The places of a text, and how many of the numbers they were written with lay outside of the picture."""

    regions: tuple[Region, ...]
    clamped: int = 0


def write_regions(part: RegionPart, markup: Markup, where: str = "sample", frame: Frame | None = None) -> list[Piece]:
    """The pieces of a phrase and its places.

    Tags, as in the paper's Box B: `<ref>phrase</ref><box>(x1,y1),(x2,y2)</box>...`; a quad's points are joined by
    `markup.quad_separator`. JSON: a fenced list in pixels of `frame`, the (width, height) of the resized picture; a phrase without
    places is plain text.
    Raises RegionError naming `where` for a region that cannot be taught.
    """
    if markup.style == "json":
        frames = {} if frame is None else {region.image: frame for region in part.regions}
        return [write_places([part], frames, where) if part.regions else part.phrase or ""]
    pieces: list[Piece] = []
    if part.phrase is not None:
        pieces += [Special(markup.ref[0]), part.phrase, Special(markup.ref[1])]
    for region in part.regions:
        opening, closing, separator = _form(region, markup, where)
        points = (f"({_integer(x, markup)},{_integer(y, markup)})" for x, y in region.check(where).points)
        pieces += [Special(opening), separator.join(points), Special(closing)]
    return pieces


def markup_text(pieces: Sequence[Piece]) -> str:
    """Pieces as the text that a tokenizer's `decode` would give."""
    return "".join(piece.name if isinstance(piece, Special) else piece for piece in pieces)


def write_parts(parts: Sequence[RegionPart], markup: Markup, frames: Mapping[int, Frame], where: str = "sample") -> list[Piece]:
    """Phrases and places that follow each other: tags one after the other, in JSON one list. `frames` by Region.image."""
    if markup.style == "json" and all(part.regions for part in parts):
        return [write_places(parts, frames, where)]
    pieces: list[Piece] = []
    for part in parts:
        pieces += write_regions(part, markup, where, frames.get(part.regions[0].image) if part.regions else None)
    return pieces


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
    markup = markup or Markup()
    if markup.style == "json":
        sides: tuple[float, float] = frame or (1, 1)
        places = find_places(text) if frame else []
    else:
        sides = (scale or markup.scale,) * 2
        places = _tagged_places(text, markup)
    regions: list[Region] = []
    clamped = 0
    for place in places:
        values = [value / sides[index % 2] for index, value in enumerate(place.numbers)]
        clamped += sum(not 0.0 <= value <= 1.0 for value in values)
        values = [min(max(value, 0.0), 1.0) for value in values]
        region = _region(place.kind, list(zip(values[::2], values[1::2], strict=True)), place.label, image)
        regions += [region] if region else []
    return Reading(tuple(regions), clamped)


def text_to_parts(text: str, markup: Markup | None = None) -> tuple[Part, ...]:
    """Split a model's answer, fed back as history, into text and regions, so that it is rendered with special tokens again.

    Only markup exactly as `write_regions` writes it becomes a RegionPart; anything else stays text.
    """
    markup = markup or Markup()
    if markup.style == "json":  # plain text, which is tokenised as it was
        return (TextPart(text),) if text else ()
    ref, box, quad = (tuple(map(re.escape, tags)) for tags in (markup.ref, markup.box, markup.quad))
    place = rf"(?:{box[0]}[\d(), ]*{box[1]}|{quad[0]}[\d(), ]*{quad[1]})"
    parts: list[Part] = []
    done = 0
    for found in re.finditer(rf"{ref[0]}(?P<phrase>[^<>]*){ref[1]}{place}*|{place}+", text):
        regions = tuple(Region(region.kind, region.points) for region in read_regions(found.group(), markup))
        part = RegionPart(found["phrase"], regions)
        try:
            written = markup_text(write_regions(part, markup))
        except RegionError:
            continue
        if written == found.group():
            parts += [TextPart(text[done : found.start()])] if found.start() > done else []
            parts.append(part)
            done = found.end()
    if done < len(text):
        parts.append(TextPart(text[done:]))
    return tuple(parts)


def strip_markup(text: str, markup: Markup | None = None) -> str:
    """The text without places: a phrase loses its tags and what follows them (the rule of the published TUTORIAL.md).

    In JSON the labels remain of a list of places.
    """
    markup = markup or Markup()
    if markup.style == "json":
        return strip_places(text)
    ref, box, quad = (tuple(map(re.escape, tags)) for tags in (markup.ref, markup.box, markup.quad))
    return re.sub(rf"{ref[0]}(.*?){ref[1]}(?:{box[0]}.*?{box[1]})*(?:{quad[0]}.*?{quad[1]})*", r"\1", text)


def _tagged_places(text: str, markup: Markup) -> list[Written]:
    kinds: dict[str, Kind] = {markup.box[0]: "box", markup.quad[0]: "quad"}
    label: str | None = None
    places: list[Written] = []
    for tag, content in _tagged(text, markup):
        if tag == markup.ref[0]:
            label = content.removeprefix(" ") or None
        elif tag in kinds and (found := COORDINATES[kinds[tag]].match(content)):
            numbers = tuple(float(value) for value in re.findall(NUMBER, found.group()))
            places.append(Written(kinds[tag], numbers, label))
    return places


def _tagged(text: str, markup: Markup) -> list[tuple[str, str]]:
    """Every tag with the text up to the next tag."""
    tags = [re.escape(tag) for pair in (markup.ref, markup.box, markup.quad) for tag in pair]
    pieces = re.split(f"({'|'.join(tags)})", text)
    return list(zip(pieces[1::2], pieces[2::2], strict=True))


def _region(kind: str, points: list[Point], label: str | None, image: int) -> Region | None:
    if kind == "point":
        return Region("point", tuple(points), label, image)
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    if left >= right or top >= bottom:
        return None
    return Region.box(left, top, right, bottom, label, image) if kind == "box" else Region("quad", tuple(points), label, image)


def _form(region: Region, markup: Markup, where: str) -> tuple[str, str, str]:
    """Opening tag, closing tag and what joins the points."""
    if region.kind == "box":
        return (*markup.box, ",")
    if region.kind == "quad":
        return (*markup.quad, markup.quad_separator)
    raise RegionError(f"{where}: this model's markup has no {region.kind}; use a box or a quad")


def _integer(value: float, markup: Markup) -> str:
    """min(scale - 1, round(scale * value)), padded with zeros to the markup's digits."""
    return f"{min(markup.scale - 1, round(markup.scale * value)):0{markup.digits}d}"
