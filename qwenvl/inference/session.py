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
from qwenvl.inference.reply import FinishReason
from qwenvl.inference.sampling import GenerationOptions, choose_token, new_generator
from qwenvl.inference.text_stream import TextStream
from qwenvl.models.attention import Layout
from qwenvl.models.rope import ntk_alpha
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import join_windows
from qwenvl.processing.positions import next_position
from qwenvl.types import Encoded, Windows


@dataclass(slots=True)
class Draft:
    """One answer in the making: what it may still become, and its own source of randomness.

    `history` holds the ids that the repetition penalty acts on: the prompt's text tokens (not its placeholders) and the answer's.
    """

    options: GenerationOptions
    limit: int
    stop_ids: frozenset[int]
    history: list[int]
    stream: TextStream | None = None
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = new_generator(self.options.seed)

    def choose(self, logits: Tensor) -> str:
        """Take the next token from logits (vocab,); return the text it completes. Sets finish_reason at the end of the answer.

        A stop id is taken but is no part of the answer.
        """
        too_early = self.stop_ids if len(self.tokens) < self.options.min_new_tokens else frozenset[int]()
        token = choose_token(logits, self.history, self.options, self.generator, too_early)
        if token in self.stop_ids:
            self.finish_reason = "stop"
            return self.stream.finish() if self.stream else ""
        self.tokens.append(token)
        self.history.append(token)
        chunk = self.stream.push(token) if self.stream else ""
        if self.stream and self.stream.stopped:
            self.finish_reason = "stop"
        elif len(self.tokens) >= self.limit:
            self.finish_reason = "length"
            chunk += self.stream.finish() if self.stream else ""
            if self.stream and self.stream.stopped:
                self.finish_reason = "stop"
        return chunk


class Session:
    """N prompts and what follows them. `prefill` once, then `step` with one new token of each sequence.

    alphas: dynamic NTK's alpha of each sequence, fixed here from the prompt's own length (a neighbour's length never counts)
    and kept while decoding, as the published code keeps that of its prefill. `room` tokens can follow each prompt.
    """

    def __init__(
        self, model: VisionLanguageModel, prompts: Sequence[Encoded], *, room: int, alphas: Sequence[float] | None = None
    ) -> None:
        config, weight = model.config.decoder, model.decoder.embed_tokens.weight
        self.model = model
        self.prompts = list(prompts)
        self.alphas = list(alphas) if alphas is not None else [alpha_of(model, len(prompt)) for prompt in prompts]
        self.next_positions = [0] * len(self.prompts)
        capacity = max(len(prompt) for prompt in self.prompts) + room
        self.cache = KVCache(config, len(self.prompts), capacity, dtype=weight.dtype, device=weight.device)

    def prefill(self, chunk: int | None = None) -> Tensor:
        """Logits (N, vocab) after each prompt. With `chunk`, a single prompt is fed in pieces of about so many tokens.

        What is decoded next stands after the highest position of the whole prompt on any axis, which may lie within a clip.
        """
        self.next_positions = [next_position(prompt.position_ids) for prompt in self.prompts]
        if chunk is None:
            return self._feed(self.prompts)
        if len(self.prompts) != 1:
            raise ValueError(f"prefill in pieces is for one sequence, not {len(self.prompts)}")
        pieces = split_prompt(self.prompts[0], chunk)
        return [self._feed([piece]) for piece in pieces][-1]

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> Tensor:
        """Logits (N, vocab) after one more token of each sequence."""
        layout = self.cache.extend([1] * len(tokens))
        device = layout.slots.device
        positions = torch.tensor(self.next_positions, device=device).expand(3, -1)
        self.next_positions = [position + 1 for position in self.next_positions]
        hidden = self.model(
            torch.tensor(list(tokens), device=device), positions, layout,
            cache=self.cache, ntk_alpha=alpha_table(self.alphas, [1] * len(tokens), device), logn=True,
        )  # fmt: skip
        return self.model.logits(hidden).float()

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these sequences only."""
        if list(rows) == list(range(len(self.alphas))):
            return
        self.cache.keep(rows)
        self.alphas = [self.alphas[row] for row in rows]
        self.next_positions = [self.next_positions[row] for row in rows]

    @torch.inference_mode()
    def _feed(self, pieces: Sequence[Encoded]) -> Tensor:
        """Run a piece of every prompt through the model; logits (N, vocab) of the last token of each."""
        lengths = [len(piece) for piece in pieces]
        layout = self.cache.extend(lengths)
        hidden = run_model(self.model, pieces, self.alphas, layout, self.cache)
        last = torch.tensor(lengths, device=hidden.device).cumsum(0) - 1
        return self.model.logits(hidden[last]).float()


def run_model(
    model: VisionLanguageModel, pieces: Sequence[Encoded], alphas: Sequence[float], layout: Layout, cache: KVCache | None = None
) -> Tensor:
    """Hidden states (T, D) of packed pieces in evaluation: with dynamic NTK and logn, without gradients."""
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
            patches=join([piece.patches for piece in with_pictures]) if with_pictures else None,
            # Grids stay on the CPU: the model reads them as plain numbers.
            grids=torch.from_numpy(np.concatenate([piece.grids for piece in with_pictures])) if with_pictures else None,
            visual_slots=join([piece.visual_slots + start for piece, start in zip(pieces, starts)]),
            windows=window_tensors(join_windows(with_pictures), device),
            cache=cache,
            ntk_alpha=alpha_table(alphas, lengths, device),
            logn=True,
        )


def window_tensors(windows: Windows | None, device: torch.device) -> Windows | None:
    """The windows of an Encoded as the model takes them."""
    if windows is None:
        return None
    return Windows(torch.from_numpy(windows.order).to(device), torch.from_numpy(windows.lengths).to(device))


def alpha_table(alphas: Sequence[float], lengths: Sequence[int], device: torch.device) -> Tensor | None:
    """Every token's alpha (T,), None where all are 1: the tables then come from the plain formula, as in training."""
    if all(alpha == 1.0 for alpha in alphas):
        return None
    return torch.tensor(alphas, device=device).repeat_interleave(torch.tensor(lengths, device=device))


def alpha_of(model: VisionLanguageModel, length: int) -> float:
    """Dynamic NTK's alpha for a prompt of this length, 1 for a model that does not use it."""
    decoder = model.config.decoder
    return ntk_alpha(length, decoder.trained_length) if decoder.use_dynamic_ntk else 1.0


def decode(session: Session, drafts: Sequence[Draft]) -> Iterator[tuple[int, str]]:
    """Prefill and step until every draft is finished; yields (index of the draft, text) for every token taken."""
    active = list(range(len(drafts)))
    logits = session.prefill()
    while True:
        for row, index in enumerate(active):
            yield index, drafts[index].choose(logits[row])
        alive = [row for row, index in enumerate(active) if drafts[index].finish_reason is None]
        if not alive:
            return
        session.keep(alive)
        active = [active[row] for row in alive]
        logits = session.step([drafts[index].tokens[-1] for index in active])


def split_prompt(prompt: Encoded, chunk: int) -> list[Encoded]:
    """Cut a prompt into pieces of at least `chunk` tokens (the last may be shorter), never inside the placeholders of a picture or
    clip."""
    slots = prompt.visual_slots
    runs = np.split(slots, np.flatnonzero(np.diff(slots) != 1) + 1) if len(slots) else []
    patch_ends = np.cumsum(prompt.grids.prod(axis=1)) if len(runs) else np.zeros(0, dtype=np.int64)
    pieces, start = [], 0
    while start < len(prompt):
        end = min(start + chunk, len(prompt))
        inside = [run for run in runs if run[0] < end <= run[-1]]
        end = int(inside[0][-1]) + 1 if inside else end
        first, last = (sum(int(run[0]) < edge for run in runs) for edge in (start, end))
        patches = slice(int(patch_ends[first - 1]) if first else 0, int(patch_ends[last - 1]) if last else 0)
        pieces.append(
            prompt.with_(
                input_ids=prompt.input_ids[start:end],
                labels=prompt.labels[start:end],
                position_ids=prompt.position_ids[:, start:end],
                patches=prompt.patches[patches],
                grids=prompt.grids[first:last],
                windows=_windows_of(prompt, patches),
                visual_slots=slots[(slots >= start) & (slots < end)] - start,
                image_sizes=prompt.image_sizes[first:last],
            )
        )
        start = end
    return pieces


def _windows_of(prompt: Encoded, patches: slice) -> Windows | None:
    """The windows of those whole pictures of a prompt. A window stays inside its picture, so pictures come one after the other
    in window order too."""
    windows = prompt.windows
    if windows is None or not len(windows.order):
        return windows
    per_unit = len(prompt.patches) // len(windows.order)
    units = slice(patches.start // per_unit, patches.stop // per_unit)
    ends = np.cumsum(windows.lengths)
    inside = (ends > patches.start) & (ends <= patches.stop)
    return Windows(windows.order[units] - units.start, windows.lengths[inside])
