"""What a family's markup makes of a Sample's places, before they are written.

Samples are made for tags, the richer markup: phrases are marked where they stand in a sentence, and lettering has quads. JSON is a
list of boxes and points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from qwenvl.families.spec import Markup
from qwenvl.processing.regions import style_of
from qwenvl.types import Message, Part, Region, RegionPart, Sample, TextPart


def has_points(markup: Markup) -> bool:
    """Whether the markup can write a point."""
    return "point" in style_of(markup).kinds


def has_quads(markup: Markup) -> bool:
    return "quad" in style_of(markup).kinds


def for_markup(sample: Sample, markup: Markup) -> Sample:
    """The sample as it can be written: without quads, they become the upright boxes around them; where places are a list, an answer
    that marks phrases of a sentence becomes the sentence and, on a new line, the list. With tags it is the very same sample."""
    messages = sample.messages
    if not has_quads(markup):
        messages = tuple(Message(message.role, tuple(map(_without_quads, message.parts))) for message in messages)
    if not style_of(markup).inline:
        messages = tuple(map(_listed, messages))
    return sample if messages is sample.messages else replace(sample, messages=messages)


def upright(region: Region) -> Region:
    """The upright box around a quad; any other region as it is."""
    if region.kind != "quad":
        return region
    across, down = zip(*region.points, strict=True)
    return Region.box(min(across), min(down), max(across), max(down), region.label, region.image)


def markup_record(markup: Markup) -> dict[str, Any]:
    """The markup as plain data, for hashes and files. A style of tags, once the only one there was, is left out: what was written
    down before there were two stays equal."""
    record = asdict(markup)
    if record["style"] == "tags":
        del record["style"]
    return record


def _listed(message: Message) -> Message:
    parts = message.parts
    words = "".join(part.text for part in parts if isinstance(part, TextPart))
    marked = [part for part in parts if isinstance(part, RegionPart) and part.regions]
    if message.role != "assistant" or not words.strip() or not marked:
        return message
    if words.endswith("\n") and parts[-len(marked) :] == tuple(marked):  # a list already
        return message
    if marked[0] is parts[0]:  # its capital belongs to the sentence, not to the name
        phrase = marked[0].phrase or ""
        marked[0] = replace(marked[0], phrase=phrase[:1].lower() + phrase[1:])
    return Message(message.role, (TextPart(_spoken(parts) + "\n"), *marked))


def _without_quads(part: Part) -> Part:
    return replace(part, regions=tuple(map(upright, part.regions))) if isinstance(part, RegionPart) else part


def _spoken(parts: Sequence[Part]) -> str:
    """The sentence: text as it stands, phrases without their places."""
    said = ""
    for part in parts:
        said += part.text if isinstance(part, TextPart) else (part.phrase or "") if isinstance(part, RegionPart) else ""
    return said
