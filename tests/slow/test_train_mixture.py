"""R12: nothing to prepare before the first step, and a killed run goes on with the very rows that were to come."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwenvl.data.shards import ShardWriter
from qwenvl.train.checkpoint import latest
from tests.fast.test_packed_rows import Captions
from tests.slow.test_train import differences, start, train, wait_for_checkpoint

STEPS = 8


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, one of them with damaged pictures."""
    folder = tmp_path_factory.mktemp("shards")
    for name, source in (("good", Captions()), ("some-bad", Captions("some-bad", damaged=7))):
        with ShardWriter(folder / name, rows_per_shard=50) as writer:
            for number in range(120):
                writer.add(source.sample(number))
    return folder


def recipe(folder: Path, shards: Path, **data: Any) -> Path:
    sources = [{"name": name, "weight": weight, "shards": [str(shards / name)]} for name, weight in (("good", 2), ("some-bad", 1))]
    content = {
        "name": "mixed", "run": str(folder / "run"), "seed": 5, "model": {"preset": "qwen2-vl-nano"},
        "data": {"source": "mixture", "rows_per_step": 2, "row_tokens": 300, "pool": 8, "sources": sources, **data},
        "optim": {"lr": 1e-3},
        "train": {"steps": STEPS, "micro_batch_rows": 1, "precision": "float32", "checkpoint_every": 2, "log_every": 1},
    }  # fmt: skip
    path = folder / "mixed.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    done = train(recipe(folder, shards))
    assert done.returncode == 0, done.stderr
    assert "samples were refused; which and why is in" in done.stderr
    return folder / "run"


def test_r12_a_killed_mixture_goes_on_with_the_very_same_rows(tmp_path: Path, shards: Path, whole: Path) -> None:
    ours = recipe(tmp_path, shards)
    process = start(ours)
    wait_for_checkpoint(tmp_path / "run", process, 4)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    lanes = latest(tmp_path / "run")["lanes"]
    assert sorted(lanes) == [0, 1] and all(state["read"] > 0 for state in lanes.values())
    again = train(ours, "--resume")
    assert again.returncode == 0, again.stderr
    assert differences(tmp_path / "run", whole) == {}


def test_r12_ranks_and_workers_may_change_where_a_run_resumes(tmp_path: Path, shards: Path, whole: Path) -> None:
    ours = recipe(tmp_path, shards)
    process = start(ours)
    wait_for_checkpoint(tmp_path / "run", process, 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    again = train(ours, "--resume", "--processes", "2", "--set", "data.workers=1")
    assert again.returncode == 0, again.stderr
    assert max(differences(tmp_path / "run", whole).values(), default=0.0) < 1e-5


def test_what_was_refused_is_counted_and_named(whole: Path) -> None:
    refused = json.loads((whole / "refused.json").read_text())
    assert set(refused["counts"]) == {"some-bad: ImageError"}
    assert all("damaged or truncated" in line and "some-bad/" in line for line in refused["named"])
    losses = [json.loads(line)["loss"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == STEPS and all(math.isfinite(loss) for loss in losses)
