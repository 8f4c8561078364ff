"""`qwenvl model quantize`: the cost of fewer bits, beside float32, and the ways in which it can be asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from qwenvl.cli.main import main
from qwenvl.inference.model import QwenVL, Storage, load
from qwenvl.inference.reply import Reply
from qwenvl.inference.rounding import _first_differences, measure, weight_bytes
from qwenvl.models.packed import PackedLinear
from qwenvl.types import Encoded
from tests.fast.tiny import picture, write_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("rounding") / "tiny")


def test_fewer_bits_cost_more_and_take_less(tiny: Path) -> None:
    """The head's and the decoder's bytes shrink; the order of the errors is that of the bits."""
    costs = {cost.kind: cost for cost in measure(tiny, [picture(0), picture(1)], ("bfloat16", "int8", "int4"), "cpu")}
    assert list(costs) == ["float32", "bfloat16", "int8", "int4"]
    exact = costs["float32"]
    assert (exact.error, exact.worst, exact.agreement) == (0.0, 0.0, 1.0)
    assert 0 < costs["bfloat16"].error < costs["int4"].error and 0 < costs["int8"].error < costs["int4"].error
    assert all(cost.error <= cost.worst and cost.tokens == exact.tokens > 0 for cost in costs.values())
    # Layers as narrow as these are filled up to a block of int4's kernel; real ones are not.
    assert exact.bytes == 2 * costs["bfloat16"].bytes > 2 * max(costs["int8"].bytes, costs["int4"].bytes)
    assert all(np.isfinite(cost.perplexity) and cost.milliseconds > 0 for cost in costs.values())


def test_what_company_costs_is_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 nothing but the order of sums, and no answer; and an answer that comes out otherwise is counted."""
    pictures = [picture(0), picture(1), picture(2)]
    costs = {cost.kind: cost for cost in measure(tiny, pictures, ("bfloat16", "int8"), "cpu")}
    assert costs["float32"].company < 1e-5 and costs["float32"].diverged == 0.0 and costs["float32"].first is None
    assert costs["bfloat16"].company < 0.05 and costs["int8"].company < 0.05
    whole = QwenVL.generate

    def changed(self: QwenVL, prompts: Sequence[Encoded], *given: Any, **changes: Any) -> list[Reply]:
        replies = whole(self, prompts, *given, **changes)
        if len(prompts) == 1:
            return replies
        return [replies[0], replace(replies[1], tokens=[*replies[1].tokens[:2], -1]), *replies[2:]]

    monkeypatch.setattr(QwenVL, "generate", changed)
    reference = load(tiny, "cpu")
    prompts = [reference.encode([{"role": "user", "content": [{"type": "image", "image": one}]}]) for one in pictures]
    assert _first_differences(reference, prompts) == [2]


def test_a_model_is_loaded_in_each_kind(tiny: Path) -> None:
    for kind in get_args(Storage):
        model, dtype = load(tiny, "cpu", quantize=kind), torch.float32 if kind == "float32" else torch.bfloat16
        kinds = {layer.kind for layer in model.model.modules() if isinstance(layer, PackedLinear)}
        assert model.dtype == dtype and kinds == {"int8": {"int8"}, "int4": {"int4", "int8"}}.get(kind, set())
        assert model.chat([{"role": "user", "content": "a dog"}], max_new_tokens=3).usage.completion_tokens
    assert weight_bytes(torch.nn.Linear(4, 4)) == 80


def test_the_command_tells_it(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture().save(tmp_path / "a.png")
    assert main(["model", "quantize", str(tiny), "--kinds", "int8", "--images", str(tmp_path / "a.png"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [kind["kind"] for kind in told["kinds"]] == ["float32", "int8"] and told["pictures"] == 1
    assert main(["model", "quantize", str(tiny), "--kinds", "int4", "--images", str(tmp_path / "a.png")]) == 0
    shown = capsys.readouterr().out
    assert "float32" in shown and "int4" in shown and "perplexity" in shown
    assert main(["model", "quantize", str(tmp_path / "none"), "--images", str(tmp_path / "a.png")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
