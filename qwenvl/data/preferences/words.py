"""Faults of words: another thing, colour, place or side, another count, what is absent affirmed, misread text, a wrong number."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qwenvl.data.answers import PLACES
from qwenvl.data.clip_wording import DIRECTIONS
from qwenvl.data.preferences.faults import Truth
from qwenvl.data.synth.names import COLOURS, EMOJI, HAN, SHAPES, article, counted, described, number
from qwenvl.data.vqa import count_sentence, is_there_answer
from qwenvl.data.wording import Voice, listing, opened, plain, the
from qwenvl.types import Part, RegionPart, TextPart

_FARTHEST = 2
"""By how many a wrong count is off at most."""
_READING = ("ocr", "ocr_quad", "ocr_spotting", "reading")

_IN_SENTENCES = {"where": PLACES, "follow_where": PLACES, "clip_direction": DIRECTIONS}
"""How the values of some questions stand in a sentence, in English and Chinese: with their own prepositions."""

# Characters that are taken for one another, in both directions.
_ALIKE = (
    "0O",
    "1I",
    "1l",
    "2Z",
    "5S",
    "6G",
    "8B",
    "OQ",
    "EF",
    "MN",
    "UV",
    "PR",
    "CG",
    "XY",
    "ao",
    "ce",
    "nm",
    "uv",
    "ij",
    "38",
    "17",
    "69",
    "49",
)

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def wrong_choice(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """Another answer of the closed list that the Sample has: another thing, colour, place, side, direction."""
    extra = truth.sample.extra
    choices, value = extra.get("choices"), extra.get("value")
    if not isinstance(choices, dict) or value not in choices or truth.kind in ("is_there", "both_have") or _is_count(extra):
        return None
    text = _only_text(truth.answer)
    right = _spelling(text, choices[value])
    wrong = [other for other in choices if other != value and not _same(choices[other], choices[value])]
    if right is None or not wrong:
        return None
    other = voice.pick(wrong)
    if truth.sample.task == "what":
        key, colour = _thing_of(other)
        thing = counted(key, 1, voice.language, colour)
        return (TextPart(voice.say(f"It is {thing}.", f"是{thing}。")),)
    said = _IN_SENTENCES.get(truth.kind, {})
    if value in said and (phrase := voice.say(*said[value])) in text:
        return (TextPart(text.replace(phrase, voice.say(*said[other]), 1)),)
    spelt = choices[other]
    place = next((number for number, spelling in enumerate(choices[value]) if spelling == right), 0)
    return (TextPart(_put_in(text, right, spelt[min(place, len(spelt) - 1)], voice)),)


def _thing_of(value: str) -> tuple[str, str | None]:
    """Key and colour of a value such as "dog" or "red circle"."""
    colour, _, shape = value.rpartition(" ")
    return (shape, colour) if shape in SHAPES else (value, None)


def _is_count(extra: dict[str, Any]) -> bool:
    return str(extra.get("value", "")).isdigit()


def _spelling(text: str, spellings: Sequence[str]) -> str | None:
    """The longest spelling that the text has."""
    return max((spelling for spelling in spellings if spelling.lower() in text.lower()), key=len, default=None)


def _same(one: Sequence[str], other: Sequence[str]) -> bool:
    return any(a in b or b in a for a in one for b in other)


def _put_in(text: str, right: str, wrong: str, voice: Voice) -> str:
    """The text with one phrase for another, and the English article that goes with it."""
    place = text.lower().index(right.lower())
    before, after = text[:place], text[place + len(right) :]
    if voice.language == "en":
        before = re.sub(r"\b(a|A)n?( *)$", lambda found: found[1] + article(wrong)[1:] + found[2], before)
    return before + (opened(wrong) if text[place].isupper() else wrong) + after


def wrong_count(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """A count that is off by one or two."""
    extra = truth.sample.extra
    if not _is_count(extra) or truth.kind not in ("count_of", "count_all", "count_all_but_text", "clip_count", "count_both"):
        return None
    right, text = int(extra["value"]), _only_text(truth.answer)
    wrong = [right + step for step in range(-_FARTHEST, _FARTHEST + 1) if step and right + step >= 0]
    if text.strip() == str(right):
        return (TextPart(str(voice.pick(wrong))),)
    if "key" in extra:
        return (TextPart(count_sentence(extra["key"], extra["colour"], voice.pick(wrong), voice)),)
    said, several = number(right, voice.language), [count for count in wrong if count > 1]
    if right < 2 or said not in text.lower():  # "one thing" has no plural
        return None
    return (TextPart(_put_in(text, said, number(voice.pick(several), voice.language), voice)),)


def absent_affirmed(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """What is not there is said to be there, or even to be at a place."""
    extra = truth.sample.extra
    if truth.kind == "is_there" and "key" in extra and extra["value"] == "no":
        return _is_there(truth, 1, voice)
    if truth.kind == "refusal" and truth.others:
        phrase = the(described(extra["key"], voice.language, extra["colour"]), voice.language)
        return (RegionPart(phrase, (voice.pick(truth.others)[1],)),)
    return None


def present_denied(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """What is there, or is asked for, is said not to be there: so that denying is not preferred as such."""
    extra = truth.sample.extra
    if truth.kind == "is_there" and "key" in extra and extra["value"] == "yes":
        return _is_there(truth, 0, voice)
    if truth.kind == "referring" and isinstance(extra.get("phrase"), str):
        phrase = extra["phrase"].removeprefix("the ")
        return (TextPart(voice.say(f"There is no {phrase} in the picture.", f"图中没有{phrase}。")),)
    return None


def _is_there(truth: Truth, count: int, voice: Voice) -> tuple[Part, ...]:
    """The answer as if there were so many, as long as the true one is."""
    extra = truth.sample.extra
    short, long = is_there_answer(extra["key"], extra["colour"], count, voice)
    return (TextPart(short if _only_text(truth.answer).strip() == extra["accept"][0] else long),)


def wrong_text(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """Lettering with one character misread, left out or doubled."""
    if truth.sample.task not in _READING:
        return None
    able = [place for place, part in enumerate(truth.answer) if _words(part).strip()]
    if not able:
        return None
    place = voice.pick(able)
    misread = _misread(_words(truth.answer[place]), voice)
    part = truth.answer[place]
    changed = replace(part, phrase=misread) if isinstance(part, RegionPart) else TextPart(misread)
    return (*truth.answer[:place], changed, *truth.answer[place + 1 :])


def _words(part: Part) -> str:
    return part.text if isinstance(part, TextPart) else (part.phrase or "") if isinstance(part, RegionPart) else ""


def _misread(text: str, voice: Voice) -> str:
    places = [place for place, character in enumerate(text) if character.isalnum()]
    if not places:
        return text + text[-1:]
    place = voice.pick(places)
    kind = voice.rng.random()
    if kind < 0.15 and len(places) > 1:
        return text[:place] + text[place + 1 :]
    if kind < 0.25:
        return text[: place + 1] + text[place:]
    mixed = any(character.isdigit() for character in text) and any(character in string.ascii_letters for character in text)
    return text[:place] + _mistaken(text[place], mixed, voice) + text[place + 1 :]


def _mistaken(character: str, mixed: bool, voice: Voice) -> str:
    """A character that looks like this one, or any other one of its kind; a letter for a digit only in a text of both."""
    alike = [pair.replace(character, "", 1) for pair in _ALIKE if character in pair]
    alike = [other for other in alike if mixed or other.isdigit() == character.isdigit()]
    if alike:
        return voice.pick(alike)
    kinds = (string.digits, string.ascii_uppercase, string.ascii_lowercase, HAN)
    kind = next((kind for kind in kinds if character in kind), HAN if "一" <= character <= "鿿" else string.ascii_lowercase)
    return voice.pick([other for other in kind if other != character])


def wrong_number(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """Another number where the answer is one: with one digit changed, wherever the answer says it."""
    value = str(truth.sample.extra.get("value", ""))
    text = _only_text(truth.answer)
    written = re.compile(rf"(?<![\d.]){re.escape(value)}(?!\.?\d)")
    if not NUMBER.fullmatch(value) or "choices" in truth.sample.extra or not written.search(text):
        return None
    digits = [place for place, character in enumerate(value) if character.isdigit()]
    place = voice.pick(digits)
    least = "1" if place == digits[0] and len(digits) > 1 else "0"
    wrong = voice.pick([digit for digit in string.digits if digit != value[place] and digit >= least])
    changed = value[:place] + wrong + value[place + 1 :]
    return (TextPart(written.sub(changed, text)),)


def wrong_thing(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """A caption or a name in which one thing is another one, has another colour, or is there more or fewer times."""
    extra = truth.sample.extra
    if truth.kind == "naming" and extra.get("value") in (*EMOJI, *SHAPES):
        things = [{"key": extra["value"], "colour": extra["colour"], "count": 1, "phrase": extra["phrase"]}]
    elif truth.kind in ("caption", "grounded_caption"):
        things = [thing for thing in extra.get("things") or [] if {"key", "count"} <= thing.keys() and thing["kind"] != "text"]
    else:
        things = []
    if not things:
        return None
    thing = voice.pick(things)
    key, colour, count = thing["key"], thing["colour"], thing["count"]
    # "there is a dog" would have to become "there are": what stands there keeps its number.
    fixed = truth.kind == "naming" or f"there {'is' if count == 1 else 'are'} {thing['phrase']}" in plain(truth.answer).lower()
    if not fixed and voice.happens(0.5):
        count = count + 1 if count == 1 or voice.happens(0.5) else count - 1
    else:
        key, colour = _other_name(
            key, colour, [(other["key"], other["colour"]) for other in things], extra.get("background"), voice
        )
    return _said_instead(truth.answer, thing["phrase"], counted(key, count, voice.language, colour))


def thing_left_out(truth: Truth, voice: Voice) -> tuple[Part, ...] | None:
    """A caption that passes over one of its things: not the first, which its verb may agree with."""
    phrases = [thing["phrase"] for thing in truth.sample.extra.get("things") or []]
    if truth.kind != "caption" or len(phrases) < 2:
        return None
    said, whole = _only_text(truth.answer), listing(phrases, voice.language)
    place = said.lower().find(whole.lower())
    if place < 0:
        return None
    gone = voice.pick(range(1, len(phrases)))
    rest = listing([*phrases[:gone], *phrases[gone + 1 :]], voice.language)
    return (TextPart(said[:place] + (opened(rest) if said[place].isupper() else rest) + said[place + len(whole) :]),)


def _other_name(
    key: str, colour: str | None, present: Sequence[tuple[str, str | None]], background: str | None, voice: Voice
) -> tuple[str, str | None]:
    """Another emoji; of a shape the same one in another colour, or another one in its colour."""
    names: list[tuple[str, str | None]] = [(other, None) for other in EMOJI]
    if colour is not None:
        names = [*((key, other) for other in COLOURS if other != background), *((other, colour) for other in SHAPES)]
    return voice.pick([name for name in names if name not in present])


def _said_instead(answer: Sequence[Part], right: str, wrong: str) -> tuple[Part, ...] | None:
    """The answer with one phrase for another, in a marked phrase or in the text."""
    for place, part in enumerate(answer):
        said = _words(part)
        found = said.lower().find(right.lower())
        if found < 0:
            continue
        new = opened(wrong) if said[found].isupper() else wrong
        text = said[:found] + new + said[found + len(right) :]
        changed = replace(part, phrase=text) if isinstance(part, RegionPart) else TextPart(text)
        return (*answer[:place], changed, *answer[place + 1 :])
    return None


def _only_text(answer: Sequence[Part]) -> str:
    """The words of an answer that is nothing but words, else ""."""
    return "".join(part.text for part in answer if isinstance(part, TextPart)) if _is_text(answer) else ""


def _is_text(answer: Sequence[Part]) -> bool:
    return all(isinstance(part, TextPart) for part in answer)
