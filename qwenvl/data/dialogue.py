"""Conversations of several turns, in chat style: about one picture, about two, and about what is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qwenvl.data.answers import PLACES, colour_choices, count_choices, place_choices
from qwenvl.data.pictured import PICTURED, point, referring_phrases
from qwenvl.data.synth.names import COLOUR_NAMES, described, number
from qwenvl.data.vqa import VQA, absent_name, place_of
from qwenvl.data.vqa import turn as vqa_turn
from qwenvl.data.wording import Turn, Voice, centre, groups, is_there_phrase, listing, numbers, opened, region_of, the, truth
from qwenvl.types import RegionPart, TextPart

if TYPE_CHECKING:
    from qwenvl.data.synth.scene import Scene

_OPENINGS = (*PICTURED, *VQA, "refusal")
_DESCRIBING = ("caption", "grounded_caption")
_TURNS = (2, 4)
_NO_COMMON = 0.12
"""How often two pictures without a common thing are asked for one: as often as two have one, so that yes and no balance."""

_FOLLOWED = 0.6
"""How often a turn about one thing is followed by one about "it"."""


def turns_of(scene: Scene, task: str, voice: Voice) -> list[Turn]:
    """The turns of a task about one scene; empty where the scene does not allow it."""
    if task in VQA:
        return [vqa_turn(ask, voice) for ask in VQA[task](scene, voice)]
    if task == "refusal":
        return refusal(scene, voice)
    if task == "point":
        return point(scene, voice)
    return PICTURED[task](scene, voice)


def dialogue(scene: Scene, voice: Voice) -> list[Turn]:
    """Two to four turns about one picture, no two of one task; after a turn about one thing often one about "it"."""
    wanted = _TURNS[0] + int(voice.rng.random() * (_TURNS[1] - _TURNS[0] + 1))
    turns: list[Turn] = []
    told = False
    for task in voice.some(_OPENINGS, len(_OPENINGS)):
        if len(turns) >= wanted:
            break
        if task in _DESCRIBING and told:
            continue
        told = told or task in _DESCRIBING
        found = turns_of(scene, task, voice)
        if not found:
            continue
        turn = voice.pick(found)
        turns.append(turn)
        focus = turn.extra.get("focus")
        if focus is not None and len(turns) < wanted and voice.happens(_FOLLOWED):
            turns += _about_it(scene, focus, task, voice)
    return turns if len(turns) >= _TURNS[0] else []


def _about_it(scene: Scene, index: int, task: str, voice: Voice) -> list[Turn]:
    """A question about "it" whose answer has not just been given: its box, or its place."""
    thing = scene.things[index]
    place = place_of(centre(scene, thing))
    kinds = [kind for kind, told in (("follow_box", ("referring", "find_text")), ("follow_where", ("where",))) if task not in told]
    kind = voice.pick(kinds)
    question = voice.phrasing(kind)
    if kind == "follow_where" and place is not None:
        sentence, chinese = PLACES[place]
        answer = voice.say(f"It is {sentence}.", f"它在{chinese}。")
        extra = {"kind": kind, "question": question, "answer": answer, "value": place, "choices": place_choices(voice.language)}
        return [Turn((TextPart(question),), (TextPart(answer),), extra)]
    names = referring_phrases(scene, index, voice)
    if kind == "follow_where" or not names:
        return []
    region = region_of(scene, thing)
    located = {"kind": kind, "question": question, "answer": names[0], "phrase": names[0], "regions": [numbers(region)]}
    return [Turn((TextPart(question),), (RegionPart(names[0], (region,)),), located)]


def refusal(scene: Scene, voice: Voice) -> list[Turn]:
    """Asked for the place of something that is not there, the answer says so."""
    kinds = sorted({"emoji" if thing.kind == "emoji" else "coloured" for thing in scene.things if thing.kind != "text"})
    absent = absent_name(scene, voice, voice.pick(kinds)) if kinds else None
    if absent is None:
        return []
    phrase = described(absent[0], voice.language, absent[1])
    question = voice.phrasing("referring").format(thing=the(phrase, voice.language))
    answer = voice.say(f"There is no {phrase} in the picture.", f"图中没有{phrase}。")
    extra = {
        "kind": "refusal", "question": question, "answer": answer, "accept": [answer], "value": "no",
        "key": absent[0], "colour": absent[1], "regions": [],
    }
    return [Turn((TextPart(question),), (TextPart(answer),), extra)]


# Two pictures.


def two_pictures(first: Scene, second: Scene, voice: Voice) -> list[Turn]:
    """Two or three turns about two pictures, no two of one kind."""
    wanted = 2 + int(voice.rng.random() * 2)
    turns: list[Turn] = []
    for builder in voice.some(_PAIR_QUESTIONS, len(_PAIR_QUESTIONS)):
        turn = builder((first, second), voice)
        if turn is not None:
            turns.append(turn)
        if len(turns) == wanted:
            break
    return turns


Pair = tuple["Scene", "Scene"]


def _told(kind: str, slots: dict[str, Any], answer: str, voice: Voice, **extra: Any) -> Turn:
    question = voice.phrasing(kind).format(**slots)
    return Turn((TextPart(question),), (TextPart(answer),), {"kind": kind, "question": question, "answer": answer, **extra})


def _in_picture(scenes: Pair, voice: Voice) -> Turn | None:
    which = int(voice.happens(0.5))
    found = groups(scenes[which])
    if not found:
        return None
    things = listing([group.phrase(voice.language) for group in found], voice.language)
    answer = voice.say(f"{opened(things)}.", f"图{which + 1}里有{things}。")
    shown = [truth(group, voice.language) for group in found]
    return _told("in_picture", {"n": which + 1}, answer, voice, things=shown, picture=which)


def _names(scene: Scene) -> set[tuple[str, str | None]]:
    return {(thing.name, thing.colour) for thing in scene.things if thing.kind != "text"}


def _which_picture(scenes: Pair, voice: Voice) -> Turn | None:
    """A thing that one of the pictures has and the other has not."""
    which = int(voice.happens(0.5))
    only = sorted(_names(scenes[which]) - _names(scenes[1 - which]), key=str)
    if not only:
        return None
    key, colour = voice.pick(only)
    phrase = is_there_phrase(key, colour, voice.language)
    slots = {"thing": phrase, "a_thing": phrase}
    choices = {str(n): [voice.say(f"picture {n}", f"图{n}")] for n in (1, 2)}
    answer = voice.say(f"Picture {which + 1}.", f"图{which + 1}。")
    return _told("which_picture", slots, answer, voice, value=str(which + 1), choices=choices)


def _count_both(scenes: Pair, voice: Voice) -> Turn | None:
    if any(thing.kind == "text" for scene in scenes for thing in scene.things):
        return None
    total = sum(len(scene.things) for scene in scenes)
    answer = voice.say(f"There are {number(total, 'en')} things.", f"一共有{number(total, 'zh')}样东西。")
    return _told("count_both", {}, answer, voice, value=str(total), choices=count_choices(voice.language)) if total > 1 else None


def _background(scenes: Pair, voice: Voice) -> Turn | None:
    which = int(voice.happens(0.5))
    word = COLOUR_NAMES[scenes[which].background][voice.language]
    answer = voice.say(f"It is {word}.", f"是{word}。")
    background = {"value": scenes[which].background, "choices": colour_choices(voice.language)}
    return _told("background_of_picture", {"n": which + 1}, answer, voice, **background)


def _both_have(scenes: Pair, voice: Voice) -> Turn | None:
    """Two random pictures rarely share a thing: "no", about a thing of one of them, is asked about as rarely."""
    common = sorted(_names(scenes[0]) & _names(scenes[1]), key=str)
    single = sorted(_names(scenes[0]) ^ _names(scenes[1]), key=str)
    if not common and not voice.happens(_NO_COMMON):
        return None
    asked = common or single
    if not asked:
        return None
    phrase = is_there_phrase(*voice.pick(asked), voice.language)
    value = "yes" if common else "no"
    answer = voice.say("Yes, both do.", "是的，两张图都有。") if common else voice.say("No, only one does.", "不，只有一张图有。")
    choices = {"yes": [voice.say("yes", "是的")], "no": [voice.say("no", "不")]}
    return _told("both_have", {"thing": phrase, "a_thing": phrase}, answer, voice, value=value, choices=choices)


PairBuilder = Callable[[Pair, Voice], Turn | None]
_PAIR_QUESTIONS: tuple[PairBuilder, ...] = (_in_picture, _which_picture, _count_both, _background, _both_have)
