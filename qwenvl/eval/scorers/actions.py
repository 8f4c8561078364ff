"""Steps on a phone: whether the action that a reply calls for is the one that was taken.

The rules of guieval/eval/evaluator.py (ActionEvaluator) and guieval/models/qwen2_5_vl.py (model_2_minicpm) of
xiaomi-research/guievalkit @ d5e954e, which judge AITZ and AndroidControl alike. Two things are ours: a reply without an action that
can be read is wrong, where guieval/main/compute.py leaves it out of the score; and a swipe goes from its start to its end, where
model_2_minicpm exchanges two of their four numbers.
Points are fractions of the screen; boxes are (top, left, height, width) in fractions, as AITZ writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, isfinite
from typing import Any

from qwenvl.eval.scorers.places import sides_of
from qwenvl.eval.task import Pooled, Prediction, Tally, frame_of
from qwenvl.families.spec import Markup
from qwenvl.processing.tools import read_calls
from qwenvl.types import Point

TAP = 0.04
"""A finger that is lifted so near has tapped (_SWIPE_DISTANCE_THRESHOLD of guieval/utils/action_utils.py)."""
NEAR = {"aitz": 0.14, "android_control": 0.04}
"""How far from the true point a tap may be, of the screen (_TAP_DISTANCE_THRESHOLD and _TAP_DISTANCE_THRESHOLD_AC)."""
WIDER = 1.2
"""How much boxes of elements are enlarged (ANNOTATION_WIDTH_AUGMENT_FRACTION)."""
NEAREST = 5
"""So many elements about the true point count as its own in AndroidControl (obtain_gt_bbox of guieval/utils/action_utils.py)."""
PARTS = 1000
"""Points that are said are cut to whole parts of so many."""

SIDES = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
BUTTONS = ("back", "home", "enter")


@dataclass(frozen=True, slots=True)
class Action:
    """kind: click, long_press, scroll, type, press, open, wait or stop. side: where the finger goes."""

    kind: str
    point: Point | None = None
    side: str = ""
    text: str = ""


def side_of(start: Point, end: Point) -> str:
    """The side that a finger goes to from start to end, in any unit; none where it stays. Of two it is the first of up, down, left,
    right."""
    across, down = end[0] - start[0], end[1] - start[1]
    if across == down == 0:
        return ""
    length = hypot(across, down)
    return max(SIDES, key=lambda side: across / length * SIDES[side][0] + down / length * SIDES[side][1])


def enlarged(box: Sequence[float]) -> list[float]:
    """A box made larger about its middle; it stays on the screen above and to the left, and within its height and width."""
    top, left, height, width = box
    more_height, more_width = (WIDER - 1) * height, (WIDER - 1) * width
    return [
        max(0.0, top - more_height / 2), max(0.0, left - more_width / 2),
        min(1.0, height + more_height), min(1.0, width + more_width),
    ]  # fmt: skip


def boxes_about(point: Point, boxes: Sequence[Sequence[float]]) -> list[list[float]]:
    """AITZ: the enlarged boxes that the true point lies in."""
    return [box for box in map(enlarged, boxes) if _within(point, box)]


def boxes_nearest(point: Point, boxes: Sequence[Sequence[float]]) -> list[list[float]]:
    """AndroidControl: the enlarged boxes whose middles are nearest to the true point."""

    def distance(box: list[float]) -> float:
        down, across = box[0] + box[2] / 2 - point[1], box[1] + box[3] / 2 - point[0]
        return float((down**2 + across**2) ** 0.5)

    return sorted(map(enlarged, boxes), key=distance)[:NEAREST]


def read_action(reply: str, markup: Markup, frame: tuple[int, int] | None) -> Action | None:
    """The action of a reply's first call; None where it calls for none that can be taken."""
    calls, sides = read_calls(reply), sides_of(markup, frame)
    if not calls or sides is None:
        return None
    arguments = calls[0].arguments
    kind, place = arguments.get("action"), _parts(arguments.get("coordinate"), sides)
    if place is not None and not all(0 <= part <= PARTS for part in place):
        return None
    if kind in ("click", "left_click", "long_press"):
        return place and Action("long_press" if kind == "long_press" else "click", (place[0] / PARTS, place[1] / PARTS))
    if kind == "swipe":
        end = _parts(arguments.get("coordinate2"), sides)
        side = side_of(place, end) if place and end else ""
        return Action("scroll", side=side) if side else None
    if kind in ("type", "open"):
        text = arguments.get("text")
        return Action(kind, text=text) if isinstance(text, str) else None
    if kind == "system_button":
        button = str(arguments.get("button"))
        return Action("press", text=button.lower()) if button in map(str.capitalize, BUTTONS) else None
    return Action({"terminate": "stop", "wait": "wait"}[kind]) if kind in ("terminate", "wait") else None


def same(said: Action, true: Mapping[str, Any], near: float) -> bool:
    """Whether an action of the true kind is the true one. true: its `point` and `boxes`, `side`, `text`.

    A typed text is right if one of both holds the other, letters' case aside; any wait is, and any end.
    """
    if said.kind in ("click", "long_press"):
        assert said.point is not None
        x, y = true["point"]
        inside = any(_within(said.point, box) for box in true["boxes"])
        return inside or hypot(x - said.point[0], y - said.point[1]) <= near
    if said.kind == "scroll":
        return said.side == true["side"]
    if said.kind in ("type", "open"):
        ours, theirs = said.text.lower().strip(), true["text"].lower().strip()
        return ours in theirs or theirs in ours
    return said.kind != "press" or said.text == true["text"]


def step(prediction: Prediction, markup: Markup, near: float) -> Mapping[str, Tally]:
    """`exact_match` and `type_match`; the first also of each kind of action, and without those that open an app, which
    docs/results.md of guievalkit leaves out of AndroidControl."""
    true = prediction.truth["action"]
    said = read_action(prediction.reply, markup, frame_of(prediction.truth))
    kind = said is not None and said.kind == true["kind"]
    right = float(said is not None and kind and same(said, true, near))
    tallies: dict[str, Tally] = {"exact_match": (right, 1), "type_match": (float(kind), 1), f"exact_{true['kind']}": (right, 1)}
    if true["kind"] != "open":
        tallies["exact_match_without_open"] = (right, 1)
    return tallies


def episodes(predictions: Sequence[Prediction], markup: Markup, near: float) -> Mapping[str, Pooled]:
    """`success_rate`: episodes whose steps are all right; `goal_progress`: the share of an episode's steps before the first that is
    not (compute_episode_metrics of guieval/eval/compute_metric.py)."""
    steps: dict[str, list[tuple[int, bool]]] = {}
    for prediction in predictions:
        right = step(prediction, markup, near)["exact_match"][0] == 1
        steps.setdefault(prediction.truth["episode"], []).append((prediction.truth["step"], right))
    shares = tuple(_progress([right for _, right in sorted(found)]) for _, found in sorted(steps.items()))
    return {
        "success_rate": Pooled(shares, lambda units: sum(share == 1 for share in units) / len(units)),
        "goal_progress": Pooled(shares, lambda units: sum(units) / len(units)),
    }


def _progress(rights: Sequence[bool]) -> float:
    return (rights.index(False) if False in rights else len(rights)) / len(rights)


def _parts(value: Any, sides: tuple[int, int]) -> tuple[int, int] | None:
    """A coordinate in whole thousandths of the screen, what is over cut off; None for what is none."""
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(number, int | float) for number in value):
        return None
    parts = [number / side * PARTS for number, side in zip(value, sides, strict=True)]
    return (int(parts[0]), int(parts[1])) if all(map(isfinite, parts)) else None


def _within(point: Point, box: Sequence[float]) -> bool:
    top, left, height, width = box
    return left <= point[0] <= left + width and top <= point[1] <= top + height
