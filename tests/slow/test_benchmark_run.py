"""The benchmark command runs from end to end, and both sides of its comparisons do the same.

Speed itself is not asserted: the machine of a test run is shared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import native
from benchmarks.harness import measure

TINY = native.Size(
    hidden=128, heads=1, intermediate=160, layers=2, width=80, depth=2, vision_intermediate=112, full_blocks=(1,), vocabulary=300,
    square=12, pictures=((100, 70),),
)  # fmt: skip


def test_a_quick_run_writes_a_report_whose_outputs_agree(tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=580)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    kinds = {case["name"].split()[0].rstrip(",") for case in report["results"]}
    assert kinds == {"encode", "picture", "visual", "prefill", "decode", "attention", "train", "head", "packing"}
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
