"""What it costs to store a model's weights in fewer bits: its logits beside those of the model in float32, on the same answers.

The float32 model answers questions about pictures; the others read its answers token by token, as they would write them. So every
path of a rounded layer is measured: many rows at once in the prompt, one by one in the answer. And all answers at once: what is
rounded may come out otherwise in company, where in float32 the answers stay the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qwenvl.inference.model import QwenVL, Storage, load
from qwenvl.inference.session import Session
from qwenvl.models.reordered import ReorderedLinear
from qwenvl.types import Encoded, QwenVLError

QUESTIONS = (
    "Describe the picture in English with grounding:",
    "What is written in the picture?",
    "图中有什么?",
    "How many things are there?",
)
ANSWER_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one kind of storage. error and worst: the root mean square of the difference of logits, as a share of the spread (standard
    deviation) of the float32 model's, on average and at the worst token. agreement: tokens whose most likely id is the same.
    perplexity: of the float32 model's answers. milliseconds: CPU time of a token at one row. company: the error, at the worst
    token, of the same weights reading all answers at once, beside each alone. diverged: answers, as a share, that come out
    otherwise when they are written all at once; first: the earliest token of one that did, None where none does."""

    kind: str
    bytes: int
    error: float
    worst: float
    agreement: float
    perplexity: float
    milliseconds: float
    company: float
    diverged: float
    first: int | None
    tokens: int


@dataclass(frozen=True, slots=True)
class _Reading:
    """Of every answer its logits (tokens, vocab), and the CPU time of all steps."""

    logits: list[Tensor]
    seconds: float
    steps: int


def measure(name: str | Path, pictures: Sequence[Any], kinds: Sequence[Storage], device: str | None = None) -> list[Cost]:
    """The cost of each kind, float32 first. Raises QwenVLError for no pictures, and as loading does."""
    if not pictures:
        raise QwenVLError("no pictures to ask about; name one or more")
    reference = load(name, device, quantize="float32")
    prompts = [
        reference.encode([{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}])
        for picture, question in ((picture, QUESTIONS[index % len(QUESTIONS)]) for index, picture in enumerate(pictures))
    ]
    answers = [reply.tokens for reply in reference.generate(prompts, max_new_tokens=ANSWER_TOKENS)]
    prompts, answers = map(list, zip(*((p, a) for p, a in zip(prompts, answers) if a), strict=True)) if any(answers) else ([], [])
    if not prompts:
        raise QwenVLError(f"{name}: gave no answer to any question about these pictures; give others")
    right = _read(reference, prompts, answers)
    costs = [_cost("float32", reference, right, right, prompts, answers)]
    del reference
    for kind in kinds:
        if kind != "float32":
            model = load(name, device, quantize=kind)
            costs.append(_cost(kind, model, _read(model, prompts, answers), right, prompts, answers))
    return costs


def weight_bytes(model: torch.nn.Module) -> int:
    """Of all parameters, buffers and reordered weights, each counted once."""
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    reordered = [layer.packed for layer in model.modules() if isinstance(layer, ReorderedLinear)]
    return sum(tensor.numel() * tensor.element_size() for tensor in (*tensors.values(), *reordered))


def _read(model: QwenVL, prompts: Sequence[Encoded], answers: Sequence[Sequence[int]]) -> _Reading:
    """The logits that a model gives for every token of the answers."""
    logits, seconds, steps = [], 0.0, 0
    for prompt, answer in zip(prompts, answers, strict=True):
        session = Session(model.model, [prompt], room=len(answer))
        rows = [session.prefill()[0].cpu()]
        start = time.process_time()
        for token in answer[:-1]:
            rows.append(session.step([token])[0].cpu())
        seconds += time.process_time() - start
        steps += len(answer) - 1
        logits.append(torch.stack(rows))
    return _Reading(logits, seconds, steps)


def _read_together(model: QwenVL, prompts: Sequence[Encoded], answers: Sequence[Sequence[int]]) -> list[Tensor]:
    """As `_read`, all answers side by side; one that has ended goes on with its last token, which nobody looks at."""
    session = Session(model.model, prompts, room=max(map(len, answers)))
    steps = [session.prefill().cpu()]
    for number in range(max(map(len, answers)) - 1):
        steps.append(session.step([answer[min(number, len(answer) - 1)] for answer in answers]).cpu())
    return [torch.stack([step[row] for step in steps[: len(answer)]]) for row, answer in enumerate(answers)]


def _first_differences(model: QwenVL, prompts: Sequence[Encoded]) -> list[int]:
    """Of each answer that is another when all are written at once: its first token that differs."""
    together = model.generate(prompts, max_new_tokens=ANSWER_TOKENS)
    found = []
    for prompt, reply in zip(prompts, together, strict=True):
        [alone] = model.generate([prompt], max_new_tokens=ANSWER_TOKENS)
        if alone.tokens != reply.tokens:
            same = takewhile(lambda pair: pair[0] == pair[1], zip(alone.tokens, reply.tokens))
            found.append(sum(1 for _ in same))
    return found


def _errors(mine: Tensor, theirs: Tensor) -> Tensor:
    """Of logits (tokens, vocab): root mean square of the difference, as a share of the spread of `theirs`."""
    return (mine - theirs).square().mean(dim=1).sqrt() / theirs.std(dim=1)


def _cost(
    kind: str, model: QwenVL, found: _Reading, right: _Reading, prompts: Sequence[Encoded], answers: Sequence[Sequence[int]]
) -> Cost:
    mine, theirs = torch.cat(found.logits), torch.cat(right.logits)
    said = torch.tensor([token for answer in answers for token in answer])
    errors = _errors(mine, theirs)
    differences = _first_differences(model, prompts)
    surprise = torch.nn.functional.cross_entropy(mine, said)
    return Cost(
        kind=kind,
        bytes=weight_bytes(model.model),
        error=float(errors.mean()),
        worst=float(errors.max()),
        agreement=float((mine.argmax(dim=1) == theirs.argmax(dim=1)).float().mean()),
        perplexity=float(surprise.exp()),
        milliseconds=1e3 * found.seconds / max(found.steps, 1),
        company=float(_errors(torch.cat(_read_together(model, prompts, answers)), mine).max()),
        diverged=len(differences) / len(prompts),
        first=min(differences, default=None),
        tokens=len(said),
    )
