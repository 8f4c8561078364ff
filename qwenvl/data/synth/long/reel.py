"""Reels: clips one after the other as one video of minutes, and what is asked about them.

A pure function of (spec, seed, index).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from qwenvl.data.clips import clip_questions
from qwenvl.data.scene_recipe import draw
from qwenvl.data.synth.clip import Clip, ClipSpec, Track, generate_clip
from qwenvl.data.synth.draws import draw_language, whole
from qwenvl.data.synth.long.budget import LongSpec, stream
from qwenvl.data.synth.names import Language
from qwenvl.types import Message, Sample, VideoPart

_KIND, _ASKING = 1, 2
"""Streams of random numbers: of what is shown, and of what is asked."""
_NUMBERS = 1 << 20
"""Numbers of clips kept free for each reel, so that no two share one."""
LATE = 2 / 3
"""From this part of a reel on an answer is late."""
_ABOUT_ONE = ("clip_when", "clip_direction", "clip_next")
_ABOUT_ALL = ("clip_events", "clip_at")


class ReelSpec(LongSpec):
    """How clips become reels."""

    language: Literal["en", "zh", "both"] = "both"
    fps: Literal[2, 4] = 2
    """Frames a second: with these, clips join without a gap."""
    side: tuple[int, int] = (84, 112)
    """Least and greatest side of the frames; all of one reel are alike."""
    clips: ClipSpec = ClipSpec(visits=(1, 2), acts=("move", "stay", "grow", "shrink"))
    """What each of the clips shows, but for its canvas."""
    kinds: dict[str, float] = Field(default={"needle": 2.0, "events": 1.0, "dialogue": 1.0}, min_length=1)
    """needle: one question whose answer is late. events: every event with its time. dialogue: two to four questions."""

    @field_validator("kinds")
    @classmethod
    def _are_kinds(cls, kinds: dict[str, float]) -> dict[str, float]:
        if unknown := set(kinds) - set(_MAKERS):
            raise ValueError(f"no {', '.join(sorted(unknown))}; known: {', '.join(_MAKERS)}")
        return kinds


def joined(clips: Sequence[Clip]) -> Clip:
    """Clips of one size and rate as one, whose things keep to the frames of their own clip. Its background is the first one's.

    Raises ValueError for clips that do not fit together.
    """
    first = clips[0]
    if any((clip.width, clip.height, clip.fps) != (first.width, first.height, first.fps) for clip in clips):
        raise ValueError("clips of several sizes or rates make no reel")
    if any(len(clip.frames) != clip.duration * clip.fps for clip in clips[:-1]):
        raise ValueError("a clip that does not end with its last frame leaves a gap")
    total = sum(len(clip.frames) for clip in clips)
    tracks: list[Track] = []
    begin = 0
    for clip in clips:
        before, behind = (None,) * begin, (None,) * (total - begin - len(clip.frames))
        for track in clip.tracks:
            start, end = (begin / first.fps + time for time in (track.start, track.end))
            tracks.append(replace(track, start=start, end=end, boxes=(*before, *track.boxes, *behind)))
        begin += len(clip.frames)
    frames = tuple(frame for clip in clips for frame in clip.frames)
    return replace(first, frames=frames, duration=sum(clip.duration for clip in clips), tracks=tuple(tracks))


def make_reel(spec: ReelSpec, seed: int, index: int) -> Clip:
    """Reel number `index` of a stream: as many clips as fit its budget with the longest answer, at least one."""
    rng = stream(_KIND, seed, index)
    room = spec.budget(rng)
    side = whole(rng, *spec.side)
    clips_spec = spec.clips.model_copy(update={"canvas": (side, side)})
    clips: list[Clip] = []
    for number in count():
        clip = generate_clip(clips_spec, seed, index * _NUMBERS + number, spec.fps)
        reel = joined([*clips, clip])
        if clips and _length(spec, reel) > room:
            break
        clips.append(clip)
    return replace(joined(clips), seed=seed, index=index)


def _length(spec: ReelSpec, reel: Clip) -> int:
    """Tokens of the video, and of telling all that happens in it."""
    told = clip_questions(reel, "clip_events", "en", "chat", np.random.default_rng(0))
    return spec.ruler.sample(told[0]) if told else spec.ruler.part(VideoPart(list(reel.frames), fps=reel.fps))


def samples(spec: ReelSpec, seed: int, index: int) -> list[Sample]:
    """One Sample about reel `index`."""
    reel = make_reel(spec, seed, index)
    rng = stream(_ASKING, seed, index)
    language = draw_language(rng, spec.language)
    left = dict(spec.kinds)
    while left:
        kind = draw(left, rng)
        if sample := _MAKERS[kind](reel, language, rng, spec.held_out):
            return [replace(sample, id=f"reel {seed}/{index} {kind} {language}", source="reels", task=f"reel_{kind}")]
        del left[kind]
    return []


def needle(reel: Clip, language: Language, rng: np.random.Generator, held_out: bool) -> Sample | None:
    """One question about a thing that comes late, and whose name no other thing of the reel has."""
    tracks = {(track.name, track.colour): track for track in reel.tracks}
    for task in rng.permutation(_ABOUT_ONE).tolist():
        found = clip_questions(reel, task, language, "chat", rng, held_out)
        late = [one for one in found if tracks[one.extra["key"], one.extra["colour"]].start >= LATE * reel.duration]
        if late:
            return late[0]
    return None


def events(reel: Clip, language: Language, rng: np.random.Generator, held_out: bool) -> Sample | None:
    return next(iter(clip_questions(reel, "clip_events", language, "chat", rng, held_out)), None)


def dialogue(reel: Clip, language: Language, rng: np.random.Generator, held_out: bool) -> Sample | None:
    """Two to four questions, one of them late. The list of all events comes last: it would answer the others."""
    late = needle(reel, language, rng, held_out)
    if late is None:
        return None
    chosen = [late]
    for task in rng.permutation(_ABOUT_ONE + _ABOUT_ALL).tolist()[: whole(rng, 1, 3)]:
        found = clip_questions(reel, task, language, "chat", rng, held_out)
        chosen += [one for one in found if one.extra["question"] != late.extra["question"]][:1]
    order = [chosen[place] for place in rng.permutation(len(chosen)).tolist()]
    order.sort(key=lambda one: one.task == "clip_events")
    messages: list[Message] = []
    for number, one in enumerate(order):
        asked, said = one.messages
        messages += [asked if number == 0 else Message("user", asked.parts[1:]), said]
    return replace(late, messages=tuple(messages), extra={"kind": "dialogue", "turns": [one.extra for one in order]})


_MAKERS = {"needle": needle, "events": events, "dialogue": dialogue}
