"""Training's benchmarks and their peers compute the same, and the GPU's run from end to end at a tiny size."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import finetuning_gpu, gpu, head, reference, training
from benchmarks.harness import Result, measure
from tests.slow import forks

pytest.importorskip("transformers")

TINY = training.TINY_SIZE
RAGGED = (training.Ask(8, 8, 9, 6), training.Ask(4, 6, 5, 4), training.Ask(4, 4, 3, 2))


@pytest.fixture(scope="module")
def step() -> Result:
    peer = reference.build_peer(TINY)
    for parameter in peer.parameters():  # so large that a wrong path would show in the gradients
        if parameter.ndim > 1:
            parameter.data.mul_(5.0)
    model = reference.ours_over(peer)
    training.freeze_towers(model, peer)
    return measure(training.of_step(model, peer, RAGGED), rounds=1)


def test_packed_and_padded_peers_have_our_loss(step: Result) -> None:
    assert list(step.times) == ["qwenvl", "transformers padded", "transformers packed"]
    assert step.difference is not None and step.difference < 1e-3


def test_gradients_far_from_the_loss_are_the_peers(step: Result) -> None:
    assert step.figures["gradients apart"] < 0.1  # in bfloat16
    assert step.figures["tokens"] == 18 + 15 + 8 + 9 + 6 + 5  # of each: two of markup, text, a quarter of its patches
    assert step.figures["of them supervised"] == 12


@pytest.mark.parametrize("masters", [False, True])
def test_head_and_peer_have_one_loss_and_gradient(masters: bool) -> None:
    size = head.Size(tokens=40, hidden=32, vocabulary=700, masters=masters)
    found = []
    for variant in head.VARIANTS:
        run, tensors = head.prepare(variant, size)
        found.append((run(), *(tensor.grad.float() for tensor in tensors)))
    (loss, *mine), (its, *theirs) = found
    assert loss == pytest.approx(its, rel=1e-5)
    for a, b in zip(mine, theirs):
        assert (a - b).norm() / b.norm() < 0.01


def test_tiny_finetuning_starts_at_the_peers_loss() -> None:
    found = finetuning_gpu.compare(tiny=True)
    assert found["loss_apart"] < 1e-3
    assert found["tokens"] == sum(a.rows * a.columns // 4 + 2 + a.question + a.answer for a in finetuning_gpu.ragged(8, True))
    for losses in (found["losses"], found["transformers"]["losses"]):
        assert all(later < earlier for earlier, later in pairwise(losses))


def test_all_of_the_gpus_benchmarks_run_at_a_tiny_size(tmp_path: Path, repository: Path) -> None:
    options = ["-m", "benchmarks.gpu", "--tiny", "--out", str(tmp_path), "--note", "a test"]
    with forks.program(tmp_path) as programs:
        command = [str(programs / "python-fork"), *options]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert list(report["results"]) == list(gpu.BENCHMARKS) and report["note"] == "a test"
    trained = {name: result for name, result in report["results"].items() if name.startswith(("G7", "G8", "G9"))}
    assert all(result["loss_falls"] and result["tokens_per_s"] > 0 for result in trained.values()), trained
    ways = report["results"]["G10"]["parts"]
    assert len(ways) == 4 and all(result["loss_falls"] for result in ways.values()), ways
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8").count("\n| G") >= len(gpu.BENCHMARKS)
    for name in ("G1", "G2", "G3", "G4", "G5", "G6"):
        assert all(part["ms"] > 0 for part in report["results"][name]["parts"].values()), name
    assert report["results"]["G11"]["requests_per_s"] > 0
