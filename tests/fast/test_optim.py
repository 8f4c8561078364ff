"""Rates, decay and freezing are what the recipe says."""

from __future__ import annotations

import pytest
import torch

from qwenvl.train.freeze import apply_freezing
from qwenvl.train.optim import build_optimiser, named_trainables, rate_at, rate_scale, set_rate
from qwenvl.train.parallel import GradientBuffer
from qwenvl.train.sections import OptimRecipe
from tests.fast.tiny import tiny_model


def test_cosine_warms_up_to_the_peak_and_ends_at_the_least_rate() -> None:
    recipe = OptimRecipe(lr=1.0, min_lr=0.1, warmup_steps=10)
    rates = [rate_at(step, 110, recipe) for step in range(111)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1.0 and rates[60] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_trapezoid_is_constant_then_linear_and_longer_runs_share_its_start() -> None:
    recipe = OptimRecipe(lr=1.0, schedule="trapezoid", warmup_steps=5, decay_fraction=0.25)
    rates = [rate_at(step, 100, recipe) for step in range(101)]
    assert set(rates[5:76]) == {1.0} and rates[80] == pytest.approx(0.8) and rates[100] == 0.0
    assert [rate_at(step, 400, recipe) for step in range(76)] == rates[:76]


def test_rate_of_a_parameter_is_part_times_depth() -> None:
    recipe = OptimRecipe(lr=1.0, tower_layer_decay=0.5, lr_multipliers={"vision_tower": 0.3})
    assert rate_scale("vision_tower.blocks.3.norm1.weight", recipe, 4) == pytest.approx(0.3)
    assert rate_scale("vision_tower.blocks.0.norm1.weight", recipe, 4) == pytest.approx(0.3 * 0.5**3)
    assert rate_scale("vision_tower.patch_embed.weight", recipe, 4) == pytest.approx(0.3 * 0.5**4)
    assert rate_scale("decoder.norm.weight", recipe, 4) == 1.0


def test_norms_and_biases_do_not_decay_and_the_fixed_table_never_trains() -> None:
    model = tiny_model()
    named = named_trainables(model, torch.nn.Linear(2, 2))
    assert "connector.position_table" not in dict(named) and "objective.weight" in dict(named)
    optimiser = build_optimiser(named, OptimRecipe(lr=1.0), 1)
    decayed = {id(p) for group in optimiser.param_groups if group["weight_decay"] for p in group["params"]}
    assert {name for name, p in named if id(p) in decayed} == {name for name, p in named if p.ndim > 1}
    set_rate(optimiser, 0.5)
    assert {group["lr"] for group in optimiser.param_groups} == {0.5}


def test_frozen_parts_do_not_move_until_their_step() -> None:
    model = tiny_model()
    named = named_trainables(model, torch.nn.Module())
    gradients = GradientBuffer(parameter for _, parameter in named)
    optimiser = build_optimiser(named, OptimRecipe(lr=0.1), 1)
    set_rate(optimiser, 0.1)
    moved = []
    assert gradients.flat.keys() == {torch.float32}
    for step in range(3):
        before = {name: parameter.detach().clone() for name, parameter in named}
        apply_freezing(model, step, ("decoder",), {"vision_tower": 2})
        gradients.clear()
        gradients.flat[torch.float32] += 1.0
        optimiser.step()
        moved.append({name.partition(".")[0] for name, parameter in named if not torch.equal(parameter, before[name])})
    assert moved == [{"connector"}, {"connector"}, {"connector", "vision_tower"}]


def test_clipping_scales_to_the_limit_and_leaves_what_is_not_finite() -> None:
    parameter = torch.nn.Parameter(torch.zeros(4))
    gradients = GradientBuffer([parameter])
    gradients.clear()
    assert parameter.grad is not None
    parameter.grad += 2.0
    assert gradients.clip(1.0) == pytest.approx(4.0)
    assert float(gradients.flat[torch.float32].norm()) == pytest.approx(1.0)
    parameter.grad[0] = float("nan")
    assert not gradients.clip(1.0) < float("inf")
