"""Faults of place: a box beside the thing, the box of another thing, a point that misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qwenvl.data.preferences.faults import Truth
from qwenvl.data.wording import Voice
from qwenvl.types import Part, Region, RegionPart

OVERLAP = (0.05, 0.5)
"""Intersection over union of a shifted box with the true one: near it, and not to be taken for right at the usual threshold."""
_SHIFT = (0.2, 0.9)
"""By how much of its own sides a box is moved."""
_GROW = (0.7, 1.4)
_TRIES = 40
_APART = 0.3
"""Greatest overlap of another thing's box with the true one."""


def shifted_box(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """One of the answer's boxes moved a little, and made larger or smaller."""
    place = _one_of(truth.answer, "box", voice)
    if place is None:
        return None
    moved = shifted(_region(truth.answer, place), voice.rng)
    return None if moved is None else _with(truth.answer, place, moved)


def shifted(box: Region, rng: np.random.Generator) -> Region | None:
    """A box near another one, within the picture; None where the box leaves no room for it."""
    (left, top), (right, bottom) = box.points
    for _ in range(_TRIES):
        across, down = (float(rng.uniform(*_SHIFT) * rng.choice((-1, 1))) for _ in range(2))
        if rng.random() < 0.5:  # along one side
            across, down = (across, 0.0) if rng.random() < 0.5 else (0.0, down)
        wide, high = ((right - left) * float(rng.uniform(*_GROW)), (bottom - top) * float(rng.uniform(*_GROW)))
        x, y = (left + right) / 2 + across * (right - left), (top + bottom) / 2 + down * (bottom - top)
        corners = ((x - wide / 2, y - high / 2), (x + wide / 2, y + high / 2))
        (a, b), (c, d) = ((min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)) for x, y in corners)
        if a < c and b < d:
            moved = replace(box, points=((a, b), (c, d)))
            if OVERLAP[0] <= overlap(box, moved) <= OVERLAP[1]:
                return moved
    return None


def overlap(one: Region, other: Region) -> float:
    """Intersection over union of two boxes."""
    (a, b), (c, d) = one.points
    (e, f), (g, h) = other.points
    shared = max(min(c, g) - max(a, e), 0.0) * max(min(d, h) - max(b, f), 0.0)
    return shared / ((c - a) * (d - b) + (g - e) * (h - f) - shared)


def other_box(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """The box of another thing of the picture in the place of the right one."""
    place = _one_of(truth.answer, "box", voice)
    if place is None:
        return None
    right = _region(truth.answer, place)
    said = truth.answer[place[0]]
    assert isinstance(said, RegionPart)
    wrong = [region for phrase, region in truth.others if phrase != said.phrase and overlap(right, region) <= _APART]
    return _with(truth.answer, place, replace(voice.pick(wrong), image=right.image)) if wrong else None


def missed_point(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """A point that lies on something else, or beside the thing; the Sample says in which box it should lie."""
    place = _one_of(truth.answer, "point", voice)
    boxes = truth.sample.extra.get("regions") or []
    if place is None or len(boxes) != 1 or len(boxes[0]) != 4:
        return None
    left, top, right, bottom = boxes[0]
    elsewhere = [((a + c) / 2, (b + d) / 2) for (a, b), (c, d) in (region.points for _, region in truth.others)]
    beside = [(left - (right - left), (top + bottom) / 2), ((left + right) / 2, bottom + (bottom - top))]
    wrong = [
        (x, y) for x, y in (*elsewhere, *beside) if 0 <= x <= 1 and 0 <= y <= 1 and not (left <= x <= right and top <= y <= bottom)
    ]
    if not wrong:
        return None
    return _with(truth.answer, place, replace(_region(truth.answer, place), points=(voice.pick(wrong),)))


Place = tuple[int, int]
"""Number of a part of the answer, and of a region in it."""


def _one_of(answer: Sequence[Part], kind: str, voice: Voice) -> Place | None:
    """One of the answer's regions, all of which are of that kind."""
    found = [
        (number, place, region.kind)
        for number, part in enumerate(answer)
        if isinstance(part, RegionPart)
        for place, region in enumerate(part.regions)
    ]
    if not found or any(other != kind for _, _, other in found):
        return None
    number, place, _ = voice.pick(found)
    return number, place


def _region(answer: Sequence[Part], place: Place) -> Region:
    part = answer[place[0]]
    assert isinstance(part, RegionPart)
    return part.regions[place[1]]


def _with(answer: Sequence[Part], place: Place, region: Region) -> tuple[Part, ...]:
    """The answer with another region in that place."""
    part = answer[place[0]]
    assert isinstance(part, RegionPart)
    regions = (*part.regions[: place[1]], region, *part.regions[place[1] + 1 :])
    return (*answer[: place[0]], replace(part, regions=regions), *answer[place[0] + 1 :])
