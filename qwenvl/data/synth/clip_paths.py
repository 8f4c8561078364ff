"""The ways that the things of a clip go: in lanes, so that none hides another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from qwenvl.data.synth import ink
from qwenvl.data.synth.background import jitter
from qwenvl.data.synth.clip_spec import STEP, Act, ClipSpec
from qwenvl.data.synth.draws import between, pick, whole
from qwenvl.data.synth.ink import Colour, Ink
from qwenvl.data.synth.scene import REFERENCE_SIDE
from qwenvl.data.synth.spec import drawable

_GAP = 1
_TRAVEL = (0.5, 1.0)
"""How far a thing moves, as a share of the way that there is."""
_SMALLEST = 0.4
"""Size of a thing that grows before it does, as a part of what it becomes."""

Direction = Literal["left", "right", "up", "down"]


@dataclass(frozen=True, slots=True)
class Path:
    """A thing on its way: top left corners at its start and its end, and what it does there."""

    kind: Literal["emoji", "shape"]
    name: str
    colour: str | None
    paint: Colour
    ink: Ink
    size: int
    start: float
    end: float
    act: Act
    direction: Direction | None
    leaves: tuple[float, float]
    arrives: tuple[float, float]

    def at(self, time: float) -> tuple[Ink, int, int] | None:
        """Its ink and the top left corner of it in pixels, None while it is not there."""
        if not self.start <= time < self.end:
            return None
        part = (time - self.start) / (self.end - self.start)
        x, y = (a + (b - a) * part for a, b in zip(self.leaves, self.arrives, strict=True))
        if self.act not in ("grow", "shrink"):
            return self.ink, round(x), round(y)
        scale = _SMALLEST + (1 - _SMALLEST) * (part if self.act == "grow" else 1 - part)
        drawn = _drawn(self.name, self.colour, round(self.size * scale))
        return drawn, round(x + (self.ink.width - drawn.width) / 2), round(y + (self.ink.height - drawn.height) / 2)


def draw_paths(spec: ClipSpec, rng: np.random.Generator, side: int, steps: int, background: str) -> list[Path]:
    """Different things, in lanes that all run across, or all up and down; no two are in one lane at one time."""
    emoji, shapes = drawable(background, spec.pairs)
    across = rng.random() < 0.5
    count = whole(rng, *spec.things)
    lane = side // count
    slots = _slots(spec, rng, count, steps)
    chosen: list[tuple[str, str | None]] = []
    while len(chosen) < len(slots):
        shape = bool(shapes) and (not emoji or rng.random() < spec.shape_share)
        thing: tuple[str, str | None] = pick(rng, shapes) if shape else (pick(rng, emoji), None)
        if thing not in chosen:
            chosen.append(thing)
    paths = []
    for (number, begin, length), (name, colour) in zip(slots, chosen, strict=True):
        size = min(round(between(rng, *spec.thing_size) * side / REFERENCE_SIDE), lane - 2 * _GAP)
        drawn = _drawn(name, colour, size)
        extents = (drawn.width, drawn.height) if across else (drawn.height, drawn.width)
        room = side - extents[0]
        travel = room * between(rng, *_TRAVEL)
        low = (room - travel) * rng.random()
        beside = number * lane + (lane - extents[1]) * rng.random()
        forwards = rng.random() < 0.5
        first, last = (low, low + travel) if forwards else (low + travel, low)
        stay = whole(rng, round(spec.stay[0] / STEP), min(round(spec.stay[1] / STEP), length))
        start = (begin + whole(rng, 0, length - stay)) * STEP
        paint = (0, 0, 0) if colour is None else jitter(colour, rng)
        act: Act = spec.acts[0] if len(spec.acts) == 1 else pick(rng, spec.acts)
        way: Direction = ("right" if forwards else "left") if across else ("down" if forwards else "up")
        last = last if act == "move" else first
        paths.append(Path(
            kind="emoji" if colour is None else "shape", name=name, colour=colour, paint=paint, ink=drawn, size=size, start=start,
            end=start + stay * STEP, act=act, direction=way if act == "move" else None,
            leaves=(first, beside) if across else (beside, first), arrives=(last, beside) if across else (beside, last),
        ))  # fmt: skip
    return paths


def _slots(spec: ClipSpec, rng: np.random.Generator, lanes: int, steps: int) -> list[tuple[int, int, int]]:
    """(lane, first step, steps) of every stretch of time that one thing has for itself."""
    slots = []
    for lane in range(lanes):
        visits = 1 if spec.visits == (1, 1) else min(whole(rng, *spec.visits), steps // round(spec.stay[0] / STEP))
        ends = [steps * visit // visits for visit in range(visits + 1)]
        slots += [(lane, begin, end - begin) for begin, end in pairwise(ends)]
    return slots


def _drawn(name: str, colour: str | None, size: int) -> Ink:
    return ink.emoji(name, size) if colour is None else ink.shape(name, size)
