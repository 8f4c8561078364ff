"""`qwenvl ablate`: interrupted and started again it does nothing twice, and finds what it would have found."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwenvl.cli.main import main
from tests.fast.test_recipes import RECIPES
from tests.slow import forks
from tests.slow.test_train import wait_for_checkpoint

pytestmark = pytest.mark.usefixtures("scene_sources")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ablation of queries with two variants, a few steps and few rows."""
    data: dict[str, Any] = yaml.safe_load((RECIPES / "ablations" / "queries.yaml").read_text(encoding="utf-8"))
    data["variants"] = {name: data["variants"][name] for name in ("q16", "q64")}
    data["claims"] = [claim for claim in data["claims"] if claim["rising"] == ["q64", "q16"]]
    data["base"]["data"]["rows_per_step"] = 2
    data["base"]["train"] |= {"steps": 16, "micro_batch_rows": 2, "checkpoint_every": 4, "log_every": 1, "precision": "float32"}
    path = tmp_path_factory.mktemp("short") / "short.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def values(folder: Path) -> dict[str, dict[str, float]]:
    """The rows of the table without what depends on the clock."""
    rows = json.loads((folder / "table.json").read_text(encoding="utf-8"))["rows"]
    clocked = ("seconds", "visual_tokens")  # the latter is read from two rates
    return {name: {key: value for key, value in row.items() if key not in clocked} for name, row in rows.items()}


def test_an_interrupted_ablation_goes_on_and_finds_the_same(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwenvl.cli.ablate.ROWS", 8)  # that are measured: fewer serve as well
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["ablate", str(short), "--out", str(whole)]) == 0
    process = forks.Command(["ablate", str(short), "--out", str(parts)], log := tmp_path / "log")
    wait_for_checkpoint(parts / "q64", process, 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    assert "the same command goes on from there" in log.read_text(encoding="utf-8")
    assert not (parts / "table.json").exists() and not (parts / "q64" / "model").exists()
    written = (parts / "q16" / "metrics.jsonl").stat().st_mtime_ns
    assert main(["ablate", str(short), "--out", str(parts)]) == 0
    assert (parts / "q16" / "metrics.jsonl").stat().st_mtime_ns == written, "a finished variant is not trained again"
    assert values(parts) == values(whole)
    assert set(values(whole)["q16"]) == {"loss_first", "loss_last", "held_out"}
    assert all((parts / name).stat().st_size > 500 for name in ("table.md", "table.json", "curve.png"))


def test_two_processes_find_what_one_finds(short: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, processes in ((one, "1"), (two, "2")):
        command = ["ablate", str(short), "--out", str(folder), "--quick", "--steps", "3", "--processes", processes]
        done = forks.run(command, tmp_path / "log")
        assert done.returncode == 0, done.stderr
    for name, row in values(one).items():
        assert values(two)[name] == pytest.approx(row, abs=1e-4)


@pytest.mark.parametrize("path", sorted((RECIPES / "ablations").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ablation_runs_quickly(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", str(path), "--quick", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "its numbers say nothing" in said and "the paper shows" in said and "how this differs" in said
    kept = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert all(one["holds"] in (True, False) for one in kept["claims"]), "every number was measured"
