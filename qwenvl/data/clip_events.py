"""The tasks about what happens in a clip and in which order; see clips.py for what each leaves in `Sample.extra`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby, pairwise

from qwenvl.data.answers import count_choices
from qwenvl.data.clip_wording import a_thing, about, alone, clip_turn, deed, the_thing, visible
from qwenvl.data.formats import EVENTS_PROMPT, events_text
from qwenvl.data.synth.clip import Clip, Track
from qwenvl.data.synth.names import described, number
from qwenvl.data.wording import Turn, Voice, listing, opened
from qwenvl.types import TextPart

_PUBLISHED = 0.5
"""How often every event is asked for in the words that Qwen2.5-VL was trained on; ours ask for the same JSON."""
_CLEAR = 0.2
"""Seconds between a moment that is asked about and the next coming or going: a moment's frame may be a little off."""
_MOST_COUNTED = 9


def dense(clip: Clip, voice: Voice) -> list[Turn]:
    """Every event with its time, as JSON."""
    tracks = visible(clip)
    if not tracks:
        return []
    asked = EVENTS_PROMPT[voice.language] if voice.happens(_PUBLISHED) else voice.phrasing("clip_events")
    spans = [(track.start, track.end, sentence(track, voice)) for track in tracks]
    answer = events_text(spans)
    extra = {"kind": "clip_events", "question": asked, "answer": answer, "spans": [list(span) for span in spans]}
    return [Turn((TextPart(asked),), (TextPart(answer),), extra)]


def sentence(track: Track, voice: Voice) -> str:
    """What a thing does, as a sentence."""
    said = a_thing(track, voice) + voice.say(" ", "") + deed(track, voice.language)
    return opened(said) + voice.say(".", "。")


def order(clip: Clip, voice: Voice) -> list[Turn]:
    """In which order things appear, where no two do at the same time."""
    tracks = visible(clip)
    if len(tracks) < 2 or _tied(tracks):
        return []
    things = [a_thing(track, voice) for track in tracks]
    if voice.language == "en":
        long = opened(f"first {things[0]}" + "".join(f", then {thing}" for thing in things[1:]) + ".")
    else:
        long = f"先是{things[0]}" + "".join(f"，然后是{thing}" for thing in things[1:]) + "。"
    shown = [{"phrase": thing, **about(track)} for thing, track in zip(things, tracks, strict=True)]
    short = voice.say(", ", "，").join(things)
    return [clip_turn("clip_order", voice.phrasing("clip_order"), short, long, voice, things=shown)]


def _tied(tracks: list[Track]) -> bool:
    return len({track.start for track in tracks}) < len(tracks)


def after(clip: Clip, voice: Voice) -> list[Turn]:
    """What appears next after a thing: one thing, at a time of its own."""
    moments = [list(group) for _, group in groupby(visible(clip), key=lambda track: track.start)]
    named = alone(visible(clip))
    turns = []
    for (first, *ties), (following, *others) in pairwise(moments):
        if ties or others or first not in named:
            continue
        asked = voice.phrasing("clip_next").format(thing=the_thing(first, voice))
        short = a_thing(following, voice)
        value = described(following.name, "en", following.colour)
        long = opened(short) + voice.say(".", "。")
        turns.append(clip_turn("clip_next", asked, short, long, voice, value=value, **about(first)))
    return voice.some(turns, len(turns))


def at(clip: Clip, voice: Voice) -> list[Turn]:
    """What is to be seen at a moment: in the middle between two changes, where a frame was taken."""
    tracks = visible(clip)
    changes = sorted({0.0, clip.duration, *(track.start for track in tracks), *(track.end for track in tracks)})
    turns = []
    for begin, end in pairwise(changes):
        moment = round((begin + end) / 2, 1)
        there = [track for track in tracks if track.start <= moment < track.end]
        if not there or end - begin < 2 * _CLEAR or not _seen_between(clip, begin, end):
            continue
        asked = voice.phrasing("clip_at").format(seconds=f"{moment:.1f}")
        short = listing([a_thing(track, voice) for track in there], voice.language)
        shown = [{"phrase": a_thing(track, voice), **about(track)} for track in there]
        long = opened(short) + voice.say(".", "。")
        turns.append(clip_turn("clip_at", asked, short, long, voice, seconds=moment, things=shown))
    return voice.some(turns, len(turns))


def _seen_between(clip: Clip, begin: float, end: float) -> bool:
    """Whether a frame was taken in a stretch of time."""
    return any(begin <= frame / clip.fps < end for frame in range(len(clip.frames)))


def count(clip: Clip, voice: Voice) -> list[Turn]:
    """How many things appear in all."""
    total = len(visible(clip))
    if not 0 < total <= _MOST_COUNTED:
        return []
    english = "one thing appears" if total == 1 else f"{number(total, 'en')} things appear"
    long = voice.say(opened(f"{english}."), f"出现了{number(total, 'zh')}样东西。")
    choices = count_choices(voice.language)
    return [clip_turn("clip_count", voice.phrasing("clip_count"), str(total), long, voice, value=str(total), choices=choices)]


EVENTS: dict[str, Callable[[Clip, Voice], list[Turn]]] = {
    "clip_events": dense,
    "clip_order": order,
    "clip_next": after,
    "clip_at": at,
    "clip_count": count,
}
