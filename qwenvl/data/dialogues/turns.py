"""Questions about several pictures at once, each answered from what Samples say of the pictures alone.

Every builder takes the pictures in the order of the conversation and gives a `Turn`, or None where they do not allow one. Pictures
are numbered from 1 in words and from 0 in regions. The places of one answer are all in one picture: markup that is a list has no
way to tell pictures apart. A caption does not name everything, so that nothing is said to be absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from qwenvl.data.answers import Choices
from qwenvl.data.shown import Asked, Named, Shown, in_picture
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import Turn, Voice, numbers, opened, plain
from qwenvl.types import RegionPart, TextPart

PHRASES = Path(__file__).with_name("phrases.yaml")

_LONGEST_TEXT = 40
"""Characters of a string of lettering that is asked for."""
_LONGEST_THING = 60
"""Characters of a phrase that is asked for: beyond it is a clause."""

Builder = Callable[[Sequence[Shown], Voice], Turn | None]


class Finder(Protocol):
    """A builder that can be told to ask about one of the pictures from number `since` on."""

    def __call__(self, pictures: Sequence[Shown], voice: Voice, since: int = 0) -> Turn | None: ...


def put(voice: Voice, kind: str, **slots: Any) -> str:
    """A way to put a question of this package's phrasebook."""
    return voice.phrasing(kind, PHRASES).format_map(slots)


def told(kind: str, question: str, answer: str | tuple[Any, ...], **extra: Any) -> Turn:
    """A turn with the truth that scores it; see data/tasks.py."""
    parts = (TextPart(answer),) if isinstance(answer, str) else answer
    return Turn((TextPart(question),), parts, {"kind": kind, "question": question, "answer": plain(parts), **extra})


def sentence(text: str, language: Language) -> str:
    """A caption as a sentence of its own: with a capital and a full stop."""
    text = opened(text.strip())
    ends = '.!?…"”' if language == "en" else "。！？…”"
    return text if text.endswith(tuple(ends)) else text.rstrip(".。") + ("." if language == "en" else "。")


def picture_name(number: int, language: Language) -> str:
    """What picture `number` (from 0) is called in a sentence: "picture 1" / "图1"."""
    return f"picture {number + 1}" if language == "en" else f"图{number + 1}"


def picture_choices(count: int, language: Language) -> Choices:
    return {str(number + 1): [picture_name(number, language)] for number in range(count)}


def _which(pictures: Sequence[Shown], number: int, voice: Voice) -> dict[str, Any]:
    return {"value": str(number + 1), "choices": picture_choices(len(pictures), voice.language)}


# About one of them.


def about_one(pictures: Sequence[Shown], voice: Voice, since: int = 0) -> Turn | None:
    """A question about one picture, put with its number: as below, one from number `since` on."""
    able = [number for number, picture in enumerate(pictures) if picture.asked and number >= since]
    if not able:
        return None
    number = voice.pick(able)
    asked = voice.pick(pictures[number].asked)
    return question_about(asked, put(voice, "about_picture", n=number + 1, question=asked.question), number)


def question_about(asked: Asked, question: str, number: int) -> Turn:
    """A question about picture `number` (from 0), in the words `question`."""
    answer = in_picture(asked.answer, number)
    extra = {**asked.extra, "kind": asked.extra.get("kind", asked.task), "question": question, "answer": plain(answer)}
    return Turn((TextPart(question),), answer, extra | {"picture": number})


def describe_one(pictures: Sequence[Shown], voice: Voice) -> Turn | None:
    """What one picture shows, its phrases with their places where these are known."""
    able = [number for number, picture in enumerate(pictures) if picture.captions]
    if not able:
        return None
    number = voice.pick(able)
    parts = in_picture(voice.pick(pictures[number].captions), number)
    return told("in_picture", voice.phrasing("in_picture").format(n=number + 1), parts, picture=number)


# About all of them.


def describe_each(pictures: Sequence[Shown], voice: Voice) -> Turn | None:
    if not all(picture.captions for picture in pictures):
        return None
    lines = [
        f"{opened(picture_name(number, voice.language))}{voice.say(': ', '：')}{sentence(picture.caption, voice.language)}"
        for number, picture in enumerate(pictures)
    ]
    return told("describe_each", put(voice, "describe_each", count=len(pictures)), "\n".join(lines))


def compare(pictures: Sequence[Shown], voice: Voice) -> Turn | None:
    """Two pictures side by side: what each shows, and what both are said to show."""
    able = [number for number, picture in enumerate(pictures) if picture.captions]
    if len(able) < 2:
        return None
    first, second = sorted(voice.some(able, 2))
    one, other = pictures[first], pictures[second]
    if one.caption.lower() == other.caption.lower():
        return None
    said = [
        voice.say(f"Picture {number + 1} shows this: {text}", f"图{number + 1}的内容是：{text}")
        for number, text in ((number, sentence(pictures[number].caption, voice.language)) for number in (first, second))
    ]
    of_other = {thing.phrase.lower() for thing in other.things}
    both = [thing.phrase for thing in one.things if thing.phrase.lower() in of_other]
    if both:
        said.append(voice.say(f"Both show {both[0]}.", f"两张图里都有{both[0]}。"))
    question = put(voice, "compare", n=first + 1, m=second + 1)
    return told("compare", question, voice.say(" ", "").join(said), pictures=[first, second], common=both)


def story(pictures: Sequence[Shown], voice: Voice) -> Turn | None:
    """The captions one after the other as one account. Nothing is added that they do not say."""
    if len(pictures) < 2 or not all(picture.captions for picture in pictures):
        return None
    last = len(pictures) - 1
    said = []
    for number, picture in enumerate(pictures):
        text, n = sentence(picture.caption, voice.language), number + 1
        if number == 0:
            said.append(voice.say(f"It begins with picture {n}: {text}", f"故事从图{n}开始：{text}"))
        elif number == last:
            said.append(voice.say(f"It ends with picture {n}: {text}", f"最后是图{n}：{text}"))
        else:
            said.append(voice.say(f"Then comes picture {n}: {text}", f"接着是图{n}：{text}"))
    return told("story", put(voice, "story", count=len(pictures)), voice.say(" ", "").join(said))


def count_pictures(pictures: Sequence[Shown], voice: Voice) -> Turn | None:
    answer = voice.say(f"There are {len(pictures)} pictures.", f"一共有{len(pictures)}张图。")
    return told("number_of_pictures", put(voice, "number_of_pictures"), answer, value=str(len(pictures)))


# Which of them.


def match(pictures: Sequence[Shown], voice: Voice, since: int = 0) -> Turn | None:
    """Which picture a caption belongs to: one that no other picture has."""
    captions = [picture.caption.lower() for picture in pictures]
    able = [number for number, text in enumerate(captions) if text and captions.count(text) == 1 and number >= since]
    if not able:
        return None
    number = voice.pick(able)
    question = put(voice, "match", caption=sentence(pictures[number].caption, voice.language))
    return told("match", question, _named(number, voice), **_which(pictures, number, voice))


def _named(number: int, voice: Voice) -> str:
    return voice.say(f"Picture {number + 1}.", f"图{number + 1}。")


def spot(pictures: Sequence[Shown], voice: Voice, since: int = 0) -> Turn | None:
    """A thing that one picture is known to show and nothing that is said of the others hints at: which picture, and where."""
    found = _only(pictures, lambda picture: picture.things, Shown.may_show, _LONGEST_THING, voice, since)
    if found is None:
        return None
    number, thing = found
    (place,) = in_picture([RegionPart(thing.phrase, thing.regions)], number)
    answer = (TextPart(voice.say(f"Picture {number + 1}: ", f"图{number + 1}：")), place)
    extra = {"phrase": thing.phrase, "picture": number, "regions": [numbers(region) for region in thing.regions]}
    return told("spot", put(voice, "spot", thing=thing.phrase), answer, **extra, **_which(pictures, number, voice))


def spot_text(pictures: Sequence[Shown], voice: Voice, since: int = 0) -> Turn | None:
    """Lettering that one picture is known to have, and no other."""
    found = _only(pictures, lambda picture: picture.texts, Shown.says, _LONGEST_TEXT, voice, since)
    if found is None:
        return None
    number, text = found
    question = put(voice, "spot_text", text=text.phrase)
    return told("spot_text", question, _named(number, voice), phrase=text.phrase, **_which(pictures, number, voice))


def _only(
    pictures: Sequence[Shown],
    entries: Callable[[Shown], Sequence[Named]],
    has: Callable[[Shown, str], bool],
    longest: int,
    voice: Voice,
    since: int,
) -> tuple[int, Named] | None:
    """One of the entries that no other picture `has`, with the number of its picture."""
    able = [
        (number, entry)
        for number, picture in enumerate(pictures)
        for entry in entries(picture)
        if number >= since and len(entry.phrase) <= longest
    ]
    for number, entry in voice.some(able, len(able)):
        if not any(has(other, entry.phrase) for place, other in enumerate(pictures) if place != number):
            return number, entry
    return None


WHICH: tuple[Finder, ...] = (match, spot, spot_text)
"""Questions which of the pictures it is."""
TELLING: tuple[Builder, ...] = (describe_each, compare, story)
"""Questions whose answer repeats what is said of several pictures: after one of them little is left to look for."""
FINDING: tuple[Finder, ...] = (about_one, *WHICH)
"""Questions about one of many pictures: by its number, or by what it alone shows."""
