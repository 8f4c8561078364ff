"""The benchmark command runs from end to end, and both sides of its comparisons do the same.

Speed itself is not asserted: the machine of a test run is shared."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks import decode, encode, native, training
from benchmarks.__main__ import SUITES, main
from benchmarks.harness import measure
from tests.slow.test_benchmark_training_run import TINY as TRAINED

TINY = native.Size(
    hidden=128, heads=1, intermediate=160, layers=2, width=80, depth=2, vision_intermediate=112, full_blocks=(1,), vocabulary=300,
    square=12, pictures=((100, 70),),
)  # fmt: skip


@pytest.fixture
def all_cores() -> Iterator[None]:
    """A run pins its process to one core, where that is to be had."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    if cores is not None:
        os.sched_setaffinity(0, cores)


def test_a_quick_run_writes_a_report_whose_outputs_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_cores: None
) -> None:
    """At a size of seconds."""
    shallow = {"num_hidden_layers": 2}
    monkeypatch.setattr(encode, "MID_SIZE", encode.MID_SIZE.model_copy(update=shallow))
    monkeypatch.setattr(decode, "DECODER", decode.DECODER.model_copy(update=shallow))
    for name, suite, size in (("native", native, TINY), ("training", training, TRAINED)):
        monkeypatch.setitem(SUITES, name, partial(suite.cases, size=size))
    assert main(["--quick", "--rounds", "1", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    kinds = {case["name"].split()[0].rstrip(",") for case in report["results"]}
    assert kinds == {"encode", "picture", "visual", "prefill", "decode", "attention", "train", "head", "packing", "8", "first"}
    exact = {case["name"]: case["difference"] for case in report["results"] if "float32" in case["name"]}
    assert all(difference is None or difference < 1e-4 for difference in exact.values()), exact
    assert report["probe_before"].keys() == report["probe_after"].keys()
    assert (tmp_path / "report.md").read_text(encoding="utf-8").count("|") > 20


def test_the_native_families_and_their_peers_compute_the_same() -> None:
    """All cases, at a size of seconds. Speed is not looked at."""
    pytest.importorskip("transformers")
    results = [measure(case, rounds=1) for case in native.cases(quick=False, size=TINY)]
    after = "a 168 px picture and 34 tokens"
    per_family = ["visual tokens", "visual tokens", f"first token after {after}", f"decode after {after}"]
    assert [result.name.split(",")[0] for result in results] == ["picture of 100 x 70 to patches", *per_family, *per_family]
    assert all(result.difference is not None and result.difference < 1e-4 for result in results), results
    short = [case.name for case in native.cases(quick=True, size=TINY)]
    assert len(short) == 3 and set(short) < {result.name for result in results}
