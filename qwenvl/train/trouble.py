"""Steps that went wrong: a loss or gradient that is no number, a loss far above the running one. Their samples are named."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qwenvl.train.parallel import World
from qwenvl.types import QwenVLError

FILE = "trouble.jsonl"
MEMORY = 0.98
"""How much of the running loss a step keeps: it looks back over some fifty steps."""
SETTLED = 20
"""Steps before the running loss says anything."""
NAMED = 12
"""Samples that are named."""


class NotFinite(QwenVLError):
    """A step whose loss or gradient is infinite or undefined, where the recipe says to stop."""


class Seen(NamedTuple):
    """A micro-batch of this rank: its share of the step's loss, a scalar, and its samples."""

    loss: Tensor
    samples: tuple[str, ...]


class Watch:
    """Looks at every step. All ranks call `check` with the same loss and norm, and so all come to the same end."""

    def __init__(self, run: Path, world: World, spike: float | None, stop: bool) -> None:
        self.run, self.world, self.spike, self.stop = run, world, spike, stop
        self.running, self.steps = 0.0, 0

    def state(self) -> dict[str, Any]:
        """What the watch of a resumed run has to `remember`."""
        return {"running": self.running, "steps": self.steps}

    def remember(self, state: Mapping[str, Any]) -> None:
        self.running, self.steps = state["running"], state["steps"]

    def check(self, step: int, seen: Sequence[Seen], norm: float) -> bool:
        """Whether the step may be taken. Raises NotFinite by policy."""
        # One wait for the device a step, not one a micro-batch.
        loss = float(self.world.sum(torch.stack([one.loss for one in seen]).double().sum().cpu()))
        finite = math.isfinite(norm) and math.isfinite(loss)
        if not finite:
            named = self._tell(step, "not finite", loss, norm, seen)
            if self.stop:
                raise NotFinite(f"{self.run}: loss {loss:g}, gradient norm {norm:g} at step {step}, with {named}; see {FILE}")
            return False
        if self.spike is not None and self.steps >= SETTLED and loss > self.spike * self.running > 0:
            self._tell(step, "spike", loss, norm, seen)
        self.running = loss if not self.steps else MEMORY * self.running + (1 - MEMORY) * loss
        self.steps += 1
        return True

    def _tell(self, step: int, kind: str, loss: float, norm: float, seen: Sequence[Seen]) -> str:
        """Write it down; the first samples of the worst micro-batch in words."""
        of_ranks: list[list[Seen]] = self.world.gather([one._replace(loss=one.loss.cpu()) for one in seen])
        worst = max((one for of_rank in of_ranks for one in of_rank), key=_badness)
        named = ", ".join(worst.samples[:NAMED])
        if self.world.leads:
            samples = [name for of_rank in of_ranks for one in of_rank for name in one.samples]
            record: dict[str, Any] = {
                "step": step, "kind": kind, "loss": _or_text(loss), "grad_norm": _or_text(norm), "worst": list(worst.samples),
                "samples": samples,
            }  # fmt: skip
            with (self.run / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            print(f"qwenvl: step {step}: {kind}: loss {loss:g}, gradient norm {norm:g}; worst: {named}", file=sys.stderr)
        return named


def _badness(seen: Seen) -> float:
    loss = float(seen.loss)
    return loss if math.isfinite(loss) else math.inf


def _or_text(value: float) -> float | str:
    """JSON has no infinity."""
    return value if math.isfinite(value) else str(value)
