"""Phone trajectories: actions become calls with places, step by step; and the TFRecord files that AndroidControl comes in."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from qwenvl.data.adapters.registry import ADAPTERS
from qwenvl.data.adapters.tfrecord import examples
from qwenvl.data.adapters.trajectories import read_aitz, read_android_control
from qwenvl.data.sources import BadSample, SourceError
from qwenvl.types import CoordinatesPart, QwenVLError, Sample
from tests.adapters import FIXTURES, samples_of

AITZ = FIXTURES / "aitz"


def call(sample: Sample) -> dict[str, Any]:
    return sample.extra["call"]["arguments"]


def aitz(**change: Any) -> Sample:
    """The last step of an episode, changed."""
    [record] = read_aitz(AITZ)
    record["steps"][3] |= change
    return ADAPTERS["aitz"].samples(record, AITZ, 0)[-1]


def android(*actions: dict[str, Any], **change: Any) -> list[Sample]:
    [record] = read_android_control(FIXTURES / "android_control")
    written = [json.dumps(action).encode() for action in actions]
    record |= {"actions": written, "step_instructions": [b"do it"] * len(actions)}
    for name in ("screenshots", "screenshot_widths", "screenshot_heights"):
        record[name] = record[name][:1] * (len(actions) + 1)
    made = ADAPTERS["android_control"].samples(record | change, FIXTURES / "android_control", 0)
    return [sample for sample in made if sample.task == "phone_step"]


def test_every_step_sees_its_own_screen_and_the_calls_before() -> None:
    made = [sample for sample in samples_of("aitz") if sample.task == "phone_step"]
    assert [Path(sample.images[0].image).name[-5] for sample in made] == list("0123")
    places = [[part for part in sample.messages[1].parts if isinstance(part, CoordinatesPart)] for sample in made]
    assert [len(found) for found in places] == [0, 0, 2, 3]  # those of calls before: none, a button, a swipe, a click
    assert all(part.region.image == 0 for found in places for part in found)
    assert made[0].messages[0].role == "system" and made[0].extra["thought"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"result_action_type": 3, "result_action_text": "tea"}, {"action": "type", "text": "tea"}),
        ({"result_action_type": 5}, {"action": "system_button", "button": "Back"}),
        ({"result_action_type": 7}, {"action": "system_button", "button": "Enter"}),
        ({"result_action_type": 11}, {"action": "terminate", "status": "failure"}),
        (
            {"result_action_type": 4, "result_touch_yx": "[0.5, 0.2]", "result_lift_yx": "[0.52, 0.23]"},
            {"action": "click", "coordinate": [0.23, 0.52]},
        ),
        (
            {"result_action_type": 4, "result_touch_yx": "[0.5, 0.2]", "result_lift_yx": "[0.5, 0.3]"},
            {"action": "swipe", "coordinate": [0.2, 0.5], "coordinate2": [0.3, 0.5]},
        ),
    ],
)
def test_gestures_and_buttons(change: dict[str, Any], expected: dict[str, Any]) -> None:
    assert call(aitz(**change)) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"result_action_type": 9}, "aitz 523638528775825151 3': an action of type 9"),
        (
            {"result_action_type": 4, "result_touch_yx": "[0.5, 1.2]", "result_lift_yx": "[0.5, 1.2]"},
            r"aitz 523638528775825151 3: point .* leaves \[0, 1\]",
        ),
        ({"image_path": "google_apps/gone.png"}, r"aitz 523638528775825151 3': its picture is not there: .*gone\.png"),
    ],
)
def test_a_bad_step_refuses_the_episode(change: dict[str, Any], message: str) -> None:
    with pytest.raises(QwenVLError, match=message):
        aitz(**change)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({"action_type": "click", "x": 18, "y": 20}, {"action": "click", "coordinate": [0.5, 0.25]}),
        ({"action_type": "long_press", "x": 18, "y": 20}, {"action": "long_press", "coordinate": [0.5, 0.25], "time": 1}),
        ({"action_type": "scroll", "direction": "up"}, {"action": "swipe", "coordinate": [0.5, 0.5], "coordinate2": [0.5, 0.8]}),
        ({"action_type": "scroll", "direction": "down"}, {"action": "swipe", "coordinate": [0.5, 0.5], "coordinate2": [0.5, 0.2]}),
        ({"action_type": "scroll", "direction": "left"}, {"action": "swipe", "coordinate": [0.5, 0.5], "coordinate2": [0.8, 0.5]}),
        ({"action_type": "scroll", "direction": "right"}, {"action": "swipe", "coordinate": [0.5, 0.5], "coordinate2": [0.2, 0.5]}),
        ({"action_type": "open_app", "app_name": "Clock"}, {"action": "open", "text": "Clock"}),
        ({"action_type": "input_text", "text": "7 am"}, {"action": "type", "text": "7 am"}),
        ({"action_type": "navigate_home"}, {"action": "system_button", "button": "Home"}),
        ({"action_type": "navigate_back"}, {"action": "system_button", "button": "Back"}),
        ({"action_type": "wait"}, {"action": "wait", "time": 1}),
    ],
)
def test_actions_of_android_control(action: dict[str, Any], expected: dict[str, Any]) -> None:
    first, last = android(action)
    assert call(first) == expected
    assert call(last) == {"action": "terminate", "status": "success"}


def test_bad_episodes_are_refused_with_their_id() -> None:
    with pytest.raises(BadSample, match="android_control 7 0': an action 'dance'"):
        android({"action_type": "dance"})
    with pytest.raises(QwenVLError, match=r"android_control 7 0: point .* leaves \[0, 1\]"):
        android({"action_type": "click", "x": 37, "y": 20})
    with pytest.raises(BadSample, match="android_control 7': 2 screens, 1 actions and 2 instructions do not match"):
        android({"action_type": "wait"}, step_instructions=[b"do it"] * 2)


# TFRecord


def field(number: int, wire: int, content: bytes) -> bytes:
    return varint(number << 3 | wire) + (varint(len(content)) if wire == 2 else b"") + content


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    written = b""
    while value > 127:
        written += bytes([value & 127 | 128])
        value >>= 7
    return written + bytes([value])


def record(content: bytes) -> bytes:
    return struct.pack("<QI", len(content), 0) + content + struct.pack("<I", 0)


def example(**features: bytes) -> bytes:
    entries = [field(1, 2, field(1, 2, name.encode()) + field(2, 2, value)) for name, value in features.items()]
    return field(1, 2, b"".join(entries))


def test_all_kinds_of_features_are_read(tmp_path: Path) -> None:
    ints = [1, 300, -1, 1 << 40]
    content = example(
        texts=field(1, 2, field(1, 2, "茶".encode()) + field(1, 2, b"")),
        packed=field(3, 2, field(1, 2, b"".join(map(varint, ints)))),
        single=field(3, 2, b"".join(field(1, 0, varint(value)) for value in ints)),
        floats=field(2, 2, field(1, 2, struct.pack("<2f", 0.5, -2)) + field(1, 5, struct.pack("<f", 4))),
        none=b"",
    )
    file = tmp_path / "a"
    file.write_bytes(gzip.compress(record(content) + record(example())))
    first, second = examples(file)
    assert first == {"texts": ["茶".encode(), b""], "packed": ints, "single": ints, "floats": [0.5, -2, 4], "none": []}
    assert second == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: gzip.compress(whole)[:-12],  # the file is cut off
        lambda whole: gzip.compress(whole[:-2]),  # within a record
        lambda whole: gzip.compress(whole[:5]),
        lambda whole: gzip.compress(struct.pack("<QI", 1 << 63, 0)),
        lambda whole: gzip.compress(record(b"\x0a\x7f")),  # a field ends after its message
        lambda whole: gzip.compress(record(b"\x0b")),
        lambda whole: gzip.compress(record(b"\xff")),
        lambda whole: whole,
        lambda whole: b"",
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damage: Any) -> None:
    (tmp_path / "splits.json").write_text("{}")
    file = tmp_path / "android_control-00000-of-00020"
    file.write_bytes(damage(record(example(goal=field(1, 2, field(1, 2, b"tea" * 50))))))
    with pytest.raises(SourceError, match="android_control-00000"):
        list(read_android_control(tmp_path))
