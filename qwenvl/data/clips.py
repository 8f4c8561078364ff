"""The tasks about clips, English and Chinese, raw and in chat: when something appears, what does, which way it moves, a caption;
and, in clip_events.py, every event with its time, their order, what comes next, what is there at a time, how many.

`clip_questions(clip, task, ...)` builds Samples, several independent ones about one clip where it allows. `Sample.extra` holds
what a scorer needs, as `tasks.py` says of pictures: `kind`, `question`, `answer`, and by task

    clip_when         span: [start, end] in seconds; phrase; key; colour
    clip_what         things: [{key, kind, colour, phrase}] by when they appear; accept
    clip_direction    value; choices; accept; key; colour
    clip_caption      things, each with span and direction; background
    clip_events       spans: [[start, end, description], ...]
    clip_order        things, by when they appear; accept
    clip_next         value (of what comes next); key; colour; accept
    clip_at           seconds; things; accept
    clip_count        value; choices; accept

Only what the frames show is asked for: at a low rate a thing may come and go between two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qwenvl.data.answers import Choices
from qwenvl.data.clip_events import EVENTS
from qwenvl.data.clip_wording import DIRECTIONS, a_thing, about, alone, clip_turn, deed, the_thing, visible
from qwenvl.data.formats import WHEN_ANSWER, time_span
from qwenvl.data.synth.clip import Clip, Track
from qwenvl.data.synth.names import COLOUR_NAMES, article
from qwenvl.data.wording import Turn, Voice, listing, opened
from qwenvl.types import QwenVLError, Sample, Style, TextPart, VideoPart

if TYPE_CHECKING:
    import numpy as np

    from qwenvl.data.synth.names import Language

# As for captions of pictures, in whose place a clip stands here.
CAPTION_PROMPT = {"en": "Describe the video in English:", "zh": "用中文描述视频："}

_MOVED = 0.06
"""A thing's way is asked for where the frames show it move by at least this part of their side."""
_PUBLISHED = 0.5
"""How often the time is asked for in the words that Qwen2.5-VL was trained on."""


class ClipTaskError(QwenVLError, ValueError):
    """A task about clips that does not exist."""


def clip_questions(
    clip: Clip, task: str, language: Language, style: Style, rng: np.random.Generator, held_out_phrasing: bool = False
) -> list[Sample]:
    """Independent Samples of a task about one clip, in random order; empty where the clip does not allow any.

    `held_out_phrasing` draws the one phrasing of each question that training never shows. Raises ClipTaskError.
    """
    if task not in _BUILDERS:
        raise ClipTaskError(f"task {task!r}: not about clips; known: {', '.join(CLIP_TASKS)}")
    voice = Voice(language, style, rng, held_out_phrasing)
    video = VideoPart(list(clip.frames), fps=clip.fps)
    where = f"clip {clip.seed}/{clip.index} {task} {language}"
    return [Sample(turn.messages(video), where, task, language, "clips", turn.extra) for turn in _BUILDERS[task](clip, voice)]


def when(clip: Clip, voice: Voice) -> list[Turn]:
    return voice.some([_when(track, voice) for track in alone(visible(clip))], len(clip.tracks))


def _when(track: Track, voice: Voice) -> Turn:
    """In the words of Qwen2.5-VL's cookbook (QwenLM/Qwen2.5-VL, 2025-02-10), "Give the query: '...', when does ...", or in ours."""
    name, short = the_thing(track, voice), time_span(track.start, track.end, voice.language)
    if voice.happens(_PUBLISHED):
        kind = "clip_query"
        asked = voice.phrasing(kind).format(event=voice.say(f"{name} appears", f"{name}出现"))
        long = WHEN_ANSWER[voice.language].format(span=short)
    else:
        kind = "clip_when"
        asked = voice.phrasing(kind).format(thing=name)
        long = voice.say(f"{opened(name)} appears from {track.start:.1f} to {track.end:.1f} seconds.",
                         f"{name}从{track.start:.1f}秒到{track.end:.1f}秒出现。")  # fmt: skip
    return clip_turn(kind, asked, short, long, voice, span=[track.start, track.end], phrase=name, **about(track))


def what(clip: Clip, voice: Voice) -> list[Turn]:
    tracks = visible(clip)
    if not tracks:
        return []
    short = listing([a_thing(track, voice) for track in tracks], voice.language)
    things = [{"kind": track.kind, "phrase": a_thing(track, voice), **about(track)} for track in tracks]
    return [clip_turn("clip_what", voice.phrasing("clip_what"), short, opened(short) + voice.say(".", "。"), voice, things=things)]


def direction(clip: Clip, voice: Voice) -> list[Turn]:
    return voice.some([_way(track, voice) for track in alone(visible(clip)) if _moves(clip, track)], len(clip.tracks))


def _moves(clip: Clip, track: Track) -> bool:
    first, last = track.seen[0], track.seen[-1]
    return (
        track.direction is not None and max(abs(last[0] - first[0]) / clip.width, abs(last[1] - first[1]) / clip.height) >= _MOVED
    )


def _way(track: Track, voice: Voice) -> Turn:
    assert track.direction is not None
    english, chinese = DIRECTIONS[track.direction]
    asked = voice.phrasing("clip_direction").format(thing=the_thing(track, voice))
    long = voice.say(f"It moves {english}.", f"它向{chinese}移动。")
    truth = {"value": track.direction, "choices": direction_choices(voice.language), **about(track)}
    return clip_turn("clip_direction", asked, voice.say(track.direction, chinese), long, voice, **truth)


def direction_choices(language: Language) -> Choices:
    return {key: [key] if language == "en" else [chinese] for key, (_, chinese) in DIRECTIONS.items()}


def caption(clip: Clip, voice: Voice) -> list[Turn]:
    """Everything that is seen, by when it appears, with the way it moves, and the background."""
    tracks = visible(clip)
    if not tracks:
        return []
    colour = COLOUR_NAMES[clip.background][voice.language]
    if voice.language == "en":
        moves = [f"{a_thing(track, voice)} {deed(track, 'en')}" for track in tracks]
        said = f"{listing(moves, 'en')} on {article(colour)} {colour} background."
    else:
        moves = [a_thing(track, voice) + deed(track, "zh") for track in tracks]
        said = f"{colour}背景上，{'，'.join(moves)}。"
    things = [
        {"kind": track.kind, "count": 1, "phrase": a_thing(track, voice), "span": [track.start, track.end],
         "direction": track.direction, **about(track)}
        for track in tracks
    ]  # fmt: skip
    if voice.style == "chat":
        asked, answer = voice.phrasing("clip_caption"), opened(said)
    else:
        asked, answer = CAPTION_PROMPT[voice.language], voice.say(" ", "") + said
    extra = {"kind": "clip_caption", "question": asked, "answer": answer.strip(), "things": things, "background": clip.background}
    return [Turn((TextPart(asked),), (TextPart(answer),), extra)]


_BUILDERS: dict[str, Callable[[Clip, Voice], list[Turn]]] = {
    "clip_when": when,
    "clip_what": what,
    "clip_direction": direction,
    "clip_caption": caption,
    **EVENTS,
}
CLIP_TASKS: tuple[str, ...] = tuple(_BUILDERS)
