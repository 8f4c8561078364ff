"""Calls with places: written as any call, in the frame of each picture; the phone's tool is the published one to the letter."""

from __future__ import annotations

import hashlib

import pytest

from qwenvl.families import find_preset
from qwenvl.families.spec import Markup
from qwenvl.processing.actions import MOBILE_USE, PHONE, call_parts, json_parts, phone_system
from qwenvl.processing.regions import parts_text
from qwenvl.processing.tools import ToolCall, read_calls, write_call
from qwenvl.types import CoordinatesPart, Region

PIXELS = find_preset("qwen2.5-vl-nano").markup


def point(x: float, y: float, image: int = 0) -> Region:
    return Region("point", ((x, y),), image=image)


@pytest.mark.parametrize(
    ("places", "numbers"),
    [
        ({}, {}),
        ({"coordinate": point(0.25, 0.5)}, {"coordinate": [16, 24]}),
        ({"coordinate": point(0, 0), "coordinate2": point(1, 1)}, {"coordinate": [0, 0], "coordinate2": [64, 48]}),
        ({"box": Region.box(0.25, 0.25, 0.5, 0.75)}, {"box": [16, 12, 32, 36]}),
    ],
)
def test_a_call_with_places_is_written_as_any_call(places: dict[str, Region], numbers: dict[str, list[int]]) -> None:
    words = {"action": "swipe", "text": 'say "茶"', "time": 1}
    made, plain = ToolCall("use", words | places), ToolCall("use", words | numbers)
    written = parts_text(call_parts(made), PIXELS, {0: (64, 48)})
    assert written == write_call(plain)
    assert read_calls(written) == [plain]
    assert parts_text(json_parts(made), PIXELS, {0: (64, 48)}) == written.splitlines()[1]


def test_places_are_in_the_frame_of_their_picture() -> None:
    parts = call_parts(ToolCall(PHONE, {"action": "click", "coordinate": point(0.5, 0.5, image=1)}))
    assert '"coordinate": [50, 100]' in parts_text(parts, PIXELS, {0: (64, 48), 1: (100, 200)})
    assert '"coordinate": [500, 500]' in parts_text(parts, Markup())


def test_the_tool_of_the_phone_is_the_published_one() -> None:
    """As cookbooks/mobile_agent.ipynb of QwenLM/Qwen3-VL @ 8cdcb85 prints the system turn, for a screen of 1092 x 2408."""
    text = parts_text(phone_system(0).parts, PIXELS, {0: (1092, 2408)})
    assert "resolution is 1092x2408." in text
    assert hashlib.sha256(text.encode()).hexdigest() == "08758deb1261464319e7c8e0ad8413c64285da66736b560d809f3754271a15e2"
    assert [part.region.image for part in phone_system(3).parts if isinstance(part, CoordinatesPart)] == [3]
    assert MOBILE_USE["name"] == PHONE
