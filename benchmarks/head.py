"""C10: memory and time of the head: hidden states to logits of a large vocabulary to the loss, and back; against transformers'.

What a process has held at most does not go down again, so every measured run is a process of its own:
`python -m benchmarks.head VARIANT` prints one line of JSON. Before it measures, weights and their gradients are there, and the same
was done once at a tiny size. What is then added at most is the figure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

from benchmarks.alone import peak, restart_peak, run_alone
from benchmarks.harness import Against, Bound, Item, Result, pin_to_one_core

VARIANTS = ("qwenvl", "transformers")
MOST = 1
"""Rounds: each takes a minute, and memory hardly differs."""


@dataclass(frozen=True)
class Size:
    """masters: weights are float32, of which autocast makes bfloat16 for products; otherwise they are bfloat16."""

    tokens: int = 2048
    hidden: int = 896
    vocabulary: int = 151936
    masters: bool = False

    def __str__(self) -> str:
        kind = "float32 weights under autocast" if self.masters else "bfloat16 weights"
        return f"head and loss, {self.tokens} tokens, vocabulary of {self.vocabulary}, {kind}"


WARM_UP = Size(tokens=48, hidden=64, vocabulary=512)
AT_TINY_SIZE = {"sizes": (Size(64, 64, 2000, masters=True),)}


def cases(quick: bool, sizes: Sequence[Size] = ()) -> Iterator[Item]:
    for size in sizes or ((Size(512),) if quick else (Size(), Size(masters=True))):
        yield partial(compare, size)


def compare(size: Size, rounds: int) -> list[Result]:
    """Time and memory, each run in its own process, in turn."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(min(rounds, MOST)):
        for name in VARIANTS:
            runs[name].append(run_alone("benchmarks.head", name, json.dumps(asdict(size))))
    mine, theirs = ({key: median(run[key] for run in runs[name]) for key in runs[name][0]} for name in VARIANTS)
    times, memory = ({name: [run[key] for run in runs[name]] for name in VARIANTS} for key in ("ms", "mib"))
    apart = max(abs(mine[key] / theirs[key] - 1) for key in ("loss", "hidden", "weight"))
    share = {
        "share of the peer's": mine["mib"] / theirs["mib"],
        "MiB of ours for the gradient of the weight": size.hidden * size.vocabulary * (4 if size.masters else 2) / 2**20,
    }  # fmt: skip
    # Of few tokens the gradient of the weight, which both have, is the most.
    goal = [Bound("share of the peer's", at_most=0.15)] if size.tokens >= Size.tokens else []
    return [
        Result(f"{size}: time", "pass", times, apart, against=[Against("qwenvl", "transformers", 1.0)]),
        Result(f"{size}: memory", "pass", memory, apart, share, "MiB", bounds=goal),
    ]


def measure_here(variant: str, size: Size) -> dict[str, float]:
    run, _ = prepare(variant, WARM_UP)
    run()
    run, tensors = prepare(variant, size)
    before = restart_peak()
    loss = run()
    added = peak() - before
    start = time.process_time()
    run()
    milliseconds = (time.process_time() - start) * 1e3
    hidden, weight = (float(tensor.grad.norm(dtype=_double())) for tensor in tensors)
    return {"ms": milliseconds, "mib": added, "loss": loss, "hidden": hidden, "weight": weight}


def prepare(variant: str, size: Size) -> tuple[Callable[[], float], tuple[Any, Any]]:
    """A pass that returns the loss, and the tensors that it gives gradients: hidden states and weight."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(0)
    dtype = torch.float32 if size.masters else torch.bfloat16
    weight = torch.nn.Parameter(torch.empty(size.vocabulary, size.hidden, dtype=dtype).normal_(0.0, 0.02, generator=generator))
    hidden = torch.randn(size.tokens, size.hidden, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(0, size.vocabulary, (size.tokens,), generator=generator)
    for tensor in (weight, hidden):
        tensor.grad = torch.full_like(tensor, 1.0)  # written to, so that its memory is there
    if variant == "qwenvl":
        loss = our_loss(weight)
    else:
        from transformers.loss.loss_utils import ForCausalLMLoss

        def loss(hidden: Any, labels: Any) -> Any:
            logits = F.linear(hidden, weight)
            return ForCausalLMLoss(logits, None, size.vocabulary, shift_labels=labels)

    def run() -> float:
        for tensor in (weight, hidden):
            assert tensor.grad is not None
            tensor.grad.zero_()
        with torch.autocast("cpu", torch.bfloat16, enabled=size.masters):
            found = loss(hidden, labels)
        found.backward()
        return float(found.detach())

    return run, (hidden, weight)


def our_loss(weight: Any) -> Callable[[Any, Any], Any]:
    """The mean over tokens, as the trainer has it."""
    from qwenvl.train.head_loss import head_loss

    return lambda hidden, labels: head_loss(hidden, weight, labels, weight.new_ones(len(labels)).float())[0] / len(labels)


def _double() -> Any:
    import torch

    return torch.float64


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head", description="One run of the head, in this process alone.")
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("size", nargs="?", default="{}", help='what differs from the usual size, as JSON: {"tokens": 512}')
    options = parser.parse_args(arguments)
    pin_to_one_core()
    print(json.dumps(measure_here(options.variant, Size(**json.loads(options.size)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
