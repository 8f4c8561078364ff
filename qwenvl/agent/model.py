"""Who is asked for the next action: a loaded model, or answers that are known before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from qwenvl.agent.site import AgentError
from qwenvl.families.spec import Markup
from qwenvl.processing.grid import frame_size, image_grid
from qwenvl.processing.markup_style import Frame
from qwenvl.processing.regions import style_of
from qwenvl.types import ImagePart, Message, Sample

if TYPE_CHECKING:
    from qwenvl.inference.model import QwenVL

MAX_NEW_TOKENS = 256
"""Of an answer: a thought and a call."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, and what it cost. `cut`: a limit ended it."""

    text: str
    cut: bool = False
    prompt_tokens: int = 0
    tokens: int = 0


class Model(Protocol):
    """Anything that answers messages. markup: how it writes places."""

    markup: Markup
    continues: bool
    """Whether an assistant's turn at the end of the messages is gone on with, or has to be answered by a turn of its own."""
    calls: bool
    """Whether it was trained to call functions that it is told of."""

    def frame(self, size: tuple[int, int]) -> Frame:
        """(width, height) that it resizes a picture of `size` to."""

    def answer(self, messages: Sequence[Message], stop: Sequence[str]) -> Said:
        """The answer, ended before any string of `stop`. Raises a QwenVLError where there is none."""


def sides(model: Model, size: tuple[int, int]) -> Frame:
    """What the model's numbers in a call are divided by: the sides of the picture as it sees it, or the scale of its tags."""
    return model.frame(size) if style_of(model.markup).in_pixels else (model.markup.scale, model.markup.scale)


class LoadedModel:
    """A model in memory."""

    continues = True

    def __init__(self, model: QwenVL, max_pixels: int | None = None, max_new_tokens: int = MAX_NEW_TOKENS) -> None:
        self.model, self.max_pixels, self.max_new_tokens = model, max_pixels, max_new_tokens
        self.markup = model.markup
        self.calls = model.spec.chat.tools

    def frame(self, size: tuple[int, int]) -> Frame:
        config = self.model.config
        return frame_size(image_grid(config, self.model.spec, *size, None, self.max_pixels), config.vision.patch_size)

    def answer(self, messages: Sequence[Message], stop: Sequence[str]) -> Said:
        sample = Sample(tuple(bounded(message, self.max_pixels) for message in messages))
        encoded = self.model.need_processor().encode(sample, self.model.style, for_generation=True)
        [reply] = self.model.generate([encoded], stop=tuple(stop), max_new_tokens=self.max_new_tokens)
        return Said(reply.text, reply.finish_reason == "length", reply.usage.prompt_tokens, reply.usage.completion_tokens)


class ScriptedModel:
    """Answers that are known before, one after the other, or worked out from the messages. It sees every screen as it is."""

    continues = True
    calls = True

    def __init__(
        self,
        answers: Iterable[str] | Callable[[Sequence[Message]], str],
        markup: Markup | None = None,
        resize: Callable[[int, int], Frame] | None = None,
    ) -> None:
        self._next = answers if callable(answers) else _in_turn(answers)
        self.markup = markup or Markup(style="json")
        self._resize = resize

    def frame(self, size: tuple[int, int]) -> Frame:
        return self._resize(*size) if self._resize else size

    def answer(self, messages: Sequence[Message], stop: Sequence[str]) -> Said:
        return Said(self._next(messages))


def bounded(message: Message, max_pixels: int | None) -> Message:
    """The message with its pictures of so many pixels at most."""
    if max_pixels is None:
        return message
    parts = (replace(part, max_pixels=max_pixels) if isinstance(part, ImagePart) else part for part in message.parts)
    return Message(message.role, tuple(parts))


def _in_turn(answers: Iterable[str]) -> Callable[[Sequence[Message]], str]:
    rest = iter(answers)

    def next_one(messages: Sequence[Message]) -> str:
        for answer in rest:
            return answer
        raise AgentError("the script has no further answer")

    return next_one
