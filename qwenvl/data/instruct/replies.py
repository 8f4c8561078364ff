"""A language model's reply as turns of a conversation: read tolerantly, checked strictly.

A thing is written [words](number); numbers that are not in the list, coordinates that are none of its boxes, and words that give
away that no picture was seen are refused, each with its reason. A turn may lean on the one before it: from the first bad one on
nothing is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from qwenvl.data.clean.text import HAN
from qwenvl.data.instruct.prompts import SCALE, book
from qwenvl.data.shown import Named
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import plain
from qwenvl.processing.loose_json import find_json
from qwenvl.types import Part, Region, RegionPart, TextPart

MENTION = re.compile(r"\[(?P<words>[^\[\]\n]+)\]\s*[(（]\s*#?(?P<numbers>\d+(?:\s*[,，、]\s*#?\d+)*)\s*[)）]")
"""[words](2), and of several things [words](2, 5)."""
NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
BOX = re.compile(rf"[\[(（]{NUMBER}[,，]{NUMBER}[,，]{NUMBER}[,，]{NUMBER}[\])）]")
"""Four numbers in brackets: coordinates, although none were asked for."""
LABELLED = re.compile(r"^\W*(?:question|q|问题|问|answer|a|回答|答案|答)\s*\d*\s*[:：][*_]*\s*", re.IGNORECASE | re.MULTILINE)
ASKS = re.compile(r"^\W*(?:question|q|问题|问)\s*\d*\s*[:：]", re.IGNORECASE)
QUESTION_KEYS, ANSWER_KEYS = ("question", "q", "问题", "问"), ("answer", "a", "response", "回答", "答案", "答")
NEAR = 10.0
"""Thousandths by which written coordinates may miss a box."""
QUOTED = 0.3
"""Share of Chinese characters that an English text may quote; a Chinese text has more of them than Latin words."""
LATIN = re.compile(r"[A-Za-z]+")


class BadReply(Exception):
    """Why a turn, or a whole reply, is not used. Without numbers or names: refusals are counted by it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    question: tuple[Part, ...]
    answer: tuple[Part, ...]


def read_turns(text: str, finished: bool = True) -> list[tuple[str, str]]:
    """Questions and answers of a reply: a JSON list of objects, however loose, or lines that begin with "Question:" and "Answer:".

    Of a reply that is not `finished`, the last one is left out where it was cut off. Any text is read without an error.
    """
    found: list[tuple[str, str]] = []
    for value in find_json(text):
        items = value.value if isinstance(value.value, list) else [value.value]
        pairs = [_pair(item) for item in items]
        if not value.complete and pairs:
            pairs = pairs[:-1]
        found += [pair for pair in pairs if pair is not None]
    if not found:
        found = list(_labelled(text))
        if not finished:
            found = found[:-1]
    return [(asked.strip(), said.strip()) for asked, said in found if asked.strip() and said.strip()]


def _pair(item: object) -> tuple[str, str] | None:
    if not isinstance(item, dict):
        return None
    asked, said = (
        next((item[key] for key in keys if isinstance(item.get(key), str)), None) for keys in (QUESTION_KEYS, ANSWER_KEYS)
    )
    return None if asked is None or said is None else (asked, said)


def _labelled(text: str) -> Iterator[tuple[str, str]]:
    starts = list(LABELLED.finditer(text))
    ends = [*(start.start() for start in starts[1:]), len(text)]
    pieces = [(bool(ASKS.match(start.group())), text[start.end() : end]) for start, end in zip(starts, ends, strict=False)]
    for (asks, asked), (answers, said) in pairwise(pieces):
        if asks and not answers:
            yield asked, said


def check_turns(turns: Sequence[tuple[str, str]], things: Sequence[Named], language: Language) -> tuple[list[Exchange], str | None]:
    """The turns up to the first bad one, with places in the place of numbers, and why it is bad (None if all are good)."""
    good: list[Exchange] = []
    asked: set[str] = set()
    for question, answer in turns:
        try:
            exchange = Exchange(read_places(question, things), read_places(answer, things))
            _check_words(exchange, language)
            if plain(exchange.question).lower() in asked:
                raise BadReply("a question is put twice")
        except BadReply as error:
            return good, str(error)
        asked.add(plain(exchange.question).lower())
        good.append(exchange)
    return good, None


def read_places(text: str, things: Sequence[Named]) -> tuple[Part, ...]:
    """Text and RegionParts. Raises BadReply for a number or coordinates that belong to nothing in the list."""
    parts: list[Part] = []
    place = 0
    for mention in MENTION.finditer(text):
        parts += _unmarked(text[place : mention.start()], things)
        numbers = [int(number) for number in re.findall(r"\d+", mention["numbers"])]
        if not all(1 <= number <= len(things) for number in numbers):
            raise BadReply("a thing that is not in the list")
        regions = [region for number in numbers for region in things[number - 1].regions]
        parts.append(RegionPart(mention["words"].strip(), tuple(dict.fromkeys(regions))))
        place = mention.end()
    return (*parts, *_unmarked(text[place:], things))


def _unmarked(text: str, things: Sequence[Named]) -> Iterator[Part]:
    """Text whose coordinates, if any, become the boxes that they mean."""
    place = 0
    for written in BOX.finditer(text):
        values = [float(value) for value in written.groups()]
        if max(values) <= 1.0:
            values = [value * SCALE for value in values]
        region = _meant(values, things)
        if region is None:
            raise BadReply("coordinates that are no box of the list")
        if text[place : written.start()]:
            yield TextPart(text[place : written.start()])
        yield RegionPart(None, (region,))
        place = written.end()
    if text[place:]:
        yield TextPart(text[place:])


def _meant(values: Sequence[float], things: Sequence[Named]) -> Region | None:
    for thing in things:
        for region in thing.regions:
            sides = [value * SCALE for point in region.points for value in point]
            if all(abs(side - value) <= NEAR for side, value in zip(sides, values, strict=True)):
                return region
    return None


def _check_words(exchange: Exchange, language: Language) -> None:
    said = f"{plain(exchange.question)} {plain(exchange.answer)}"
    if any(leak in said.lower() for leak in (word.lower() for word in book()["leaks"][language])):
        raise BadReply("it speaks of what it was told, not of the picture")
    if not plain(exchange.answer):
        raise BadReply("an answer without words")
    chinese = len(HAN.findall(said))
    if (chinese <= len(LATIN.findall(said))) if language == "zh" else (chinese > QUOTED * len(said)):
        raise BadReply("another language than was asked for")
