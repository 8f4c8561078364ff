"""What one sees of a run: evaluations on the way, the report and TensorBoard; and that looking changes nothing."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from qwenvl.cli.main import main
from qwenvl.cli.train_eval import SEED, mean_scores
from qwenvl.config import ConfigError
from qwenvl.eval.asking import ModelAnswerer
from qwenvl.eval.runner import ask
from qwenvl.eval.scorers.scenes import make_scorer
from qwenvl.eval.tasks import scenes
from qwenvl.inference.model import load
from qwenvl.train.checkpoint import latest, list_checkpoints
from qwenvl.train.metrics import read_metrics
from qwenvl.train.recipe import load_recipe
from qwenvl.train.sight.evaluations import read_evaluations
from qwenvl.train.sight.report import write_report
from tests.fast.eval_fixtures.grounding import FIXTURES
from tests.slow import forks

pytestmark = pytest.mark.usefixtures("scene_sources")

EVALUATE = {"every": 2, "limit": 2, "shown": 2}
"""One scene of things and one of lettering, in two languages."""


def write_recipe(folder: Path, run: str, nano: str = "qwen-vl-nano", style: str = "raw", **sections: Any) -> Path:
    """A short run that starts from a nano that ships with the package, so that it answers something."""
    recipe: dict[str, Any] = {
        "name": "small", "run": str(folder / run), "seed": 5, "model": {"preset": nano.removesuffix("-chat")},
        "init_from": dict.fromkeys(("vision_tower", "connector", "decoder"), nano),
        "data": {"style": style, "tasks": {"caption": 1, "referring": 2}, "rows_per_step": 4, "row_tokens": 300},
        "optim": {"lr": 3e-4, "warmup_steps": 1},
        "train": {"steps": 4, "micro_batch_rows": 2, "precision": "float32", "checkpoint_every": 1, "log_every": 1},
    }  # fmt: skip
    for section, values in sections.items():
        recipe[section] = recipe.get(section, {}) | values
    path = folder / f"{run}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def train(recipe: Path, *more: str) -> Path:
    assert main(["train", str(recipe), *more]) == 0
    return recipe.with_suffix("")


def scores(run: Path) -> list[tuple[int, dict[str, float]]]:
    return [(record["step"], record["scores"]) for record in read_evaluations(run)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is evaluated after steps 0, 2 and 4."""
    return train(write_recipe(tmp_path_factory.mktemp("watched"), "run", evaluate=EVALUATE))


def test_evaluating_changes_nothing_that_is_learnt(tmp_path: Path, watched: Path) -> None:
    blind = latest(train(write_recipe(tmp_path, "run")))
    seen = latest(watched)
    assert all(torch.equal(value, seen["model"][name]) for name, value in blind["model"].items())
    assert all(torch.equal(value, seen["optimiser"][name]) for name, value in blind["optimiser"].items())


def test_evaluating_takes_no_random_numbers_from_dropout(tmp_path: Path) -> None:
    weights = []
    for name, evaluate in (("blind", {}), ("seen", {"evaluate": EVALUATE | {"every": 1}})):
        lora = {"targets": ["decoder.layers.*"], "rank": 4, "dropout": 0.5}
        recipe = write_recipe(tmp_path, name, lora=lora, train={"steps": 2}, **evaluate)
        torch.manual_seed(7)
        weights.append(latest(train(recipe))["model"])
    assert weights[0] and all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_run_shows_its_scores_and_answers(watched: Path) -> None:
    records = read_evaluations(watched)
    assert [record["step"] for record in records] == [0, 2, 4]
    assert all(0 <= value <= 1 for record in records for value in (*record["scores"].values(), *record["chance"].values()))
    first = records[0]["scores"]
    assert sum(first.values()) / len(first) > 0.4, "the nano of the package knows what it sees"
    assert len({shown["picture"] for record in records for shown in record["shown"]}) == EVALUATE["shown"]
    assert any(shown["true"] for shown in records[-1]["shown"])
    page = (watched / "report.html").read_text(encoding="utf-8")
    assert all(words in page for words in ("Scores", "Answers", "after step 4", "What trains")) and "Trouble" not in page
    assert write_report(watched).read_text(encoding="utf-8") == page, "the files say all that the page shows"


@pytest.mark.parametrize("nano, style", [("qwen-vl-nano", "raw"), ("qwen2-vl-nano-chat", "chat")])
def test_scores_are_those_of_the_finished_model(tmp_path: Path, nano: str, style: str) -> None:
    """What the model in memory is measured to do, `qwenvl eval` measures of the folder that it is saved to."""
    run = train(write_recipe(tmp_path, "run", nano, style, evaluate=EVALUATE, train={"steps": 1}))
    answerer = ModelAnswerer(load(run / "model", dtype="float32"))
    assert answerer.style == style
    questions = scenes.main_questions(EVALUATE["limit"] // 2, SEED, answerer)
    measured = mean_scores(ask(questions, answerer, 64), make_scorer(scenes.settings(questions, 1, SEED, answerer)))
    assert scores(run)[-1] == (1, {name: round(value, 4) for name, value in measured.items()})


def test_a_benchmark_is_measured_on_the_way_as_by_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    FIXTURES["refcoco"].build(data / "refcoco")
    evaluate = EVALUATE | {"tasks": ["scenes", "refcoco"], "data": str(data)}
    run = train(write_recipe(tmp_path, "run", evaluate=evaluate, train={"steps": 1}))
    capsys.readouterr()
    asked = ["eval", "run", "refcoco", "--model", str(run / "model"), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*asked, "--limit", "2", "--device", "cpu", "--json"]) == 0
    measured = {name: round(score["value"], 4) for name, score in json.loads(capsys.readouterr().out)["scores"].items()}
    found = scores(run)[-1][1]
    assert {name.removeprefix("refcoco/"): value for name, value in found.items() if name.startswith("refcoco/")} == measured
    assert "yes_no" in found
    assert any("refcoco" in shown["name"] or shown["name"].startswith("val/") for shown in read_evaluations(run)[-1]["shown"])


def test_resumed_run_has_the_evaluations_of_an_uninterrupted_one(tmp_path: Path, watched: Path) -> None:
    recipe = write_recipe(tmp_path, "run", evaluate=EVALUATE)
    process = forks.Command(["train", str(recipe)], tmp_path / "log")
    deadline = time.monotonic() + 300
    while not any(path.stem.endswith("3") for path in list_checkpoints(tmp_path / "run")):
        assert process.poll() is None and time.monotonic() < deadline, "ended before its checkpoint"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    train(recipe, "--resume")
    assert scores(tmp_path / "run") == scores(watched)


def test_ranks_that_share_the_model_or_the_questions_find_the_same(tmp_path: Path, watched: Path) -> None:
    """Two ranks, each with the whole model and half of the questions; or each with a part of the model, and all questions."""
    FIXTURES["refcoco"].build(tmp_path / "data" / "refcoco")
    quick = {"tasks": ["refcoco"], "data": str(tmp_path / "data")}  # every token of an answer gathers the weights anew
    seen, losses = [], []
    for name, tasks, parallel in (("replicate", {}, "replicate"), ("alone", quick, None), ("fsdp", quick, "fsdp")):
        ranks = {"parallel": {"data": parallel}} if parallel else {}
        recipe = write_recipe(tmp_path, name, evaluate=EVALUATE | {"every": 9} | tasks, **ranks)
        done = forks.run(["train", str(recipe), *(["--processes", "2"] if parallel else [])], tmp_path / "log")
        assert done.returncode == 0, done.stderr[-3000:]
        seen.append(scores(recipe.with_suffix("")))
        losses.append([record["loss"] for record in read_metrics(recipe.with_suffix(""))])
    replicated, alone, sharded = seen
    assert replicated[0] == scores(watched)[0], "before the first step all have the same weights"
    assert sharded[0] == alone[0] and [step for step, _ in sharded] == [0, 4] and sharded[0][1]["refcoco/iou"] > 0.1
    wanted = [record["loss"] for record in read_metrics(watched)]
    assert all(found == pytest.approx(wanted, abs=1e-5) for found in losses)


def test_tensorboard_is_written_where_it_is_wished_for(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = train(write_recipe(tmp_path, "run", train={"steps": 2}), "--tensorboard")
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    logged = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [event.value for event in events.Scalars("loss/total")] == pytest.approx(logged, rel=1e-6)


def test_what_cannot_be_evaluated_is_refused_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task, said in (("docqa", "no benchmark 'docqa'; known: scenes, vqav2"), ("docvqa", "docvqa val: no **/val_v1.0*.json in ")):
        recipe = write_recipe(tmp_path, "run", evaluate=EVALUATE | {"tasks": ["scenes", task], "data": str(tmp_path)})
        assert load_recipe(recipe).evaluate is not None
        assert main(["train", str(recipe)]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith(f"qwenvl: evaluate.tasks: {said}")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"evaluate\.every"):
        load_recipe(write_recipe(tmp_path, "run", evaluate=EVALUATE | {"every": 0}))
