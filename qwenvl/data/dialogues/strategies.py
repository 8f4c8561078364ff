"""How several pictures become one conversation: the strategies of concatenation (section 3.3 of arXiv 2308.12966, which names them
without saying more; these are ours).

together    all pictures first, then questions across them and about single ones
in_turn     a picture and a question about it, another picture, ...; at last a question across all, or back to an earlier one
difference  a picture and a copy of it in which one thing is covered
needle      all pictures, as many as there are, and one question whose answer is late: in the last third of them
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from qwenvl.data.dialogues.difference import covered_copy
from qwenvl.data.dialogues.turns import (
    FINDING,
    TELLING,
    WHICH,
    Builder,
    about_one,
    compare,
    count_pictures,
    describe_one,
    put,
    question_about,
    story,
    told,
)
from qwenvl.data.shown import Shown, head, in_picture
from qwenvl.data.wording import Turn, Voice
from qwenvl.types import Message, Sample

TASK = "multi_picture"
SOURCE = "dialogues"

_TURNS = (2, 4)
"""Least and greatest number of turns after pictures that come together."""
_LATE = 2 / 3
"""From this part of the pictures on an answer is late."""
_BACK = 0.5
"""How often pictures that come in turn end in a question about an earlier one, not one across them."""
_WHICH = ("match", "spot", "spot_text")
"""Kinds of turns that ask which picture it is."""
_ACROSS = (*_WHICH, "describe_each", "compare", "story")
"""Kinds of turns that need more than one picture."""


def together(pictures: Sequence[Shown], voice: Voice) -> Sample | None:
    """At least one question is across the pictures, no two turns are of one kind, and no question has its answer in the
    conversation already: what has to be looked for comes first, each time in another picture, and what tells all comes last."""
    wanted = _TURNS[0] + int(voice.rng.random() * (_TURNS[1] - _TURNS[0] + 1))
    last = _first((*voice.some(TELLING, len(TELLING)), describe_one), pictures, voice)
    turns: list[Turn] = []
    across, *others = voice.some(WHICH, len(WHICH))
    looking: tuple[Builder, ...] = (*others, about_one, count_pictures)
    for builder in (across, *voice.some(looking, len(looking))):
        turn = builder(pictures, voice) if len(turns) < wanted - (last is not None) else None
        if turn is not None and (_about(turn) is None or _about(turn) not in map(_about, turns)):
            turns.append(turn)
    turns += [last] if last is not None else []
    if not any(turn.extra["kind"] in _ACROSS for turn in turns):
        return None
    shown = tuple(picture.picture for picture in pictures)
    messages = [message for number, turn in enumerate(turns) for message in turn.messages(*(shown if number == 0 else ()))]
    return conversation("together", messages, turns, pictures, voice)


def in_turn(pictures: Sequence[Shown], voice: Voice) -> Sample | None:
    """Every picture comes with a question about it; the last question looks back. None is put twice."""
    turns: list[Turn] = []
    messages: list[Message] = []
    left: list[Shown] = []
    for number, picture in enumerate(pictures):
        made = _about_new(picture, number, voice)
        if made is None:
            return None
        turn, rest = made
        turns.append(turn)
        messages += turn.messages(picture.picture)
        left.append(rest)
    last = _first((about_one, describe_one), left[:-1], voice) if voice.happens(_BACK) else None
    last = last or _unanswered(pictures, left, turns, voice) or _first(voice.some((compare, story), 2), pictures, voice)
    if last is None:
        return None
    return conversation("in_turn", [*messages, *last.messages()], [*turns, last], pictures, voice)


def _unanswered(pictures: Sequence[Shown], left: Sequence[Shown], turns: Sequence[Turn], voice: Voice) -> Turn | None:
    """Which of the pictures it is, of what has not been said yet."""
    said = "\n".join(f"{turn.extra['question']} {turn.extra['answer']}" for turn in turns).lower()
    for builder in voice.some(WHICH, len(WHICH)):
        turn = builder(pictures, voice)
        if turn is None:
            continue
        number, phrase = _about(turn), turn.extra.get("phrase")
        assert number is not None
        if left[number].captions if phrase is None else head(phrase, voice.language) not in said:
            return turn
    return None


def _about(turn: Turn) -> int | None:
    """The number of the one picture (from 0) that a turn is about."""
    number: int | None = turn.extra.get("picture")
    return int(turn.extra["value"]) - 1 if number is None and turn.extra["kind"] in _WHICH else number


def _about_new(picture: Shown, number: int, voice: Voice) -> tuple[Turn, Shown] | None:
    """A question about a picture as it comes, without its number; and the picture without what was asked."""
    if picture.asked:
        asked = voice.pick(picture.asked)
        question = put(voice, "next_picture", question=asked.question) if number else asked.question
        rest = tuple(other for other in picture.asked if other.question != asked.question and other.task != asked.task)
        return question_about(asked, question, number), replace(picture, asked=rest)
    if not picture.captions:
        return None
    question = voice.phrasing("caption")
    question = put(voice, "next_picture", question=question) if number else question
    turn = told("caption", question, in_picture(voice.pick(picture.captions), number), picture=number)
    return turn, replace(picture, captions=())


def difference(pictures: Sequence[Shown], voice: Voice) -> Sample | None:
    """What is different in a copy of the first of these pictures that allows it: said, then marked."""
    for original in pictures:
        made = covered_copy(original, voice)
        if made is None:
            continue
        copy, said, place = made
        first = told("difference", put(voice, "difference"), said, phrase=place.phrase)
        (marked,) = in_picture([place], 1)
        second = told("difference_box", put(voice, "difference_box", n=2), (marked,), phrase=place.phrase, picture=1)
        messages = [*first.messages(original.picture, copy), *second.messages()]
        return conversation("difference", messages, [first, second], [original], voice)
    return None


def needle(pictures: Sequence[Shown], voice: Voice) -> Sample | None:
    """One question about one of many pictures, which is late among them."""
    turn = late_turn(pictures, voice)
    if turn is None:
        return None
    messages = turn.messages(*(picture.picture for picture in pictures))
    return conversation("needle", messages, [turn], pictures, voice)


def late_turn(pictures: Sequence[Shown], voice: Voice) -> Turn | None:
    since = math.ceil(len(pictures) * _LATE)
    for builder in voice.some(FINDING, len(FINDING)):
        turn = builder(pictures, voice, since)
        if turn is not None:
            return turn
    return None


def conversation(
    strategy: str, messages: Sequence[Message], turns: Sequence[Turn], pictures: Sequence[Shown], voice: Voice
) -> Sample:
    """The Sample of a conversation, without an id. `extra`: kind, the turns' truths, and where the pictures came from."""
    extra = {"kind": strategy, "turns": [turn.extra for turn in turns], "pictures": [picture.name for picture in pictures]}
    return Sample(tuple(messages), "", TASK, voice.language, SOURCE, extra)


def _first(builders: Sequence[Builder], pictures: Sequence[Shown], voice: Voice) -> Turn | None:
    """The turn of the first builder that the pictures allow."""
    return next((turn for builder in builders if (turn := builder(pictures, voice)) is not None), None)


STRATEGIES: dict[str, Callable[[Sequence[Shown], Voice], Sample | None]] = {
    "together": together,
    "in_turn": in_turn,
    "difference": difference,
    "needle": needle,
}
