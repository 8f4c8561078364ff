"""However ranks share model and data, a run learns the same: 1 process = 2 FSDP = 2 TP = 2 x 2; killed, and resumed on others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from qwenvl.data.loader import RowStream
from qwenvl.train.build import processor_of, row_source
from qwenvl.train.checkpoint import list_checkpoints
from qwenvl.train.recipe import load_recipe
from tests.slow import forks

pytestmark = pytest.mark.usefixtures("scene_sources")

STEPS = 20
CLOSE = 1e-5
"""Of losses, in float32."""
WAYS = {
    "fsdp": (2, {"data": "fsdp"}),
    "tensor": (2, {"data": "fsdp", "tensor": 2}),
    "both": (4, {"data": "fsdp", "tensor": 2}),
    "context": (2, {"data": "fsdp", "context": 2}),
    "context_replicated": (2, {"context": 2}),
}
# Fused projections with rows head by head, and with q, k, v one after the other, are cut in two ways.
PRESETS = {"qwen-vl-nano": ("tensor", "context_replicated"), "qwen2.5-vl-nano": ("fsdp", "both", "context")}
PAIRS = [(preset, way) for preset, ways in PRESETS.items() for way in ways]


def write_recipe(folder: Path, run: str, preset: str = "qwen-vl-nano", parallel: dict[str, Any] | None = None, **more: Any) -> Path:
    vision = {"num_attention_heads": 2, "num_hidden_layers": 2, **({"full_attention_blocks": [1]} if "2.5" in preset else {})}
    recipe = {
        "name": "small", "run": str(folder / run), "seed": 5,
        "model": {"preset": preset, "config": {"vision": vision, "decoder": {"num_hidden_layers": 2}}},
        "data": {
            "tasks": {"caption": 1, "referring": 2, "yes_no": 1}, "rows_per_step": 4, "row_tokens": 80, "text_rows": 0.5,
        },
        "optim": {"lr": 3e-4, "warmup_steps": 3, "tower_layer_decay": 0.95},
        "train": {"steps": STEPS, "micro_batch_rows": 1, "precision": "float32", "checkpoint_every": 10, "log_every": 1},
        "parallel": parallel or {},
    }  # fmt: skip
    for section, values in more.items():
        recipe[section] = recipe.get(section, {}) | values
    path = folder / f"{run}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def command(recipe: Path, processes: int = 1, *more: str) -> tuple[list[str], Path]:
    """Of `qwenvl`, and where it writes what it says."""
    return ["train", str(recipe), "--processes", str(processes), *more], recipe.with_suffix(".log")


def train(recipe: Path, processes: int = 1, *more: str) -> Path:
    """The run's folder. A rank that waits for ever ends the test."""
    done = forks.run(*command(recipe, processes, *more), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return recipe.with_suffix("")


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(STEPS))
    return [record["loss"] for record in records]


def weights(run: Path) -> dict[str, Any]:
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a preset in one process, made once."""

    @cache
    def run(preset: str) -> Path:
        return train(write_recipe(tmp_path_factory.mktemp(preset), "alone", preset))

    return run


def test_r9_some_step_has_pictures_on_one_rank_alone(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, "looked at"))
    pictured = []
    for rank in range(2):
        stream = RowStream(row_source(recipe, processor_of(recipe)), recipe.data.rows_per_step)
        pictured.append([len(batch.grids) > 0 for step in range(8) for batch in stream.batches(step, rank, 2, 1)])
    assert any(first != second for first, second in zip(*pictured, strict=True))


@pytest.mark.parametrize("preset, way", PAIRS)
def test_r9_ranks_that_share_a_model_learn_what_one_process_learns(
    preset: str, way: str, alone: Callable[[str], Path], tmp_path: Path
) -> None:
    single = alone(preset)
    processes, parallel = WAYS[way]
    # Rows made ahead, by a worker of each rank, are the rows of its group.
    run = train(write_recipe(tmp_path, way, preset, parallel, data={"workers": 1}), processes)
    assert losses(run) == pytest.approx(losses(single), abs=CLOSE)
    mine, theirs = weights(run), weights(single)
    assert mine.keys() == theirs.keys()
    assert max(float((mine[name].float() - theirs[name].float()).abs().max()) for name in mine) < 2e-3


def wait_for_checkpoint(run: Path, process: forks.Command) -> None:
    deadline = time.monotonic() + 240
    while not list_checkpoints(run):
        assert process.poll() is None and time.monotonic() < deadline, "ended before its checkpoint"
        time.sleep(0.02)


def ranks_of(pid: int) -> list[int]:
    return [int(one) for one in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]


def test_killed_and_resumed_on_other_ranks_it_goes_on_step_for_step(alone: Callable[[str], Path], tmp_path: Path) -> None:
    preset = "qwen-vl-nano"
    single, recipe = alone(preset), write_recipe(tmp_path, "killed", preset, {"data": "fsdp"})
    process = forks.Command(*command(recipe, 2))
    wait_for_checkpoint(tmp_path / "killed", process)
    for pid in (process.pid, *ranks_of(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait(timeout=60)
    run = train(recipe, 1, "--resume")
    assert losses(run) == pytest.approx(losses(single), abs=CLOSE)
