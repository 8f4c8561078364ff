"""Answers of /v1/chat/completions and /v1/completions, whole and in a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from qwenvl.inference.reply import Reply
from qwenvl.inference.session import Piece
from qwenvl.serve.answering import Happened
from qwenvl.serve.answers import (
    AnswerStream,
    chat_choice,
    completion_logprobs,
    envelope,
    finish_reason,
    found_in,
    new_id,
    token_logprobs,
    usage,
)
from qwenvl.serve.desk import Following
from qwenvl.serve.errors import ApiError
from qwenvl.serve.models import Served
from qwenvl.serve.schema import ChatRequest, CompletionRequest, Drawing
from qwenvl.serve.stream import ALIVE, DONE, TokenEvents, event


def calls_of(request: ChatRequest) -> bool:
    """Whether the model was told of functions."""
    return bool(request.tools) and request.tool_choice != "none"


async def chat_answer(served: Served, request: ChatRequest, following: Following) -> dict[str, Any]:
    replies = await following.all()
    tokenizer = served.model.tokenizer
    choices = []
    for index, reply in enumerate(replies):
        told = None
        if request.top is not None:
            told = {"content": [token_logprobs(piece, tokenizer) for piece in _said(served, following, index)], "refusal": None}
        choices.append(chat_choice(index, reply, calls_of(request), told))
    return _whole(served, "chatcmpl", "chat.completion", choices, usage(replies), following)


async def completion_answer(served: Served, request: CompletionRequest, following: Following) -> dict[str, Any]:
    replies = await following.all()
    choices = []
    for index, reply in enumerate(replies):
        said = _said(served, following, index)
        told = None if request.logprobs is None else completion_logprobs(said, served.model.tokenizer)
        text = "".join(
            piece.text for piece in following.pieces.get(index, ())
        )  # with the blanks around it: it goes on from the prompt
        choices.append({"index": index, "text": text, "logprobs": told, "finish_reason": reply.finish_reason, **found_in(reply)})
    return _whole(served, "cmpl", "text_completion", choices, usage(replies, len(request.prompts)), following)


def _said(served: Served, following: Following, index: int) -> list[Piece]:
    """The tokens of an answer: what ends it is none of them."""
    return [piece for piece in following.pieces.get(index, ()) if piece.token not in served.model.stop_ids]


def _whole(
    served: Served, kind: str, name: str, choices: list[dict[str, Any]], used: dict[str, Any], following: Following
) -> dict[str, Any]:
    following.metrics.count(served.name, used)
    whole = {**envelope(new_id(kind), name, served.name), "choices": choices, "usage": used, "timings": following.times.as_json()}
    return whole | {"system_fingerprint": None} if kind == "chatcmpl" else whole


class Writer(Protocol):
    """Writes what happens to the answers of one stream as events."""

    chunks: Chunks

    def opening(self) -> bytes: ...
    def one(self, happened: Happened) -> bytes: ...


async def events(
    writer: Writer, following: Following, first: list[Happened], rest: AsyncGenerator[list[Happened]]
) -> AsyncGenerator[bytes]:
    """The events of a stream. `first` was waited for, so that what goes wrong before the first token has a status of its own;
    `rest` is what follows. An error that comes later is an event, and the end."""
    try:
        yield writer.opening() + (b"".join(map(writer.one, first)) or ALIVE)
        async for batch in rest:
            yield b"".join(map(writer.one, batch)) or ALIVE
        yield (event(writer.chunks.of([]) | {"usage": writer.chunks.used()}) if writer.chunks.with_usage else b"") + DONE
    except ApiError as error:
        yield event(error.body)
    finally:
        await rest.aclose()


class Chunks:
    """What all chunks of a stream have in common."""

    def __init__(self, served: Served, request: Drawing, following: Following, kind: str, name: str, prompts: int = 1) -> None:
        self.following = following
        self.with_usage = bool(request.stream_options and request.stream_options.include_usage)
        self._prompts = prompts
        self._header = envelope(new_id(kind), name, served.name)

    def of(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._header, "choices": choices} | ({"usage": None} if self.with_usage else {})

    def last(self, choice: dict[str, Any]) -> bytes:
        """The chunk that ends an answer."""
        return event({**self.of([choice]), "timings": self.following.times.as_json()})

    def used(self) -> dict[str, Any]:
        """The usage of the answers that have ended."""
        replies = [self.following.replies[index] for index in sorted(self.following.replies)]
        whole = len(replies) == len(self.following.answering.tickets)
        return usage(replies, self._prompts if whole else 1)


class ChatWriter:
    def __init__(self, served: Served, request: ChatRequest, following: Following) -> None:
        self.chunks = Chunks(served, request, following, "chatcmpl", "chat.completion.chunk")
        self._top = request.top
        self._tokenizer = served.model.tokenizer
        self._stop_ids = served.model.stop_ids
        count = request.n or 1
        self._shown = [AnswerStream(calls_of(request)) for _ in range(count)]
        self._plain = [TokenEvents(self.chunks.of([self._choice(index, {"content": TokenEvents.MARK})])) for index in range(count)]

    def opening(self) -> bytes:
        start = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(event(self.chunks.of([self._choice(index, start)])) for index in range(len(self._shown)))

    def one(self, happened: Happened) -> bytes:
        index, shown = happened.number, self._shown[happened.number]
        if isinstance(happened.event, Reply):
            text, calls = shown.finish()
            delta = self._delta(index, text, calls, None)
            ended = self._choice(index, {}, finish_reason(happened.event, bool(shown.calls)))
            return delta + self.chunks.last(ended | found_in(happened.event))
        piece: Piece = happened.event
        text, calls = shown.push(piece.text)
        return self._delta(index, text, calls, piece if self._top is not None and piece.token not in self._stop_ids else None)

    def _delta(self, index: int, text: str, calls: list[dict[str, Any]], piece: Piece | None) -> bytes:
        if piece is None and not calls:
            return self._plain[index].of(text) if text else b""
        delta: dict[str, Any] = ({"content": text} if text else {}) | ({"tool_calls": calls} if calls else {})
        choice = self._choice(index, delta or {"content": ""})
        if piece is not None:
            choice["logprobs"] = {"content": [token_logprobs(piece, self._tokenizer)], "refusal": None}
        return event(self.chunks.of([choice]))

    @staticmethod
    def _choice(index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


class CompletionWriter:
    def __init__(self, served: Served, request: CompletionRequest, following: Following) -> None:
        self.chunks = Chunks(served, request, following, "cmpl", "text_completion", len(request.prompts))
        self._told = request.logprobs is not None
        self._tokenizer = served.model.tokenizer
        self._stop_ids = served.model.stop_ids
        count = len(following.answering.tickets)
        self._plain = [TokenEvents(self.chunks.of([self._choice(index, TokenEvents.MARK)])) for index in range(count)]
        self._offsets = [0] * count

    def opening(self) -> bytes:
        return b""

    def one(self, happened: Happened) -> bytes:
        index, piece = happened.number, happened.event
        if isinstance(piece, Reply):
            return self.chunks.last(self._choice(index, "", piece.finish_reason) | found_in(piece))
        if not self._told or piece.token in self._stop_ids:
            return self._plain[index].of(piece.text) if piece.text else b""
        told = completion_logprobs([piece], self._tokenizer, self._offsets[index])
        self._offsets[index] += len(told["tokens"][0])
        return event(self.chunks.of([self._choice(index, piece.text) | {"logprobs": told}]))

    @staticmethod
    def _choice(index: int, text: str, reason: str | None = None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
