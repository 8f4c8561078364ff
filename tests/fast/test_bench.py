"""`qwenvl bench`: times of a model, and with --profile a trace and a table in which layers have their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwenvl.cli.bench import main
from tests.fast.tiny import write_tiny


def test_a_profile_has_a_trace_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_tiny(tmp_path / "tiny"), tmp_path / "profile"
    arguments = [str(folder), "--device", "cpu", "--prompt", "9", "--tokens", "3", "--sequences", "2", "--out", str(out)]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "for 18 tokens" in told and "of 2 sequences" in told and not out.exists()
    assert main([*arguments, "--profile"]) == 0
    told = capsys.readouterr().out
    assert "\nread " in told and "\nwrite 3 " in told and "trace.json" in told
    events = json.loads((out / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    assert {"phase read", "phase write 3", "logits", "q_proj (Linear)"} <= {event.get("name") for event in events}
    report = json.loads((out / "profile.json").read_text(encoding="utf-8"))
    layers = 2  # of the decoder
    rows = {(row["phase"], row["name"]): row for row in report["profile"]}
    assert rows["read", "down_proj (Linear)"]["calls"] == layers and rows["write 3", "down_proj (Linear)"]["calls"] == 3 * layers
    assert report["milliseconds"]["step"] > 0 and report["milliseconds"]["look"] is None and report["torch"]


def test_too_many_tokens_are_refused_in_one_line(tmp_path: Path) -> None:
    from qwenvl.types import QwenVLError

    folder = write_tiny(tmp_path / "tiny")
    with pytest.raises(QwenVLError, match="tokens are more than the context of 320"):
        main([str(folder), "--device", "cpu", "--prompt", "400"])
