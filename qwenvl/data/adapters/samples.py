"""What adapters make: one Sample for each task, with the truth that a scorer needs in `extra` as data/tasks.py describes it.

Every function takes the picture (a path, bytes or a PIL image), the truth, and `id` and `source`; other keywords go to `extra`,
but for those that are None. A Sample is called by the id and its task. BadSample is raised where a text is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qwenvl.data import formats
from qwenvl.data.clean.text import language_of
from qwenvl.data.record import preference_to_sample
from qwenvl.data.sources import BadSample
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import numbers, plain
from qwenvl.processing.tools import ToolCall
from qwenvl.types import Message, Part, PreferenceSample, Region, RegionPart, Sample, TextPart, VideoPart


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


def document(parts: Sequence[Part], *, id: str, source: str, task: str = "document", **extra: Any) -> Sample:
    """Text, or text and pictures in reading order: all of it is learnt, and nothing asks for it."""
    language = language_of(said(plain(parts), "text", id))
    return Sample((Message("assistant", tuple(parts)),), f"{id} {task}", task, language, source, {"kind": task, **_known(extra)})


def conversation(messages: Sequence[Message], *, id: str, source: str, task: str = "conversation", **extra: Any) -> Sample:
    """A conversation as it stands. Raises BadSample where it is not question and answer in turn, or a turn is empty."""
    turns = [message for message in messages if message.role != "system"]
    if [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2) or not turns:
        raise BadSample(id, f"its turns are {' '.join(turn.role for turn in messages)}: not questions and answers in turn")
    for number, turn in enumerate(turns, start=1):
        if not any(not isinstance(part, TextPart) or part.text.strip() for part in turn.parts):
            raise BadSample(id, f"turn {number} is empty")
    told = [
        {"kind": task, "question": plain(asked.parts), "answer": plain(reply.parts)} for asked, reply in zip(*[iter(turns)] * 2)
    ]
    language = language_of("".join(turn["question"] + turn["answer"] for turn in told))
    return Sample(tuple(messages), f"{id} {task}", task, language, source, {"kind": task, "turns": told, **_known(extra)})


def preference(
    prompt: Sequence[Message], chosen: Sequence[Part], rejected: Sequence[Part], *, id: str, source: str, **extra: Any
) -> Sample:
    """Two answers to the prompt, as `data.record` stores them."""
    answers = [Message("assistant", tuple(parts)) for parts in (chosen, rejected)]
    for answer, name in zip(answers, ("chosen answer", "rejected answer"), strict=True):
        said(plain(answer.parts), name, id)
    if answers[0] == answers[1]:
        raise BadSample(id, "both answers are the same")
    told = conversation([*prompt, answers[0]], id=id, source=source, task="preference", **extra)
    return preference_to_sample(PreferenceSample(replace(told, messages=tuple(prompt)), *answers))


def when(video: VideoPart, query: Any, start: float, end: float, *, id: str, source: str, **extra: Any) -> Sample:
    """What is queried, answered by when it happens."""
    query = said(query, "query", id)
    language = language_of(query)
    extra = {"phrase": query, "span": [start, end], **extra}
    return _sample("video_grounding", formats.when(video, query, start, end, language), language, id, source, extra)


def events(video: VideoPart, spans: Sequence[tuple[float, float, str]], *, id: str, source: str, **extra: Any) -> Sample:
    """Every event of a video with its time."""
    language = language_of(" ".join(said(text, "description", id) for _, _, text in spans))
    extra = {"spans": [list(span) for span in spans], **extra}
    return _sample("video_events", formats.events(video, spans, language), language, id, source, extra)


def phone_step(
    screen: Any, goal: Any, done: Sequence[ToolCall], call: ToolCall, *, id: str, source: str, instruction: str | None = None,
    **extra: Any,
) -> Sample:  # fmt: skip
    """The next call towards a goal on a phone; the truth's places are in [0, 1] as everywhere."""
    goal = said(goal, "goal", id)
    arguments = {key: numbers(value) if isinstance(value, Region) else value for key, value in call.arguments.items()}
    task = "phone_instruction" if instruction else "phone_step"
    messages = formats.phone_step(screen, goal, done, call, instruction)
    extra = {"kind": task, "question": instruction or goal, "call": {"name": call.name, "arguments": arguments}, **_known(extra)}
    return Sample(messages, f"{id} {task}", task, language_of(goal), source, extra)


def _sample(task: str, messages: tuple[Message, ...], language: Language, id: str, source: str, extra: dict[str, Any]) -> Sample:
    asked, reply = (plain(message.parts) for message in messages)
    truth = {"kind": task, "question": asked, "answer": reply, **_known(extra)}
    return Sample(messages, f"{id} {task}", task, language, source, truth)


def _known(extra: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in extra.items() if value is not None}
