"""Episodes on a phone: AITZ's folders, and AndroidControl's TFRecord files with their accessibility trees."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import png, save
from tests.fast.test_adapter_steps import example, field, record, varint

SCREEN = (90, 200)
MEASURES = ("exact_match", "type_match", "success_rate", "goal_progress")
NOWHERE = "[-1.0, -1.0]"


def aitz(folder: Path) -> None:
    actions: Sequence[tuple[int, str, str, str, str]] = (
        (6, "", NOWHERE, NOWHERE, "press the home button"),
        (4, "", "[0.54, 0.5]", "[0.001, 0.57]", "scroll up"),
        (4, "", "[0.3, 0.25]", "[0.31, 0.25]", "click on the Clock app"),
        (3, "7 am", NOWHERE, NOWHERE, 'input text "7 am"'),
        (10, "", NOWHERE, NOWHERE, "stop and set the query as completed"),
    )
    name = "GOOGLE_APPS-523638528775825151"
    rows: list[dict[str, Any]] = []
    for number, (kind, text, touch, lift, told) in enumerate(actions):
        path = f"google_apps/{name}/{name}_{number}.png"
        save(folder / "test" / path, SCREEN)
        rows.append(
            {
                "episode_id": "523638528775825151", "episode_length": len(actions), "step_id": number,
                "instruction": 'open app "Clock" (install if not already installed)', "ui_positions": "[[50, 15, 20, 20]]",
                "ui_text": '["Clock"]', "ui_types": '["TEXT"]', "result_action_type": kind, "result_action_text": text,
                "result_touch_yx": touch, "result_lift_yx": lift, "image_path": path,
                "image_full_path": f"android-in-the-wild/aitw_with_gpt/test/{path}", "coat_screen_desc": "A screen.",
                "coat_action_think": "To go on.", "coat_action_desc": told, "coat_action_result": "It goes on.",
            }
        )  # fmt: skip
    (folder / "test" / "google_apps" / name / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")


def texts(*values: bytes) -> bytes:
    return field(1, 2, b"".join(field(1, 2, value) for value in values))


def numbers(*values: int) -> bytes:
    return field(3, 2, field(1, 2, b"".join(map(varint, values))))


def rectangle(left: int, top: int, right: int, bottom: int) -> bytes:
    return b"".join(field(number, 0, varint(side)) for number, side in enumerate((left, top, right, bottom), start=1) if side)


def forest(*bounds: tuple[int, int, int, int]) -> bytes:
    """One window, and a node for each of the bounds."""
    nodes = b"".join(field(1, 2, field(2, 2, rectangle(*one)) + field(3, 2, b"android.view.View")) for one in bounds)
    return field(1, 2, field(1, 2, rectangle(0, 0, *SCREEN)) + field(3, 0, varint(4)) + field(11, 2, nodes))


ACTIONS = (
    {"action_type": "open_app", "app_name": "Clock"},
    {"action_type": "click", "x": 22, "y": 40},
    {"action_type": "long_press", "x": 45, "y": 100},
    {"action_type": "scroll", "direction": "down"},
    {"action_type": "input_text", "text": "7 am"},
    {"action_type": "navigate_back"},
    {"action_type": "wait"},
)


def episode(id: int, actions: Sequence[dict[str, Any]]) -> bytes:
    screens = len(actions) + 1
    return example(
        episode_id=numbers(id),
        goal=texts(b"Set an alarm for 7 am"),
        screenshots=texts(*[png(SCREEN)] * screens),
        accessibility_trees=texts(*[forest((10, 30, 40, 50), (30, 90, 60, 110))] * screens),
        screenshot_widths=numbers(*[SCREEN[0]] * screens),
        screenshot_heights=numbers(*[SCREEN[1]] * screens),
        actions=texts(*[json.dumps(action).encode() for action in actions]),
        step_instructions=texts(*[f"Do step {number}".encode() for number in range(len(actions))]),
    )


def androidcontrol(folder: Path) -> None:
    content = record(episode(7, ACTIONS)) + record(episode(8, ACTIONS[:1]))
    (folder / "android_control-00000-of-00020").write_bytes(gzip.compress(content))
    (folder / "splits.json").write_text(json.dumps({"train": [8], "validation": [], "test": [7]}), encoding="utf-8")


FIXTURES = {
    "aitz": Fixture(aitz, "test", dict.fromkeys(MEASURES, 1.0), dict.fromkeys(MEASURES, 0.0), questions=5),
    "androidcontrol": Fixture(
        androidcontrol, "low", dict.fromkeys(MEASURES, 1.0), dict.fromkeys(MEASURES, 0.0), questions=len(ACTIONS) + 1
    ),
}
