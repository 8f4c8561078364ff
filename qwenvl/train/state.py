"""The tensors of a run by name: what a checkpoint holds, and where one is read into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qwenvl.models.lora import adapters
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.objectives import Objective
from qwenvl.train.optim import MovingAverage, Named
from qwenvl.train.split_adamw import SplitAdamW

Tensors = dict[str, dict[str, Tensor]]
STATES = ("step", "exp_avg", "exp_avg_sq", "low")
"""What an optimiser keeps of a weight. Before its first step that may be the last alone."""


class RunState:
    """Groups `model`, `objective`, `optimiser` ("WEIGHT.exp_avg") and, where there is one, `ema`. Of a model with adapters only
    what trains: the rest is where the run started from."""

    def __init__(
        self, model: VisionLanguageModel, objective: Objective, optimiser: torch.optim.Optimizer, named: Named,
        average: MovingAverage | None,
    ) -> None:  # fmt: skip
        self.model, self.objective, self.optimiser = model, objective, optimiser
        self.named, self.average = named, average
        self.partial = bool(adapters(model))

    def tensors(self) -> Tensors:
        """Live tensors, not copies; the optimiser's as far as it has made them."""
        state = self.optimiser.state
        groups = {
            "model": self._trained() if self.partial else self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": {f"{name}.{key}": value for name, weight in self.named for key, value in state.get(weight, {}).items()},
        }
        return groups | ({"ema": self.average.average} if self.average else {})

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take whole tensors, as those of a file. Raises KeyError or RuntimeError for what does not fit."""
        if self.partial:
            for name, weight in self._trained().items():
                weight.copy_(tensors["model"][name])
        else:
            self.model.load_state_dict(dict(tensors["model"]))
        self.objective.load_state_dict(dict(tensors["objective"]))
        self.make_blank(tensors["optimiser"])
        for name, mine in self.tensors()["optimiser"].items():
            mine.copy_(tensors["optimiser"][name])
        if self.average:
            self.average.load(tensors["ema"])

    def make_blank(self, wanted: Iterable[str]) -> None:
        """Give the optimiser zeros for the states that are named in `wanted`, so that there is something to read into."""
        wanted = set(wanted)
        for name, weight in self.named:
            if any(f"{name}.{key}" in wanted for key in STATES):
                blank = self._blank(weight)
                self.optimiser.state[weight] = {key: value for key, value in blank.items() if f"{name}.{key}" in wanted}

    def _trained(self) -> dict[str, Tensor]:
        inside = dict(self.model.named_parameters())
        return {name: weight.detach() for name, weight in self.named if name in inside}

    def _blank(self, weight: nn.Parameter) -> dict[str, Any]:
        if isinstance(self.optimiser, SplitAdamW):
            return self.optimiser.blank_state(weight)
        moments = {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}
        return {"step": torch.zeros((), device=weight.device)} | moments


def flat(tensors: Tensors) -> dict[str, Tensor]:
    return {f"{group}.{name}": value for group, values in tensors.items() for name, value in values.items()}
