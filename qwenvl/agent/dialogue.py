"""What a model is told at each step, and how its answer is read: the published tools, or Qwen2-VL's action keywords.

Qwen2.5-VL is told the goal, what it has done so far and the screen as it is now, in the words of its cookbook (data/formats.py,
which trains on them). What went otherwise than it was meant to is added in brackets; the cookbook has no words for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from qwenvl.agent.model import Model, Said, sides
from qwenvl.agent.reading import ReadAction, Tool
from qwenvl.data.formats import PHONE_GOAL, PHONE_PROGRESS
from qwenvl.processing.actions import json_parts, tool_system
from qwenvl.types import ImagePart, Message, Part, TextPart

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Past:
    """A step that was made: the screen before it, the answer as it was written, what was read of it, and what came of it."""

    screen: Image
    answer: str
    read: ReadAction | None
    note: str = ""


class Dialogue(Protocol):
    """One way of telling a model what it can do and what it has done. stop: strings that end an answer."""

    name: str
    stop: tuple[str, ...]

    def messages(self, goal: str, past: Sequence[Past], screen: Image, model: Model) -> tuple[Message, ...]:
        """What the model is asked at this step."""

    def read(self, said: Said, past: Sequence[Past], size: tuple[int, int], model: Model) -> ReadAction:
        """The action of an answer to a screen of `size`, after the steps of `past`. Raises ActionError."""


class ToolDialogue:
    """One function with all actions; the steps before as text, and the latest screen alone."""

    stop: tuple[str, ...] = ()

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.name = tool.name

    def messages(self, goal: str, past: Sequence[Past], screen: Image, model: Model) -> tuple[Message, ...]:
        asked: list[Part] = [TextPart(PHONE_GOAL.format(goal=goal) + PHONE_PROGRESS)]
        for number, step in enumerate(past, start=1):
            asked += [TextPart(f"Step {number}: "), *_told(step), TextPart("; ")]
        return tool_system(self.tool.told), Message("user", (*asked, ImagePart(screen)))

    def read(self, said: Said, past: Sequence[Past], size: tuple[int, int], model: Model) -> ReadAction:
        return self.tool.read(said.text, sides(model, size))


def _told(step: Past) -> tuple[Part, ...]:
    note = f"[{step.note}]" if step.note else ""
    if step.read is None:
        return (TextPart(note),)
    return (*json_parts(step.read.call), TextPart(f" {note}" if note else ""))
