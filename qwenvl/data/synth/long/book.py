"""Books: pages of a document that follow each other, as many as fit a budget, and questions about them, one of them late.

Pages come from the readers in data/documents. The n-th page is called picture n, as the pictures of a conversation are numbered:
the number that is printed on it may be another one.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from qwenvl.config import Count
from qwenvl.data.clean.text import language_of
from qwenvl.data.dialogues.strategies import late_turn
from qwenvl.data.dialogues.turns import FINDING, count_pictures, told
from qwenvl.data.documents.page import Page
from qwenvl.data.documents.qwenvl_html import document_parts
from qwenvl.data.formats import PARSE_PROMPT
from qwenvl.data.places import upright
from qwenvl.data.shown import Asked, Named, Shown
from qwenvl.data.synth.long.budget import LongSpec, stream
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import Turn, Voice
from qwenvl.types import ImagePart, Message, Part, RegionError, RegionPart, Sample, TextPart

PHRASES = Path(__file__).with_name("phrases.yaml")
_KIND = 5
_SNIPPET = (10, 40)
"""Least and greatest length in characters of a piece of a line that is asked for; Chinese has half as many."""
_UNFIT = re.compile(r'["“”]|\.\.\.')
"""Quotes within quotes, and the dots of a table of contents."""
_LINES = 6
"""Lines of a page that are asked about."""
_ANSWERS = (3000, 4)
"""Tokens kept free for questions and answers: so many at most, and at most such a part of the budget."""


class BookSpec(LongSpec):
    """How pages become books."""

    page_pixels: Count = 800_000
    """Pages are made smaller to so many pixels, at which a line of usual text can just be read."""
    pages: tuple[int, int] = (3, 200)
    """Fewer are no book; more are not taken, whatever the budget."""
    turns: tuple[int, int] = Field(default=(1, 4))
    """Least and greatest number of questions."""


def books(pages: Iterable[Page], spec: BookSpec, seed: int, number: int = 0) -> Iterator[Sample]:
    """The pages of documents, dealt out in order: a book ends where its budget is full or its document ends. Book k of the stream
    has number `number` + k."""
    waiting: list[Shown] = []
    headings: list[list[str]] = []
    source, room = "", 0
    for page in pages:
        shown = page_shown(page, spec)
        cost = spec.ruler.part(shown.picture)
        if waiting and (page.source != source or cost > room or len(waiting) == spec.pages[1]):
            sample = _book(waiting, headings, spec, seed, number, source)
            number += 1
            waiting, headings = [], []
            if sample is not None:
                yield sample
        if not waiting:
            source, room = page.source, _room(spec, seed, number)
        waiting.append(shown)
        headings.append(headings_of(page))
        room -= cost
    if waiting and (sample := _book(waiting, headings, spec, seed, number, source)) is not None:
        yield sample


def _room(spec: BookSpec, seed: int, number: int) -> int:
    """Tokens for the pages of a book."""
    budget = spec.budget(stream(_KIND, seed, number))
    return budget - min(_ANSWERS[0], budget // _ANSWERS[1])


def _book(
    pages: Sequence[Shown], headings: Sequence[Sequence[str]], spec: BookSpec, seed: int, number: int, source: str
) -> Sample | None:
    """Questions about the pages of a book, the first of which is late; None for too few pages."""
    if len(pages) < spec.pages[0]:
        return None
    rng = np.random.default_rng((_KIND, 1, seed, number))
    languages = [page.language for page in pages]
    language: Language = max(("en", "zh"), key=languages.count)
    voice = Voice(language, "chat", rng, spec.held_out)
    pages = [page if page.language == language else replace(page, asked=()) for page in pages]
    first = late_turn(pages, voice)
    if first is None:
        return None
    turns = [first]
    wanted = int(rng.integers(spec.turns[0], spec.turns[1] + 1))
    others = [*FINDING, lambda shown, voice, since: count_pictures(shown, voice), lambda *_: contents(headings, voice)]
    for builder in voice.some(others, len(others)):
        turn = builder(pages, voice, 0) if len(turns) < wanted else None
        if turn is not None and turn.extra["question"] not in [other.extra["question"] for other in turns]:
            turns.append(turn)
    messages: list[Message] = []
    for turn in turns:
        messages += turn.messages(*(() if messages else [page.picture for page in pages]))
    extra = {"kind": "book", "turns": [turn.extra for turn in turns], "pictures": [page.name for page in pages]}
    return Sample(tuple(messages), f"book {source} {number}", "book", language, "books", extra)


def contents(headings: Sequence[Sequence[str]], voice: Voice) -> Turn | None:
    """All headings with the numbers of their pictures, where at least three pages have some."""
    found = [(place, voice.say("; ", "；").join(texts)) for place, texts in enumerate(headings) if texts]
    if len(found) < 3:
        return None
    lines = [voice.say(f"Picture {place + 1}: {text}", f"图{place + 1}：{text}") for place, text in found]
    return told("contents", voice.phrasing("contents", PHRASES), "\n".join(lines))


def headings_of(page: Page) -> list[str]:
    return [block.text.strip() for block in page.blocks if block.kind == "heading" and block.text.strip()]


def page_shown(page: Page, spec: BookSpec) -> Shown:
    """A page with what can be asked about it: lines, the first heading, a place, what follows a line, QwenVL HTML."""
    language = language_of(page.text)
    voice = Voice(language, "chat", np.random.default_rng((_KIND, 2, page.number)), spec.held_out)
    lines = [line.text.strip() for line in page.lines]
    telling = [place for place, text in enumerate(lines) if lines.count(text) == 1 and _is_telling(text, language)]
    asked: list[Asked] = []
    if headings := headings_of(page):
        asked.append(_asked(voice, "first_heading", TextPart(headings[0])))
    for place in voice.some(telling, _LINES):
        snippet = _snippet(lines[place], language)
        if snippet == lines[place]:
            found = RegionPart(snippet, (upright(page.region(page.lines[place])),))
            asked.append(_asked(voice, "line_box", found, text=snippet))
        if place + 1 < len(lines) and lines[place + 1]:
            asked.append(_asked(voice, "next_line", TextPart(lines[place + 1]), text=snippet))
    parsed = _parsed(page, language)
    if parsed is not None and sum(map(spec.ruler.part, parsed.answer)) <= min(_ANSWERS[0], spec.tokens[0] // _ANSWERS[1]) // 2:
        asked.append(parsed)
    picture = ImagePart(_png(page.image, spec.page_pixels))
    texts = tuple(Named(_snippet(lines[place], language), ()) for place in telling)
    return Shown(picture, page.name, language, texts=texts, asked=tuple(asked), said="\n".join(lines))


def _asked(voice: Voice, kind: str, answer: Part, **slots: str) -> Asked:
    question = voice.phrasing(kind, PHRASES).format_map(slots)
    return Asked(question, (answer,), kind, {"kind": kind})


def _parsed(page: Page, language: Language) -> Asked | None:
    """Document parsing; None for a page without blocks or with a place that cannot be taught."""
    try:
        parts = document_parts(page.blocks, page.name) if page.blocks else ()
    except RegionError:
        return None
    return Asked(PARSE_PROMPT[language].strip(), parts, "document_parsing") if parts else None


def _is_telling(text: str, language: Language) -> bool:
    """Whether a line says enough to be found by, and can be quoted: words, not rules or numbers of pages."""
    if _UNFIT.search(text):
        return False
    least = _SNIPPET[0] // (1 if language == "en" else 2)
    return sum(character.isalpha() for character in text) >= max(least, len(text) // 2)


def _snippet(text: str, language: Language) -> str:
    """The beginning of a line: whole words where there are blanks."""
    most = _SNIPPET[1] // (1 if language == "en" else 2)
    if len(text) <= most:
        return text
    cut = text[: most + 1].rpartition(" ")[0] if language == "en" else ""
    return cut or text[:most]


def _png(picture: Image.Image, most: int) -> bytes:
    scale = math.sqrt(most / (picture.width * picture.height))
    if scale < 1:
        size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "png", compress_level=3)
    return file.getvalue()
