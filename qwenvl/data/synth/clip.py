"""Clips: toy videos with ground truth, each a pure function of (spec, seed, index); the rate only says how often it is looked at.

One to three things appear on a background of one named colour, move along a straight line and leave. Each keeps to a lane of its
own, so that none hides another. Times are seconds from the beginning; boxes are those of the ink, in pixels of the frames.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from qwenvl.config import Strict
from qwenvl.data.synth import ink
from qwenvl.data.synth.background import Pattern, draw_background, jitter
from qwenvl.data.synth.dense import patch_targets, thing_class
from qwenvl.data.synth.draws import between, pick, whole
from qwenvl.data.synth.ink import Box, Colour, Ink
from qwenvl.data.synth.scene import BACKGROUNDS, REFERENCE_SIDE, SPLITS, require_sources
from qwenvl.data.synth.spec import SceneSpec, drawable, spec_hash
from qwenvl.types import QwenVLError

CLIP_VERSION = 1
"""Raised by every change that moves a pixel or a time of a clip: it is part of clip_hash."""

_KIND = 3
"""Apart from the kinds of scenes, so that no clip shares a stream of random numbers with one."""
_STEP = 0.5
"""Things appear and leave at whole multiples of so many seconds."""
_GAP = 1
_TRAVEL = (0.5, 1.0)
"""How far a thing moves, as a share of the way that there is."""

Direction = Literal["left", "right", "up", "down"]


class ClipSpec(Strict):
    """What may be filmed. Sizes are pixels on a canvas of 112 and grow with the canvas."""

    split: Literal["train", "held_out"] = "train"
    """Two streams without a common clip."""
    canvas: tuple[int, int] = (84, 112)
    """Least and greatest side of the square frames."""
    seconds: tuple[float, float] = (4.0, 8.0)
    """Length of a clip."""
    stay: tuple[float, float] = (1.0, 2.0)
    """How long a thing is to be seen."""
    things: tuple[int, int] = (1, 3)
    thing_size: tuple[float, float] = (28, 46)
    """Smaller where three lanes leave less room."""
    shape_share: float = Field(default=0.4, ge=0, le=1)
    """Chance of a thing to be a coloured shape and not an emoji."""
    patterns: tuple[Pattern, ...] = ("flat", "gradient", "stripe", "checker")
    pairs: Literal["trained", "held_out"] = "trained"
    """As for scenes: which pairs of thing and background colour may be shown."""

    @model_validator(mode="after")
    def _is_drawable(self) -> ClipSpec:
        if self.split == "train" and self.pairs == "held_out":
            raise ValueError("held-out pairs belong to split held_out; training must not see them")
        for name in ("canvas", "seconds", "stay", "things", "thing_size"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        if self.canvas[0] < 56 or self.canvas[1] > 224 or self.things[1] > 3 or self.thing_size[1] > 80:
            raise ValueError("frames have sides of 56 to 224, up to 3 things, and things of up to 80 pixels")
        if not _STEP <= self.stay[0] <= self.seconds[0] or self.seconds[1] > 60:
            raise ValueError(f"stay: at least {_STEP} seconds and no longer than the shortest clip; a clip lasts up to 60")
        if not self.patterns:
            raise ValueError("patterns: name at least one")
        return self


@dataclass(frozen=True, slots=True)
class Track:
    """One thing of a clip: what it is (as a Thing of a scene), from when to when it is there, and where it is in each frame.

    It is to be seen at `start` and no more at `end`. `boxes` has None for frames without it.
    """

    kind: Literal["emoji", "shape"]
    name: str
    colour: str | None
    start: float
    end: float
    direction: Direction
    boxes: tuple[Box | None, ...]
    class_id: int

    @property
    def seen(self) -> list[Box]:
        """Its boxes in the frames that show it, in order."""
        return [box for box in self.boxes if box is not None]


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames (RGB), taken at `fps` (on average, once some are left out) from 0 seconds on, and the things in them by when they
    appear."""

    frames: tuple[Image.Image, ...]
    fps: float
    duration: float
    background: str
    tracks: tuple[Track, ...]
    seed: int
    index: int

    @property
    def width(self) -> int:
        return self.frames[0].width

    @property
    def height(self) -> int:
        return self.frames[0].height

    def sampled(self, times: Sequence[float]) -> Clip:
        """The clip as who looks at these seconds alone knows it: the frames taken then, and where things are in them."""
        kept = [round(time * self.fps) for time in times]
        tracks = tuple(replace(track, boxes=tuple(track.boxes[number] for number in kept)) for track in self.tracks)
        rate = self.fps * (len(kept) / len(self.frames))
        return replace(self, frames=tuple(self.frames[number] for number in kept), fps=rate, tracks=tracks)


@dataclass(frozen=True, slots=True)
class _Path:
    """A thing on its way: top left corners at its start and its end."""

    kind: Literal["emoji", "shape"]
    name: str
    colour: str | None
    paint: Colour
    ink: Ink
    start: float
    end: float
    direction: Direction
    leaves: tuple[float, float]
    arrives: tuple[float, float]

    def at(self, time: float) -> tuple[int, int] | None:
        """Its top left corner in pixels, None while it is not there."""
        if not self.start <= time < self.end:
            return None
        part = (time - self.start) / (self.end - self.start)
        x, y = (a + (b - a) * part for a, b in zip(self.leaves, self.arrives, strict=True))
        return round(x), round(y)


def generate_clip(spec: ClipSpec, seed: int, index: int, fps: float = 2.0) -> Clip:
    """Clip number `index` of a stream, looked at `fps` times a second. The same arguments give the same bytes, in any process.

    Raises QwenVLError, one line, for a negative number, a rate of 0, or where fonts or names are not installed.
    """
    require_sources()
    if seed < 0 or index < 0 or not 0 < fps <= 60:
        raise QwenVLError(f"clip (seed {seed}, index {index}, fps {fps}): numbers count from 0, fps is above 0 and at most 60")
    rng = np.random.default_rng((CLIP_VERSION, SPLITS[spec.split], _KIND, seed, index))
    side = whole(rng, *spec.canvas)
    background = pick(rng, BACKGROUNDS)
    empty = draw_background(background, (side, side), pick(rng, spec.patterns), rng)
    steps = whole(rng, round(spec.seconds[0] / _STEP), round(spec.seconds[1] / _STEP))
    paths = sorted(_paths(spec, rng, side, steps, background), key=lambda path: path.start)
    frames, boxes = [], []
    for number in range(math.ceil(steps * _STEP * fps)):
        frame, places = empty.copy(), [path.at(number / fps) for path in paths]
        for path, place in zip(paths, places, strict=True):
            if place is not None:
                path.ink.paint(frame, *place, path.paint)
        frames.append(frame)
        boxes.append([None if place is None else _box(path.ink, place) for path, place in zip(paths, places, strict=True)])
    tracks = tuple(_track(path, [row[number] for row in boxes]) for number, path in enumerate(paths))
    return Clip(tuple(frames), fps, steps * _STEP, background, tracks, seed, index)


def clip_hash(spec: ClipSpec) -> str:
    """16 hex digits that change with anything that changes frames or times: the spec, the versions, the tables of scenes."""
    world = [CLIP_VERSION, spec_hash(SceneSpec()), spec.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(world).encode()).hexdigest()[:16]


def clip_targets(clip: Clip, grid: tuple[int, int, int], span: int, merge: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the patches of a clip, as `dense.patch_targets`; grid: patches in time, height, width, each of `span` frames.

    A thing is where it is on average over those frames of a patch that show it. Raises ValueError for a clip that was not `sampled`
    as the patches were.
    """
    starts = range(0, len(clip.frames), span)
    if len(starts) != grid[0]:
        raise ValueError(f"{len(clip.frames)} frames are {len(starts)} patches in time, not {grid[0]}; sample the clip first")
    moments = [_labelled(clip, range(first, min(first + span, len(clip.frames)))) for first in starts]
    pairs = [patch_targets(labelled, (clip.width, clip.height), (grid[1], grid[2]), merge) for labelled in moments]
    return np.concatenate([classes for classes, _ in pairs]), np.concatenate([boxes for _, boxes in pairs])


def _labelled(clip: Clip, frames: Sequence[int]) -> list[tuple[int, Box]]:
    found = []
    for track in clip.tracks:
        shown = [box for frame in frames if (box := track.boxes[frame]) is not None]
        if shown:
            left, top, right, bottom = np.mean(shown, axis=0).tolist()
            found.append((track.class_id, (left, top, right, bottom)))
    return found


def _paths(spec: ClipSpec, rng: np.random.Generator, side: int, steps: int, background: str) -> list[_Path]:
    """Different things, each in a lane of its own; all lanes run across, or all run up and down."""
    emoji, shapes = drawable(background, spec.pairs)
    across = rng.random() < 0.5
    count = whole(rng, *spec.things)
    lane = side // count
    chosen: list[tuple[str, str | None]] = []
    while len(chosen) < count:
        shape = bool(shapes) and (not emoji or rng.random() < spec.shape_share)
        thing: tuple[str, str | None] = pick(rng, shapes) if shape else (pick(rng, emoji), None)
        if thing not in chosen:
            chosen.append(thing)
    paths = []
    for number, (name, colour) in enumerate(chosen):
        size = min(round(between(rng, *spec.thing_size) * side / REFERENCE_SIDE), lane - 2 * _GAP)
        drawn = ink.emoji(name, size) if colour is None else ink.shape(name, size)
        extents = (drawn.width, drawn.height) if across else (drawn.height, drawn.width)
        room = side - extents[0]
        travel = room * between(rng, *_TRAVEL)
        low = (room - travel) * rng.random()
        beside = number * lane + (lane - extents[1]) * rng.random()
        forwards = rng.random() < 0.5
        first, last = (low, low + travel) if forwards else (low + travel, low)
        stay = whole(rng, round(spec.stay[0] / _STEP), min(round(spec.stay[1] / _STEP), steps))
        start = whole(rng, 0, steps - stay) * _STEP
        paths.append(_Path(
            kind="emoji" if colour is None else "shape", name=name, colour=colour,
            paint=(0, 0, 0) if colour is None else jitter(colour, rng), ink=drawn, start=start, end=start + stay * _STEP,
            direction=("right" if forwards else "left") if across else ("down" if forwards else "up"),
            leaves=(first, beside) if across else (beside, first), arrives=(last, beside) if across else (beside, last),
        ))  # fmt: skip
    return paths


def _box(drawn: Ink, place: tuple[int, int]) -> Box:
    return (place[0], place[1], place[0] + drawn.width, place[1] + drawn.height)


def _track(path: _Path, boxes: Sequence[Box | None]) -> Track:
    class_id = thing_class(path.kind, path.name, path.colour)
    return Track(path.kind, path.name, path.colour, path.start, path.end, path.direction, tuple(boxes), class_id)
