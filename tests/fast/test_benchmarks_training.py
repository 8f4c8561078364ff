"""The benchmarks of training measure what they say: lengths, budgets, memory, steps. Speed is not looked at. Peers are in
tests/slow/test_benchmark_training_run.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import alone, gpu, gpu_steps, packer, training, training_gpu
from benchmarks.__main__ import results_of
from benchmarks.gpu_steps import Steps, build, checkpoint_blocks, layers_to_keep, train_alone
from benchmarks.harness import Result
from benchmarks.report import figures, table
from qwenvl.families import find_preset
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.types import Batch


def test_the_ragged_samples_are_60_percent_of_their_padded_batch() -> None:
    lengths = [ask.rows * ask.columns // 4 + 2 + ask.question + ask.answer for ask in training.RAGGED]
    assert sum(lengths) / (len(lengths) * max(lengths)) == pytest.approx(0.6, abs=0.01)


def test_peak_memory_is_what_was_held_meanwhile() -> None:
    before = alone.restart_peak()
    held = np.ones(64 << 20, np.uint8)
    after = alone.peak()
    del held
    assert 60 < after - before < 80


def test_all_samples_lie_in_rows_within_both_budgets() -> None:
    lengths = packer.ragged(600)
    for rows in (packer.Stream(lengths, 2048, 6144).rows(), packer.first_fit_decreasing(lengths, 2048, 6144)):
        assert all(sum(lengths.tokens[index] for index in row) <= 2048 for row in rows)
        assert all(sum(lengths.patches[index] for index in row) <= 6144 for row in rows)
    assert sorted(index for row in rows for index in row) == list(range(600))


def test_fill_is_that_of_the_budget_which_runs_out() -> None:
    lengths = packer.Lengths([10, 10, 5], [0, 40, 10])
    assert packer.fill(lengths, [[0, 1], [2]], 20, 100) == pytest.approx(25 / 20 / 2)
    assert packer.fill(lengths, [[0, 1], [2]], 20, 40) == pytest.approx(50 / 40 / 2)
    assert packer.fill(lengths, [[0, 1], [2]], 20) == pytest.approx(25 / 20 / 2)


def test_a_suite_may_measure_by_itself_and_tell_figures() -> None:
    memory = Result("head", "pass", {"ours": [10.0, 30.0, 20.0], "peer": [100.0]}, figures={"share": 0.2}, quantity="MiB")
    assert results_of(lambda rounds: [memory] * rounds, 2) == [memory, memory]
    assert table([memory], {}).splitlines()[-1] == "| head | ours: 20 MiB/pass | — | peer | 100 MiB/pass | 5.00x | — |"
    assert figures([memory]) == "- head: share 0.2"
    assert memory.as_dict()["median_mib"] == {"ours": 20.0, "peer": 100.0}


def tiny_steps(in_backward: bool, kept: int) -> tuple[VisionLanguageModel, list[Batch], Steps]:
    config = find_preset("qwen-vl-nano").config
    model = build(config, torch.device("cpu"))
    train_alone(model, ("connector", "decoder"))
    checkpoint_blocks(model, kept)
    batches = [collate(training_gpu.qwen_vl_documents(config, 2, 50))]
    return model, batches, Steps(model, batches, in_backward, rate=1e-3)


def test_a_step_within_the_backward_pass_is_the_step_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to clipping, which it cannot do. Activations that are made again change nothing either."""
    monkeypatch.setattr(gpu_steps, "CLIP", 1e9)
    weights = []
    for in_backward, kept in ((False, 4), (True, 0)):
        model, batches, steps = tiny_steps(in_backward, kept)
        assert layers_to_keep(model, batches, 12) == 1
        record = steps.run(2)
        weights.append(model.decoder.layers[0].mlp.up_proj.weight.detach().clone())
        assert record["tokens"] == 100 and record["loss_falls"] and record["mfu"] is None
        assert all((p.grad is None) == in_backward for p in steps.trained)
    torch.testing.assert_close(weights[0], weights[1])


def test_what_is_done_is_kept_when_a_later_benchmark_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(name: str, tiny: bool, limit: float) -> dict[str, float | str]:
        if name == "G7":
            assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["results"]["G0"]["gemm_tflops"] == 700.0
        return {"gemm_tflops": 700.0} if name == "G0" else {"error": "out of memory"}

    monkeypatch.setattr(gpu, "run_alone", failing)
    assert gpu.run_all(tmp_path, tiny=True) == 1
    report = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert list(report["results"]) == list(gpu.BENCHMARKS)
    assert "| G7 | " in (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert gpu.summary(report["results"]["G7"]) == "failed: out of memory"


def test_a_benchmark_that_takes_too_long_is_ended_and_named() -> None:
    assert gpu.run_alone("G0", True, 0.01) == {"error": "not done after 0 seconds"}
