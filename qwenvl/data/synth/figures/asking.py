"""Questions about figures: how they are put, and how figures become Samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qwenvl.data.documents.blocks import Block
from qwenvl.data.documents.qwenvl_html import document_parts
from qwenvl.data.formats import parse_document
from qwenvl.data.synth.figures.figure import Element, Figure
from qwenvl.data.synth.figures.words import book
from qwenvl.data.wording import Turn, Voice, fill, numbers, plain
from qwenvl.types import ImagePart, Message, Part, Region, RegionPart, Sample, TextPart

_QUESTIONS = 7
"""Sets the stream of questions apart from that of drawing."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question with a short answer that follows from the data alone; `steps` are the sentences on the way to it."""

    kind: str
    slots: dict[str, Any]
    answer: str
    steps: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()


def voice_of(figure: Figure, held_out: bool = False) -> Voice:
    """Who asks about a figure: in its language, from a random stream of its own."""
    rng = np.random.default_rng((_QUESTIONS, figure.seed, figure.index))
    return Voice(figure.language, "chat", rng, held_out)


def put(voice: Voice, kind: str, **slots: Any) -> str:
    """One way to put a question of a kind of phrases.yaml; the slot {box} stays open."""
    phrasings = book("phrases")[kind][voice.language]
    chosen: str = phrasings[-1] if voice.held_out else phrasings[int(voice.rng.random() * (len(phrasings) - 1))]
    return chosen.format_map({"box": "{box}", **slots})


@dataclass(slots=True)
class Samples:
    """The Samples about one figure, as they are collected."""

    figure: Figure
    voice: Voice
    found: list[Sample] = field(default_factory=list)

    def _keep(self, task: str, messages: tuple[Message, ...], extra: dict[str, Any]) -> None:
        number = sum(sample.task == task for sample in self.found)
        figure = self.figure
        name = f"{figure.source}/{figure.seed}/{figure.index}/{task}/{number}"
        self.found.append(Sample(messages, name, task, figure.language, figure.source, {"kind": task, **extra}))

    def add(self, task: str, turn: Turn) -> None:
        self._keep(task, turn.messages(ImagePart(self.figure.image)), dict(turn.extra))

    def say(self, task: str, question: str | Sequence[Part], answer: str | Sequence[Part], **extra: Any) -> None:
        """A question and its answer; `extra` is added to the truth that scores it."""
        asked, told = ((TextPart(side),) if isinstance(side, str) else tuple(side) for side in (question, answer))
        self.add(task, Turn(asked, told, {"question": plain(asked), "answer": plain(told), **extra}))

    def take(self, task: str, messages: tuple[Message, ...], **extra: Any) -> None:
        """An exchange as formats.py makes it."""
        *_, asked, answered = messages
        told = {"question": plain(asked.parts), "answer": plain(answered.parts), **extra}
        self._keep(task, messages, told)

    def parse(self, blocks: Sequence[Block]) -> None:
        """The picture as QwenVL HTML."""
        figure = self.figure
        parts = document_parts(blocks, f"{figure.source}/{figure.seed}/{figure.index}")
        self.take("document_parsing", parse_document(figure.image, parts, figure.language))

    def ask(self, task: str, asks: Iterable[Ask], limit: int, reason_share: float = 0.3) -> None:
        """Up to `limit` of the questions, a share of those with steps answered step by step."""
        for ask in self.voice.some(list(asks), limit):
            question = put(self.voice, ask.kind, **ask.slots)
            answer = ask.answer
            if ask.steps and self.voice.happens(reason_share):
                last = self.voice.say(f"The answer is {answer}.", f"答案是{answer}。")
                answer = self.voice.say(". ", "。").join((*ask.steps, last))
            self.say(task, question, answer, kind=ask.kind, accept=[ask.answer, *ask.accept], value=ask.answer)

    def find(self, elements: Sequence[Element], limit: int, points: int = 0) -> None:
        """Element by its name: its box; and up to `points` times a point on it. Only names that mean one element are asked for."""
        for element in self.voice.some(unique(elements), limit):
            self._placed("grounding", "find", element, self.figure.region(element.box))
        for element in self.voice.some(unique(elements), points):
            self._placed("point", "point_at", element, self.figure.spot(element))

    def _placed(self, task: str, kind: str, element: Element, region: Region) -> None:
        question = put(self.voice, kind, name=element.name)
        box = numbers(self.figure.region(element.box))
        extra = {"phrase": element.name, "element": element.kind, "regions": [box]}
        self.say(task, question, [RegionPart(element.name, (region,))], **extra)

    def name(self, elements: Sequence[Element], limit: int, written: bool = False) -> None:
        """Element by its box: what it is called, or with `written` what stands in it."""
        chosen = [element for element in elements if (element.text if written else element.name)]
        for element in self.voice.some(chosen, limit):
            region = self.figure.region(element.box)
            template = put(self.voice, "read_box" if written else "name_box")
            question = fill(template, RegionPart(None, (region,)))
            answer = element.text if written else element.name
            extra = {
                "question": template,
                "answer": answer,
                "accept": [answer],
                "element": element.kind,
                "regions": [numbers(region)],
            }
            self.add("reading" if written else "element_naming", Turn(question, (TextPart(answer),), extra))


def unique(elements: Sequence[Element]) -> list[Element]:
    """The elements whose name no other one has."""
    names = [element.name for element in elements]
    return [element for element in elements if element.name and names.count(element.name) == 1]
