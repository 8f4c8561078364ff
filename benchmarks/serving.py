"""C16: eight people at once, each with a question about one picture: the engine against one after the other, and against
transformers' `generate`, one after the other and as a padded batch. And the first token of an answer about a picture that was seen
before.

The reference model in bfloat16, the same weights on both sides; every answer has ANSWER tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch

from benchmarks import reference
from benchmarks.harness import Against, Case, Run
from benchmarks.reference import SIZE, Size, noise, picture_prompt
from qwenvl.families import get_family
from qwenvl.inference.engine import Engine
from qwenvl.inference.model import QwenVL
from qwenvl.inference.reply import Reply
from qwenvl.inference.requests import EngineLimits
from qwenvl.inference.sampling import GenerationOptions
from qwenvl.processing.patches import as_numbers
from qwenvl.types import Encoded

CLIENTS, ANSWER, SIDE = 8, 16, 448
AT_TINY_SIZE = {"size": reference.TINY, "side": 112}
WORDS = (12, 34, 20, 8, 50, 16, 28, 40)
"""Tokens of each client's question."""


def cases(quick: bool, size: Size = SIZE, side: int = SIDE) -> Iterator[Case]:
    model, peer = reference.ours(size=size), reference.theirs(size=size)
    options = GenerationOptions(max_new_tokens=ANSWER, min_new_tokens=ANSWER, stop_loops=False)
    seeds = count(1)

    def prompts(seed: int) -> list[Encoded]:
        """A client's question each, about the same new picture; the picture comes first, as in a chat about it."""
        return [question(model, side, seed, words) for words in WORDS]

    def at_once() -> list[tuple[int, ...]]:
        with engine(model, options) as ask:
            return ask(prompts(next(seeds)))

    def one_after_another() -> list[tuple[int, ...]]:
        return [model.generate([prompt], options)[0].tokens for prompt in prompts(next(seeds))]

    def theirs_sequential() -> list[tuple[int, ...]]:
        return [answer for prompt in prompts(next(seeds)) for answer in generate(peer, [prompt])]

    def theirs_batch() -> list[tuple[int, ...]]:
        return generate(peer, prompts(next(seeds)))

    def agreement() -> float:
        """Share of tokens that differ between some of the engine's answers and those of each prompt alone."""
        with engine(model, options) as ask:
            batch = ask(prompts(0))[:2]
        alone = [model.generate([prompt], options)[0].tokens for prompt in prompts(0)[:2]]
        return float(np.mean(np.array(batch) != np.array(alone)))

    variants: dict[str, Run] = {
        "qwenvl, 8 at once": at_once, "qwenvl, one after another": one_after_another,
        "transformers, one after another": theirs_sequential, "transformers, padded batch": theirs_batch,
    }  # fmt: skip
    ours = "qwenvl, 8 at once"
    yield Case(
        f"8 answers of {ANSWER} tokens about one picture", "token", variants, CLIENTS * ANSWER, rounds=1, agreement=agreement,
        against=[
            Against(ours, "transformers, one after another", 3.0), Against(ours, "transformers, padded batch"),
            Against(ours, "qwenvl, one after another"),
        ],
    )  # fmt: skip
    yield first_token(model, peer, side)


def first_token(model: QwenVL, peer: Any, side: int) -> Case:
    """From patches to the first token. A picture that was seen before is asked about in other words."""
    one, seeds, words = GenerationOptions(max_new_tokens=1), count(100), count(5)
    ask = Engine(model, LIMITS)
    list(ask.submit(question(model, side, 99, 30), one))

    def again() -> object:
        return list(ask.submit(question(model, side, 99, 30, next(words)), one))

    def new() -> object:
        return list(ask.submit(question(model, side, next(seeds), 30), one))

    def theirs() -> object:
        return generate(peer, [question(model, side, next(seeds), 30)], 1)

    variants: dict[str, Run] = {"a picture seen before": again, "a new picture": new, "transformers, any picture": theirs}
    return Case(
        f"first token about a {side} px picture", "answer", variants, rounds=3,
        against=[
            Against("a picture seen before", "a new picture", 3.0), Against("a picture seen before", "transformers, any picture"),
            Against("a new picture", "transformers, any picture"),
        ],
    )  # fmt: skip


LIMITS = EngineLimits(running=CLIENTS, cache_bytes=2**30)


class engine:
    """An engine that begins empty, so that nothing is known from an earlier round."""

    def __init__(self, model: QwenVL, options: GenerationOptions) -> None:
        self.engine, self.options = Engine(model, LIMITS), options

    def __enter__(self) -> Callable[[Sequence[Encoded]], list[tuple[int, ...]]]:
        return self.ask

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def ask(self, prompts: Sequence[Encoded]) -> list[tuple[int, ...]]:
        tickets = [self.engine.submit(prompt, self.options) for prompt in prompts]
        replies = [list(ticket)[-1] for ticket in tickets]
        return [reply.tokens for reply in replies if isinstance(reply, Reply)]


def question(model: QwenVL, side: int, seed: int, words: int, wording: int = 0) -> Encoded:
    """A picture of noise, then random ids."""
    text = np.random.default_rng(1000 * wording + words).integers(0, model.config.image_start_id, words)
    return picture_prompt(model.config, [noise(side, side, seed)], text)


@torch.inference_mode()
def generate(peer: Any, prompts: Sequence[Encoded], most: int = ANSWER) -> list[tuple[int, ...]]:
    """What transformers' own `generate` answers, several prompts padded on the left."""
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.from_numpy(prompt.input_ids)
        mask[row, longest - len(prompt) :] = 1
    peer.model.rope_deltas = None
    pad, spec = peer.config.image_token_id, get_family("qwen2_5_vl")
    config = spec.presets[0].config  # of its patches
    out = peer.generate(
        input_ids=ids, attention_mask=mask, mm_token_type_ids=(ids == pad).int(),
        pixel_values=torch.from_numpy(np.concatenate([as_numbers(prompt.patches, config, spec) for prompt in prompts])),
        image_grid_thw=torch.from_numpy(np.concatenate([prompt.grids for prompt in prompts])),
        do_sample=False, max_new_tokens=most, min_new_tokens=most, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return [tuple(row[longest:].tolist()) for row in out]
