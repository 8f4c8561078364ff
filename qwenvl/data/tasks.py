"""The training and evaluation tasks about scenes, English and Chinese, in the raw formats of the paper and in chat.

`questions(scene, task, ...)` builds Samples, several independent ones about one picture where the scene allows. `Sample.extra`
holds what a scorer needs, as plain data; coordinates are fractions of the picture. Every Sample has `kind` (of question),
`question` and `answer` (plain text without markup); and by task:

    caption,              things: [{key, kind, colour, count, phrase, regions: [[l, t, r, b], ...]}] from left to right;
    grounded_caption      background
    referring, find_text  phrase; key; colour; regions: [[l, t, r, b]]
    point                 the same, the regions being the boxes that a point may lie in
    naming                value (key of the thing, or the string of a text); colour; phrase; accept; regions (of the question)
    what, count, where,   value; choices: {value: [spellings in the language]}; accept: [short answer, full answer].
    colour, yes_no,       The value of a coloured shape is "red circle". Where one spelling holds another ("top left" and
    left_right,           "top", "没有" and "有"), the longest one found in a reply counts
    above_below
    ocr                   texts in reading order; accept
    ocr_quad              texts; quads: [[x1, y1, ..., x4, y4], ...]
    text                  accept; value; choices where the answer is from a closed list
    refusal               key; colour; value "no"; accept; regions: []
    dialogue              turns: [the extra of each turn]
    two_pictures          the same; `things` of in_picture without regions

`focus`, where present, is the index in scene.things of what the answer is about. Dictionaries of choices are shared: never
change them. Raw style is Box B of arXiv 2308.12966. Its fixed formats (caption, grounded_caption, referring, naming, ocr_quad,
find_text) have one phrasing, which cannot be held out; `has_phrasings` tells. Conversations exist in chat style alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwenvl.data import text_only
from qwenvl.data.answers import PLACES
from qwenvl.data.dialogue import dialogue, turns_of, two_pictures
from qwenvl.data.pictured import PICTURED
from qwenvl.data.synth.names import COLOURS, EMOJI, SHAPES
from qwenvl.data.vqa import VQA
from qwenvl.data.wording import Turn, Voice
from qwenvl.types import ImagePart, Message, QwenVLError, Sample, Style

if TYPE_CHECKING:
    import numpy as np

    from qwenvl.data.synth.names import Language
    from qwenvl.data.synth.scene import Scene

CHAT_TASKS = ("refusal", "dialogue", "two_pictures")
"""Tasks without a raw format."""

TASKS: tuple[str, ...] = (*PICTURED, *VQA, "text", *CHAT_TASKS)

POINTING = ("point",)
"""Tasks for markup that has points alone. Those about clips are in clips.py."""

LANGUAGES: tuple[Language, ...] = ("en", "zh")


class TaskError(QwenVLError, ValueError):
    """A task that does not exist."""


def questions(
    scene: Scene | None,
    task: str,
    language: Language,
    style: Style,
    rng: np.random.Generator,
    held_out_phrasing: bool = False,
) -> list[Sample]:
    """Independent Samples of a task about one scene, in random order; empty where the scene does not allow any.

    `scene` may be None for task "text". One scene never allows "two_pictures": see two_picture_dialogue.
    `held_out_phrasing` draws the one phrasing of each question that training never shows.
    Raises TaskError for an unknown task.
    """
    voice = Voice(language, style, rng, held_out_phrasing)
    if task == "text":
        return [_sample(task, voice, [text_only.text(voice)])]
    known = (*TASKS, *POINTING)
    if task not in known or scene is None:
        raise TaskError(f"task {task!r}: " + ("needs a scene" if task in known else f"unknown; known: {', '.join(known)}"))
    if task == "two_pictures" or (style == "raw" and task in CHAT_TASKS):
        return []
    if task == "dialogue":
        turns = dialogue(scene, voice)
        return [_sample(task, voice, turns, scene)] if turns else []
    return [_sample(task, voice, [turn], scene) for turn in turns_of(scene, task, voice)]


def two_picture_dialogue(
    first: Scene, second: Scene, language: Language, rng: np.random.Generator, held_out_phrasing: bool = False
) -> Sample:
    """A chat of two or three turns about two pictures, both shown at its start."""
    voice = Voice(language, "chat", rng, held_out_phrasing)
    return _sample("two_pictures", voice, two_pictures(first, second, voice), first, second)


def _sample(task: str, voice: Voice, turns: list[Turn], *scenes: Scene) -> Sample:
    pictures = tuple(ImagePart(scene.image) for scene in scenes)
    messages: tuple[Message, ...] = ()
    for number, turn in enumerate(turns):
        messages += turn.messages(*(pictures if number == 0 else ()))
    conversation = task in ("dialogue", "two_pictures")
    extra = {"kind": task, "turns": [turn.extra for turn in turns]} if conversation else turns[0].extra
    where = "+".join(f"{scene.seed}/{scene.index}" for scene in scenes)
    return Sample(messages, f"scene {where} {task} {voice.language}" if where else task, task, voice.language, "scenes", extra)


def has_phrasings(task: str, style: Style) -> bool:
    """Whether the task's questions are put in several ways, one of them held out from training."""
    return style == "chat" or task in VQA or task in ("ocr", "text", *POINTING)


def chance(task: str, language: Language) -> float | None:
    """The score of guessing without the picture, for tasks with a closed list of answers; None for the others.

    For `what` the list depends on the picture: take 1 / len(extra["choices"]). Counts are guessed among one to four.
    """
    named = len(EMOJI) + len(SHAPES) * len(COLOURS)
    levels = {
        "naming": 1 / named, "count": 1 / 4, "where": 1 / len(PLACES), "colour": 1 / len(COLOURS),
        "yes_no": 1 / 2, "left_right": 1 / 2, "above_below": 1 / 2,
    }
    return levels.get(task)
