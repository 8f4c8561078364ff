"""From logits to the next token, and the options that a caller may set.

Greedy unless a caller asks for sampling. Randomness comes from a torch.Generator that is passed in, never from global state.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    import torch


class Constraint(Protocol):
    """What an answer must look like, advanced as its tokens are taken."""

    def mask(self) -> torch.Tensor:
        """(vocab,) bool: where the next token may be. Stop ids are True exactly where the answer may end."""
        ...

    def settle(self, token: int, left: int) -> int:
        """Go on by a token that the mask admits, of `left` that may still be taken with it; or by another one, where the answer
        could not be brought to its end otherwise. Returns the one that was taken."""
        ...

    @property
    def done(self) -> bool:
        """Nothing but the end may follow."""
        ...


class OptionError(QwenVLError, ValueError):
    """An option of generation that is unknown or out of range."""


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How an answer is drawn.

    Greedy when none of temperature, top_p and top_k is given; giving one of them samples (temperature 1 unless given;
    temperature 0 is greedy again). top_k 0 and top_p 1 keep every token. repetition_penalty acts on the text tokens of
    the prompt and the answer so far; presence_penalty and frequency_penalty are taken off the scores of tokens that are in the
    answer already, once, and as often as they are. max_new_tokens None means the checkpoint's own limit, cut to what the context
    leaves. Before min_new_tokens no token ends the answer.
    stop holds strings that end an answer; they are not part of it. stop_loops ends one that repeats itself for ever. seed None
    draws a fresh one.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_new_tokens: int | None = None
    min_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_loops: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        elif not isinstance(self.stop, tuple):
            object.__setattr__(self, "stop", tuple(self.stop or ()))
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise OptionError("stop: every stop must be a string of at least one character")
        _check("temperature", self.temperature, 0.0, math.inf, "0 (greedy) or more")
        _check("top_p", self.top_p, 0.0, 1.0, "more than 0 and at most 1", open_below=True)
        _check("top_k", self.top_k, 0, math.inf, "0 (off) or more", whole=True)
        _check("repetition_penalty", self.repetition_penalty, 0.0, math.inf, "more than 0 (1 is off)", open_below=True)
        _check("presence_penalty", self.presence_penalty, -2.0, 2.0, "from -2 to 2 (0 is off)")
        _check("frequency_penalty", self.frequency_penalty, -2.0, 2.0, "from -2 to 2 (0 is off)")
        _check("max_new_tokens", self.max_new_tokens, 1, math.inf, "1 or more", whole=True)
        _check("min_new_tokens", self.min_new_tokens, 0, math.inf, "0 or more", whole=True)
        _check("seed", self.seed, 0, 2**63 - 1, "from 0 to 2**63 - 1", whole=True)

    @classmethod
    def of(cls, options: GenerationOptions | None = None, **changes: Any) -> GenerationOptions:
        """Build options from keywords, on top of `options` if given. Raises OptionError on an unknown name."""
        known = [field.name for field in fields(cls)]
        for name in changes:
            if name not in known:
                raise OptionError(f"unknown option {name!r}; known: {', '.join(known)}")
        base = {name: getattr(options, name) for name in known} if options is not None else {}
        return cls(**(base | changes))

    @property
    def greedy(self) -> bool:
        return self.temperature == 0 or (self.temperature is None and self.top_p is None and self.top_k is None)


def _check(
    name: str, value: float | None, low: float, high: float, meaning: str, open_below: bool = False, whole: bool = False
) -> None:
    """Raise OptionError unless `value` is None or a number (`whole`: an int) in the range that `meaning` tells."""
    if value is None:
        return
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value > high or value < low or (open_below and value == low):
        raise OptionError(f"{name}={value!r}: must be {'a whole number, ' if whole else ''}{meaning}")


def new_generator(seed: int | None) -> torch.Generator:
    """A CPU generator, so that a seed means the same draw on every device."""
    import torch

    generator = torch.Generator(device="cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def choose_token(
    logits: torch.Tensor, history: Sequence[int], options: GenerationOptions, generator: torch.Generator,
    forbidden: Collection[int] = (), allowed: torch.Tensor | None = None, answer: Sequence[int] = (),
) -> int:  # fmt: skip
    """The next token id from logits (vocab,) of one sequence.

    `history` holds the ids that the repetition penalty acts on, `answer` those that presence and frequency penalties do; allowed
    (vocab,) is False where no token may be. Raises QwenVLError where none is left.
    """
    import torch

    scores = logits.detach().float().cpu()
    if not torch.isfinite(scores).all():
        raise QwenVLError("the model's logits are not finite: the checkpoint is damaged or its dtype overflows; try dtype float32")
    scores = penalise(scores, history, options.repetition_penalty)
    scores = discourage(scores, answer, options.presence_penalty, options.frequency_penalty)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
        if not allowed.any():
            raise QwenVLError("no token of the model's vocabulary fits the format that was asked for; ask for another one")
    # Where the format admits nothing but the end, it ends, however short the answer is.
    if forbidden and not (allowed is not None and not allowed.index_fill(0, torch.tensor(sorted(forbidden)), False).any()):
        scores = scores.index_fill(0, torch.tensor(sorted(forbidden), device=scores.device), -math.inf)
    if options.greedy:
        return int(scores.argmax())
    probabilities = distribution(scores, options)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def penalise(scores: torch.Tensor, history: Sequence[int], penalty: float) -> torch.Tensor:
    """Make ids seen before less likely (arXiv 1909.05858, section 4.1): positive scores are divided, negative ones multiplied."""
    import torch

    if penalty == 1.0 or not len(history):
        return scores
    seen = torch.tensor(sorted(set(history)), dtype=torch.long)
    before = scores[seen]
    after = torch.where(before > 0, before / penalty, before * penalty)
    largest = torch.finfo(scores.dtype).max / 2  # a tiny penalty divides into infinity, which no distribution can be made of
    return scores.index_put((seen,), after.clamp(-largest, largest))


def discourage(scores: torch.Tensor, answer: Sequence[int], presence: float, frequency: float) -> torch.Tensor:
    """Take presence + count * frequency off the score of every token of the answer, as OpenAI's API reference defines its
    presence_penalty and frequency_penalty (platform.openai.com/docs/api-reference/chat/create)."""
    import torch

    if (presence == 0.0 and frequency == 0.0) or not len(answer):
        return scores
    seen, counts = torch.tensor(list(answer), dtype=torch.long).unique(return_counts=True)
    return scores.index_put((seen,), scores[seen] - presence - frequency * counts)


def log_likelihoods(
    logits: torch.Tensor, token: int, most: int | None
) -> tuple[()] | tuple[float, tuple[tuple[int, float], ...]]:
    """Natural logarithms of the model's own probabilities, before any option acts: the token's, and those of the `most` likely ids,
    best first. Nothing for None."""
    import torch

    if most is None:
        return ()
    logs = torch.log_softmax(logits.detach().float().cpu(), dim=-1)
    best = torch.topk(logs, most) if most else None
    return float(logs[token]), () if best is None else tuple(zip(best.indices.tolist(), best.values.tolist()))


def distribution(scores: torch.Tensor, options: GenerationOptions) -> torch.Tensor:
    """Probabilities (vocab,) after temperature, then top-k, then top-p (nucleus: arXiv 1904.09751, section 3.1)."""
    import torch

    temperature = 1.0 if options.temperature is None else options.temperature
    scores = (scores - scores.max()).double() / temperature  # no temperature, however low, divides into infinity
    if options.top_k and options.top_k < len(scores):
        kept = torch.topk(scores, options.top_k).indices
        scores = torch.full_like(scores, -math.inf).index_put((kept,), scores[kept])
    probabilities = torch.softmax(scores, dim=-1).float()
    if options.top_p is not None and options.top_p < 1.0:
        ordered, order = torch.sort(probabilities, descending=True, stable=True)
        # A token stays while the mass before it is below top_p: the most likely one always does.
        dropped = order[torch.cumsum(ordered, dim=-1) - ordered >= options.top_p]
        probabilities = probabilities.index_fill(0, dropped, 0.0)
    return probabilities / probabilities.sum()
