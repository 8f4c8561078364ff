"""Replies as OpenAI's API writes them, with ours beside: regions in pixels of the original pictures, readable text, times."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qwenvl.inference.reply import Reply
from qwenvl.inference.session import Piece
from qwenvl.inference.text_stream import begun
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.processing.tools import CALL_TAGS, ToolCall, read_calls, strip_calls


@dataclass(slots=True)
class Times:
    """When things happened to a request, by time.monotonic()."""

    arrived: float
    began: float | None = None
    first: float | None = None
    ended: float | None = None

    def as_json(self) -> dict[str, float | None]:
        """Milliseconds from its arrival until the engine began with it, the first token, and the end."""

        def since(moment: float | None) -> float | None:
            return None if moment is None else round((moment - self.arrived) * 1000, 1)

        return {"queued_ms": since(self.began), "first_token_ms": since(self.first), "total_ms": since(self.ended)}


def new_id(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(12)}"


def envelope(identity: str, kind: str, model: str) -> dict[str, Any]:
    return {"id": identity, "object": kind, "created": int(time.time()), "model": model}


def chat_choice(index: int, reply: Reply, calling: bool, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    """One answer. `calling`: the model was told of tools, so that its calls are calls and no text."""
    calls = [call_as_json(call) for call in reply.tool_calls] if calling else []
    content: str | None = strip_calls(reply.text).strip() if calls else reply.text
    message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else ""), "refusal": None}
    if calls:
        message["tool_calls"] = calls
    message |= found_in(reply)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason(reply, bool(calls))}


def found_in(reply: Reply) -> dict[str, Any]:
    """What of an answer is ours: the places that it names, its text without their markup, and times in a clip, in seconds."""
    spans = {"spans": [asdict(span) for span in reply.spans]} if reply.spans else {}
    return {"regions": [region.as_json() for region in reply.pixels], "readable": reply.readable, **spans}


def finish_reason(reply: Reply, called: bool) -> str:
    return "tool_calls" if called and reply.finish_reason == "stop" else reply.finish_reason


def call_as_json(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": {"name": call.name, "arguments": arguments}}


def usage(replies: Sequence[Reply], prompts: int = 1) -> dict[str, Any]:
    """Tokens of a request. Of several answers to one prompt its tokens count once; `prompts`: how many prompts there were."""
    per_prompt = max(len(replies) // prompts, 1)
    firsts = [reply.usage for reply in replies[::per_prompt]]
    read, written = sum(one.prompt_tokens for one in firsts), sum(reply.usage.completion_tokens for reply in replies)
    details = {
        "image_tokens": sum(one.image_tokens for one in firsts),
        "cached_tokens": sum(one.cached_tokens for one in firsts),
    }
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, "prompt_tokens_details": details}


def token_logprobs(piece: Piece, tokenizer: Tokenizer) -> dict[str, Any]:
    """A token of chat's `logprobs.content`."""
    likely = [_token(token, logprob, tokenizer) for token, logprob in piece.top]
    return {**_token(piece.token, piece.logprob or 0.0, tokenizer), "top_logprobs": likely}


def _token(token: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    raw = tokenizer.id_to_bytes(token)
    # What cannot be is said in a number that JSON has; OpenAI's API says the same.
    return {"token": raw.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(raw)}


def completion_logprobs(pieces: Sequence[Piece], tokenizer: Tokenizer, offset: int = 0) -> dict[str, Any]:
    """`logprobs` of /v1/completions, with offsets in characters of the answer."""
    told = [token_logprobs(piece, tokenizer) for piece in pieces]
    offsets = []
    for entry in told:
        offsets.append(offset)
        offset += len(entry["token"])
    return {
        "tokens": [entry["token"] for entry in told],
        "token_logprobs": [entry["logprob"] for entry in told],
        "top_logprobs": [{likely["token"]: likely["logprob"] for likely in entry["top_logprobs"]} for entry in told],
        "text_offset": offsets,
    }


class AnswerStream:
    """An answer's text as it is shown while it comes: joined, it is what the whole answer's content is.

    White space at its ends is left out. Where tools were told, a call is held back until it is whole and then given as a call.
    """

    def __init__(self, calling: bool) -> None:
        self._calling = calling
        self._held = ""
        self._blank = ""
        self._begun = False
        self._in_call = False
        self.calls = 0

    def push(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """What can be shown now, and calls that are complete."""
        if not self._calling:
            return self._shown(text), []
        self._held += text
        shown, calls = "", list[dict[str, Any]]()
        while True:
            if not self._in_call:
                before, tag, after = self._held.partition(CALL_TAGS[0])
                if not tag:
                    cut = len(self._held) - begun(self._held, CALL_TAGS[:1])
                    shown, self._held = shown + self._held[:cut], self._held[cut:]
                    return self._shown(shown), calls
                shown, self._held, self._in_call = shown + before, after, True
            inside, tag, after = self._held.partition(CALL_TAGS[1])
            if not tag:
                return self._shown(shown), calls
            self._in_call, self._held = False, after
            calls += self._read(inside)

    def finish(self) -> tuple[str, list[dict[str, Any]]]:
        """What was held back: a call whose closing tag is missing, if it is whole; the beginning of a tag that was none."""
        held, self._held = self._held, ""
        return ("", self._read(held)) if self._in_call else (self._shown(held), [])

    def _read(self, inside: str) -> list[dict[str, Any]]:
        calls = [call_as_json(call) for call in read_calls(CALL_TAGS[0] + inside)]
        numbered = [{"index": number, **call} for number, call in enumerate(calls, start=self.calls)]
        self.calls += len(calls)
        return numbered

    def _shown(self, text: str) -> str:
        text = self._blank + text if self._begun else text.lstrip()
        shown = text.rstrip()
        self._blank = text[len(shown) :]
        self._begun = self._begun or bool(shown)
        return shown
