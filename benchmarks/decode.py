"""C6: tokens of one answer, one after the other, after a short and a longer prompt: bfloat16, int8 and int4 against transformers in
bfloat16 and llama.cpp in bfloat16, q8_0 and q4_0.

Ours runs through the Session that answers a chat, transformers' model is called directly with its own cache, without the further
work of its `generate`. All choose greedily and are fed the same given tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import llama, reference
from benchmarks.harness import Against, Case, Floor, Run
from benchmarks.reference import SIZE, Size, random_ids
from qwenvl.inference.model import QwenVL
from qwenvl.inference.session import Session
from qwenvl.types import Encoded

STEPS = 8
CONTEXTS = (128, 512)
AT_TINY_SIZE = {"size": reference.TINY}
ROOM = 512
"""Tokens that can follow a prompt: those of all rounds."""
BITS = {"bfloat16": 16.0, "int8": 8.0, "int4": 5.0}
"""Of a weight: int4's groups of 32 share a scale and an offset in bfloat16. The head has eight bits there."""
AGAINST = (
    Against("qwenvl", "transformers", 2.3), Against("qwenvl", "llama.cpp bf16", 0.95), Against("qwenvl int8", "transformers"),
    Against("qwenvl int8", "llama.cpp q8_0", 1.1), Against("qwenvl int4", "transformers"),
    Against("qwenvl int4", "llama.cpp q4_0", 0.7), Against("qwenvl int4", "llama.cpp q4_0, head q8_0"),
)  # fmt: skip


def cases(quick: bool, size: Size = SIZE) -> Iterator[Case]:
    for context in CONTEXTS[:1] if quick else CONTEXTS:
        yield compare(context, size, ("bfloat16", "int8", "int4"))


def compare(context: int, size: Size, storages: Sequence[str]) -> Case:
    ids = random_ids(context, size)
    models = {name_of(storage): load(storage, size) for storage in storages}
    ours = {name: OurSteps(model, [prompt(ids)], ids.tolist()) for name, model in models.items()}
    theirs = TheirSteps(reference.theirs(size=size), [ids], ids.tolist())
    variants: dict[str, Run] = {**ours, "transformers": theirs, **llama_steps([ids], storages, size)}

    def figures() -> dict[str, float]:
        first = ours["qwenvl"]
        others = {name: steps for name, steps in ours.items() if steps is not first}
        apart = {f"logits of {name} from bfloat16": relative_difference(steps.last, first.last) for name, steps in others.items()}
        return {**apart, **{f"GB a step, {name}": low.bytes / 1e9 for name, low in floors.items()}}

    floors = {name_of(storage): floor(storage, context, size) for storage in storages}
    return Case(
        f"decode after {context} tokens", "token", variants, STEPS, floors=floors, figures=figures,
        against=[pair for pair in AGAINST if pair.ours in variants and pair.peer in variants],
        agreement=lambda: relative_difference(ours["qwenvl"].last, theirs.last),
    )  # fmt: skip


def name_of(storage: str) -> str:
    return "qwenvl" if storage == "bfloat16" else f"qwenvl {storage}"


def load(storage: str, size: Size = SIZE) -> QwenVL:
    return reference.ours(quantize=storage, size=size) if storage == "int8" or storage == "int4" else reference.ours(size=size)


def floor(storage: str, context: int, size: Size, sequences: int = 1) -> Floor:
    """All weights of the decoder once, and the keys and values of every sequence."""
    head = size.hidden * size.vocabulary
    bits = (size.text_weights - head) * BITS[storage] + head * max(BITS[storage], 8.0)
    return Floor(bytes=bits / 8 + sequences * context * size.key_value_bytes)


def llama_steps(prompts: Sequence[np.ndarray[Any, Any]], storages: Sequence[str], size: Size) -> dict[str, Run]:
    """Of the kinds that are like these, none where llama.cpp is not installed."""
    if llama.missing() is not None:
        return {}
    kinds = {"bfloat16": ("bf16",), "int8": ("q8_0",), "int4": ("q4_0", "q4_0, head q8_0")}
    context, given = max(map(len, prompts)) + ROOM, [one.tolist() for one in prompts]
    return {
        f"llama.cpp {kind}": llama.Decode(llama.Prefill(kind, given, context, size), given[0], STEPS)
        for storage in storages for kind in kinds[storage]
    }  # fmt: skip


class OurSteps:
    """Each call decodes STEPS more tokens of every sequence. All sides choose greedily but are fed the same given tokens, so that
    in bfloat16, where two near-equal logits may swap, their outputs stay comparable. The prefill is not measured."""

    def __init__(self, model: QwenVL, prompts: Sequence[Encoded], tokens: Sequence[int], room: int = ROOM) -> None:
        self.tokens, self.count = cycle(tokens), len(prompts)
        self.session = Session(model.model, prompts, room=room)
        self.last = self.session.prefill()

    def __call__(self) -> None:
        for _ in range(STEPS):
            self.last.argmax(dim=-1).tolist()
            self.last = self.session.step([next(self.tokens)] * self.count)


class TheirSteps:
    """transformers' model on prompts padded on the left."""

    @torch.inference_mode()
    def __init__(self, peer: Any, prompts: Sequence[np.ndarray[Any, Any]], tokens: Sequence[int]) -> None:
        self.peer, self.tokens = peer, cycle(tokens)
        longest = max(map(len, prompts))
        padding = [longest - len(one) for one in prompts]
        ids = torch.stack([torch.from_numpy(np.pad(one, (pad, 0))) for one, pad in zip(prompts, padding)])
        self.mask = torch.stack([torch.arange(longest) >= pad for pad in padding]).long() if any(padding) else None
        places = (torch.arange(longest)[None] - torch.tensor(padding)[:, None]).clamp(min=0)
        self.next = torch.tensor([len(one) for one in prompts])[:, None]
        given = {"position_ids": places.expand(3, -1, -1), "attention_mask": self.mask}
        output = peer(input_ids=ids, use_cache=True, logits_to_keep=1, **given)
        self.cache, self.last = output.past_key_values, output.logits[:, -1].float()

    @torch.inference_mode()
    def __call__(self) -> None:
        for _ in range(STEPS):
            self.last.argmax(dim=-1).tolist()
            if self.mask is not None:
                self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
            token = torch.full_like(self.next, next(self.tokens))
            given = {"position_ids": self.next.expand(3, -1, -1), "attention_mask": self.mask}
            output = self.peer(input_ids=token, past_key_values=self.cache, use_cache=True, **given)
            self.next = self.next + 1
            self.cache, self.last = output.past_key_values, output.logits[:, -1].float()


def prompt(ids: Sequence[int] | np.ndarray[Any, Any]) -> Encoded:
    """A text-only Encoded of these ids."""
    ids = np.asarray(ids, dtype=np.int64)
    nothing = np.zeros((0, 3), np.int64)
    return Encoded(ids, ids, np.tile(np.arange(len(ids)), (3, 1)), np.zeros((0, 0), np.float32), nothing, nothing[:, 0])


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of logits over their largest size."""
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())
