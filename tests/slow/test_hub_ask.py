"""The command itself with a hub id: four processes that load torch, so not among the fast tests."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fast.test_hub import MODEL_ID, python_elsewhere, serving
from tests.fast.tiny import write_tiny


def test_r14_ask_takes_a_hub_id_as_its_model(tmp_path: Path) -> None:
    """The command itself: it answers from the hub, then from the cache without it, and says in one line what it cannot find."""
    ask = ["-m", "qwenvl", "ask", "How many?", "--json", "--max-new-tokens", "3", "--device", "cpu", "--model"]
    with serving(write_tiny(tmp_path / "repository")) as server:
        online = python_elsewhere([*ask, MODEL_ID], tmp_path, server.address)
    offline = python_elsewhere([*ask, MODEL_ID], tmp_path, server.address, QWENVL_OFFLINE="1")
    for process in (online, offline):
        assert process.returncode == 0, process.stderr
        assert json.loads(process.stdout)["model"] == MODEL_ID
    assert online.stdout == offline.stdout
    missing = python_elsewhere([*ask, "team/other"], tmp_path, server.address, QWENVL_OFFLINE="1")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("qwenvl: team/other: ") and missing.stderr.count("\n") == 1
