"""AdamW with a rate per part and per depth of the tower, the two schedules, and a moving average of the weights."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qwenvl.train.freeze import FIXED, GROUPS, matches
from qwenvl.train.sections import OptimRecipe
from qwenvl.train.split_adamw import CHUNK, SplitAdamW, on_local

BLOCK = re.compile(r"vision_tower\.blocks\.(\d+)\.")

Named = list[tuple[str, nn.Parameter]]


def rate_scale(name: str, recipe: OptimRecipe, tower_depth: int) -> float:
    """What a parameter's learning rate is multiplied with: its part's factor and, in the tower, decay ** (blocks above it)."""
    scale = recipe.lr_multipliers.get(name.partition(".")[0], 1.0)
    if name.startswith("vision_tower."):
        block = BLOCK.match(name)
        above = tower_depth - 1 - int(block[1]) if block else tower_depth
        scale *= recipe.tower_layer_decay**above
    return float(scale)


def scales_by_group(names: Iterable[str], recipe: OptimRecipe, tower_depth: int) -> dict[str, tuple[float, float]]:
    """Least and greatest factor of the learning rate in each group of the run's table."""
    found = defaultdict(list)
    for name in names:
        for group in GROUPS:
            if name.startswith(f"{group}."):
                found[group].append(rate_scale(name, recipe, tower_depth))
    return {group: (min(scales), max(scales)) for group, scales in found.items()}


def decays(parameter: nn.Parameter) -> bool:
    """Weight decay is for matrices and tables, not for norms and biases."""
    return parameter.ndim > 1


def named_trainables(model: nn.Module, objective: nn.Module, later: Iterable[str] = ()) -> Named:
    """Every parameter that trains now, or `later` by part or pattern, in a fixed order: the model's, then the objective's own."""
    later = tuple(later)

    def trains(name: str, parameter: nn.Parameter) -> bool:
        now_or_later = parameter.requires_grad or any(matches(name, pattern) for pattern in later)
        return now_or_later and name.rpartition(".")[2] not in FIXED

    names = [(name, parameter) for name, parameter in model.named_parameters() if trains(name, parameter)]
    return names + [(f"objective.{name}", parameter) for name, parameter in objective.named_parameters()]


def build_optimiser(named: Named, recipe: OptimRecipe, tower_depth: int) -> torch.optim.Optimizer:
    """Groups carry `scale`, by which set_rate multiplies the schedule's rate. Tensors of one group lie on one mesh of ranks, which
    torch's kernels ask for."""
    groups: dict[tuple[float, bool, str], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named:
        mesh = str(getattr(parameter, "device_mesh", ""))
        groups[rate_scale(name, recipe, tower_depth), decays(parameter), mesh].append(parameter)
    settings = [
        {"params": parameters, "scale": scale, "weight_decay": recipe.weight_decay if decay else 0.0}
        for (scale, decay, _), parameters in groups.items()
    ]
    if recipe.masters == "split":
        return SplitAdamW(settings, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps)
    return torch.optim.AdamW(settings, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, fused=True)


def rate_at(step: int, steps: int, recipe: OptimRecipe) -> float:
    """The learning rate of step 0 … steps-1. Warm-up is linear and ends at the peak on step `warmup_steps`."""
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / (recipe.warmup_steps + 1)
    if recipe.schedule == "cosine":
        done = (step - recipe.warmup_steps) / max(steps - recipe.warmup_steps, 1)
        return recipe.min_lr + (recipe.lr - recipe.min_lr) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    length = max(round(steps * recipe.decay_fraction), 1)
    left = min(max(steps - step, 0) / length, 1.0)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * left


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]


class MovingAverage:
    """Exponential moving average of weights, in float32: average = decay * average + (1 - decay) * weight, from their start on.

    masters: the optimiser, where it has weights in float32 that the model's are rounded from. It is those that are averaged.
    """

    def __init__(self, named: Named, decay: float, masters: SplitAdamW | None = None) -> None:
        self.decay, self.masters = decay, masters
        self.named = dict(named)
        self.average = {name: torch.empty_like(parameter, dtype=torch.float32) for name, parameter in self.named.items()}
        self._move(1.0)

    def update(self) -> None:
        self._move(1 - self.decay)

    @torch.no_grad()
    def _move(self, share: float) -> None:
        for name, average in self.average.items():
            weight = self.named[name]
            if self.masters is None:
                average.lerp_(weight.detach().float(), share) if share < 1 else average.copy_(weight)
                continue
            for mine, master in zip(on_local(average).view(-1).split(CHUNK), self.masters.master_pieces(weight), strict=True):
                mine.lerp_(master, share) if share < 1 else mine.copy_(master)

    def load(self, average: Mapping[str, Tensor]) -> None:
        for name, mine in self.average.items():
            mine.copy_(average[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the weights are the average."""
        with torch.no_grad():
            kept: dict[str, Any] = {name: parameter.detach().clone() for name, parameter in self.named.items()}
            for name, parameter in self.named.items():
                parameter.copy_(self.average[name])
            try:
                yield
            finally:
                for name, parameter in self.named.items():
                    parameter.copy_(kept[name])
