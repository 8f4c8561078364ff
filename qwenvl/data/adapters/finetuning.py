"""The fine-tuning files of the published models: Qwen-VL's, whose text holds tags, and Qwen2.5-VL's, whose text holds JSON.

What they write for one model becomes pictures and places again, for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from qwenvl.data.adapters import conversations, samples
from qwenvl.data.adapters.conversations import media, name_of, turns
from qwenvl.data.adapters.frames import Box, Convention, to_region
from qwenvl.data.sources import BadSample, Record
from qwenvl.families.spec import Markup
from qwenvl.processing.grid import smart_size
from qwenvl.processing.image import picture_size
from qwenvl.processing.loose_json import Found, find_json
from qwenvl.processing.regions import text_to_parts
from qwenvl.types import CoordinatesPart, ImagePart, Message, Part, Region, RegionPart, Sample, TextPart

THOUSANDTHS = Convention("xyxy", "thousandths")
RESIZED = Convention("xyxy", "pixels")

IMAGE = re.compile(r"(?:Picture \d+: ?)?<img>(.*?)</img>\n?")
TAGS = re.compile(r"</?(?:ref|box|quad|img)>")
BOX = re.compile(r"<box>\((\d+),(\d+)\),\((\d+),(\d+)\)</box>")


def qwen_vl_boxes(record: Record) -> list[Box]:
    text = "".join(turn["value"] for turn in record["conversations"])
    return [Box([float(number) for number in found.groups()]) for found in BOX.finditer(text)]


def from_qwen_vl(record: Record, root: Path) -> list[Sample]:
    """The README's "Picture 1: <img>path</img>" with a newline is a picture, `<ref>` and `<box>` are places in the last one before.

    Tags that are not as the README writes them, places out of range or without area among them, are refused.
    """
    id, shown = name_of(record, "qwen_vl"), 0
    messages = []
    for role, text in turns(record, id):
        parts: list[Part] = []
        for number, piece in enumerate(IMAGE.split(text)):
            if number % 2:
                parts.append(ImagePart(media(record, root, piece, id)))
                shown += 1
            elif piece:
                parts += _tagged(piece, shown, id)
        messages.append(Message(role, tuple(parts)))
    return [samples.conversation(messages, id=id, source="qwen_vl", record=record.get("id"))]


def _tagged(text: str, shown: int, id: str) -> Iterator[Part]:
    for part in text_to_parts(text, Markup()):
        if isinstance(part, TextPart) and (left := TAGS.search(part.text)):
            raise BadSample(
                id, f"{part.text[left.start() :][:60]!r} is no place: tags unpaired, out of range, swapped or degenerate"
            )
        if isinstance(part, RegionPart) and part.regions:
            part = replace(part, regions=tuple(_placed(region, shown, id) for region in part.regions))
        yield part


def _placed(region: Region, shown: int, id: str) -> Region:
    """In the last picture so far. Raises BadSample without one, RegionError for a box that is too fine."""
    if not shown:
        raise BadSample(id, "a place before any picture")
    if region.kind == "box":
        to_region(Box([1000 * value for point in region.points for value in point]), THOUSANDTHS, id)
    return replace(region, image=shown - 1)


PLACE = re.compile(r'"(?P<key>bbox_2d|point_2d)"\s*:\s*\[(?P<numbers>[^\[\]]*)\]')
FENCE = re.compile(r"```\w*\s*$"), re.compile(r"\s*```")
PIXELS = (56 * 56, 28 * 28 * 1280)
"""Pixel bounds of the resized pictures that boxes are written for: convert_to_qwen25vl_format of
qwen-vl-finetune/tools/process_bbox.ipynb, QwenLM/Qwen3-VL (copy Firefly-llm/Qwen3-VL @ c8fd746)."""


def resized(path: str) -> tuple[int, int]:
    return smart_size(*picture_size(path), 28, *PIXELS)


def read_qwen2_5_vl(folder: Path) -> Iterator[Record]:
    """`folder` is kept, where `qwen2_5_vl_boxes` looks for the pictures."""
    yield from ({**row, "folder": str(folder)} for row in conversations.read_conversations(folder))


def qwen2_5_vl_boxes(record: Record) -> list[Box]:
    """Of conversations about one picture."""
    pictures = conversations.names(record, "image")
    if len(pictures) != 1:
        return []
    size = resized(media(record, Path(record["folder"]), pictures[0], ""))
    text = "".join(turn["value"] for turn in record["conversations"])
    found = (_numbers(place["numbers"], "") for place in PLACE.finditer(text))
    return [Box(numbers, size) for numbers in found if len(numbers) == 4]


def from_qwen2_5_vl(record: Record, root: Path) -> list[Sample]:
    """`<image>` and `<video>` are the record's files; "bbox_2d" and "point_2d" in JSON are places in the last picture before.

    A list of nothing but places and labels, alone or on lines after other words, becomes RegionParts, which every family writes in
    its way; in other JSON, and amid words, the numbers alone are replaced, by CoordinatesParts.
    """
    pictures = conversations.names(record, "image")

    def read(text: str, shown: int, id: str) -> Sequence[Part]:
        if not PLACE.search(text):
            return [TextPart(text)]
        if not shown:
            raise BadSample(id, "a place before any picture")
        path = media(record, root, pictures[shown - 1], id)
        return _Places(resized(path), shown - 1, id).parts(text)

    return [conversations.with_placeholders(record, root, "qwen2_5_vl", read)]


class _Places:
    """Reads JSON about one picture, `frame` being the size that it was resized to."""

    def __init__(self, frame: tuple[int, int], image: int, id: str) -> None:
        self.frame, self.image, self.id = frame, image, id

    def parts(self, text: str) -> list[Part]:
        for found in find_json(text):
            marked, start, end = self.marked(found), found.start, found.end
            opening, closing = FENCE[0].search(text[:start]), FENCE[1].match(text, end)
            if opening and closing:
                start, end = opening.start(), closing.end()
            words = text[:start]
            if marked and not text[end:].strip() and words[-1:] in ("", "\n") and not PLACE.search(words):
                return [*([TextPart(words)] if words.strip() else []), *marked]
        return self.plain(text)

    def marked(self, found: Found) -> list[RegionPart] | None:
        """The places of a list or an object, None where it holds anything but places with labels."""
        items = found.value if isinstance(found.value, list) else [found.value]
        marked = []
        for item in items:
            place = {key: item[key] for key in ("bbox_2d", "point_2d") if key in item} if isinstance(item, dict) else {}
            label = item.get("label") if place else None
            if len(place) != 1 or item.keys() - place.keys() - {"label"} or not isinstance(label, str | None):
                return None
            [(key, numbers)] = place.items()
            marked.append(RegionPart(label, (self.region(key, numbers),)))
        return marked or None

    def plain(self, text: str) -> list[Part]:
        """Text, with coordinates in place of the numbers of places. Raises BadSample for numbers that are none."""
        parts: list[Part] = []
        done = 0
        for place in PLACE.finditer(text):
            region = self.region(place["key"], _numbers(place["numbers"], self.id))
            parts += [TextPart(text[done : place.start("numbers")]), CoordinatesPart(region, ", ")]
            done = place.end("numbers")
        return [*parts, TextPart(text[done:])] if done < len(text) else parts

    def region(self, key: str, numbers: Sequence[float]) -> Region:
        """Raises BadSample or RegionError for what is no box or point of the picture."""
        if len(numbers) != (4 if key == "bbox_2d" else 2) or not all(isinstance(number, int | float) for number in numbers):
            raise BadSample(self.id, f"{key} {numbers!r:.60} is no {'box' if key == 'bbox_2d' else 'point'}")
        if key == "bbox_2d":
            return replace(to_region(Box(numbers, self.frame), RESIZED, self.id), image=self.image)
        fractions = tuple(float(value) / side for value, side in zip(numbers, self.frame, strict=True))
        return Region("point", ((fractions[0], fractions[1]),), image=self.image).check(self.id)


def _numbers(text: str, id: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise BadSample(id, f"[{text[:40]}] are no coordinates") from None


read_qwen_vl = conversations.read_conversations
