"""The last of the paths that must agree with `check`'s others: many requests at once, through the engine and over HTTP.

What is compared are the log-likelihoods of the tokens that were taken, and of the likeliest beside them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import torch

from qwenvl.inference.check import LIMITS, STEPS, Check, Talk
from qwenvl.inference.engine import Engine
from qwenvl.inference.model import QwenVL
from qwenvl.inference.requests import EngineLimits
from qwenvl.inference.sampling import GenerationOptions
from qwenvl.inference.session import Piece, Session, decode

TOP = 20  # as many as the API tells
PIECE = 48
"""Tokens of a prompt that the engine reads at a time here, so that prompts are cut, and pictures in them."""


class Said:
    """A constraint to given ids."""

    def __init__(self, ids: Sequence[int], vocab_size: int) -> None:
        self.left, self.vocab_size = list(ids), vocab_size

    def mask(self) -> torch.Tensor:
        allowed = torch.zeros(self.vocab_size, dtype=torch.bool)
        allowed[self.left[0]] = True
        return allowed

    def settle(self, token: int, left: int) -> int:
        self.left.remove(token)
        return token

    @property
    def done(self) -> bool:
        return not self.left


def engine_agrees(model: QwenVL, talks: Sequence[Talk]) -> Iterator[Check]:
    """The engine, all conversations at once, in pieces; then again, from what it has kept of the first time."""
    limit, size = LIMITS[model.dtype], model.config.decoder.vocab_size
    alone = [_alone(model, one, Said(one.said, size)) for one in talks]
    with Engine(model, EngineLimits(running=len(talks), prefill_chunk=PIECE)) as engine:
        for how in ("engine, at once in pieces", "engine, from its caches"):
            tickets = [engine.submit(one.prompt, _options(one), constraint=Said(one.said, size), logprobs=TOP) for one in talks]
            told = [[event for event in ticket if isinstance(event, Piece)] for ticket in tickets]
            yield Check("log p", f"{how}; chat", _apart(zip(told, alone)), limit)


def server_agrees(model: QwenVL, name: str, talks: Sequence[Talk], address: str) -> Iterator[Check]:
    """A server of the model over HTTP: the ids of prompts, and greedy answers of a few tokens with their likelihoods. Conversations
    with a clip are left out, which would have to be compressed to be sent."""
    tokenizer = model.need_processor().tokenizer
    ids, words, largest = 0, 0, 0.0
    for one in talks:
        if (messages := as_sent(one.messages)) is None:
            continue
        asked: dict[str, Any] = {"model": name, "messages": messages}
        ids += _post(f"{address}/tokenize", asked)["tokens"] != one.prompt.input_ids.tolist()
        asked |= {"max_tokens": STEPS, "temperature": 0, "logprobs": True, "top_logprobs": TOP}
        said = _post(f"{address}/v1/chat/completions", asked)["choices"][0]["logprobs"]["content"]
        expected = [piece for piece in _alone(model, one, None) if piece.token not in model.stop_ids]
        words += [bytes(token["bytes"]) for token in said] != [tokenizer.id_to_bytes(piece.token) for piece in expected]
        pairs = zip([token["logprob"] for token in said], [piece.logprob or 0.0 for piece in expected])
        largest = max([largest, _share(pairs)])
    yield Check("ids", "server, chat prompt", ids, 0)
    yield Check("tokens", "server's greedy answers, chat's", words, 0)
    yield Check("log p", "server's greedy answers, chat's", largest, LIMITS[model.dtype])


def as_sent(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Messages of chat as JSON, with pictures as data URLs; None where one has a clip."""
    sent = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            if any(part["type"] == "video" for part in content):
                return None
            content = [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(part["image"]).decode()}}
                if part["type"] == "image"
                else part
                for part in content
            ]
        sent.append({"role": message["role"], "content": content})
    return sent


def _options(one: Talk) -> GenerationOptions:
    return GenerationOptions(max_new_tokens=len(one.said))


def _alone(model: QwenVL, one: Talk, constraint: Said | None) -> list[Piece]:
    options = _options(one) if constraint else GenerationOptions(max_new_tokens=STEPS)
    draft = model.draft(one.prompt, options, constraint, TOP)
    return [piece for _, piece in decode(Session(model.model, [one.prompt], room=draft.limit), [draft])]


def _apart(pairs: Any) -> float:
    """As `_share`, of the ids that both tell of."""
    both: list[tuple[float, float]] = []
    for ours, theirs in pairs:
        assert [piece.token for piece in ours] == [piece.token for piece in theirs]
        for one, other in zip(ours, theirs):
            known = dict(other.top) | {other.token: other.logprob}
            told = dict(one.top) | {one.token: one.logprob}
            both += [(told[token], known[token]) for token in told.keys() & known.keys()]
    return _share(both)


def _share(pairs: Iterable[tuple[float, float]]) -> float:
    """Largest difference of log-likelihoods, as a share of the largest of them, or of one nat where all are small: they are
    rounded as logits are, in steps that grow with the number."""
    both = np.array(list(pairs), np.float64).reshape(-1, 2)
    return float(np.abs(both[:, 0] - both[:, 1]).max(initial=0.0) / np.abs(both[:, 1]).max(initial=1.0))


def _post(address: str, body: Mapping[str, Any]) -> Any:
    request = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=300) as answer:
        return json.load(answer)
