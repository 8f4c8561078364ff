"""Ranks that die: torchrun starts all of them again and they go on; and the one that knows why says so, the others get out of its
way."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwenvl.train.checkpoint import list_checkpoints

pytestmark = pytest.mark.usefixtures("scene_sources")

STEPS = 12


def write_recipe(folder: Path, run: str, **parallel: Any) -> Path:
    small = {"num_attention_heads": 2, "num_hidden_layers": 1}
    recipe = {
        "name": "small", "run": str(folder / run), "seed": 5,
        "model": {"config": {"vision": small, "decoder": {"num_hidden_layers": 1}}},
        "data": {"tasks": {"caption": 1, "referring": 2}, "rows_per_step": 2, "row_tokens": 80, "text_rows": 0.5},
        "optim": {"lr": 3e-4, "warmup_steps": 3},
        "train": {"steps": STEPS, "micro_batch_rows": 1, "precision": "float32", "checkpoint_every": 4, "log_every": 1},
        "parallel": parallel,
    }  # fmt: skip
    path = folder / f"{run}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(STEPS))
    return [record["loss"] for record in records]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def rank_of(pid: int) -> str | None:
    """RANK of a process that trains, None of any other."""
    folder = Path("/proc") / str(pid)
    if b"qwenvl" not in (folder / "cmdline").read_bytes():
        return None
    entries = (folder / "environ").read_bytes().decode().split("\0")
    return next((entry.removeprefix("RANK=") for entry in entries if entry.startswith("RANK=")), None)


def kill_rank(parent: int, rank: str) -> None:
    children = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout.split()
    (victim,) = [int(child) for child in children if rank_of(int(child)) == rank]
    os.kill(victim, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="ranks are told apart by /proc")
def test_ranks_that_torchrun_starts_again_go_on_step_for_step(tmp_path: Path) -> None:
    alone = subprocess.run(
        [sys.executable, "-m", "qwenvl", "train", str(write_recipe(tmp_path, "alone"))], capture_output=True, text=True, timeout=300
    )
    assert alone.returncode == 0, alone.stderr[-3000:]
    launch = ["--nproc-per-node", "2", "--max-restarts", "2", "--master-port", free_port(), "-m", "qwenvl"]
    command = [sys.executable, "-m", "torch.distributed.run", *launch, "train", str(write_recipe(tmp_path, "killed", data="fsdp"))]
    with (tmp_path / "said").open("w+") as said:
        # Not where a folder `qwenvl` is: torchrun's ranks would take it for the package.
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=tmp_path)
        try:
            deadline = time.monotonic() + 240
            while not list_checkpoints(tmp_path / "killed"):
                assert process.poll() is None and time.monotonic() < deadline, "ended before its checkpoint"
                time.sleep(0.02)
            # The one that has the first checkpoint's name to give, and whose ports the others had.
            kill_rank(process.pid, "0")
            code = process.wait(timeout=300)
        finally:
            process.terminate()
        said.seek(0)
        told = said.read()
    assert code == 0, told[-3000:]
    assert "Traceback" not in told, told[-3000:]
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)


def full_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


@pytest.mark.parametrize("way, full", [("fsdp", 1), ("replicate", 0)])
def test_a_full_disk_of_one_rank_is_one_line_of_all(way: str, full: int, tmp_path: Path) -> None:
    recipe, port = write_recipe(tmp_path, "full", data=way), free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "qwenvl", "train", str(recipe)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
            preexec_fn=full_disk if rank == full else None,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        told = "".join(process.communicate(timeout=300)[1] for process in ranks)
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [1, 1]
    said = [line for line in told.splitlines() if line.startswith("qwenvl: ")]
    assert sum("cannot be written" in line for line in said) == 1 and "Traceback" not in told, told[-3000:]
    assert all("cannot be written" in line or "ended, because another rank did" in line for line in said)
    assert way == "replicate" or f"by rank {full}" in told
    assert not list_checkpoints(tmp_path / "full")
