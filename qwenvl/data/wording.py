"""How things of a scene are spoken of, in English and Chinese: names, unique phrases, groups, captions; and who speaks.

A `Voice` carries the choices that every question needs: language, style, the random stream, and whether the phrasing held
out from training is wanted. Phrasings live in phrases.yaml beside this file; the names of things in synth/names.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qwenvl.data.synth.names import article, counted, described, measure_word, plural
from qwenvl.types import Message, Part, Region, RegionPart, Style, TextPart

if TYPE_CHECKING:
    import numpy as np

    from qwenvl.data.synth.names import Language
    from qwenvl.data.synth.scene import Scene, Thing

PHRASES = Path(__file__).with_name("phrases.yaml")

APART = 0.15
"""Two things are left, right, above or below one another when their centres differ by this part of the picture's side."""

Item = TypeVar("Item")


@cache
def phrasebook(path: Path = PHRASES) -> dict[str, dict[str, list[str]]]:
    """Kind of question -> language -> its phrasings, the last one held out from training. Shared: never change it."""
    import yaml

    book: dict[str, dict[str, list[str]]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return book


@dataclass(frozen=True, slots=True)
class Voice:
    """Who asks: the language, the style, the random stream, and whether to use the held-out phrasing."""

    language: Language
    style: Style
    rng: np.random.Generator
    held_out: bool = False

    def happens(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.rng.random() * len(items))]

    def some(self, items: Sequence[Item], limit: int) -> list[Item]:
        """Up to `limit` of the items, in random order."""
        left = list(items)
        return [left.pop(int(self.rng.random() * len(left))) for _ in range(min(limit, len(left)))]

    def say(self, english: str, chinese: str) -> str:
        return english if self.language == "en" else chinese

    def phrasing(self, kind: str, book: Path = PHRASES) -> str:
        """One way to put a question of that kind of a book, with its slots still open."""
        phrasings = phrasebook(book)[kind][self.language]
        return phrasings[-1] if self.held_out else phrasings[int(self.rng.random() * (len(phrasings) - 1))]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer as parts, with the structured truth that scores it (see tasks.py)."""

    question: tuple[Part, ...]
    answer: tuple[Part, ...]
    extra: dict[str, Any]

    def messages(self, *before: Part) -> tuple[Message, ...]:
        """The user's message, led by `before` (the picture), and the assistant's."""
        asked = (*before, *self.question)
        reply = Message("assistant", self.answer)
        return (Message("user", asked), reply) if asked else (reply,)


def plain(parts: Sequence[Part]) -> str:
    """What the parts say without any markup: text and phrases."""
    said = ""
    for part in parts:
        if isinstance(part, TextPart):
            said += part.text
        elif isinstance(part, RegionPart):
            said += part.phrase or ""
    return said.strip()


def fill(template: str, region: RegionPart) -> tuple[Part, ...]:
    """The template's text with a region in its slot "{box}" or "{thing}"."""
    slot = "{box}" if "{box}" in template else "{thing}"
    before, _, after = template.partition(slot)
    return (*((TextPart(before),) if before else ()), region, *((TextPart(after),) if after else ()))


# Where things are.


def region_of(scene: Scene, thing: Thing) -> Region:
    """The thing's box in [0, 1] of the picture."""
    width, height = scene.width, scene.height
    left, top, right, bottom = thing.box
    return Region.box(max(left / width, 0.0), max(top / height, 0.0), min(right / width, 1.0), min(bottom / height, 1.0))


def quad_of(scene: Scene, thing: Thing) -> Region:
    """The thing's four corners in [0, 1] of the picture."""
    width, height = scene.width, scene.height
    return Region("quad", tuple((min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)) for x, y in thing.quad))


def numbers(region: Region) -> list[float]:
    """A region as a flat list for `Sample.extra`: left, top, right, bottom; or eight numbers of a quad."""
    return [value for point in region.points for value in point]


def centre(scene: Scene, thing: Thing) -> tuple[float, float]:
    """The middle of the thing's box, in [0, 1] of the picture."""
    left, top, right, bottom = thing.box
    return (left + right) / (2 * scene.width), (top + bottom) / (2 * scene.height)


def extreme(values: Sequence[float], largest: bool) -> int | None:
    """The index of the smallest (or largest) value, or None unless it stands apart from all others."""
    order = sorted(range(len(values)), key=values.__getitem__, reverse=largest)
    if len(order) < 2 or abs(values[order[0]] - values[order[1]]) < APART:
        return None
    return order[0]


# What things are called.


def name(thing: Thing, language: Language) -> str:
    """The bare noun: "red circle", "dog", "text AB12"."""
    if thing.kind == "text":
        return ("text " if language == "en" else "文字") + thing.name
    return described(thing.name, language, thing.colour)


def the(noun_phrase: str, language: Language) -> str:
    """The noun as a definite phrase; Chinese says it bare."""
    return "the " + noun_phrase if language == "en" else noun_phrase


def a_thing(thing: Thing, language: Language) -> str:
    """One such thing: "a dog", "the text AB12" / "一只狗", "文字AB12"."""
    if thing.kind == "text":
        return the(name(thing, language), language)
    return counted(thing.name, 1, language, thing.colour)


def is_there_phrase(key: str, colour: str | None, language: Language) -> str:
    """What one asks for: "a dog" / "狗"."""
    phrase = described(key, language, colour)
    return f"{article(phrase)} {phrase}" if language == "en" else phrase


def how_many(key: str, colour: str | None, language: Language) -> str:
    """The counted noun of a question: "red circles" / "几个红色的圆形"."""
    if language == "zh":
        return f"几{measure_word(key)}{described(key, 'zh', colour)}"
    return counted(key, 2, "en", colour).removeprefix("two ")


def none_of(key: str, colour: str | None, language: Language) -> str:
    """"no red circles" / "没有红色的圆形"."""
    if language == "zh":
        return "没有" + described(key, "zh", colour)
    return "no " + (plural(key) if colour is None else how_many(key, colour, "en"))


@dataclass(slots=True)
class Group:
    """Things of the picture that go by one name."""

    kind: str
    key: str
    colour: str | None
    members: list[int] = field(default_factory=list)

    def phrase(self, language: Language) -> str:
        """"a dog", "two red circles", "the text AB12"."""
        if self.kind == "text":
            return the(("text " if language == "en" else "文字") + self.key, language)
        return counted(self.key, len(self.members), language, self.colour)


def groups(scene: Scene) -> list[Group]:
    """The scene's things by name, from left to right by their leftmost member: one fixed order, which can be learnt."""
    found: dict[tuple[str, str, str | None], Group] = {}
    order = sorted(range(len(scene.things)), key=lambda index: scene.things[index].box[0] + scene.things[index].box[2])
    for index in order:
        thing = scene.things[index]
        key = (thing.kind, thing.name, thing.colour)
        if key not in found:
            found[key] = Group(*key)
        found[key].members.append(index)
    return list(found.values())


def truth(group: Group, language: Language) -> dict[str, Any]:
    """A group as plain data for `Sample.extra`."""
    count = len(group.members)
    return {"key": group.key, "kind": group.kind, "colour": group.colour, "count": count, "phrase": group.phrase(language)}


def names_alone(scene: Scene, index: int, language: Language) -> list[str]:
    """The definite phrases without position words that mean this thing and no other one in the picture."""
    thing, things = scene.things[index], scene.things
    alike = [other for other in things if other.kind == thing.kind]
    phrases = []
    if sum(other.name == thing.name and other.colour == thing.colour for other in alike) == 1:
        phrases.append(the(name(thing, language), language))
    if thing.kind == "shape":
        if sum(other.name == thing.name for other in alike) == 1:
            phrases.append(the(described(thing.name, language), language))
    elif thing.kind == "text" and len(alike) == 1:
        phrases.append("the text" if language == "en" else "文字")
    return phrases


# Position words for one of two alike things, and for one of more.
_OF_TWO = {"left": ("the left {}", "左边的{}"), "right": ("the right {}", "右边的{}"),
           "top": ("the upper {}", "上面的{}"), "bottom": ("the lower {}", "下面的{}")}
_OF_MANY = {"left": ("the leftmost {}", "最左边的{}"), "right": ("the rightmost {}", "最右边的{}"),
            "top": ("the topmost {}", "最上面的{}"), "bottom": ("the lowest {}", "最下面的{}")}


def names_by_position(scene: Scene, index: int, language: Language, ignore_colour: bool = False) -> list[str]:
    """Phrases such as "the left dog" for one of several alike things, where its place stands apart.

    With `ignore_colour` shapes are alike by their form alone, and the phrase says no colour.
    """
    thing = scene.things[index]
    alike = [
        other for other, candidate in enumerate(scene.things)
        if candidate.kind == thing.kind and candidate.name == thing.name and (ignore_colour or candidate.colour == thing.colour)
    ]
    if len(alike) < 2:
        return []
    words = _OF_TWO if len(alike) == 2 else _OF_MANY
    centres = [centre(scene, scene.things[other]) for other in alike]
    noun_phrase = described(thing.name, language) if ignore_colour else name(thing, language)
    position = alike.index(index)
    phrases = []
    for axis, sides in enumerate((("left", "right"), ("top", "bottom"))):
        values = [point[axis] for point in centres]
        for largest, side in enumerate(sides):
            if extreme(values, bool(largest)) == position:
                phrases.append(words[side][0 if language == "en" else 1].format(noun_phrase))
    return phrases


def listing(phrases: Sequence[str], language: Language) -> str:
    """ "a dog, a cat and two stars" / "一只狗、一只猫和两个星形"."""
    if len(phrases) == 1:
        return phrases[0]
    comma, last = (", ", " and ") if language == "en" else ("、", "和")
    return comma.join(phrases[:-1]) + last + phrases[-1]


def opened(sentence: str) -> str:
    """The sentence with a capital letter, as chat replies begin."""
    return sentence[:1].upper() + sentence[1:]
