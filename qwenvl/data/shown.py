"""Pictures with what Samples say about them: captions, things with places, lettering, questions. What dialogues, long samples and
self-instruction are made of, whatever the Samples come from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

from qwenvl.data.formats import REGION_WORD
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import plain
from qwenvl.types import CoordinatesPart, ImagePart, Message, Part, Region, RegionPart, Sample, TextPart

_CAPTIONS = ("caption", "grounded_caption")
_DESCRIBES = re.compile(r"\bdescri(?:be|bing|ption)\b|\bcaption\b|描述|图片说明", re.IGNORECASE)
"""A question whose answer is a caption, in conversations whose turns have no task of their own."""
_LETTERING = ("ocr", "ocr_quad", "ocr_spotting", "find_text")
_CONVERSATION = "conversation"
_BARE = ("text",)
"""Tasks that are not about a picture."""

# Words before a noun that say nothing of what it is; and what English plurals end in.
_LEADING = re.compile(r"^(?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|some|several)\s+", re.IGNORECASE)
_PLURAL = re.compile(r"(?:(?<=[sxz])es|(?<=[cs]h)es|s)$")


@dataclass(frozen=True, slots=True)
class Named:
    """A phrase, or a string that is written, and its places in the picture (of number 0)."""

    phrase: str
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about one picture and its answer, whose regions are in picture 0; `extra` is what scores it."""

    question: str
    answer: tuple[Part, ...]
    task: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture and what is known of it, in one language. A caption is in parts: phrases with places are RegionParts."""

    picture: ImagePart
    name: str
    language: Language
    captions: tuple[tuple[Part, ...], ...] = ()
    things: tuple[Named, ...] = ()
    texts: tuple[Named, ...] = ()
    asked: tuple[Asked, ...] = ()
    said: str = ""
    """All that is known to be in it, as text: captions, phrases, lettering, answers."""

    @property
    def caption(self) -> str:
        """The longest caption, "" without one."""
        return max((plain(parts) for parts in self.captions), key=len, default="")

    def may_show(self, phrase: str) -> bool:
        """Whether anything that is said of the picture hints at what the phrase means. A caption does not name everything, so that
        "no" is as much as can be known from one."""
        return head(phrase, self.language) in self.said.lower()

    def says(self, text: str) -> bool:
        """Whether a string stands in anything that is said of the picture."""
        return text.lower() in self.said.lower()


def head(phrase: str, language: Language) -> str:
    """What a noun phrase is about, to be looked for in texts: the last word, without a plural's ending; in Chinese the last two
    characters."""
    bare = phrase.strip().rstrip(".。!！").lower()
    if language == "zh":
        return bare[-2:]
    words = re.findall(r"[\w'-]+", _LEADING.sub("", bare))
    return _PLURAL.sub("", words[-1]) if words else bare


def _within(phrase: str) -> str:
    """A phrase as it stands within a sentence: "A clock", which began one, is "a clock"."""
    return phrase[:1].lower() + phrase[1:] if _LEADING.match(phrase) else phrase


def in_picture(parts: Sequence[Part], number: int) -> tuple[Part, ...]:
    """The parts with their places in picture `number` (from 0) of a conversation."""

    def moved(part: Part) -> Part:
        if isinstance(part, RegionPart):
            return replace(part, regions=tuple(replace(region, image=number) for region in part.regions))
        return replace(part, region=replace(part.region, image=number)) if isinstance(part, CoordinatesPart) else part

    return tuple(map(moved, parts))


def gather(samples: Iterable[Sample], passed_over: Counter[str] | None = None) -> Iterator[Shown]:
    """Samples that follow each other and show the same one picture, joined by language.

    What has no picture, several, or a clip is passed over, and counted by reason.
    """
    counts: Counter[str] = Counter() if passed_over is None else passed_over
    together: list[Sample] = []
    for sample in samples:
        reason = _unfit(sample)
        if reason:
            counts[reason] += 1
            continue
        if together and not _same(together[0].images[0].image, sample.images[0].image):
            yield from _shown(together)
            together = []
        together.append(sample)
    if together:
        yield from _shown(together)


def _unfit(sample: Sample) -> str | None:
    if len(sample.visuals) != 1 or not sample.images:
        return "no picture" if not sample.visuals else "a clip" if not sample.images else "several pictures"
    if any(message.role == "system" for message in sample.messages):
        return "a system turn"
    if sample.language not in ("en", "zh") or sample.task in _BARE:
        return "neither English nor Chinese" if sample.task not in _BARE else "not about its picture"
    return None


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one == other))


def _shown(samples: Sequence[Sample]) -> Iterator[Shown]:
    for language in dict.fromkeys(sample.language for sample in samples):
        found = _Facts()
        alike = [sample for sample in samples if sample.language == language]
        for sample in alike:
            found.take(sample)
        yield Shown(
            alike[0].images[0], alike[0].id, cast(Language, language), tuple(found.captions), _distinct(found.things),
            _distinct(found.texts), tuple(found.asked), "\n".join(dict.fromkeys(found.said)),
        )  # fmt: skip


def _distinct(named: Sequence[Named]) -> tuple[Named, ...]:
    """One of each phrase: several questions about one thing say the same of it."""
    return tuple({entry.phrase: entry for entry in reversed(named)}.values())[::-1]


@dataclass(slots=True)
class _Facts:
    """What is collected of Samples about one picture."""

    captions: list[tuple[Part, ...]] = field(default_factory=list)
    things: list[Named] = field(default_factory=list)
    texts: list[Named] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def take(self, sample: Sample) -> None:
        exchanges = list(_exchanges(sample.messages))
        for question, answer in exchanges:
            alone = sample.extra if len(exchanges) == 1 else {}
            self.said += [plain(question), plain(answer), str(alone.get("phrase", ""))]
            self._places(sample.task, question, answer, alone)
            said = alone.get("question") or plain(question)
            if sample.task in _CAPTIONS or (sample.task == _CONVERSATION and _DESCRIBES.search(said)):
                self.captions.append(answer)
                continue
            marked = any(not isinstance(part, TextPart) for part in question)
            marked |= any(region.kind == "point" for region in _regions(answer))  # not every family can write one
            if said and not marked and "{" not in said and (plain(answer) or _regions(answer)):
                self.asked.append(Asked(said, answer, sample.task, dict(alone)))

    def _places(self, task: str, question: Sequence[Part], answer: Sequence[Part], extra: dict[str, Any]) -> None:
        """Phrases with places: where both stand in one part, or where one of question and answer has the phrase."""
        found = [
            Named(_within(part.phrase), part.regions)
            for part in (*question, *answer)
            if isinstance(part, RegionPart) and part.phrase and part.regions and part.phrase not in REGION_WORD.values()
        ]
        regions = _regions(answer) or _regions(question)
        if not found and regions and isinstance(extra.get("phrase"), str):
            found = [Named(extra["phrase"], regions)]
        if task not in _LETTERING:
            self.things += [named for named in found if all(region.kind == "box" for region in named.regions)]
        elif task != "find_text":  # whose phrase is more than what is written
            self.texts += found


def _exchanges(messages: Sequence[Message]) -> Iterator[tuple[tuple[Part, ...], tuple[Part, ...]]]:
    """Questions without their picture, each with its answer. Raw answers begin with a space that is not theirs."""
    for asked, said in pairwise(messages):
        if asked.role == "user" and said.role == "assistant":
            first, *rest = said.parts
            answer = (replace(first, text=first.text.lstrip()), *rest) if isinstance(first, TextPart) else said.parts
            kept = tuple(part for part in answer if part != TextPart(""))
            yield tuple(part for part in asked.parts if not isinstance(part, ImagePart)), kept


def _regions(parts: Sequence[Part]) -> tuple[Region, ...]:
    return tuple(region for part in parts if isinstance(part, RegionPart) for region in part.regions)
