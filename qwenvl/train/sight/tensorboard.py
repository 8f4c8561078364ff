"""The numbers of a run for TensorBoard, in run/tensorboard: the same as in metrics.jsonl and evaluations.jsonl."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from qwenvl.train.sight.watch import Watched

FOLDER = "tensorboard"
GROUPS = {"losses": "loss", "tasks": "task", "logged": "logged"}
"""Key of a record whose values have names -> what TensorBoard groups them under."""
SINGLE = ("rate", "grad_norm", "refused", "mfu", "memory_gb", "data_share", "step_seconds")
SPEEDS = ("tokens_per_s", "visual_tokens_per_s", "images_per_s")


class TensorBoardWatcher:
    """Raises QwenVLError where the package is not installed."""

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            raise QwenVLError("--tensorboard: not installed; pip install 'qwenvl[tensorboard]', or leave it out") from None
        self._open = SummaryWriter
        self.writer: Any = None

    def begin(self, trainer: Watched) -> None:
        if trainer.world.leads:
            # Of a run that is resumed, what lies behind its checkpoint is hidden: those steps come again.
            purge = trainer.step + 1 if trainer.step else None
            self.writer = self._open(str(trainer.run / FOLDER), purge_step=purge)

    def report(self, record: Mapping[str, Any]) -> None:
        if self.writer:
            for name, value in scalars(record):
                self.writer.add_scalar(name, value, record["step"] + 1)

    def evaluated(self, record: Mapping[str, Any]) -> None:
        """A record of evaluations.jsonl."""
        if self.writer:
            for name, value in record["scores"].items():
                self.writer.add_scalar(f"scores/{name}", value, record["step"])
            self.writer.flush()

    def step_done(self, step: int) -> None:
        """Nothing."""

    def end(self, outcome: str) -> None:
        if self.writer:
            self.writer.flush()  # and no more: a last evaluation may follow


def scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Name and value of every number of a line of metrics.jsonl; what is missing or not finite is left out."""
    found = [("loss/total", record["loss"])]
    found += [(f"{group}/{name}", value) for key, group in GROUPS.items() for name, value in record.get(key, {}).items()]
    found += [(f"step/{key}", record.get(key)) for key in SINGLE] + [(f"speed/{key}", record.get(key)) for key in SPEEDS]
    return ((name, float(value)) for name, value in found if value is not None and math.isfinite(value))
