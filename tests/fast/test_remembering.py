"""A run that was killed and resumed tells what it would have told: its log, its spikes, the samples that it left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from qwenvl.data.loader import NumberedRows, RowStream
from qwenvl.train.build import build_trainer
from qwenvl.train.metrics import Window
from qwenvl.train.parallel import World
from qwenvl.train.recipe import Recipe
from qwenvl.train.remembering import remember
from qwenvl.types import Batch, QwenVLError

pytestmark = pytest.mark.usefixtures("scene_sources")

TOLD = ("step", "loss", "losses", "tasks", "logged", "grad_norm", "images", "refused", "rate")


class Killed(Exception):
    pass


class Onlooker:
    """Keeps what is reported, and kills the run after a step."""

    def __init__(self, dies: int | None = None) -> None:
        self.dies, self.told, self.trouble = dies, [], []  # type: ignore[var-annotated]

    def begin(self, trainer: Any) -> None:
        trouble = trainer.run / "trouble.jsonl"
        self.trouble = [json.loads(line)["step"] for line in trouble.read_text().splitlines()] if trouble.exists() else []

    def report(self, record: Mapping[str, Any]) -> None:
        self.told.append({key: record[key] for key in TOLD})

    def step_done(self, step: int) -> None:
        if step == self.dies:
            raise Killed

    def end(self, outcome: str) -> None: ...


class Leaving(RowStream):
    """Leaves a sample out at every step."""

    def batches(self, step: int, *ranks: int) -> list[Batch]:
        self.refused.add("web", QwenVLError(f"sample {step}"))
        return super().batches(step, *ranks)


def run(folder: Path, resume: bool = False, dies: int | None = None) -> tuple[Any, Onlooker]:
    one = {"num_hidden_layers": 1}
    recipe = Recipe.model_validate({
        "name": "told", "run": str(folder), "seed": 5, "model": {"config": {"vision": one, "decoder": one}},
        "data": {"tasks": {"caption": 1, "yes_no": 1}, "rows_per_step": 2, "row_tokens": 40, "text_rows": 1.0},
        "optim": {"lr": 0.1},
        "train": {
            "steps": 6, "log_every": 3, "checkpoint_every": 2, "micro_batch_rows": 1, "precision": "float32", "spike": 1.0001,
        },
    })  # fmt: skip
    trainer, _ = build_trainer(recipe, World())
    trainer.stream = Leaving(trainer.stream.source, 2)
    onlooker = Onlooker(dies)
    trainer.start(resume)
    try:
        trainer.fit([onlooker])
    except Killed:
        assert dies
    trainer.close()
    return trainer, onlooker


def test_a_run_that_was_killed_tells_what_it_would_have_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwenvl.train.trouble.SETTLED", 1)  # and losses rise at such a rate
    whole, told = run(tmp_path / "whole")
    _, before = run(tmp_path / "killed", dies=5)
    again, after = run(tmp_path / "killed", resume=True)
    assert [record["step"] for record in told.told] == [2, 5] and told.told[0]["tasks"]
    # Step 3 was taken before the checkpoint, and is told of after it.
    assert before.told + after.told == told.told
    assert again.watch.state() == whole.watch.state() and whole.watch.steps == 6
    assert again.stream.refused == whole.stream.refused
    names = ("trouble.jsonl", "refused.json")
    wanted, found = ([(tmp_path / way / name).read_text() for name in names] for way in ("whole", "killed"))
    assert found == wanted
    assert after.trouble and max(after.trouble) < 4


def test_older_checkpoints_remember_less() -> None:
    stream = RowStream(NumberedRows(None, 0), 2)  # type: ignore[arg-type]
    trainer: Any = SimpleNamespace(step=0, refused=0, stream=stream, world=World(), window_kept=None)
    remember(trainer, {"step": 4, "refused": 1, "lanes": {}})
    assert (trainer.step, trainer.refused, stream.step) == (4, 1, 4)
    assert trainer.window_kept is None and not stream.refused.counts


class Ranks(World):
    """This rank of several, all of which have as much."""

    def sum(self, values: Tensor) -> Tensor:
        return values * self.size / self.tensor


@pytest.mark.parametrize("tensor", [1, 2])
def test_a_window_goes_on_on_other_ranks(tensor: int) -> None:
    window = Window(["a"], ["caption"], ["margin"])
    window.add({"a": torch.tensor(0.25)}, torch.tensor([[1.0, 2.0]]), {"margin": torch.tensor(0.5)})
    window.steps, window.tokens, window.grad_norm = 1, 100.0, 7.0
    window.started -= 50
    kept = window.state(Ranks(0, 4, tensor))
    four = 4 / tensor
    assert (float(kept["losses"]), kept["by_task"].tolist()) == (0.25 * four, [[four, 2 * four]]) and kept["seconds"] >= 50
    lead, other = Window(["a"], ["caption"], ["margin"]), Window(["a"], ["caption"], ["margin"])
    lead.restart(kept, World(0, 2))
    other.restart(kept, World(1, 2))
    lead.add({"a": torch.tensor(1.0)}, None)
    assert float(lead.losses + other.losses) == 0.25 * four + 1 and float(other.by_task.sum()) == 0
    assert lead.tokens == other.tokens == 100 and lead.steps == 1 and lead.grad_norm == 7
    record = lead.record({"a": 1.0})
    assert 49 < record["step_seconds"] < 60 and record["tokens_per_s"] < 2.1
