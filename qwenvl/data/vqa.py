"""Questions with short answers about one scene: what, how many, where, which colour, is there, left or right, above or below.

Each builder returns `Ask`s: the question still without its wording's style, a short answer for the raw format and a full one
for chat. A question is put only where its answer is beyond doubt: centres well apart, names that mean one thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwenvl.data.answers import (
    PLACES,
    SIDES,
    Choices,
    colour_choices,
    count_choices,
    place_choices,
    side_choices,
    yes_no_choices,
)
from qwenvl.data.formats import question_prompt
from qwenvl.data.synth.names import COLOUR_NAMES, COLOURS, EMOJI, SHAPES, counted, described, number
from qwenvl.data.wording import (
    APART,
    Turn,
    Voice,
    a_thing,
    centre,
    extreme,
    groups,
    how_many,
    is_there_phrase,
    names_alone,
    names_by_position,
    none_of,
)
from qwenvl.types import TextPart

if TYPE_CHECKING:
    from qwenvl.data.synth.names import Language
    from qwenvl.data.synth.scene import Scene

_PLACE_NAMES = tuple(PLACES)
_PLACE_MARGIN = 0.04
"""A centre nearer than this to a line between two places belongs to neither."""

@dataclass(frozen=True, slots=True)
class Ask:
    """A question before its style: the kind names a list of phrasings, `slots` fill it."""

    kind: str
    slots: dict[str, Any]
    short: str
    long: str
    value: str
    choices: Choices
    focus: int | None = None
    """Index of the one thing that the answer is about: what "it" would mean next."""
    about: dict[str, Any] = field(default_factory=dict)


def question(ask: Ask, voice: Voice) -> str:
    return voice.phrasing(ask.kind).format(**ask.slots)


def turn(ask: Ask, voice: Voice) -> Turn:
    """The question in the voice's style; raw is " {Q} Answer:" of the paper's Box B, and our Chinese counterpart."""
    asked = question(ask, voice)
    if voice.style == "chat":
        prompt, answer = asked, ask.long
    else:
        prompt, answer = question_prompt(asked, voice.language), voice.say(" ", "") + ask.short
    extra = {
        "kind": ask.kind, "question": asked, "answer": answer.strip(), "accept": [ask.short, ask.long],
        "value": ask.value, "choices": ask.choices, **ask.about,
    }
    if ask.focus is not None:
        extra["focus"] = ask.focus
    return Turn((TextPart(prompt),), (TextPart(answer),), extra)


def _choices_of_things(scene: Scene, language: Language) -> Choices:
    things = [thing for thing in scene.things if thing.kind != "text"]
    return {described(thing.name, "en", thing.colour): [described(thing.name, language, thing.colour)] for thing in things}


# What.


def ask_what(scene: Scene, voice: Voice) -> list[Ask]:
    """What is left of, right of, above, below a thing; leftmost and so on; what is at a place."""
    centres = [centre(scene, thing) for thing in scene.things]
    found: list[tuple[str, dict[str, str], int]] = []
    for axis, kinds in enumerate((("leftmost", "rightmost"), ("topmost", "bottommost"))):
        for largest, kind in enumerate(kinds):
            index = extreme([point[axis] for point in centres], bool(largest))
            if index is not None:
                found.append((kind, {}, index))
    found = voice.some(found, 2) + voice.some(_beside(scene, centres, voice), 2) + voice.some(_at_places(scene, centres, voice), 1)
    choices = _choices_of_things(scene, voice.language)
    asks = []
    for kind, slots, index in voice.some(found, len(found)):
        thing = scene.things[index]
        if thing.kind == "text":
            continue
        short = a_thing(thing, voice.language)
        long = voice.say(f"It is {short}.", f"是{short}。")
        asks.append(Ask(kind, slots, short, long, described(thing.name, "en", thing.colour), choices, index))
    return asks


def _beside(scene: Scene, centres: list[tuple[float, float]], voice: Voice) -> list[tuple[str, dict[str, str], int]]:
    """(kind, slots, answer) where exactly one thing lies on that side of a thing that can be named."""
    found = []
    for index in range(len(centres)):
        names = names_alone(scene, index, voice.language)
        if not names:
            continue
        for axis, kinds in enumerate((("left_of", "right_of"), ("above", "below"))):
            offsets = [point[axis] - centres[index][axis] for point in centres]
            if any(abs(offset) < APART for other, offset in enumerate(offsets) if other != index):
                continue
            for sign, kind in zip((-1, 1), kinds, strict=True):
                there = [other for other, offset in enumerate(offsets) if other != index and offset * sign > 0]
                if len(there) == 1:
                    found.append((kind, {"thing": voice.pick(names)}, there[0]))
    return found


def _third(value: float) -> int | None:
    """0, 1 or 2 by thirds of the side; None too near to a border between them."""
    if min(abs(value - 1 / 3), abs(value - 2 / 3)) < _PLACE_MARGIN:
        return None
    return int(value * 3)


def place_of(point: tuple[float, float]) -> str | None:
    """The name of the place of a centre in [0, 1], or None on a border."""
    column, row = _third(point[0]), _third(point[1])
    return None if column is None or row is None else _PLACE_NAMES[3 * row + column]


def _at_places(scene: Scene, centres: list[tuple[float, float]], voice: Voice) -> list[tuple[str, dict[str, str], int]]:
    """Corners and the centre with one thing in them; the sides of a picture are too wide to ask for a single thing."""
    places = [place_of(point) for point in centres]
    if None in places:
        return []
    asked = ("top left", "top right", "center", "bottom left", "bottom right")
    alone = [(index, place) for index, place in enumerate(places) if place in asked and places.count(place) == 1]
    return [("at_place", {"place": PLACES[place][0 if voice.language == "en" else 1]}, index) for index, place in alone if place]


# How many.


def ask_count(scene: Scene, voice: Voice) -> list[Ask]:
    """All things (text is not a thing), and the things of one name, now and then of one that is not there."""
    total = sum(thing.kind != "text" for thing in scene.things)
    if not total:
        return []
    choices = count_choices(voice.language)
    kind = "count_all" if total == len(scene.things) else "count_all_but_text"
    long = f"{number(total, 'en')} things" if total > 1 else "one thing"
    long = voice.say(f"There {'are' if total > 1 else 'is'} {long}.", f"有{number(total, 'zh')}样东西。")
    everything = Ask(kind, {}, str(total), long, str(total), choices)
    key, colour = _counted_name(scene, voice)
    count = sum(thing.name == key and colour in (None, thing.colour) and thing.kind != "text" for thing in scene.things)
    slots = {"things": how_many(key, colour, voice.language)}
    long, about = count_sentence(key, colour, count, voice), {"key": key, "colour": colour}
    some = Ask("count_of", slots, str(count), long, str(count), choices, about=about)
    return voice.some([everything, some], 2)


def _counted_name(scene: Scene, voice: Voice) -> tuple[str, str | None]:
    """A name and colour to count: several alike things where there are some, a name that is absent in one case of seven."""
    if voice.happens(0.15):
        present = {thing.name for thing in scene.things}
        absent = [key for key in (voice.pick(tuple(EMOJI)) for _ in range(4)) if key not in present]
        if absent:
            return absent[0], None
    named = [(group.key, group.colour, len(group.members)) for group in groups(scene) if group.kind != "text"]
    for shape in SHAPES:
        number_of_shape = sum(thing.kind == "shape" and thing.name == shape for thing in scene.things)
        if number_of_shape:
            named.append((shape, None, number_of_shape))
    several = [entry for entry in named if entry[2] > 1]
    return voice.pick(several if several and voice.happens(0.7) else named)[:2]


def count_sentence(key: str, colour: str | None, count: int, voice: Voice) -> str:
    if count == 0:
        nothing = none_of(key, colour, voice.language)
        return voice.say(f"There are {nothing}.", f"{nothing}。")
    if voice.language == "zh":
        return f"有{counted(key, count, 'zh', colour)}。"
    if count == 1:
        return f"There is one {described(key, 'en', colour)}."
    return f"There are {counted(key, count, 'en', colour)}."


# Where, and which colour.


def ask_where(scene: Scene, voice: Voice) -> list[Ask]:
    choices = place_choices(voice.language)
    asks = []
    for index, thing in enumerate(scene.things):
        place = place_of(centre(scene, thing))
        names = names_alone(scene, index, voice.language)
        if place is None or not names:
            continue
        sentence, chinese = PLACES[place]
        long = voice.say(f"It is {sentence}.", f"它在{chinese}。")
        asks.append(Ask("where", {"thing": voice.pick(names)}, voice.say(place, chinese), long, place, choices, index))
    return voice.some(asks, len(asks))


def ask_colour(scene: Scene, voice: Voice) -> list[Ask]:
    """The colours of shapes, named without it, and of the background."""
    asks = [_colour_ask("background_colour", {}, scene.background, voice, None)]
    for index, thing in enumerate(scene.things):
        if thing.kind != "shape" or thing.colour is None:
            continue
        word = COLOUR_NAMES[thing.colour][voice.language]
        bare = [phrase for phrase in names_alone(scene, index, voice.language) if word not in phrase]
        bare = bare or names_by_position(scene, index, voice.language, ignore_colour=True)
        if bare:
            asks.append(_colour_ask("thing_colour", {"thing": voice.pick(bare)}, thing.colour, voice, index))
    return voice.some(asks, len(asks))


def _colour_ask(kind: str, slots: dict[str, str], colour: str, voice: Voice, focus: int | None) -> Ask:
    word = COLOUR_NAMES[colour][voice.language]
    return Ask(kind, slots, word, voice.say(f"It is {word}.", f"是{word}。"), colour, colour_choices(voice.language), focus)


# Is there.


def ask_yes_no(scene: Scene, voice: Voice) -> list[Ask]:
    """Is there such a thing: yes in half the cases whatever is asked for, so that the question gives nothing away."""
    things = [thing for thing in scene.things if thing.kind != "text"]
    if not things:
        return []
    thing = voice.pick(things)
    with_colour = thing.kind == "shape" and voice.happens(0.7)
    if voice.happens(0.5):
        key, colour = thing.name, thing.colour if with_colour else None
    else:
        absent = absent_name(scene, voice, "emoji" if thing.kind == "emoji" else "coloured" if with_colour else "shape")
        if absent is None:
            return []
        key, colour = absent
    return [_is_there(scene, key, colour, voice)]


def absent_name(scene: Scene, voice: Voice, kind: str) -> tuple[str, str | None] | None:
    """A name that nothing in the scene has: an "emoji", a "shape" of any colour, or a "coloured" shape like one that is there."""
    if kind == "emoji":
        present = {thing.name for thing in scene.things}
        keys = tuple(EMOJI)
        while (key := voice.pick(keys)) in present:
            pass
        return key, None
    shapes = {(thing.name, thing.colour) for thing in scene.things if thing.kind == "shape"}
    forms = {form for form, _ in shapes}
    if kind == "shape":
        missing = [shape for shape in SHAPES if shape not in forms]
        return (voice.pick(missing), None) if missing else None
    form, colour = voice.pick(sorted(shapes)) if shapes else (voice.pick(SHAPES), None)
    near = [(form, other) for other in COLOURS] if colour is None or voice.happens(0.5) else [(other, colour) for other in SHAPES]
    near = [pair for pair in near if pair not in shapes]
    return voice.pick(near) if near else None


def _is_there(scene: Scene, key: str, colour: str | None, voice: Voice) -> Ask:
    count = sum(thing.name == key and thing.kind != "text" and colour in (None, thing.colour) for thing in scene.things)
    phrase = is_there_phrase(key, colour, voice.language)
    short, long = is_there_answer(key, colour, count, voice)
    slots, about = {"thing": phrase, "a_thing": phrase}, {"key": key, "colour": colour}
    return Ask("is_there", slots, short, long, "yes" if count else "no", yes_no_choices(voice.language), about=about)


def is_there_answer(key: str, colour: str | None, count: int, voice: Voice) -> tuple[str, str]:
    """Short and full, where there are `count` of them."""
    if count:
        found, verb = counted(key, count, voice.language, colour), "is" if count == 1 else "are"
        return voice.say("yes", "有"), voice.say(f"Yes, there {verb} {found}.", f"有，图中有{found}。")
    absent = described(key, voice.language, colour)
    return voice.say("no", "没有"), voice.say(f"No, there is no {absent}.", f"没有，图中没有{absent}。")


# Left or right, above or below.


def ask_left_right(scene: Scene, voice: Voice) -> list[Ask]:
    return _sides(scene, voice, 0, "left_right", ("left", "right"))


def ask_above_below(scene: Scene, voice: Voice) -> list[Ask]:
    return _sides(scene, voice, 1, "above_below", ("above", "below"))


def _sides(scene: Scene, voice: Voice, axis: int, kind: str, sides: tuple[str, str]) -> list[Ask]:
    """Pairs of things that stand apart along the axis. Which of the two is asked for is random, so the answers are balanced."""
    named = [(index, names) for index in range(len(scene.things)) if (names := names_alone(scene, index, voice.language))]
    pairs = [(one, two) for position, one in enumerate(named) for two in named[position + 1 :]]
    asks = []
    for one, two in voice.some(pairs, len(pairs)):
        (first, names), (second, other_names) = (one, two) if voice.happens(0.5) else (two, one)
        offset = centre(scene, scene.things[first])[axis] - centre(scene, scene.things[second])[axis]
        if abs(offset) < APART:
            continue
        side = sides[offset > 0]
        english, chinese = SIDES[side]
        slots = {"thing": voice.pick(names), "other": voice.pick(other_names)}
        long = voice.say(f"It is to the {english}." if axis == 0 else f"It is {english} {slots['other']}.", f"在{chinese}。")
        asks.append(Ask(kind, slots, voice.say(english, chinese), long, side, side_choices(*sides, voice.language), first))
    return asks


Builder = Callable[["Scene", Voice], list[Ask]]

VQA: dict[str, Builder] = {
    "what": ask_what,
    "count": ask_count,
    "where": ask_where,
    "colour": ask_colour,
    "yes_no": ask_yes_no,
    "left_right": ask_left_right,
    "above_below": ask_above_below,
}
