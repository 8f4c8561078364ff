"""The fixtures of data adapters: tiny files in each true schema, of invented content, by the adapter's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from qwenvl.data.adapters.registry import ADAPTERS
from qwenvl.families.spec import Markup
from qwenvl.processing.regions import parts_text
from qwenvl.types import CoordinatesPart, Message, Part, Region, Sample, TextPart

FIXTURES = Path(__file__).resolve().parent / "fixtures/adapters"


def folder_of(name: str) -> Path:
    """Where a user would have unpacked it; the pictures of RefCOCO, and the SOURCE.txt of texts, lie beside its folder."""
    inner = FIXTURES / name / name
    return inner if inner.is_dir() else FIXTURES / name


def samples_of(name: str) -> list[Sample]:
    adapter, folder = ADAPTERS[name], folder_of(name)
    return [sample for number, record in enumerate(adapter.read(folder)) for sample in adapter.samples(record, folder, number)]


def exchanged(sample: Sample) -> str:
    """Questions and answers as the published Qwen-VL writes them, parted by "|"; the system turn is left out."""
    return "|".join(parts_text(message.parts, Markup()) for message in sample.messages if message.role != "system")


def check_text(messages: Sequence[Message], text: str, units: tuple[int, int]) -> None:
    """The words stand in the text in order, and between them the numbers of every CoordinatesPart, within one unit."""
    numbers: list[float] = []

    def pattern(part: Part) -> str:
        if isinstance(part, TextPart):
            return re.escape(part.text)
        if not isinstance(part, CoordinatesPart):
            return ".*"
        expected = [value * unit for point in part.region.points for value, unit in zip(point, units, strict=True)]
        numbers.extend(expected)
        return re.escape(part.separator).join([r"(\d+)"] * len(expected))

    patterns = ["".join(map(pattern, message.parts)) for message in messages]
    spoken = re.search(".*".join(patterns), text, re.DOTALL)
    assert spoken is not None, (patterns, text)
    assert all(abs(int(one) - other) <= 1 for one, other in zip(spoken.groups(), numbers, strict=True))


def check_near(found: Sequence[Region], expected: Sequence[Region], units: tuple[int, int]) -> None:
    assert [region.kind for region in found] == [region.kind for region in expected]
    for one, other in zip(found, expected, strict=True):
        for point, true in zip(one.points, other.points, strict=True):
            assert all(abs(a - b) * unit <= 1 + 1e-9 for a, b, unit in zip(point, true, units, strict=True))
