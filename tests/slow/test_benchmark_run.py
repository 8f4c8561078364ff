"""The benchmark command runs from end to end, and both sides of its comparisons compute the same.

Speed itself is not asserted here: see test_benchmark_gate.py."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks import llama, reference
from benchmarks.__main__ import main
from benchmarks.decode import llama_steps, prompt
from benchmarks.harness import Against, Bound, Case, Floor, Item, Result, best_of, measure
from benchmarks.report import Report, Row
from benchmarks.rows import ROWS, items

pytest.importorskip("transformers")

EXACT = ("C3", "C5", "C6", "C7", "C8")
"""Rows of the reference model, whose peers have its weights."""
OTHERS = ("C1", "C2", "C4", "C9", "C10", "C11", "C12", "C13", "C14", "C15", "C16")


@pytest.fixture(autouse=True)
def all_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run pins its process to one core, where that is to be had; models of tests are not kept. What C8 measures in processes of
    their own, which C10 and C12 try, is run in this one."""
    monkeypatch.setattr("benchmarks.long_context.run_alone", run_here)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    reference.forget()
    if cores is not None:
        os.sched_setaffinity(0, cores)


def run_here(module: str, *arguments: str) -> dict[str, float]:
    printed = io.StringIO()
    with redirect_stdout(printed):
        import_module(module).main(arguments)
    found: dict[str, float] = json.loads(printed.getvalue().splitlines()[-1])
    return found


@pytest.mark.parametrize("number", EXACT)
def test_a_rows_outputs_are_the_peers(number: str, tmp_path: Path) -> None:
    found = run([number], tmp_path)[number]
    assert found and all(one["difference"] is None or one["difference"] < 0.05 for one in found), found
    whole = [one["difference"] for one in found if "float32" in one["name"]]
    assert all(difference < 1e-4 for difference in whole), whole


@pytest.mark.parametrize("number", OTHERS)
def test_a_row_runs(number: str, tmp_path: Path) -> None:
    found = run([number], tmp_path)[number]
    assert found and all(value > 0 for one in found for value in one["speedups"].values())


def run(numbers: list[str], folder: Path) -> dict[str, list[dict[str, object]]]:
    """The results by row of a run at a tiny size."""
    only = [part for number in numbers for part in ("--only", number)]
    assert main(["--tiny", "--rounds", "1", "--out", str(folder), *only]) == 0
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["probe_before"].keys() == report["probe_after"].keys()
    text = (folder / "report.md").read_text(encoding="utf-8")
    for row in report["rows"]:
        assert f"## {row['row']} " in text and (folder / f"{row['row']}.svg").read_text(encoding="utf-8").startswith("<svg")
    return {row["row"]: row["results"] for row in report["rows"]}


def test_llama_cpp_chooses_what_the_same_weights_choose_here() -> None:
    """Greedily, in bfloat16, after prompts of several lengths. Where it is not installed, a row does without it and says why."""
    if (why := llama.missing()) is not None:
        assert why and llama_steps([np.arange(4)], ("bfloat16",), reference.TINY) == {}
        return
    from qwenvl.inference.session import Session

    prompts = [reference.random_ids(length, reference.TINY, length) for length in (5, 12, 30)]
    model = reference.ours("float32", size=reference.TINY)
    try:
        theirs = llama.Prefill("bf16", [one.tolist() for one in prompts], 64, reference.TINY)()
    finally:
        llama.close()
    ours = Session(model.model, [prompt(one) for one in prompts], room=1).prefill().argmax(dim=-1).tolist()
    assert sum(a == b for a, b in zip(ours, theirs)) >= 2, (ours, theirs)  # two words may be as likely to eight bits


def test_every_row_of_the_suite_has_its_number_once() -> None:
    assert list(ROWS) == [f"C{number}" for number in range(1, 17)]
    assert len({entry.module for entry in ROWS.values()}) == 16


def test_a_row_that_fails_says_so_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(number: str, quick: bool, tiny: bool) -> Iterator[Item]:
        if number == "C1":
            raise RuntimeError("no such peer\nat all")
        return items(number, quick, tiny)

    monkeypatch.setattr("benchmarks.__main__.items", fails)
    assert main(["--tiny", "--rounds", "1", "--out", str(tmp_path), "--only", "C1", "--only", "C11"]) == 1
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Not measured: RuntimeError: no such peer\n" in report and "first fit decreasing" in report


def test_goals_tell_how_much_of_them_is_reached() -> None:
    result = Result(
        "case", "token", {"ours": [10.0, 12.0, 11.0], "peer": [22.0], "resize": [4.0]}, figures={"fill": 0.9},
        against=[Against("ours", "peer", at_least=4.0)], floors={"ours": "resize"},
        bounds=[Bound("fill", at_least=0.6), Bound("ours", at_most=5.5, unit="ms")],
    )  # fmt: skip
    assert result.speedups == {"peer": 2.0} and result.floor("ours", {}) == 4.0
    assert [(round(goal.share, 3), goal.reached) for goal in result.goals()] == [(0.5, False), (1.5, True), (0.5, False)]
    without = Result("case", "token", {"ours": [1.0], "peer": [2.0], "resize": [0.5]}, floors={"ours": "resize"})
    assert without.speedups == {"peer": 2.0}  # what is only a floor is nobody's peer


def test_a_floor_is_what_takes_longer_reading_or_computing() -> None:
    probe = best_of({"read_gb_s": 20.0, "gemm_bfloat16_gflop_s": 400.0}, {"read_gb_s": 25.0, "gemm_bfloat16_gflop_s": 300.0})
    assert Floor(bytes=1e9).milliseconds(probe) == pytest.approx(40)
    assert Floor(bytes=1e9, flops=4e10).milliseconds(probe) == pytest.approx(100)


def test_a_variant_in_another_process_has_a_clock_of_its_own() -> None:
    class Elsewhere:
        seconds = 0.0

        def clock(self) -> float:
            return self.seconds

        def __call__(self) -> None:
            self.seconds += 0.25

    result = measure(Case("case", "run", {"here": lambda: None, "there": Elsewhere()}, rounds=2), rounds=5)
    assert result.times["there"] == [250.0, 250.0]


def test_pictures_of_bars_are_whole_xml() -> None:
    from xml.etree import ElementTree

    from benchmarks.report import bars

    row = Row("C1", "a < b", [Result("x & y", "run", {"ours": [1.0], "peer": [2.0]}, floors={"ours": Floor(bytes=1e6)})])
    tree = ElementTree.fromstring(bars(row, {"read_gb_s": 20.0}))
    assert len(re.findall("rect", ElementTree.tostring(tree, "unicode"))) == 3


def test_a_report_without_a_probe_after_is_written(tmp_path: Path) -> None:
    from qwenvl.runtime import environment

    around = {**environment(), "transformers": "5", "llama.cpp": "not installed"}
    Report("command", "commit", around, 0, 1, {"read_gb_s": 20.0}, rows=[Row("C1", "title", error="why")]).write(tmp_path)
    assert "Not measured: why" in (tmp_path / "report.md").read_text(encoding="utf-8")
