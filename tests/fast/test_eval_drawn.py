"""Scenes in the files of benchmarks are read as these are; no published number stands beside them; runs are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenvl.cli.main import main
from qwenvl.eval.drawn import NAMES, write_drawn
from qwenvl.eval.page import write_page
from qwenvl.eval.page_charts import over_shots, spoke_of
from qwenvl.eval.runs import told_apart
from qwenvl.eval.task import Score
from qwenvl.eval.tasks import benchmark_named
from qwenvl.processing.image import open_image
from tests.fast.test_benchmarks import Key, asked_of
from tests.fast.test_eval_compare import made_up

pytestmark = pytest.mark.usefixtures("scene_sources")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_drawn(folder, 4, seed=3)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_they_are_read_by_the_benchmarks_own_readers(name: str, drawn: Path) -> None:
    benchmark = benchmark_named(name)
    split = benchmark.split(None)
    items = list(benchmark.items(drawn / name, split))
    assert len(items) >= 4 and all(item.answer for item in items)
    sizes = {open_image(part.image).size for item in items for part in item.visuals}
    assert all(wide == high > 100 for wide, high in sizes)
    examples = benchmark.splits[split].shots
    if examples is not None:
        pictures = {Path(str(item.visuals[0].image)).name for item in benchmark.items(drawn / name, examples)}
        assert pictures and not pictures & {Path(str(item.visuals[0].image)).name for item in items}
    assert asked_of(benchmark, drawn / name, split, "paper", Key())


def test_the_command_writes_what_can_be_run_and_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "draw", "data", "--count", "2"]) == 0
    assert capsys.readouterr().out == "qwenvl eval run vqav2 refcoco textvqa flickr30k --data data\n"
    assert main(["eval", "draw", "data"]) == 1
    assert capsys.readouterr().err == "qwenvl: data/vqav2 is there already; give another folder\n"
    assert main(["eval", "run", "refcoco", "--data", "data", "--model", "qwen-vl-nano", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "drawn scenes" in out and "89.36" not in out
    assert main(["eval", "report", "runs/eval", "--out", "report.html"]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "drawn scenes in the form of the benchmark" in page and "Shikra" not in page


def shots(count: int) -> dict[str, dict[str, int]]:
    return {"shots": {"count": count, "seed": 0}}


def test_runs_of_one_model_are_told_apart() -> None:
    paper, chat = {"prompt": {"version": "paper"}}, {"prompt": {"version": "chat"}}
    runs = [
        made_up("a", ["yes"], **paper, **shots(0)), made_up("b", ["yes"], **chat, **shots(0)),
        made_up("c", ["yes"], **paper, **shots(1)), made_up("d", ["yes"], **paper, **shots(1)),
    ]  # fmt: skip
    for run in runs:
        run.run["model"] = "m"  # type: ignore[index]
    assert list(told_apart(runs).values()) == ["m, paper", "m, chat", "c", "d"]
    assert list(told_apart(runs[:1]).values()) == ["m"] and list(told_apart(runs[2:3]).values()) == ["m, 1 shot"]


def test_scores_over_examples_stand_beside_the_published_ones() -> None:
    runs = []
    for count, value in ((0, 0.2), (4, 0.5)):
        run = made_up(f"r{count}", ["yes"], task="okvqa", **shots(count), prompt={"version": "paper"})
        run.run["split"] = "val"  # type: ignore[index]
        run.scores["vqa_accuracy"] = Score(value, 1, 1.0, 0.0, 1.0, "wilson")  # type: ignore[index]
        run.run["model"] = "mine"  # type: ignore[index]
        runs.append(run)
    assert spoke_of(runs[0]) == ("okvqa", "val")
    drawn = over_shots(runs)
    assert "mine" in drawn and "Qwen-VL, published" in drawn and drawn.count("<svg") == 1
    assert over_shots(runs[:1]) == "" and "<h2>Few-shot</h2>" not in write_page([])
