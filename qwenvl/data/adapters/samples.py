"""What adapters make: one Sample for each task, with the truth that a scorer needs in `extra` as data/tasks.py describes it.

Every function takes the picture (a path, bytes or a PIL image), the truth, and `id` and `source`; other keywords go to `extra`,
but for those that are None. A Sample is called by the id and its task. BadSample is raised where a text is missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from qwenvl.data import formats
from qwenvl.data.sources import BadSample
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import numbers, plain
from qwenvl.types import Message, Part, Region, RegionPart, Sample

HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


def language_of(text: str) -> Language:
    """Chinese where there is a Chinese character, else English: which prompt a text is asked with."""
    return "zh" if HAN.search(text) else "en"


def said(text: Any, what: str, id: str) -> str:
    """A text without space around it. Raises BadSample where there is none."""
    if not isinstance(text, str) or not text.strip():
        raise BadSample(id, f"its {what} is {text!r}, not a text")
    return text.strip()


def caption(picture: Any, text: Any, *, id: str, source: str, **extra: Any) -> Sample:
    text = said(text, "caption", id)
    language = language_of(text)
    return _sample("caption", formats.caption(picture, text, language), language, id, source, extra)


def grounded_caption(picture: Any, parts: Sequence[Part], *, id: str, source: str, **extra: Any) -> Sample:
    """A caption in parts: its phrases that have places are RegionParts."""
    language = language_of(said(plain(parts), "caption", id))
    marked = [part for part in parts if isinstance(part, RegionPart)]
    things = [{"phrase": part.phrase, "regions": [numbers(region) for region in part.regions]} for part in marked]
    extra = {"things": things, **extra}
    return _sample("grounded_caption", formats.grounded_caption(picture, parts, language), language, id, source, extra)


def question(
    picture: Any, asked: Any, answer: Any, *, id: str, source: str, task: str = "vqa", accept: Sequence[str] = (), **extra: Any
) -> Sample:
    """A question and its answer; `accept` holds every answer that counts, by default that one."""
    asked, answer = said(asked, "question", id), said(answer, "answer", id)
    language = language_of(asked)
    extra = {"question": asked, "accept": list(accept) or [answer], **extra}
    return _sample(task, formats.vqa(picture, asked, answer, language), language, id, source, extra)


def multiple_choice(picture: Any, asked: Any, options: Sequence[str], answer: int, *, id: str, source: str, **extra: Any) -> Sample:
    asked, options = said(asked, "question", id), [said(option, "option", id) for option in options]
    if not 0 <= answer < len(options) <= 26:
        raise BadSample(id, f"answer {answer} of {len(options)} options; it counts from 0, and there are at most 26")
    language = language_of(asked)
    messages = formats.multiple_choice(picture, asked, options, answer, language)
    extra = {"question": asked, "options": options, "accept": [options[answer]], **extra}
    return _sample("multiple_choice", messages, language, id, source, extra)


def referring(picture: Any, phrase: Any, regions: Sequence[Region], *, id: str, source: str, **extra: Any) -> Sample:
    """A phrase, answered by its places."""
    phrase = said(phrase, "phrase", id)
    extra = {"question": phrase, "answer": phrase, "phrase": phrase, "regions": [numbers(region) for region in regions], **extra}
    return _sample("referring", formats.referring(picture, phrase, regions), language_of(phrase), id, source, extra)


def naming(picture: Any, region: Region, description: Any, *, id: str, source: str, **extra: Any) -> Sample:
    """A place, answered by what is there."""
    description = said(description, "description", id)
    language = language_of(description)
    extra = {"phrase": description, "accept": [description], "regions": [numbers(region)], **extra}
    return _sample("naming", formats.naming(picture, region, description, language), language, id, source, extra)


def reading(picture: Any, text: Any, *, id: str, source: str, **extra: Any) -> Sample:
    """All text of a picture, without places."""
    text = said(text, "text", id)
    language = language_of(text)
    return _sample("ocr", formats.read_text(picture, text, language), language, id, source, {"accept": [text], **extra})


def _sample(task: str, messages: tuple[Message, ...], language: Language, id: str, source: str, extra: dict[str, Any]) -> Sample:
    asked, reply = (plain(message.parts) for message in messages)
    truth = {"kind": task, "question": asked, "answer": reply, **extra}
    truth = {key: value for key, value in truth.items() if value is not None}
    return Sample(messages, f"{id} {task}", task, language, source, truth)
