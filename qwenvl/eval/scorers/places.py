"""Places that a reply names, in whatever notation it writes them, and what they earn: referring by box, pointing, clicking.

Places are fractions of the picture's width and height. A reply is read in its model's own markup. Where that has no such place, a
model that writes tags is read in JSON, XML and calls too, with numbers in parts of its scale: wordings of later families ask for
those.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwenvl.eval.asking import BOX
from qwenvl.eval.scorers.boxes import Box, box_iou, box_of
from qwenvl.eval.task import Prediction, Tally, frame_of
from qwenvl.families.spec import Markup
from qwenvl.processing.regions import read_regions, style_of
from qwenvl.processing.tools import read_calls
from qwenvl.types import Point, Region

FOUND = 0.5
"""Least intersection over union of a box that is right. GRIT asks for more than it (metrics/refexp.py of allenai/grit_official
@ f1860b3)."""
SCRIPT_SCALE = 999
"""What eval_mm/evaluate_grounding.py of QwenLM/Qwen-VL @ aa00ed0 divides coordinates by, though the model writes parts of 1000."""
SCRIPT_BOX = re.compile(r"\((.*?)\),\((.*?)\)")
"""Where that script looks for a box. The first match alone counts."""

JSON = Markup(style="json")


def script_box(reply: str) -> Box | None:
    """The box that the published script reads, corners as they stand; None where it gives up, and takes a box without area."""
    found = SCRIPT_BOX.search(reply)
    if found is None:
        return None
    try:
        (left, top), (right, bottom) = (map(float, corner.split(",")) for corner in found.groups())
    except ValueError:  # no number, or not two of them
        return None
    numbers = (left, top, right, bottom)
    if not all(map(math.isfinite, numbers)):
        return None
    left, top, right, bottom = (number / SCRIPT_SCALE for number in numbers)
    return left, top, right, bottom


def said_boxes(reply: str, markup: Markup, frame: tuple[int, int] | None) -> list[Region]:
    """The boxes that a reply names, in order, with their labels."""
    return next(_said("box", reply, markup, frame), [])


def said_points(reply: str, markup: Markup, frame: tuple[int, int] | None) -> list[Point]:
    """The points that a reply names: those of its calls, or those that it writes as points, or the middles of its boxes."""
    called = [point for call in read_calls(reply) if (point := _called(call.arguments.get("coordinate"), sides_of(markup, frame)))]
    if called:
        return called
    if points := next(_said("point", reply, markup, frame), []):
        return [region.points[0] for region in points]
    return [middle(box_of(region)) for region in said_boxes(reply, markup, frame)]


def sides_of(markup: Markup, frame: tuple[int, int] | None) -> tuple[int, int] | None:
    """What a model's bare numbers are divided by: its frame in pixels, or the scale of its tags."""
    return frame if style_of(markup).in_pixels else (markup.scale, markup.scale)


def middle(box: Box) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def in_box(point: Point, box: Sequence[float]) -> bool:
    """Edges are inside."""
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def refer(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """The reply's first box against truth["box"]: whether it is right, and its mean overlap.

    A reply that was begun with <box>, as the published script begins it, is read as that script reads it.
    """
    if f"begin={BOX}" in prediction.decoding and markup.style == "tags":
        said = script_box(prediction.reply)
    else:
        said = next((box_of(region) for region in said_boxes(prediction.reply, markup, frame_of(prediction.truth))), None)
    left, top, right, bottom = prediction.truth["box"]
    overlap = 0.0 if said is None else box_iou(said, (left, top, right, bottom))
    return {"acc_iou_50": (float(overlap >= FOUND), 1), "iou": (overlap, 1)}


def click(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """The reply's first point lies in truth["box"]; told apart by truth["element"], text or icon.

    The rule of pretrain/screenspot_test.py, njucckevin/SeeClick @ 0ef37ac, and of eval_screenspot_pro.py,
    likaixin2000/ScreenSpot-Pro-GUI-Grounding @ bd8bbbb. A reply without a point is wrong.
    """
    points = said_points(prediction.reply, markup, frame_of(prediction.truth))
    hit = float(bool(points) and in_box(points[0], prediction.truth["box"]))
    return {"accuracy": (hit, 1), f"accuracy_{prediction.truth['element']}": (hit, 1)}


def _said(kind: str, reply: str, markup: Markup, frame: tuple[int, int] | None) -> Iterator[list[Region]]:
    """The places of that kind in the first notation that has any."""
    notations = [(markup, frame)]
    if not style_of(markup).in_pixels:
        notations.append((JSON, (markup.scale, markup.scale)))
    for notation, sides in notations:
        found = [region for region in read_regions(reply, notation, frame=sides) if region.kind == kind]
        if found:
            yield found


def _called(value: Any, sides: tuple[int, int] | None) -> Point | None:
    """A coordinate of a call: a point, or the middle of a box."""
    if sides is None or not isinstance(value, list) or not all(isinstance(number, int | float) for number in value):
        return None
    if len(value) == 4:
        value = middle((value[0], value[1], value[2], value[3]))
    return (value[0] / sides[0], value[1] / sides[1]) if len(value) == 2 else None
