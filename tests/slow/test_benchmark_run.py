"""The benchmark command runs from end to end. Speed itself is not asserted: the machine of a test run is shared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_quick_run_writes_a_report_whose_outputs_agree(tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=580)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {case["name"].split()[0].rstrip(",") for case in report["results"]} == {"encode", "prefill", "decode", "attention"}
    exact = {case["name"]: case["difference"] for case in report["results"] if "float32" in case["name"]}
    assert all(difference is None or difference < 1e-4 for difference in exact.values()), exact
    assert report["probe_before"].keys() == report["probe_after"].keys()
    assert (tmp_path / "report.md").read_text(encoding="utf-8").count("|") > 20
