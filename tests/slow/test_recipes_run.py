"""Every nano twin trains, every family and objective can learn eight samples by heart, full-size recipes can be planned."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from qwenvl.cli.main import main
from qwenvl.cli.train import run
from qwenvl.data.loader import NumberedRows, Row, RowStream
from qwenvl.train.build import build_trainer, row_source
from qwenvl.train.parallel import World
from qwenvl.train.recipe import Recipe, load_recipe
from qwenvl.weights.hub import builtin_models
from tests.fast.test_recipes import FULL, RECIPES, name_of, twin_of

pytestmark = pytest.mark.usefixtures("scene_sources")


def load(path: Path, *changes: str) -> Recipe:
    """A recipe that starts from the package's nanos or, where it starts from runs, from nothing."""
    ready = set(load_recipe(path).init_from.values()) <= set(builtin_models())
    return load_recipe(path, [*changes, *([] if ready else ["init_from={}"])])


@pytest.mark.parametrize("path", FULL, ids=name_of)
def test_the_nano_twin_of_every_recipe_trains_two_steps(path: Path, tmp_path: Path) -> None:
    small = ["train.steps=2", "data.rows_per_step=2", "train.micro_batch_rows=1", "train.log_every=1", "evaluate=null"]
    recipe = load(twin_of(path), *small, f"run={tmp_path}/run")
    assert run(recipe, resume=False) == 0
    assert (tmp_path / "run" / "model" / "card.json").is_file()
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "run" / "adapter").is_dir() == (recipe.lora is not None)


@pytest.mark.parametrize("path", FULL, ids=name_of)
def test_every_full_size_recipe_can_be_planned_as_it_says(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that stands in its head: it fits on the GPUs that are named there."""
    found = re.search(r"^#   qwenvl (plan .*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    _, recipe, *options = found[1].split()
    assert path == RECIPES.parent / recipe
    assert main(["plan", str(path), *options]) == 0, capsys.readouterr().err
    assert "GPU-hours" in (said := capsys.readouterr().out) or "of a GPU" in said


@dataclass
class Same:
    """The same few rows over and over."""

    rows: list[Row]
    tasks: tuple[str, ...]

    def row(self, seed: int, epoch: int, index: int) -> Row:
        return self.rows[index % len(self.rows)]


@dataclass
class Kept:
    """A watcher that keeps what is reported."""

    records: list[Mapping[str, Any]] = field(default_factory=list)

    def begin(self, trainer: Any) -> None: ...
    def step_done(self, step: int) -> None: ...
    def end(self, outcome: str) -> None: ...
    def report(self, record: Mapping[str, Any]) -> None:
        self.records.append(record)


SAMPLES = 8
ALONE = ["data.packing=share_prefix", "data.row_tokens=1", "data.text_rows=0", "data.clip_rows=0", "objective.dense_weight=0"]
FAST = ["optim.schedule=cosine", "optim.min_lr=0", "optim.warmup_steps=3", "optim.lr_multipliers={}", "optim.tower_layer_decay=1"]
OVERFIT = {
    # Objective: recipe, what is changed, steps, and the loss that must be reached from far above it.
    "next_token": ("2_multitask", [*ALONE, *FAST, "optim.lr=2e-3", "data.loss={}"], 40, 0.3),
    "dpo": ("dpo", ["objective={kind: dpo, reference: copy, beta: 0.5}", *FAST, "optim.lr=1e-3"], 12, 0.05),
    "dense_patches": ("0_tower", [*FAST, "optim.lr=2e-3", "data.clip_rows=0"], 50, 1.0),
}


def eight(recipe: Recipe) -> Same:
    """The first samples of the recipe's own rows, a row each."""
    source = row_source(recipe)
    lane, rows = source.lane(0, 1, 0, None), []
    while len(rows) < SAMPLES:
        row = lane.next()
        rows += [row] if row.targets else [Row([document]) for document in row.documents]
    return Same(rows[:SAMPLES], source.tasks)


@pytest.mark.parametrize("objective", OVERFIT)
@pytest.mark.parametrize("family", ["qwen_vl", "qwen2_vl", "qwen2_5_vl"])
def test_every_family_and_objective_learns_eight_samples_by_heart(family: str, objective: str, tmp_path: Path) -> None:
    name, changes, steps, bound = OVERFIT[objective]
    own = [f"run={tmp_path}/run", f"train.steps={steps}", "train.unfreeze_after={}", "evaluate=null", "data.rows_per_step=8"]
    own += ["train.micro_batch_rows=8", "train.log_every=1", "train.checkpoint_every=1000"]
    recipe = load(RECIPES / "nano" / family / f"{name}.yaml", *changes, *own)
    torch.manual_seed(0)
    trainer, _ = build_trainer(recipe, World())
    trainer.stream = RowStream(NumberedRows(eight(recipe), recipe.seed), SAMPLES)
    kept = Kept()
    trainer.start(resume=False)
    assert trainer.fit([kept]) == "finished"
    losses = [record["loss"] for record in kept.records]
    assert losses[0] > 3 * bound and losses[-1] < bound, (losses[0], losses[-1])
