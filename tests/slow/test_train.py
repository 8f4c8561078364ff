"""A run is one stream of steps: interrupted, killed, resumed or shared by several processes, it learns the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from qwenvl.train.checkpoint import latest, list_checkpoints
from tests.slow import forks

STEPS = 20


pytestmark = pytest.mark.usefixtures("scene_sources")


def write_recipe(folder: Path, run: str, **train: Any) -> Path:
    recipe = {
        "name": "small", "run": str(folder / run), "seed": 5,
        "data": {
            "tasks": {"caption": 1, "referring": 2, "yes_no": 1}, "rows_per_step": 2, "row_tokens": 40, "text_rows": 0.2,
            "box_jitter": 0.5, "loss": {"coordinate_digits": [2.5, 1.2, 0.25]},
        },
        "objective": {"dense_weight": 0.4},
        "optim": {"lr": 1e-3, "warmup_steps": 3, "lr_multipliers": {"vision_tower": 0.3}, "tower_layer_decay": 0.95},
        "train": {
            "steps": STEPS, "micro_batch_rows": 1, "precision": "float32", "unfreeze_after": {"vision_tower": 4},
            "checkpoint_every": 5, "log_every": 5, **train,
        },
    }  # fmt: skip
    path = folder / f"{run}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def start(recipe: Path, *more: str) -> forks.Command:
    return forks.Command(["train", str(recipe), *more], recipe.with_suffix(".log"))


def train(recipe: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return forks.run(["train", str(recipe), *more], recipe.with_suffix(".log"))


def by_itself(recipe: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it."""
    command = [sys.executable, "-m", "qwenvl", "train", str(recipe), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def wait_for_checkpoint(run: Path, process: forks.Command, step: int) -> None:
    deadline = time.monotonic() + 300
    while not any(int(path.stem.removeprefix("step_")) >= step for path in list_checkpoints(run)):
        assert process.poll() is None and time.monotonic() < deadline, "ended before its checkpoint"
        time.sleep(0.02)


def differences(first: Path, second: Path) -> dict[str, float]:
    """Greatest difference of each tensor that differs: weights, heads and optimiser."""
    states = [latest(first), latest(second)]
    assert states[0]["step"] == states[1]["step"]
    pairs = [(name, value, states[1][part][name]) for part in ("model", "objective") for name, value in states[0][part].items()]
    pairs += [(name, value, states[1]["optimiser"][name]) for name, value in states[0]["optimiser"].items()]
    return {name: float((one - other).abs().max()) for name, one, other in pairs if not torch.equal(one, other)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    done = by_itself(write_recipe(folder, "run"))
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_run_leaves_what_it_promises(whole: Path) -> None:
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [4, 9, 14, 19]
    assert records[-1]["loss"] < records[0]["loss"] and set(records[-1]["tasks"]) <= {"caption", "referring", "yes_no", "text"}
    assert (whole / "loss.png").stat().st_size > 1000
    assert len(list_checkpoints(whole)) == 2
    assert yaml.safe_load((whole / "recipe.yaml").read_text())["optim"]["betas"] == [0.9, 0.98]
    assert {path.name for path in (whole / "model").iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_resumed_equals_uninterrupted(tmp_path: Path, whole: Path, number: signal.Signals, code: int) -> None:
    recipe = write_recipe(tmp_path, "run")
    process = start(recipe)
    wait_for_checkpoint(tmp_path / "run", process, 5)
    process.send_signal(number)
    assert process.wait(timeout=120) == code
    assert latest(tmp_path / "run")["step"] < STEPS
    again = train(recipe, "--resume")
    assert again.returncode == 0, again.stderr
    assert differences(tmp_path / "run", whole) == {}
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == STEPS - 1


def test_two_processes_equal_one(tmp_path: Path, whole: Path) -> None:
    done = by_itself(write_recipe(tmp_path, "run"), "--processes", "2")
    assert done.returncode == 0, done.stderr
    differing = differences(tmp_path / "run", whole)
    assert max(differing.values(), default=0.0) < 1e-5, differing


def test_interrupt_of_two_processes_saves_once_and_resumes_on_one(tmp_path: Path, whole: Path) -> None:
    recipe = write_recipe(tmp_path, "run")
    process = start(recipe, "--processes", "2")
    wait_for_checkpoint(tmp_path / "run", process, 5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    assert train(recipe, "--resume").returncode == 0
    assert max(differences(tmp_path / "run", whole).values(), default=0.0) < 1e-5


def test_what_does_not_belong_is_refused_in_one_line(tmp_path: Path, whole: Path) -> None:
    recipe = write_recipe(whole.parent, "run")
    cases = {
        "already holds a run": [],
        "another data.box_jitter": ["--resume", "--set", "data.box_jitter=0"],
        "another scenes": ["--resume", "--set", "data.scenes=[{spec: {text_share: 0}}]"],
        "no checkpoint": ["--resume", "--set", f"run={tmp_path}/none"],
        "optim.rate: unknown key": ["--set", "optim.rate=1"],
        "cannot be shared by 3": ["--set", f"run={tmp_path}/three", "--processes", "3"],
    }
    for expected, options in cases.items():
        done = train(recipe, *options)
        assert done.returncode == 1, (expected, done.stderr)
        assert expected in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_parts_of_earlier_runs_are_taken_strictly(tmp_path: Path, whole: Path) -> None:
    recipe = write_recipe(tmp_path, "next", steps=0)
    parts = ("vision_tower", "decoder", "dense_heads")
    assert train(recipe, *(word for part in parts for word in ("--set", f"init_from.{part}={whole}"))).returncode == 0
    ours, theirs = latest(tmp_path / "next"), latest(whole)
    same = {name.partition(".")[0] for name, value in ours["model"].items() if torch.equal(value, theirs["model"][name])}
    moved = {name.partition(".")[0] for name, value in ours["model"].items() if not torch.equal(value, theirs["model"][name])}
    assert same >= {"vision_tower", "decoder"} and moved == {"connector"}
    assert all(torch.equal(value, theirs["objective"][name]) for name, value in ours["objective"].items())
    refused = train(recipe, "--set", f"run={tmp_path}/other", "--set", f"init_from.decoder={tmp_path}/nowhere")
    assert refused.returncode == 1 and "neither a run nor a model" in refused.stderr


def test_step_that_is_not_finite_is_refused_and_counted(tmp_path: Path) -> None:
    done = train(write_recipe(tmp_path, "run", steps=3, log_every=1), "--set", "optim.lr=1e30")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["refused"] > 0
    assert all(torch.isfinite(value).all() for value in latest(tmp_path / "run")["model"].values())
