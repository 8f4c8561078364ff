"""Decoding with a cache. All that outlives a forward is in one explicit object: cache, alpha, next positions, drafts.

N sequences decode together, each at its own length; T tokens of all of them lie packed on one axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from qwenvl.inference.cache import KVCache
from qwenvl.inference.features import window_tensors
from qwenvl.inference.graphs import StepGraphs
from qwenvl.inference.loops import loops
from qwenvl.inference.reply import FinishReason
from qwenvl.inference.sampling import Constraint, GenerationOptions, choose_token, log_likelihoods, new_generator
from qwenvl.inference.text_stream import TextStream
from qwenvl.models.attention import Layout
from qwenvl.models.rope import ntk_alpha
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import join_windows
from qwenvl.processing.patches import join_patches
from qwenvl.processing.positions import next_position
from qwenvl.types import Encoded


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of an answer as it is taken: the text that it completes, possibly none, and, where they were asked for, the natural
    logarithms of its probability and of the most likely tokens', best first."""

    text: str
    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Draft:
    """One answer in the making: what it may still become, and its own source of randomness.

    `history` holds the ids that the repetition penalty acts on: the prompt's text tokens (not its placeholders) and the answer's.
    logprobs: how many of the most likely tokens are told of each, None for none and not the taken one's either.
    """

    options: GenerationOptions
    limit: int
    stop_ids: frozenset[int]
    history: list[int]
    stream: TextStream | None = None
    constraint: Constraint | None = None
    logprobs: int | None = None
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = new_generator(self.options.seed)

    def choose(self, logits: Tensor) -> Piece:
        """Take the next token from logits (vocab,). Sets finish_reason at the end of the answer.

        A stop id is taken but is no part of the answer.
        """
        too_early = self.stop_ids if len(self.tokens) < self.options.min_new_tokens else frozenset[int]()
        allowed = None if self.constraint is None else self.constraint.mask()
        token = choose_token(logits, self.history, self.options, self.generator, too_early, allowed, self.tokens)
        if self.constraint is not None:
            token = self.constraint.settle(token, self.limit - len(self.tokens))
        likely = log_likelihoods(logits, token, self.logprobs)
        if token in self.stop_ids:
            self.finish_reason = "stop"
            return Piece(self.stream.finish() if self.stream else "", token, *likely)
        self.tokens.append(token)
        self.history.append(token)
        chunk = self.stream.push(token) if self.stream else ""
        self.finish_reason = self._ended()
        if self.stream and self.finish_reason is not None:
            chunk += self.stream.finish()
            self.finish_reason = "stop" if self.stream.stopped else self.finish_reason
        return Piece(chunk, token, *likely)

    def _ended(self) -> FinishReason | None:
        """Why no further token is wanted."""
        if (self.stream and self.stream.stopped) or (self.constraint is not None and self.constraint.done):
            return "stop"
        if len(self.tokens) >= self.limit:
            return "length"
        # What a grammar admits may well repeat itself; it ends by its own rules.
        return "repetition" if self.options.stop_loops and self.constraint is None and loops(self.tokens) else None


class Session:
    """N prompts and what follows them. `prefill` once, then `step` with one new token of each sequence; sequences of another
    session may `join` between steps, and any may `leave`.

    alphas: dynamic NTK's alpha of each sequence, fixed here from the prompt's own length (a neighbour's length never counts)
    and kept while decoding, as the published code keeps that of its prefill. `room` tokens can follow each prompt. graphs: by which
    steps are made, where that is wanted.
    """

    def __init__(
        self, model: VisionLanguageModel, prompts: Sequence[Encoded] = (), *, room: int = 0, graphs: StepGraphs | None = None
    ) -> None:  # fmt: skip
        config, weight = model.config.decoder, model.decoder.embed_tokens.weight
        self.model = model
        self.prompts = list(prompts)
        self.alphas = [alpha_of(model, len(prompt)) for prompt in prompts]
        # What is decoded next stands after the highest position of the whole prompt on any axis, which may lie within a clip.
        self.next_positions = [next_position(prompt.position_ids) for prompt in prompts]
        capacity = max((len(prompt) for prompt in self.prompts), default=0) + room
        self.cache = KVCache(config, len(self.prompts), capacity, dtype=weight.dtype, device=weight.device)
        self.graphs = graphs

    def prefill(self) -> Tensor:
        """Logits (N, vocab) after each prompt."""
        return self.feed(self.prompts)

    @torch.inference_mode()
    def feed(self, pieces: Sequence[Encoded], visual: Tensor | None = None) -> Tensor:
        """Run a piece of every prompt through the model; logits (N, vocab) of the last token of each. visual: see `run_model`."""
        lengths = [len(piece) for piece in pieces]
        layout = self.cache.extend(lengths)
        hidden = run_model(self.model, pieces, self.alphas, layout, self.cache, visual)
        last = torch.tensor(lengths, device=hidden.device).cumsum(0) - 1
        return self.model.logits(hidden[last]).float()

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> Tensor:
        """Logits (N, vocab) after one more token of each sequence."""
        held = list(self.cache.lengths)
        device = self.cache.keys[0].device
        positions = torch.tensor(self.next_positions, device=device).expand(3, -1)
        alphas = alpha_table(self.alphas, [1] * len(tokens), device)
        try:
            logits = None
            if self.graphs is not None:
                logits = self.graphs.step(self.cache, tokens, self.model.rotary(positions, alphas, logn=True))
            if logits is None:
                ids, layout = torch.tensor(list(tokens), device=device), self.cache.extend([1] * len(tokens))
                hidden = self.model(ids, positions, layout, cache=self.cache, ntk_alpha=alphas, logn=True)
                logits = self.model.logits(hidden).float()
        except BaseException:
            self.cache.lengths = held  # as if the step had not been tried: without a sequence or two it may succeed
            raise
        self.next_positions = [position + 1 for position in self.next_positions]
        return logits

    @torch.inference_mode()
    def join(self, other: Session, most: int | None = None) -> None:
        """Go on with the only sequence of another session too, as the last row. The other one is not to be used after that. `most`
        as in `KVCache.reserve`. Where it fails, for want of memory say, this session is as it was."""
        held = other.cache.lengths[0]
        copied = other.cache.read(0, 0, held)
        row = self.cache.open(held + 1, most)
        try:
            self.cache.write(row, copied)
        except BaseException:
            self.cache.close()
            raise
        self.alphas += other.alphas
        self.next_positions += other.next_positions

    @torch.inference_mode()
    def leave(self, row: int, spoiled: bool = False) -> None:
        """Go on without this sequence; the last row takes its place. spoiled: what it held may not be finite (`KVCache.wipe`)."""
        last = len(self.alphas) - 1
        if spoiled:  # all of it: the row that moves in may be shorter
            self.cache.wipe(row)
        if row != last:
            self.cache.move(last, row)
            self.alphas[row], self.next_positions[row] = self.alphas[last], self.next_positions[last]
        self.cache.close()
        self.alphas.pop()
        self.next_positions.pop()


def run_model(
    model: VisionLanguageModel, pieces: Sequence[Encoded], alphas: Sequence[float], layout: Layout, cache: KVCache | None = None,
    visual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Hidden states (T, D) of packed pieces in evaluation: with dynamic NTK and logn, without gradients.

    visual (V, D): the visual tokens of all pieces, which then need no patches; by default the tower makes them of the patches.
    """
    device = model.decoder.embed_tokens.weight.device
    lengths = [len(piece) for piece in pieces]
    starts = np.cumsum([0, *lengths[:-1]])
    with_pictures = [piece for piece in pieces if len(piece.grids)]

    def join(arrays: list[np.ndarray], axis: int = 0) -> Tensor:
        # One prompt is not copied: the patches of a long clip are a gigabyte.
        whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=axis)
        return torch.from_numpy(np.ascontiguousarray(whole)).to(device)

    with torch.no_grad():
        return model(
            join([piece.input_ids for piece in pieces]),
            join([piece.position_ids for piece in pieces], axis=1),
            layout,
            patches=join([join_patches([piece.patches for piece in with_pictures])]) if with_pictures else None,
            # Grids stay on the CPU: the model reads them as plain numbers.
            grids=torch.from_numpy(np.concatenate([piece.grids for piece in with_pictures])) if with_pictures else None,
            visual_slots=join([piece.visual_slots + start for piece, start in zip(pieces, starts)]),
            windows=window_tensors(join_windows(with_pictures), device),
            visual=visual,
            cache=cache,
            ntk_alpha=alpha_table(alphas, lengths, device),
            logn=True,
        )


def alpha_table(alphas: Sequence[float], lengths: Sequence[int], device: torch.device) -> Tensor | None:
    """Every token's alpha (T,), None where all are 1: the tables then come from the plain formula, as in training."""
    if all(alpha == 1.0 for alpha in alphas):
        return None
    return torch.tensor(alphas, device=device).repeat_interleave(torch.tensor(lengths, device=device))


def alpha_of(model: VisionLanguageModel, length: int) -> float:
    """Dynamic NTK's alpha for a prompt of this length, 1 for a model that does not use it."""
    decoder = model.config.decoder
    return ntk_alpha(length, decoder.trained_length) if decoder.use_dynamic_ntk else 1.0


def decode(session: Session, drafts: Sequence[Draft]) -> Iterator[tuple[int, Piece]]:
    """Prefill and step until every draft is finished; yields (index of the draft, piece) for every token taken."""
    active = list(range(len(drafts)))
    logits = session.prefill()
    while True:
        for row, index in enumerate(active):
            yield index, drafts[index].choose(logits[row])
        for row in reversed(range(len(active))):
            if drafts[active[row]].finish_reason is not None:
                session.leave(row)
                active[row] = active[-1]
                active.pop()
        if not active:
            return
        logits = session.step([drafts[index].tokens[-1] for index in active])


def split_prompt(prompt: Encoded, chunk: int, start: int = 0) -> list[Encoded]:
    """What follows the first `start` tokens of a prompt, in pieces of `chunk` tokens, the last maybe shorter.

    The pieces bring no patches: pictures may be cut, so their visual tokens go with the pieces, as many as each has slots.
    """
    none = {"patches": prompt.patches[:0], "grids": prompt.grids[:0], "windows": None, "image_sizes": ()}
    pieces = []
    for begin in range(start, len(prompt), chunk):
        part = slice(begin, begin + chunk)
        first, last = np.searchsorted(prompt.visual_slots, [begin, begin + chunk])
        pieces.append(
            prompt.with_(
                input_ids=prompt.input_ids[part], labels=prompt.labels[part], position_ids=prompt.position_ids[:, part],
                visual_slots=prompt.visual_slots[first:last] - begin, **none,
            )
        )  # fmt: skip
    return pieces
