"""How the things of a clip and what they do are spoken of, in English and Chinese."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qwenvl.data.formats import question_prompt
from qwenvl.data.synth.clip import Clip, Track
from qwenvl.data.synth.names import counted, described
from qwenvl.data.wording import Turn, Voice, the
from qwenvl.types import TextPart

if TYPE_CHECKING:
    from qwenvl.data.synth.names import Language

# Direction -> after "moves", Chinese, and what counts as naming it.
DIRECTIONS = {"left": ("to the left", "左"), "right": ("to the right", "右"), "up": ("up", "上"), "down": ("down", "下")}

_DEEDS = {"stay": ("stays where it is", "停在原处"), "grow": ("grows", "变大"), "shrink": ("shrinks", "变小")}


def visible(clip: Clip) -> list[Track]:
    """The things that the frames show: at a low rate one may come and go between two of them."""
    return [track for track in clip.tracks if track.seen]


def alone(tracks: Sequence[Track]) -> list[Track]:
    """Those that are the only ones of their name and colour, so that the name means one of them."""
    names = [(track.name, track.colour) for track in tracks]
    return [track for track in tracks if names.count((track.name, track.colour)) == 1]


def the_thing(track: Track, voice: Voice) -> str:
    return the(described(track.name, voice.language, track.colour), voice.language)


def a_thing(track: Track, voice: Voice) -> str:
    return counted(track.name, 1, voice.language, track.colour)


def about(track: Track) -> dict[str, Any]:
    """What a thing is, as plain data for `Sample.extra`."""
    return {"key": track.name, "colour": track.colour}


def deed(track: Track, language: Language) -> str:
    """What a thing does: "moves to the left", "grows" / "向左移动", "变大"."""
    if track.direction is None:
        return _DEEDS[track.act][0 if language == "en" else 1]
    english, chinese = DIRECTIONS[track.direction]
    return f"moves {english}" if language == "en" else f"向{chinese}移动"


def clip_turn(kind: str, asked: str, short: str, long: str, voice: Voice, **extra: Any) -> Turn:
    """A question and its answer; raw as questions about pictures are put, with the short one."""
    if voice.style == "chat":
        prompt, answer = asked, long
    else:
        prompt, answer = question_prompt(asked, voice.language), voice.say(" ", "") + short
    truth = {"kind": kind, "question": asked, "answer": answer.strip(), "accept": [short, long], **extra}
    return Turn((TextPart(prompt),), (TextPart(answer),), truth)
