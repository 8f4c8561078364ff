"""What people did on phones, step by step: Android in the Zoo (AITZ) and AndroidControl.

Each step is one Sample in the form that Qwen2.5-VL was trained on: the goal and the calls so far, the screen, the next call of
`mobile_use`. Places are points in [0, 1] of the screen; those of calls before are written in the frame of the screen that is shown.
Actions become calls as in guieval/models/qwen2_5_vl.py (@ 5f42b14) and data/process_ac.py (@ 8e1d938) of
xiaomi-research/guievalkit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import Any

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import find, picture, whole
from qwenvl.data.adapters.tfrecord import examples
from qwenvl.data.sources import BadSample, Record, SourceError, records
from qwenvl.processing.actions import PHONE
from qwenvl.processing.tools import ToolCall
from qwenvl.types import Region, Sample, StoredPicture

TAP = 0.04
"""A finger that is lifted within this part of the screen has tapped: _SWIPE_DISTANCE_THRESHOLD of coat/action_utils.py,
IMNearth/CoAT @ bddd262."""
STROKE = 0.3
"""How far a scroll without an end moves the finger: data/process_ac.py."""
SECONDS = 1
"""Of a wait or a long press, whose time is not told: android_world/env/actuation.py of google-research/android_world @ 1903b2f."""

BUTTONS = {5: "Back", 6: "Home", 7: "Enter"}
ENDS = {10: "success", 11: "failure"}
"""Numbers of actions in Android in the Wild, whose ActionType AITZ keeps (coat/action_utils.py)."""
TYPE, GESTURE = 3, 4

FINGER = {"up": (0, 1), "down": (0, -1), "left": (1, 0), "right": (-1, 0)}
"""Where the finger goes, in x and y, to scroll to a side: data/process_ac.py, and android_world/env/actuation.py."""


@dataclass(frozen=True, slots=True)
class Step:
    """A screen, the call that was made on it, and what people say of it: `instruction` asks for this step alone."""

    screen: str | bytes | StoredPicture
    call: ToolCall
    instruction: str | None = None
    thought: str | None = None


def _episode(goal: Any, steps: Sequence[Step], id: str, source: str, split: str | None) -> list[Sample]:
    """Every step towards the goal, and each that has an instruction of its own once more with it."""
    made = []
    for number, step in enumerate(steps):
        done = [earlier.call for earlier in steps[:number]]
        about: dict[str, Any] = {"id": f"{id} {number}", "source": source, "split": split, "thought": step.thought}
        made.append(samples.phone_step(step.screen, goal, done, step.call, **about))
        if step.instruction:
            made.append(samples.phone_step(step.screen, goal, done, step.call, instruction=step.instruction, **about))
    return made


def _call(action: str, **arguments: Any) -> ToolCall:
    return ToolCall(PHONE, {"action": action, **arguments})


def _point(x: float, y: float, where: str) -> Region:
    """Raises RegionError for a point beside the screen."""
    return Region("point", ((float(x), float(y)),)).check(where)


def read_aitz(folder: Path) -> Iterator[Record]:
    """Episodes: .json files, lists of steps, with the screens beside them or where `image_path` says from the split's folder."""
    for file in find(folder, "**/*.json"):
        yield {"steps": list(records(file)), "file": str(file.relative_to(folder))}


def from_aitz(record: Record, root: Path) -> list[Sample]:
    file, steps = Path(record["file"]), sorted(record["steps"], key=lambda step: step["step_id"])
    id = f"aitz {steps[0]['episode_id']}"
    split = next((part for part in Path(steps[0]["image_full_path"]).parts if part in ("train", "test")), None)
    made = []
    for step in steps:
        where = f"{id} {step['step_id']}"
        path = step["image_path"]
        screen = picture(root, str(file.with_name(Path(path).name)), path, f"{split}/{path}", id=where)
        made.append(Step(screen, _aitz_call(step, where), step["coat_action_desc"], step["coat_action_think"]))
    return _episode(steps[0]["instruction"], made, id, "aitz", split)


def _aitz_call(step: Record, where: str) -> ToolCall:
    kind = step["result_action_type"]
    if kind == TYPE:
        return _call("type", text=step["result_action_text"])
    if kind in BUTTONS:
        return _call("system_button", button=BUTTONS[kind])
    if kind in ENDS:
        return _call("terminate", status=ENDS[kind])
    if kind != GESTURE:
        raise BadSample(where, f"an action of type {kind}, which AITZ does not know")
    (top, left), (bottom, right) = (json.loads(step[f"result_{end}_yx"]) for end in ("touch", "lift"))
    if hypot(bottom - top, right - left) <= TAP:
        return _call("click", coordinate=_point(right, bottom, where))
    return _call("swipe", coordinate=_point(left, top, where), coordinate2=_point(right, bottom, where))


def read_android_control(folder: Path) -> Iterator[Record]:
    """Episodes of android_control-*-of-*, each with its split by splits.json beside them."""
    files, [known] = find(folder, "android_control-*", "android_control*"), find(folder, "splits.json")
    splits = {episode: name for name, ids in whole(known).items() for episode in ids}
    for file in files:
        for example in examples(file):
            if "episode_id" not in example:
                raise SourceError(f"{file}: its records have no episode_id; give AndroidControl's own files")
            yield {**example, "split": splits.get(example["episode_id"][0])}


def from_android_control(record: Record, root: Path) -> list[Sample]:
    """Every action on the screen before it; on the last screen the task is done."""
    id, split = f"android_control {record['episode_id'][0]}", {"validation": "val"}.get(record["split"], record["split"])
    screens, actions = record["screenshots"], record["actions"]
    instructions = [text.decode("utf-8") for text in record["step_instructions"]]
    if not len(screens) - 1 == len(actions) == len(instructions):
        raise BadSample(id, f"{len(screens)} screens, {len(actions)} actions and {len(instructions)} instructions do not match")
    sizes = zip(record["screenshot_widths"], record["screenshot_heights"], strict=True)
    steps = []
    for number, (screen, action, size, told) in enumerate(zip(screens, actions, sizes, instructions, strict=False)):
        steps.append(Step(screen, _android_call(json.loads(action), size, f"{id} {number}"), told))
    steps.append(Step(screens[-1], _call("terminate", status="success")))
    return _episode(record["goal"][0].decode("utf-8"), steps, id, "android_control", split)


def _android_call(action: Record, size: tuple[int, int], where: str) -> ToolCall:
    kind = action["action_type"]
    if kind in ("click", "long_press"):
        point = _point(action["x"] / size[0], action["y"] / size[1], where)
        return _call("click", coordinate=point) if kind == "click" else _call("long_press", coordinate=point, time=SECONDS)
    if kind == "scroll":
        across, down = FINGER[action["direction"]]
        end = _point(0.5 + across * STROKE, 0.5 + down * STROKE, where)
        return _call("swipe", coordinate=_point(0.5, 0.5, where), coordinate2=end)
    others = {
        "open_app": lambda: _call("open", text=action["app_name"]),
        "input_text": lambda: _call("type", text=action["text"]),
        "navigate_home": lambda: _call("system_button", button="Home"),
        "navigate_back": lambda: _call("system_button", button="Back"),
        "wait": lambda: _call("wait", time=SECONDS),
    }
    if kind not in others:
        raise BadSample(where, f"an action {kind!r}, for which a phone has no call")
    return others[kind]()
