"""Pages of text as Samples: reading with places, reading alone, finding a line, reading a place, and the order of lines.

    ocr_quad       every line with its four corners: OCR of the paper's Box B
    ocr_words      the same for words, of the whole page or, where those are many, of one line; Chinese and Japanese have pieces
                   between punctuation marks instead
    ocr_spotting   lines and places, as Qwen2.5-VL's cookbook asks for them
    ocr            the text alone, line by line
    find_text      the box of a line that stands once on the page
    read_place     what stands in a box
    reading_order  boxes of lines, shuffled and numbered; the answer is their numbers in the order of reading

Questions are in the language of an English or Chinese page, in either for others; `Sample.language` is that of the text. `extra`
has `kind`, `question`, `answer`, `question_language`, `texts` and `quads` (eight numbers each, in [0, 1]) of what the answer is
about, and `fonts`, `effects`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qwenvl.data import formats
from qwenvl.data.places import upright
from qwenvl.data.synth.draws import pick
from qwenvl.data.synth.names import Language
from qwenvl.data.synth.text.page import make_page, streams_of
from qwenvl.data.synth.text.spec import TextSpec, TextTask
from qwenvl.data.synth.text.truth import Page, TextLine, TextWord
from qwenvl.data.wording import plain
from qwenvl.types import Message, Region, Sample

SOURCE = "synth/text"
_MOST_WORDS = 60
"""Words of a page whose places are asked for all at once."""
_ORDERED = (3, 6)
"""How many lines are to be put in order."""

Asked = tuple[tuple[Message, ...], Sequence[TextLine | TextWord]]
"""A question with its answer, and what it is about."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks about a page: its picture as a file, the language of questions, and the random numbers."""

    page: Page
    picture: bytes
    language: Language
    rng: np.random.Generator

    def place(self, text: TextLine | TextWord) -> Region:
        """Its quad in [0, 1] of the picture. Raises RegionError for one without area."""
        width, height = self.page.picture.size
        return Region("quad", tuple((x / width, y / height) for x, y in text.quad)).check(f"page {self.page.name}")

    def box(self, text: TextLine | TextWord) -> Region:
        return upright(self.place(text))

    def placed(self, texts: Sequence[TextLine | TextWord]) -> list[tuple[str, Region]]:
        return [(text.text, self.place(text)) for text in texts]


def samples(spec: TextSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about page `index`, as generators.py has it: one for each task that the page allows.

    Signs lie anywhere: nothing says in which order they are to be read.
    """
    tasks = [task for task in spec.tasks if spec.kind == "pages" or task != "reading_order"]
    return page_samples(make_page(spec, seed, index), tasks)


def page_samples(page: Page, tasks: Sequence[TextTask]) -> list[Sample]:
    """One Sample for each task that the page allows; none for a page without text."""
    if not page.lines:
        return []
    rng = streams_of(page.seed, page.index)("questions")
    language: Language = page.script if page.script in ("en", "zh") else pick(rng, ("en", "zh"))
    reader = Reader(page, page.file(), language, rng)
    return [_sample(reader, task, *asked) for task in tasks if (asked := _TASKS[task](reader)) is not None]


def _sample(reader: Reader, task: TextTask, messages: tuple[Message, ...], about: Sequence[TextLine | TextWord]) -> Sample:
    page = reader.page
    *_, asked, answered = messages
    extra = {
        "kind": task, "question": plain(asked.parts), "answer": plain(answered.parts), "question_language": reader.language,
        "texts": [text.text for text in about],
        "quads": [[value for point in reader.place(text).points for value in point] for text in about],
        "fonts": sorted({line.font for line in page.lines}), "effects": list(page.effects),
    }  # fmt: skip
    return Sample(messages, f"text {page.name} {task}", task, page.script, SOURCE, extra)


def _ocr_quad(reader: Reader) -> Asked:
    lines = reader.page.lines
    return formats.ocr_quad(reader.picture, reader.placed(lines), reader.language), lines


def _ocr_words(reader: Reader) -> Asked:
    words = [word for line in reader.page.lines for word in line.words]
    if len(words) <= _MOST_WORDS:
        return formats.ocr_words(reader.picture, reader.placed(words), reader.language), words
    line = pick(reader.rng, reader.page.lines)
    return formats.ocr_line_words(reader.picture, reader.box(line), reader.placed(line.words), reader.language), line.words


def _ocr_spotting(reader: Reader) -> Asked:
    lines = reader.page.lines
    return formats.spot_text(reader.picture, reader.placed(lines), reader.language), lines


def _ocr(reader: Reader) -> Asked:
    lines = reader.page.lines
    return formats.read_text(reader.picture, "\n".join(line.text for line in lines), reader.language), lines


def _find_text(reader: Reader) -> Asked | None:
    written = [line.text for line in reader.page.lines]
    single = [line for line in reader.page.lines if sum(line.text in other for other in written) == 1]
    if not single:
        return None
    line = pick(reader.rng, single)
    return formats.referring(reader.picture, line.text, [reader.box(line)]), [line]


def _read_place(reader: Reader) -> Asked:
    line = pick(reader.rng, reader.page.lines)
    return formats.read_place(reader.picture, reader.box(line), line.text, reader.language), [line]


def _reading_order(reader: Reader) -> Asked | None:
    lines = reader.page.lines
    if len(lines) < _ORDERED[0]:
        return None
    chosen = sorted(reader.rng.permutation(len(lines))[: int(reader.rng.integers(_ORDERED[0], _ORDERED[1] + 1))].tolist())
    shown = reader.rng.permutation(len(chosen)).tolist()
    boxes = [reader.box(lines[chosen[place]]) for place in shown]
    order = [shown.index(place) + 1 for place in range(len(chosen))]
    return formats.reading_order(reader.picture, boxes, order, reader.language), [lines[number] for number in chosen]


_TASKS: dict[TextTask, Callable[[Reader], Asked | None]] = {
    "ocr_quad": _ocr_quad, "ocr_words": _ocr_words, "ocr_spotting": _ocr_spotting, "ocr": _ocr, "find_text": _find_text,
    "read_place": _read_place, "reading_order": _reading_order,
}  # fmt: skip
