"""From a Sample to a family's tokens and back: what is said and where, read from the supervised tokens of every answer."""

from __future__ import annotations

import re
from functools import cache

from qwenvl.data.places import for_markup
from qwenvl.processing.encode import Processor
from qwenvl.processing.grid import frame_size
from qwenvl.processing.regions import read_places, style_of
from qwenvl.types import IGNORE_INDEX, CoordinatesPart, Encoded, ImagePart, Message, Region, RegionPart, Sample
from tests.fast import test_native_rows

FAMILIES = ("qwen_vl", "qwen2_vl", "qwen2_5_vl")


@cache
def processor(family: str, context: int = 32768) -> Processor:
    """That of a small preset, with room for long samples."""
    ours = test_native_rows.processor(family)
    decoder = ours.config.decoder.model_copy(update={"max_position_embeddings": context})
    config = ours.config.model_copy(update={"decoder": decoder})
    return Processor(config, ours.spec, ours.tokenizer, ours.markup)


def check_round_trip(sample: Sample, family: str) -> Encoded:
    """Assert that every place of an answer, read back from its tokens, lies within a unit of the family's coordinates of where the
    Sample has it, in the frame of its own picture. Returns the encoded sample."""
    ours = processor(family)
    written = for_markup(sample, ours.markup)
    encoded = ours.encode(written, "chat")
    said = ours.tokenizer.decode(encoded.input_ids[encoded.labels != IGNORE_INDEX]).split("<|im_end|>")
    answers = [message for message in written.messages if message.role == "assistant"]
    assert len(said) == len(answers) + 1 and said[-1] == ""
    frames = [
        frame_size(grid, ours.config.vision.patch_size)
        for part, grid in zip(sample.visuals, encoded.grids.tolist(), strict=True)
        if isinstance(part, ImagePart)
    ]
    for answer, text in zip(answers, said, strict=False):
        _check_answer(answer, text, frames, ours)
    return encoded


def _check_answer(answer: Message, text: str, frames: list[tuple[int, int]], ours: Processor) -> None:
    marked = [region for part in answer.parts if isinstance(part, RegionPart) for region in part.regions]
    bare = [part.region for part in answer.parts if isinstance(part, CoordinatesPart)]
    pictures = {region.image for region in (*marked, *bare)}
    assert len(pictures) <= 1, "the places of one answer lie in one picture"
    if not pictures:
        return
    frame = frames[pictures.pop()]
    units = frame if style_of(ours.markup).in_pixels else (1000, 1000)
    if marked:
        found = list(read_places(text, ours.markup, frame=frame).regions)
        assert len(found) == len(marked), (text, marked)
        assert all(_near(one, other, units) for one, other in zip(found, marked, strict=True)), (text, marked)
    else:
        numbers = [int(number) for number in re.findall(r"\d+", " ".join(re.findall(r"\[[\d, ]+\]", text)))]
        expected = [value * unit for region in bare for point in region.points for value, unit in zip(point, units, strict=True)]
        assert all(abs(one - other) <= 1 for one, other in zip(numbers, expected, strict=True)), (text, expected)


def _near(found: Region, expected: Region, units: tuple[int, int]) -> bool:
    return found.kind == expected.kind and all(
        abs(a - b) * unit <= 1 + 1e-9
        for point, true in zip(found.points, expected.points, strict=True)
        for a, b, unit in zip(point, true, units, strict=True)
    )
