"""Calls of the published tools become actions, every argument checked; what is wrong is one line for the model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qwenvl.agent.actions import (
    Action,
    ActionError,
    Button,
    Click,
    DeviceKey,
    Drag,
    Keys,
    LongPress,
    Move,
    Open,
    Scroll,
    Swipe,
    Tap,
    Terminate,
    Type,
    Wait,
    in_words,
    pixel_of,
    points_of,
)  # fmt: skip
from qwenvl.agent.reading import LONGEST_WAIT, TOOLS, key_named
from qwenvl.processing.actions import COMPUTER, PHONE
from qwenvl.types import Region

FRAME = (1000, 500)


def answer(tool: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': tool, 'arguments': arguments})}\n</tool_call>"


def action(tool: str, **arguments: Any) -> Action:
    return TOOLS[tool].read(answer(tool, **arguments), FRAME).action


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"action": "key", "keys": ["ctrl", "a"]}, Keys(("Control", "a"))),
        ({"action": "key", "keys": "ctrl+shift+T"}, Keys(("Control", "Shift", "T"))),
        ({"action": "key", "keys": ["+"]}, Keys(("+",))),
        ({"action": "type", "text": "茶, tea"}, Type("茶, tea")),
        ({"action": "mouse_move", "coordinate": [250, 250]}, Move((0.25, 0.5))),
        ({"action": "left_click", "coordinate": [250, 250]}, Click((0.25, 0.5))),
        ({"action": "left_click"}, Click(None)),
        ({"action": "left_click", "coordinate": None, "text": None}, Click(None)),
        ({"action": "left_click_drag", "coordinate": [500, 0]}, Drag((0.5, 0.0))),
        ({"action": "right_click", "coordinate": [0, 0]}, Click((0.0, 0.0), "right")),
        ({"action": "middle_click", "coordinate": [0, 0]}, Click((0.0, 0.0), "middle")),
        ({"action": "double_click", "coordinate": [0, 0]}, Click((0.0, 0.0), times=2)),
        ({"action": "scroll", "pixels": -250}, Scroll(-0.5)),
        ({"action": "scroll", "pixels": 100, "coordinate": [500, 250]}, Scroll(0.2, (0.5, 0.5))),
        ({"action": "wait", "time": 2}, Wait(2.0)),
        ({"action": "wait"}, Wait(1.0)),
        ({"action": "terminate", "status": "success"}, Terminate(True)),
        ({"action": "terminate", "status": "failure"}, Terminate(False)),
    ],
)
def test_every_action_of_the_computer(arguments: dict[str, Any], expected: Action) -> None:
    assert action(COMPUTER, **arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"action": "key", "text": "volume_up"}, DeviceKey("volume_up")),
        ({"action": "click", "coordinate": [250, 250]}, Tap((0.25, 0.5))),
        ({"action": "long_press", "coordinate": [250, 250], "time": 2}, LongPress((0.25, 0.5), 2.0)),
        ({"action": "swipe", "coordinate": [500, 400], "coordinate2": [500, 100]}, Swipe((0.5, 0.8), (0.5, 0.2))),
        ({"action": "type", "text": "a"}, Type("a")),
        ({"action": "system_button", "button": "back"}, Button("Back")),
        ({"action": "open", "text": "Clock"}, Open("Clock")),
        ({"action": "wait", "time": 0.5}, Wait(0.5)),
        ({"action": "terminate", "status": "success"}, Terminate(True)),
    ],
)
def test_every_action_of_the_phone(arguments: dict[str, Any], expected: Action) -> None:
    assert action(PHONE, **arguments) == expected


def test_no_action_of_a_tool_is_forgotten() -> None:
    for tool in TOOLS.values():
        assert list(tool.actions) == tool.told["parameters"]["properties"]["action"]["enum"]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        (COMPUTER, {}, "action is None: give one of key, type"),
        (COMPUTER, {"action": "fly"}, "action is 'fly'"),
        (COMPUTER, {"action": ["key"]}, "action is ['key']"),
        (COMPUTER, {"action": "mouse_move"}, "mouse_move: coordinate is missing"),
        (COMPUTER, {"action": "left_click", "coordinate": [1]}, "give [x, y], two numbers"),
        (COMPUTER, {"action": "left_click", "coordinate": "50, 40"}, "give [x, y], two numbers"),
        (COMPUTER, {"action": "left_click", "coordinate": [1, "a"]}, "give [x, y], two numbers"),
        (COMPUTER, {"action": "left_click", "coordinate": [True, 1]}, "give [x, y], two numbers"),
        (COMPUTER, {"action": "left_click", "coordinate": [1e300, 1]}, "give [x, y], two numbers"),
        (COMPUTER, {"action": "key", "keys": []}, "give a list of names"),
        (COMPUTER, {"action": "key", "keys": ["hyper"]}, "there is no key 'hyper'"),
        (COMPUTER, {"action": "key", "keys": [1]}, "give a list of names"),
        (COMPUTER, {"action": "type"}, "type: text is missing"),
        (COMPUTER, {"action": "type", "text": 5}, "text is 5: give a text"),
        (COMPUTER, {"action": "type", "text": "a" * 2001}, "2001 characters"),
        (COMPUTER, {"action": "scroll"}, "pixels is missing"),
        (COMPUTER, {"action": "scroll", "pixels": "down"}, "pixels is 'down': give a number"),
        (COMPUTER, {"action": "wait", "time": -1}, "give seconds, 0 or more"),
        (COMPUTER, {"action": "terminate"}, "status is missing: give one of success, failure"),
        (PHONE, {"action": "click"}, "coordinate is missing"),
        (PHONE, {"action": "swipe", "coordinate": [1, 1]}, "coordinate2 is missing"),
        (PHONE, {"action": "system_button", "button": "Power"}, "give one of Back, Home, Menu, Enter"),
        (PHONE, {"action": "open"}, "text is missing"),
        (PHONE, {"action": "left_click"}, "action is 'left_click'"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(tool: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ActionError) as error:
        action(tool, **arguments)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "makes no call"),
        ("I click the button.", "makes no call"),
        ('<tool_call>\n{"name": "computer_use", "arguments": {"action": "left_cl', "is cut off"),
        ('<tool_call>{"name": "mobile_use", "arguments": {"action": "click"}}</tool_call>', "no function 'mobile_use'"),
    ],
)
def test_an_answer_without_a_call_is_one_clear_line(text: str, said: str) -> None:
    with pytest.raises(ActionError, match=said):
        TOOLS[COMPUTER].read(text, FRAME)


def test_places_beside_the_screen_are_taken_to_its_edge_and_said() -> None:
    read = TOOLS[COMPUTER].read(answer(COMPUTER, action="left_click", coordinate=[1200, -3]), FRAME)
    assert read.action == Click((1.0, 0.0))
    assert read.notes == ("coordinate [1200, -3] is outside of the screen of 1000x500: its edge was taken",)
    assert pixel_of((1.0, 0.0), (412, 915)) == (411, 0)


def test_of_a_box_the_middle_is_taken() -> None:
    read = TOOLS[COMPUTER].read(answer(COMPUTER, action="left_click", coordinate=[100, 100, 300, 200]), FRAME)
    assert read.action == Click((0.2, 0.3)) and "middle" in read.notes[0]


def test_long_waits_are_shortened_and_said() -> None:
    read = TOOLS[PHONE].read(answer(PHONE, action="wait", time=600), FRAME)
    assert read.action == Wait(LONGEST_WAIT) and "600" in read.notes[0]


def test_of_several_calls_the_first_is_done() -> None:
    both = answer(COMPUTER, action="left_click") + answer(COMPUTER, action="wait")
    read = TOOLS[COMPUTER].read(both, FRAME)
    assert read.action == Click(None) and "first of 2" in read.notes[0]


def test_places_are_kept_as_regions_for_the_next_prompt() -> None:
    read = TOOLS[COMPUTER].read(answer(COMPUTER, action="left_click", coordinate=[250, 250]), FRAME)
    assert read.call.arguments == {"action": "left_click", "coordinate": Region("point", ((0.25, 0.5),))}


def test_names_of_keys() -> None:
    assert [key_named(name) for name in ("Return", "page_down", "ArrowLeft", "x", " ", "F5")] == [
        "Enter", "PageDown", "ArrowLeft", "x", "Space", "F5",
    ]  # fmt: skip


def test_every_action_has_words() -> None:
    done = [
        Keys(("Control", "a")), Type("x"), Move((0, 0)), Click(None), Click((0.5, 0.5)), Click((0, 0), times=2), Drag((1, 1)),
        Scroll(-0.5), Tap((0, 0)), LongPress((0, 0), 1), Swipe((0, 0), (1, 1)), Button("Back"), DeviceKey("clear"), Open("Clock"),
        Wait(1), Terminate(True), Terminate(False),
    ]  # fmt: skip
    words = [in_words(one, (100, 100)) for one in done]
    assert len(set(words)) == len(words) and "click (50, 50)" in words and "swipe (0, 0) to (99, 99)" in words
    assert points_of(Swipe((0, 0), (1, 1))) == ((0, 0), (1, 1)) and points_of(None) == () and points_of(Wait(1)) == ()
