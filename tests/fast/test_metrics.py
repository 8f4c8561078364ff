"""What a run writes down of itself: means over steps and ranks, files that a resumed run goes on with, and lookers-on that change
nothing."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from qwenvl.train import metrics
from qwenvl.train.metrics import MetricsLog, Progress, Window, read_metrics
from qwenvl.train.parallel import World
from qwenvl.train.sight.evaluations import Evaluation, ShownAnswer, read_evaluations
from qwenvl.train.sight.tensorboard import TensorBoardWatcher
from qwenvl.train.sight.watch import ConsoleAndFiles, EvaluationWatcher, ReportWatcher, undisturbed
from qwenvl.types import Region

COEFFICIENTS = {"next_token": 1.0, "patch_class": 0.5}


class TwoRanks(World):
    """Two ranks, the other of which has exactly what this one has."""

    def __init__(self) -> None:
        super().__init__(0, 2)

    def sum(self, values: Tensor) -> Tensor:
        return values * 2


def filled(steps: int = 2, world: World | None = None) -> Window:
    """A window of steps of two micro-batches each."""
    window = Window(list(COEFFICIENTS), ["caption", "ocr"], ["margin"])
    for step in range(steps):
        for share in (0.25, 0.75):
            losses = {"next_token": torch.tensor(share * (step + 1)), "patch_class": torch.tensor(share * 4.0)}
            window.add(losses, torch.tensor([[share, 2.0], [0.0, 0.0]]), {"margin": torch.tensor(share * step)})
        window.tokens += 100
        window.visual_tokens += 40
        window.flops += 3e9
        window.steps += 1
    window.sum_over(world or World())
    return window


def test_record_has_means_over_steps_and_the_loss_that_is_minimised() -> None:
    record = filled().record(COEFFICIENTS, None)
    assert record["losses"] == {"next_token": 1.5, "patch_class": 4.0} and record["loss"] == 1.5 + 0.5 * 4.0
    assert record["logged"] == {"margin": 0.5}
    assert record["tasks"] == {"caption": 0.25}, "a task without tokens has no loss"
    assert record["tokens_per_s"] == pytest.approx(2.5 * record["visual_tokens_per_s"], rel=0.01)
    assert 0.05 < record["memory_gb"] < 100
    assert "mfu" not in record, "on a CPU there is none"
    json.dumps(record)


def test_shares_of_ranks_are_added_up_and_memory_is_not() -> None:
    alone, both = filled().record(COEFFICIENTS), filled(world=TwoRanks()).record(COEFFICIENTS)
    assert both["losses"] == {name: 2 * value for name, value in alone["losses"].items()}
    assert both["logged"] == {"margin": 1.0} and both["tasks"] == alone["tasks"]
    # This stand-in doubles every number; the other rank's place stays empty.
    assert both["memory_gb"] == pytest.approx(2 * alone["memory_gb"], rel=0.05)


def test_mfu_is_the_share_of_what_all_devices_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    window = filled()
    window.on_gpu, window.ranks, window.started = True, 4, 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: 2.0)
    assert window.record(COEFFICIENTS, 1e9)["mfu"] == pytest.approx(6e9 / 2.0 / 4e9, abs=1e-4)
    assert window.record(COEFFICIENTS, None)["mfu"] is None


def test_paused_time_slows_nothing_down(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 110.0, 112.0])  # restart, pause, end of the pause, record
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    window = Window([], [])
    window.steps, window.tokens = 4, 24.0
    with window.paused():
        pass
    record = window.record({})
    assert record["step_seconds"] == 3.0 and record["tokens_per_s"] == 2.0


def test_number_that_nobody_announced_is_refused() -> None:
    window = Window(["next_token"], [], ["margin"])
    with pytest.raises(KeyError, match="rewardd"):
        window.add({"next_token": torch.tensor(1.0)}, None, {"rewardd": torch.tensor(1.0)})


def test_resumed_run_drops_the_lines_it_will_write_again(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, 0)
    for step in (4, 9, 14):
        log.write({"step": step, "loss": 1.0})
    with log.path.open("a") as file:
        file.write('{"step": 19, "lo')  # killed while it wrote
    assert [record["step"] for record in read_metrics(tmp_path)] == [4, 9, 14]
    MetricsLog(tmp_path, 10).write({"step": 14, "loss": 2.0})
    assert [(record["step"], record["loss"]) for record in read_metrics(tmp_path)] == [(4, 1.0), (9, 1.0), (14, 2.0)]


def test_line_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"step": 19, "loss": 0.5, "tokens_per_s": 1200.4, "images_per_s": 8.04, "step_seconds": 0.25}
    Progress("small", 100, 0).show(record)
    Progress("small", 100, 0).show(record | {"mfu": 0.412})
    plain, with_mfu = capsys.readouterr().err.splitlines()
    assert plain == "small 20/100 · loss 0.5000 · 1200 tokens/s · 8.0 images/s · 0:20 left"
    assert with_mfu == plain.replace(" · 0:20", " · MFU 41 % · 0:20")


class Looked:
    """What a watcher sees of a trainer."""

    def __init__(self, run: Path, recipe: Any, step: int = 0, model: nn.Module | None = None) -> None:
        self.run, self.recipe, self.step, self.world = run, recipe, step, World()
        self.model: Any = model or nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.window, self.average = Window([], []), None


class SmallRecipe:
    name = "small"

    class train:
        steps, curve_every = 6, 2


def shown(answer: str = "a cat") -> ShownAnswer:
    box = Region.box(0.1, 0.2, 0.5, 0.6, "the dog")
    return ShownAnswer("main/referring/en/1", "Where?", answer, "a dog", Image.new("RGB", (60, 40)), (), (box,), (box,))


def evaluated(run: Path, steps: range, first: int = 0, outcome: str = "finished") -> list[int]:
    """The steps at which a run from `first` on was evaluated: every two."""
    made: list[int] = []

    def evaluate(model: nn.Module, step: int) -> Evaluation:
        made.append(step)
        return Evaluation({"what": 0.5}, {"what": 0.25}, (shown(),))

    watcher, trainer = EvaluationWatcher(2, evaluate), Looked(run, SmallRecipe, first)
    watcher.begin(trainer)
    for step in steps:
        trainer.step = step
        watcher.step_done(step)
    watcher.end(outcome)
    return made


def test_evaluations_before_between_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(tmp_path, range(1, 6)) == [0, 2, 4, 5]
    records = read_evaluations(tmp_path)
    assert [record["step"] for record in records] == [0, 2, 4, 5]
    assert records[0]["scores"] == {"what": 0.5} and records[0]["chance"] == {"what": 0.25}
    [kept] = records[0]["shown"]
    assert kept["true"] == [{"kind": "box", "points": [[0.1, 0.2], [0.5, 0.6]], "label": "the dog"}]
    with Image.open(tmp_path / kept["picture"]) as picture:
        assert picture.size == (60, 40)
    assert "small 4/6 · evaluated in 0 s; mean of 1 scores 50.0 %, 1 of 1 above chance" in capsys.readouterr().err


def test_interrupted_run_makes_no_last_evaluation_and_a_resumed_one_drops_what_comes_again(tmp_path: Path) -> None:
    assert evaluated(tmp_path, range(1, 6), outcome="interrupted") == [0, 2, 4]
    # From the checkpoint of step 3: that of step 4 comes again; from that of step 2, it has been made.
    assert evaluated(tmp_path, range(4, 7), first=3) == [4, 6]
    assert [record["step"] for record in read_evaluations(tmp_path)] == [0, 2, 4, 6]
    assert evaluated(tmp_path, range(3, 4), first=2, outcome="interrupted") == []
    assert [record["step"] for record in read_evaluations(tmp_path)] == [0, 2]


def test_evaluation_missing_at_the_checkpoint_is_made_up_for(tmp_path: Path) -> None:
    """The checkpoint of a step is saved before its evaluation; a run may be killed in between."""
    assert evaluated(tmp_path, range(0), first=2, outcome="interrupted") == [2]


def test_evaluating_leaves_modes_and_random_numbers_as_they_were() -> None:
    def numbers() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]

    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Linear(2, 2))
    model.train()
    model[2].eval()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    numbers()
    wanted = numbers()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    numbers()
    with pytest.raises(ValueError, match="scorer"), undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not model(torch.ones(1, 2)).requires_grad
        numbers()
        raise ValueError("a scorer fails")
    assert numbers() == wanted
    assert [module.training for module in model] == [True, True, False] and model.training
    assert torch.is_grad_enabled()


def test_console_writes_the_files_on_the_leading_rank_alone(tmp_path: Path) -> None:
    record = {"step": 1, "loss": 0.5, "losses": {"a": 0.5}, "tokens_per_s": 1.0, "images_per_s": 1.0, "step_seconds": 1.0}
    for rank in (1, 0):
        run = tmp_path / str(rank)
        run.mkdir()
        for watcher in (ConsoleAndFiles(), ReportWatcher()):
            trainer = Looked(run, SmallRecipe)
            trainer.world = World(rank, 1)
            watcher.begin(trainer)
            watcher.report(record)
            watcher.step_done(2)
            watcher.end("finished")
    assert not list((tmp_path / "1").iterdir())
    assert {path.name for path in (tmp_path / "0").iterdir()} == {"metrics.jsonl", "loss.png", "report.html", "starts.jsonl"}


def test_a_run_without_matplotlib_says_so_at_its_start_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "recipe.yaml").write_text("name: small\n")
    record = {"step": 1, "loss": 0.5, "losses": {"a": 0.5}, "tokens_per_s": 1.0, "images_per_s": 1.0, "step_seconds": 1.0}
    watchers = (ConsoleAndFiles(), ReportWatcher())
    for watcher in watchers:
        watcher.begin(Looked(tmp_path, SmallRecipe))
    (line,) = capsys.readouterr().err.splitlines()
    assert "matplotlib is not installed" in line and "pip install 'qwenvl[train]'" in line
    for watcher in watchers:
        watcher.report(record)
        watcher.step_done(2)
        watcher.end("finished")
    assert (tmp_path / "report.html").is_file() and not (tmp_path / "loss.png").exists()


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    watcher = TensorBoardWatcher()
    watcher.begin(Looked(tmp_path, SmallRecipe))
    watcher.report({"step": 4, **filled().record(COEFFICIENTS), "rate": 0.1})
    watcher.evaluated({"step": 5, "scores": {"what": 0.5}})
    watcher.end("finished")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= {"loss/total", "loss/patch_class", "task/caption", "logged/margin", "step/rate"}
    [score] = events.Scalars("scores/what")
    assert (score.step, score.value) == (5, 0.5)


def test_memory_is_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    held = bytearray(300_000_000)
    held[::4096] = b"1" * len(held[::4096])
    assert 0.3 < metrics.peak_memory_gb(torch.device("cpu")) < 64
