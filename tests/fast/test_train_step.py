"""How rows are cut into micro-batches changes nothing of a step: its loss is divided by what is supervised in all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from qwenvl.train.build import build_trainer
from qwenvl.train.parallel import World
from qwenvl.train.planning.cost import Counter, work_of_batch
from qwenvl.train.recipe import Recipe
from qwenvl.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("scene_sources")


def trainer(run: Path, rows: int, **train: Any) -> Trainer:
    recipe = Recipe.model_validate({
        "name": "step", "run": str(run), "seed": 5,
        "model": {"config": {"vision": {"num_hidden_layers": 1}, "decoder": {"num_hidden_layers": 1}}},
        "data": {
            "tasks": {"caption": 1, "referring": 1, "yes_no": 1}, "rows_per_step": 4, "row_tokens": 80, "text_rows": 0.5,
            "loss": {"coordinate_digits": [2.5, 1.2, 0.25]},
        },
        "optim": {"lr": 1e-3},
        "train": {"steps": 4, "micro_batch_rows": rows, "precision": "float32", **train},
    })  # fmt: skip
    made, _ = build_trainer(recipe, World())
    made.start(False)
    made.model.train()
    return made


class Records:
    """A watcher that keeps what is reported."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def begin(self, trainer: Any) -> None: ...

    def report(self, record: Any) -> None:
        self.told.append(record)

    def step_done(self, step: int) -> None: ...

    def end(self, outcome: str) -> None: ...


def first_step(one: Trainer) -> tuple[list[float], float, dict[str, torch.Tensor]]:
    """Supervised weight of each micro-batch, the loss of the step, and its gradients."""
    batches = one.stream.batches(0, 0, 1, one.recipe.train.micro_batch_rows)
    counts = one._global_counts(batches, batches)
    one.gradients.clear()
    loss = sum(float(one._backward(batch, counts)[0].loss) for batch in batches)
    one.close()
    gradients = {name: weight.grad.clone() for name, weight in one.named if weight.grad is not None}
    return [one.objective.counts(batch)["next_token"] for batch in batches], loss, gradients


def test_micro_batches_of_uneven_supervision_equal_one_large_batch(tmp_path: Path) -> None:
    _, whole, expected = first_step(trainer(tmp_path / "whole", 4))
    counts, parts, found = first_step(trainer(tmp_path / "parts", 1))
    assert len(counts) == 4 and len(set(counts)) > 2, "every micro-batch has another number of supervised tokens"
    assert parts == pytest.approx(whole, abs=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_activations_made_again_give_the_same_gradients(tmp_path: Path) -> None:
    _, loss, expected = first_step(trainer(tmp_path / "kept", 2))
    _, again, found = first_step(trainer(tmp_path / "again", 2, activation_checkpointing=True))
    assert loss == again
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


def test_frozen_patterns_leave_the_rest_and_a_pattern_of_nothing_is_refused(tmp_path: Path) -> None:
    one = trainer(tmp_path / "frozen", 4, frozen=("vision_tower", "decoder.embed_tokens.*", "*.bias"))
    names = {name for name, _ in one.named}
    assert "decoder.layers.0.mlp.up_proj.weight" in names and not any(name.endswith(".bias") for name in names)
    assert not any(name.startswith(("vision_tower", "decoder.embed_tokens")) for name in names)
    one.close()
    with pytest.raises(ValueError, match=r"'decoder.layer.\*' names no weight"):
        trainer(tmp_path / "nothing", 4, frozen=("decoder.layer.*",))


def test_flops_of_a_step_are_those_of_what_trains_in_it(tmp_path: Path) -> None:
    one = trainer(tmp_path / "thawing", 4, frozen=("connector",), unfreeze_after={"vision_tower": 1, "decoder.embed_tokens.*": 2})
    one.peak_flops = 1e12
    found = []
    for step in range(4):
        one.step = step
        one.window.restart()
        one._do_step()
        batches = one.stream.batches(one.step, 0, 1, 4)
        fresh = Counter.of(one.model, one.model.config)
        assert one.window.flops == sum(fresh.training(work_of_batch(one.model.config, batch)).total for batch in batches)
        found.append(one.counter)
    one.close()
    assert found[0] is not found[1] is not found[2] is found[3], "made anew where something thaws, and nowhere else"


def test_time_before_the_first_step_is_no_part_of_its_speed(tmp_path: Path) -> None:
    one = trainer(tmp_path / "slow_start", 4, steps=1)
    one.window.started -= 1000.0
    assert one.fit([records := Records()]) == "finished"
    one.close()
    assert records.told[0]["step_seconds"] < 500
