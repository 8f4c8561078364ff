"""AdamW with a rate per part and per depth of the tower, and the two schedules."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from qwenvl.train.freeze import FIXED
from qwenvl.train.sections import OptimRecipe

BLOCK = re.compile(r"vision_tower\.blocks\.(\d+)\.")


def rate_scale(name: str, recipe: OptimRecipe, tower_depth: int) -> float:
    """What a parameter's learning rate is multiplied with: its part's factor and, in the tower, decay ** (blocks above it)."""
    scale = recipe.lr_multipliers.get(name.partition(".")[0], 1.0)
    if name.startswith("vision_tower."):
        block = BLOCK.match(name)
        above = tower_depth - 1 - int(block[1]) if block else tower_depth
        scale *= recipe.tower_layer_decay**above
    return float(scale)


def decays(parameter: nn.Parameter) -> bool:
    """Weight decay is for matrices and tables, not for norms and biases."""
    return parameter.ndim > 1


def named_trainables(model: nn.Module, objective: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Every parameter that may ever train, in a fixed order: the model's, then the objective's own heads."""
    names = [(name, parameter) for name, parameter in model.named_parameters() if name.rpartition(".")[2] not in FIXED]
    return names + [(f"objective.{name}", parameter) for name, parameter in objective.named_parameters()]


def build_optimiser(named: Iterable[tuple[str, nn.Parameter]], recipe: OptimRecipe, tower_depth: int) -> torch.optim.AdamW:
    """Groups carry `scale`, by which set_rate multiplies the schedule's rate."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in named:
        groups[rate_scale(name, recipe, tower_depth), decays(parameter)].append(parameter)
    settings = [
        {"params": parameters, "scale": scale, "weight_decay": recipe.weight_decay if decay else 0.0}
        for (scale, decay), parameters in groups.items()
    ]
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
