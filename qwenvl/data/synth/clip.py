"""Clips: toy videos with ground truth, each a pure function of (spec, seed, index); the rate only says how often it is looked at.

One to three things appear on a background of one named colour, move along a straight line and leave. Each keeps to a lane of its
own, so that none hides another; a spec may let several follow each other in a lane, and some stay, grow or shrink. Times are
seconds from the beginning; boxes are those of the ink, in pixels of the frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from qwenvl.data.synth.background import draw_background
from qwenvl.data.synth.clip_paths import Direction, Path, draw_paths
from qwenvl.data.synth.clip_spec import CLIP_VERSION, STEP, Act, ClipSpec, clip_hash
from qwenvl.data.synth.dense import patch_targets, thing_class
from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.ink import Box, Ink
from qwenvl.data.synth.scene import BACKGROUNDS, SPLITS, require_sources
from qwenvl.types import QwenVLError

__all__ = ["CLIP_VERSION", "Act", "Clip", "ClipSpec", "Direction", "Track", "clip_hash", "clip_targets", "generate_clip"]

_KIND = 3
"""Apart from the kinds of scenes, so that no clip shares a stream of random numbers with one."""


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
    direction: Direction | None
    """Where it moves to, None where it does not."""
    boxes: tuple[Box | None, ...]
    class_id: int
    act: Act = "move"

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
    steps = whole(rng, round(spec.seconds[0] / STEP), round(spec.seconds[1] / STEP))
    paths = sorted(draw_paths(spec, rng, side, steps, background), key=lambda path: path.start)
    frames, boxes = [], []
    for number in range(math.ceil(steps * STEP * fps)):
        frame, places = empty.copy(), [path.at(number / fps) for path in paths]
        for path, place in zip(paths, places, strict=True):
            if place is not None:
                drawn, left, top = place
                drawn.paint(frame, left, top, path.paint)
        frames.append(frame)
        boxes.append([None if place is None else _box(*place) for place in places])
    tracks = tuple(_track(path, [row[number] for row in boxes]) for number, path in enumerate(paths))
    return Clip(tuple(frames), fps, steps * STEP, background, tracks, seed, index)


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


def _box(drawn: Ink, left: int, top: int) -> Box:
    return (left, top, left + drawn.width, top + drawn.height)


def _track(path: Path, boxes: Sequence[Box | None]) -> Track:
    class_id = thing_class(path.kind, path.name, path.colour)
    return Track(path.kind, path.name, path.colour, path.start, path.end, path.direction, tuple(boxes), class_id, path.act)
