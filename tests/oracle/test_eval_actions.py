"""Steps on a phone are judged as guievalkit judges them, on generated steps and replies.

What it gave is in data/eval_actions.json, with one line of it set right: model_2_minicpm exchanges the end's x and the start's y of
a swipe. The steps and replies are made here, from the seeds below. A step's outcome is one digit: 2 the very action, 1 its kind, 0
neither.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from qwenvl.eval.scorers.actions import NEAR, step
from qwenvl.eval.task import Prediction
from qwenvl.eval.tasks.agents import aitz_action, android_action
from qwenvl.families.spec import Markup

PEERS = json.loads((Path(__file__).parent / "data" / "eval_actions.json").read_text(encoding="utf-8"))
CASES = 2000
TEXTS = ("7 am", "Clock", "clock app", "weather in Paris", "PARIS", " paris ", "")


def boxes(rng: random.Random) -> list[tuple[float, float, float, float]]:
    """(top, left, height, width) in fractions."""
    found = []
    for _ in range(rng.randint(0, 9)):
        top, left = rng.random() * 0.9, rng.random() * 0.9
        found.append((top, left, rng.random() * min(0.3, 1 - top), rng.random() * min(0.4, 1 - left)))
    return found


def aitz(rng: random.Random) -> dict[str, Any]:
    """A row of AITZ, `ui_positions` in fractions as data/process_aitz.py leaves them."""
    touch = [rng.random(), rng.random()]
    spread = rng.choice((0.0, 0.02, 0.3))
    lift = [min(max(value + rng.uniform(-spread, spread), 0.0), 1.0) for value in touch]
    return {
        "result_action_type": rng.choice((4, 4, 4, 3, 5, 6, 7, 10, 11)), "result_action_text": rng.choice(TEXTS),
        "result_touch_yx": json.dumps(touch), "result_lift_yx": json.dumps(lift), "ui_positions": json.dumps(boxes(rng)),
    }  # fmt: skip


def android(rng: random.Random) -> dict[str, Any]:
    """A screen's size, the bounds of its elements (left, top, right, bottom) and the action taken."""
    size = rng.choice(((1080, 2400), (840, 2100), (1440, 3120)))
    bounds = []
    for _ in range(rng.randint(0, 12)):
        across, down = sorted(rng.sample(range(size[0]), 2)), sorted(rng.sample(range(size[1]), 2))
        bounds.append((across[0], down[0], across[1], down[1]))
    place = {"x": rng.randrange(size[0]), "y": rng.randrange(size[1])}
    action = rng.choice(
        [
            *({"action_type": "click", **place},) * 3, {"action_type": "long_press", **place},
            {"action_type": "scroll", "direction": rng.choice(("up", "down", "left", "right"))},
            {"action_type": "input_text", "text": rng.choice(TEXTS)}, {"action_type": "open_app", "app_name": rng.choice(TEXTS)},
            {"action_type": "navigate_home"}, {"action_type": "navigate_back"}, {"action_type": "wait"}, {"action_type": "finish"},
        ]
    )  # fmt: skip
    return {"size": size, "bounds": bounds, "action": action}


def reply(rng: random.Random, kind: str, near: tuple[float, float] | None, frame: tuple[int, int]) -> str:
    """A call, often of that kind, near a point of the screen if one is given; or something like a call."""
    width, height = frame
    across, down = near or (rng.random(), rng.random())
    spread = rng.choice((0.0, 0.03, 0.1, 0.4))
    place = [round((across + rng.gauss(0, spread)) * width), round((down + rng.gauss(0, spread)) * height)]
    end = [rng.randint(0, width), rng.randint(0, height)]
    calls: dict[str, list[dict[str, Any]]] = {
        "click": [{"action": "click", "coordinate": place}, {"action": "left_click", "coordinate": place}],
        "long_press": [{"action": "long_press", "coordinate": place, "time": 2}],
        "scroll": [
            *({"action": "swipe", "coordinate": place, "coordinate2": end},) * 6,
            {"action": "swipe", "coordinate": place, "coordinate2": place}, {"action": "swipe", "coordinate": place},
        ],
        "type": [{"action": "type", "text": rng.choice(TEXTS)}],
        "open": [{"action": "open", "text": rng.choice(TEXTS)}],
        "press": [{"action": "system_button", "button": button} for button in ("Back", "Home", "Enter", "Menu")],
        "wait": [{"action": "wait", "time": 2}],
        "stop": [{"action": "terminate", "status": rng.choice(("success", "failure"))}],
        "": [
            {"action": "answer", "text": "7 am"}, {"action": "click"}, {"action": "type"}, {"action": "dance"}, {},
            {"action": "click", "coordinate": [*place, 1]},
        ],
    }  # fmt: skip
    arguments = rng.choice(calls[kind if rng.random() < 0.6 else rng.choice(list(calls))])
    call = json.dumps({"name": "mobile_use", "arguments": arguments})
    around = rng.choices(("{}", "Thought: go on.\n{}", "{}<|im_end|>", "I would rather not."), (8, 3, 2, 1))[0]
    return around.format(f"<tool_call>\n{call}\n</tool_call>")


def true_action(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    if kind == "aitz":
        return aitz_action(row, json.loads(row["ui_positions"]))
    return android_action(row["action"], row["size"], row["bounds"])


def steps(kind: str) -> list[tuple[dict[str, Any], str, tuple[int, int]]]:
    """(row, reply, frame): half of the replies are near the point of the action, where it has one."""
    rng = random.Random({"aitz": 65, "android_control": 66}[kind])
    cases = []
    for _ in range(CASES):
        row = aitz(rng) if kind == "aitz" else android(rng)
        frame = rng.choice(((1092, 2408), (420, 924), (1000, 1000)))
        near = None
        if rng.random() < 0.7:
            if kind == "aitz":
                down, across = json.loads(row["result_touch_yx"])
                near = across, down
            elif "x" in row["action"]:
                near = row["action"]["x"] / row["size"][0], row["action"]["y"] / row["size"][1]
        cases.append((row, reply(rng, true_action(kind, row)["kind"], near, frame), frame))
    return cases


@pytest.mark.parametrize("kind", ["aitz", "android_control"])
def test_steps_are_judged_as_guievalkit_judges_them(kind: str) -> None:
    found = ""
    for row, said, frame in steps(kind):
        truth = {"action": true_action(kind, row), "frame": list(frame)}
        tallies = step(Prediction("", kind, "test", "en", "", "", said, "stop", truth), Markup(style="json"), NEAR[kind])
        found += str(int(tallies["exact_match"][0] + tallies["type_match"][0]))
    expected = PEERS[kind]
    assert len(found) == CASES and min(found.count(digit) for digit in "012") > CASES / 20
    different = [number for number in range(CASES) if found[number] != expected[number]]
    assert not different
