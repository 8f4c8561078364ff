"""A model behind an OpenAI-compatible address as the model of an agent."""

from __future__ import annotations

from collections.abc import Sequence

from qwenvl.agent.model import Said
from qwenvl.agent.site import AgentError
from qwenvl.data.instruct.api import Api
from qwenvl.eval.remote import RemoteAnswerer
from qwenvl.eval.task import Decoding, Question
from qwenvl.processing.markup_style import Frame
from qwenvl.types import Message, Sample


class RemoteModel:
    """`like` says in what frame it writes places, as `RemoteAnswerer` has it. No address goes on with a turn that it is given."""

    continues = False

    def __init__(self, api: Api, like: str, max_new_tokens: int) -> None:
        self._answerer = RemoteAnswerer(api, like)
        self.markup = self._answerer.markup
        self.calls = self._answerer.spec.chat.tools
        self.max_new_tokens = max_new_tokens

    def frame(self, size: tuple[int, int]) -> Frame:
        return self._answerer.frame(size)

    def answer(self, messages: Sequence[Message], stop: Sequence[str]) -> Said:
        """Raises ApiError, or AgentError where this request alone got no reply."""
        unanswered = Sample((*messages, Message("assistant", ())))
        decoding = Decoding(max_new_tokens=self.max_new_tokens, stop=tuple(stop))
        [answer] = self._answerer.answer([Question("step", "agent", "", "", unanswered, {}, decoding)])
        if answer.error:
            raise AgentError(answer.error)
        return Said(answer.text, answer.finish_reason == "length", answer.prompt_tokens, answer.reply_tokens)
