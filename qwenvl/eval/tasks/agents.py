"""The next action towards a goal on a phone: Android in the Zoo (AITZ) and AndroidControl, step by step on recorded screens.

Wording and calls are those of Qwen2.5-VL's cookbook, as data/adapters/trajectories.py trains on them; what was done before is told
as people did it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qwenvl.data.adapters import trajectories
from qwenvl.data.formats import PHONE_PROGRESS, PHONE_STEP
from qwenvl.data.sources import Record
from qwenvl.eval.accessibility import bounds_in_screen
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.schema import of_schema
from qwenvl.eval.scorers.actions import BUTTONS, NEAR, TAP, boxes_about, boxes_nearest, episodes, side_of, step
from qwenvl.eval.shelf import Shelf
from qwenvl.eval.task import Decoding, EvaluationError
from qwenvl.processing.image import picture_size
from qwenvl.types import Message, Part, Point, Sample, TextPart

COOKBOOK = "QwenLM/Qwen2.5-VL @ f0af299, cookbooks/mobile_agent.ipynb"
GUIEVALKIT = "xiaomi-research/guievalkit @ d5e954e"
FINISH = "finish the task"
"""What data/process_ac.py of guievalkit tells to do on the last screen of an episode, which has no instruction of its own."""
SCROLL = 0.3
"""How far a scroll goes in it."""

Truth = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StepItem(Item):
    """messages: of the system, of the user with the screen, and the call that was made."""

    messages: tuple[Message, ...] = ()


class StepPrompt(Prompt):
    """The item's own words: they hold places, which each family reads in pixels of the screen as it sees it. `text` says how they
    are made, for hashes."""

    __slots__ = ()

    def parts(self, item: Item) -> tuple[Part, ...]:
        return _messages(item)[1].parts

    def opening(self, item: Item) -> list[Message]:
        return [_messages(item)[0]]


def _messages(item: Item) -> tuple[Message, ...]:
    if not isinstance(item, StepItem):
        raise EvaluationError(f"{item.id}: not a step on a phone; this wording is for those alone")
    return item.messages


def _step_item(id: str, sample: Sample, episode: str, number: int, action: Truth, group: str = "", low: str = "") -> Item:
    """low: what is told to do in this step, where the sample does not say it yet."""
    system, asked, reply = sample.messages
    if low:
        first, *others = asked.parts
        assert isinstance(first, TextPart)
        told = first.text.replace(PHONE_PROGRESS, PHONE_STEP.format(instruction=low) + PHONE_PROGRESS)
        asked = Message("user", (TextPart(told), *others))
    truth, messages = {"action": action, "episode": episode, "step": number}, (system, asked, reply)
    return StepItem(id, visuals=tuple(sample.visuals), answer=reply.parts, truth=truth, group=group, messages=messages)


def _read_aitz(folder: Path, split: str) -> Iterator[Item]:
    root = folder / split
    for record in trajectories.read_aitz(root):
        with of_schema(str(root / record["file"])):
            group, episode = Path(record["file"]).parts[0], Path(record["file"]).stem
            steps = sorted(record["steps"], key=lambda row: row["step_id"])
            asked = [sample for sample in trajectories.from_aitz(record, root) if sample.task == "phone_step"]
            items = []
            for number, (row, sample) in enumerate(zip(steps, asked, strict=True)):
                width, height = picture_size(sample.images[0].image)
                boxes = json.loads(row["ui_positions"])
                fractions = [(top / height, left / width, tall / height, wide / width) for top, left, tall, wide in boxes]
                items.append(_step_item(f"{group}/{episode}/{number}", sample, episode, number, aitz_action(row, fractions), group))
        yield from items


def aitz_action(row: Record, boxes: list[tuple[float, float, float, float]]) -> Truth:
    """The action of a step as its scorer reads it: `_parse_answer_` of guieval/eval/evaluator.py.

    boxes: (top, left, height, width) of the screen's elements, in fractions.
    """
    kind = row["result_action_type"]
    if kind == trajectories.TYPE:
        return {"kind": "type", "text": row["result_action_text"]}
    if kind in trajectories.BUTTONS:
        return {"kind": "press", "text": trajectories.BUTTONS[kind].lower()}
    if kind in trajectories.ENDS:
        return {"kind": "stop"}
    if kind != trajectories.GESTURE:
        raise ValueError(f"an action of type {kind}")
    (top, left), (bottom, right) = (json.loads(row[f"result_{end}_yx"]) for end in ("touch", "lift"))
    return _gesture((left, top), (right, bottom), boxes_about, boxes)


def _gesture(touch: Point, lift: Point, own: Callable[..., Any], boxes: list[tuple[float, float, float, float]]) -> Truth:
    """A tap, or a scroll to a side. own: which of the boxes are those of the place."""
    if ((lift[1] - touch[1]) ** 2 + (lift[0] - touch[0]) ** 2) ** 0.5 <= TAP:
        return {"kind": "click", "point": list(touch), "boxes": own(touch, boxes)}
    return {"kind": "scroll", "side": side_of(touch, lift)}


def _read_android_control(folder: Path, split: str) -> Iterator[Item]:
    """The test split's episodes. `low` tells what each step is to do, `high` the goal alone."""
    shelf = Shelf()
    for record in trajectories.read_android_control(folder):
        if record["split"] != "test":
            continue
        episode = str(record["episode_id"][0])
        with of_schema(f"{folder}, episode {episode}"):
            record["screenshots"] = [shelf.keep(screen) for screen in record["screenshots"]]
            made = trajectories.from_android_control(record, folder)
            told = [text.decode("utf-8") for text in record["step_instructions"]] + [FINISH]
            asked = [sample for sample in made if sample.task == "phone_step"]
            rows = [json.loads(action) for action in record["actions"]] + [{"action_type": "finish"}]
            sizes = list(zip(record["screenshot_widths"], record["screenshot_heights"], strict=True))
            items = []
            for number, (row, sample) in enumerate(zip(rows, asked, strict=True)):
                bounds = bounds_in_screen(record["accessibility_trees"][number])
                action = android_action(row, sizes[number], bounds)
                low = told[number] if split == "low" else ""
                items.append(_step_item(f"{episode}/{number}", sample, episode, number, action, low=low))
        yield from items


def android_action(row: Mapping[str, Any], size: tuple[int, int], bounds: list[tuple[int, int, int, int]]) -> Truth:
    """As `aitz_action`; a scroll moves the finger the other way (transform_action_data of data/process_ac.py)."""
    kind, (width, height) = row["action_type"], size
    if kind in ("click", "long_press"):
        point = (row["x"] / width, row["y"] / height)
        boxes = [(top / height, left / width, (low - top) / height, (far - left) / width) for left, top, far, low in bounds]
        return {"kind": kind, "point": list(point), "boxes": boxes_nearest(point, boxes)}
    if kind == "scroll":
        across, down = trajectories.FINGER[row["direction"]]
        end = (min(max(0.5 + across * SCROLL, 0.0), 1.0), min(max(0.5 + down * SCROLL, 0.0), 1.0))
        return _gesture((0.5, 0.5), end, boxes_nearest, [])
    if kind in ("navigate_home", "navigate_back"):
        return {"kind": "press", "text": BUTTONS[kind == "navigate_home"]}
    if kind in ("open_app", "input_text"):
        return {"kind": "open", "text": row["app_name"]} if kind == "open_app" else {"kind": "type", "text": row["text"]}
    if kind not in ("wait", "finish"):
        raise ValueError(f"an action {kind!r}")
    return {"kind": "wait" if kind == "wait" else "stop"}


PROMPTS: dict[str, Prompt] = {
    "chat": StepPrompt(
        "mobile_use; goal, step, progress; screen",
        f"{COOKBOOK}; the line that tells of one step: {GUIEVALKIT}, guieval/models/qwen2_5_vl.py",
        Decoding(max_new_tokens=2048),
        style="chat",
    )
}


def _benchmark(name: str, title: str, near: float, **about: Any) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        prompts=PROMPTS,
        score=partial(step, near=near),
        pool=partial(episodes, near=near),
        measure="exact_match",
        **about,
    )


BENCHMARKS: dict[str, Benchmark] = {
    "aitz": _benchmark(
        "aitz",
        "Android in the Zoo",
        NEAR["aitz"],
        get="android_in_the_zoo of IMNearth/CoAT, unpacked: test/SUBSET/EPISODE/EPISODE.json with its screens beside it.",
        source=f"{GUIEVALKIT}, guieval/eval/evaluator.py and data/process_aitz.py; files: IMNearth/CoAT @ 9ab1a9f, data-example",
        splits={"test": Split(("test/*/*/*.json",))},
        read=_read_aitz,
    ),
    "androidcontrol": _benchmark(
        "androidcontrol",
        "AndroidControl",
        NEAR["android_control"],
        get="android_control-000*-of-00020 and splits.json of gs://gresearch/android_control.",
        source=f"{GUIEVALKIT}, guieval/eval/evaluator.py and data/process_ac.py (which asks the validation split too); "
        "files: google-research/google-research @ 0ced6d0, android_control/README.md",
        splits={split: Split(("android_control*", "splits.json")) for split in ("high", "low")},
        read=_read_android_control,
    ),
}
