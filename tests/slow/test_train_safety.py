"""What goes wrong in a run is told in one line, with the names of the samples, and costs no more than it must."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from qwenvl.cli.main import main
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.checkpoint import latest
from qwenvl.train.objectives import NextToken, Terms
from qwenvl.types import Batch
from tests.slow import forks
from tests.slow.test_train_adapt import write_recipe

pytestmark = pytest.mark.usefixtures("scene_sources")


def spoilt(monkeypatch: pytest.MonkeyPatch, step: int, factor: float) -> list[tuple[str, ...]]:
    """Multiply the loss of one step's second micro-batch; the names of its samples are put into the list."""
    plain, calls, spoilt_samples = NextToken.forward, [0], []

    def forward(self: NextToken, model: VisionLanguageModel, batch: Batch) -> Terms:
        terms = plain(self, model, batch)
        calls[0] += 1
        if calls[0] != 2 * step + 2:
            return terms
        spoilt_samples.append(batch.sample_ids)
        return terms._replace(sums={name: value * factor for name, value in terms.sums.items()})

    monkeypatch.setattr(NextToken, "forward", forward)
    return spoilt_samples


def trouble(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "trouble.jsonl").read_text().splitlines()]


def test_a_step_that_is_no_number_is_skipped_and_its_samples_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = spoilt(monkeypatch, 2, float("nan"))
    assert main(["train", str(write_recipe(tmp_path, "skip"))]) == 0
    (told,) = trouble(tmp_path / "skip")
    assert (told["step"], told["kind"], told["loss"]) == (2, "not finite", "nan")
    assert told["worst"] == list(bad[0]) and set(told["worst"]) < set(told["samples"])
    state = latest(tmp_path / "skip")
    assert state["refused"] == 1 and all(torch.isfinite(value).all() for value in state["model"].values())


def test_or_the_run_stops_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bad = spoilt(monkeypatch, 4, float("inf"))
    recipe = write_recipe(tmp_path, "stop", train={"not_finite": "stop"})
    assert main(["train", str(recipe)]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("qwenvl: ") and "at step 4" in said and bad[0][0] in said
    assert latest(tmp_path / "stop")["step"] == 3, "the checkpoint before it is there"
    monkeypatch.undo()
    assert main(["train", str(recipe), "--resume"]) == 0


def test_a_spike_names_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = spoilt(monkeypatch, 25, 30.0)
    recipe = write_recipe(tmp_path, "spike", train={"steps": 27, "checkpoint_every": 30, "log_every": 9}, data={
        "tasks": {"caption": 1}, "rows_per_step": 2, "row_tokens": 80,
    })  # fmt: skip
    assert main(["train", str(recipe), "--set", "train.micro_batch_rows=1"]) == 0
    (told,) = trouble(tmp_path / "spike")
    assert (told["step"], told["kind"], told["worst"]) == (25, "spike", list(bad[0]))


def test_a_full_disk_is_one_line_and_the_older_checkpoint_stays(tmp_path: Path) -> None:
    recipe, log = write_recipe(tmp_path, "full"), tmp_path / "log"
    assert main(["train", str(recipe), "--set", "train.steps=3"]) == 0
    command = forks.Command(["train", str(recipe), "--resume"], log)
    resource.prlimit(command.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    code = command.wait(timeout=300)
    said = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("qwenvl: ")]
    assert code == 1 and len(said) == 1, log.read_text(encoding="utf-8")[-2000:]
    assert "cannot be written" in said[0] and "step_00000003.pt is whole" in said[0]
    assert not list((tmp_path / "full" / "checkpoints").glob("*.partial"))
    assert main(["train", str(recipe), "--resume"]) == 0


def test_a_missing_shard_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [{"name": "a", "shards": [str(tmp_path / "gone")]}]
    gone = {"source": "mixture", "rows_per_step": 2, "row_tokens": 80, "sources": sources}
    assert main(["train", str(write_recipe(tmp_path, "run", data=gone))]) == 1
    said = capsys.readouterr().err.strip()
    assert str(tmp_path / "gone") in said and len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()
