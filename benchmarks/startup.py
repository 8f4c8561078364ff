"""C12: from the start of a process to a model that is ready, against transformers: help, imports, and weights.

Every run is a process of its own. Loading is measured after the imports, with one look at each page of the weights, since both
sides map the file and leave its pages for whoever reads them first. Memory is what that adds to a process at most.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.alone import peak, restart_peak, run_alone
from benchmarks.harness import Against, Bound, Case, Item, Result, pin_to_one_core
from benchmarks.reference import SIZE, TINY, Size, folder

PEER_IMPORT = "from transformers import Qwen2_5_VLForConditionalGeneration"
HELP, IMPORT, PEER, TORCH = "qwenvl --help", "import qwenvl.inference.model", "import of transformers' model", "import torch"
VARIANTS = ("qwenvl", "transformers")
AS_STORED = "as stored"
ROUNDS = 2
AT_TINY_SIZE = {"size": TINY, "rounds": 1, "peer": "import transformers"}
PAGE = 4096


class Command:
    """A run of Python from its start to its end. `clock`: CPU seconds of all processes that this one has started and waited for."""

    def __init__(self, *arguments: str) -> None:
        self.command = [sys.executable, *arguments]

    def __call__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        root = Path(__file__).parents[1]
        done = subprocess.run(self.command, env=environment, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(self.command)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")

    def clock(self) -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


def cases(quick: bool, size: Size = SIZE, rounds: int = ROUNDS, peer: str = PEER_IMPORT) -> Iterator[Item]:
    yield Case(
        "help, and what is imported before a model is loaded", "start",
        {
            HELP: Command("-m", "qwenvl", "--help"), IMPORT: Command("-c", IMPORT), PEER: Command("-c", peer),
            TORCH: Command("-c", TORCH),
        },
        rounds=rounds, warm_up=size != TINY, against=[Against(HELP, PEER), Against(IMPORT, PEER)], floors={IMPORT: TORCH},
        bounds=[Bound(HELP, at_most=250, unit="ms")],
    )  # fmt: skip
    folder(size)  # the first run of each need not write it
    for dtype in (AS_STORED,) if quick or size == TINY else (AS_STORED, "float32"):
        yield partial(load, size, dtype)


def load(size: Size, dtype: str, rounds: int) -> list[Result]:
    """Time and memory of loading, in turns. The first run of each is not measured: it brings the file into the system's memory, and
    ours then chooses the kernels for this machine. What is cast on the way takes several times as long: that is run once."""
    weights = sum(path.stat().st_size for path in folder(size).glob("*.safetensors")) / 2**20
    name = "tiny" if size == TINY else "usual"
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    unmeasured = int(dtype == AS_STORED and size != TINY)
    for number in range(unmeasured + (min(rounds, ROUNDS) if dtype == AS_STORED else 1)):
        for variant in VARIANTS:
            found = run_alone("benchmarks.startup", variant, dtype, name)
            if number >= unmeasured:
                runs[variant].append(found)
    times, memory = ({variant: [run[key] for run in runs[variant]] for variant in VARIANTS} for key in ("ms", "mib"))
    shares = {"of the file's size": median(memory["qwenvl"]) / weights, "the peer's": median(memory["transformers"]) / weights}
    stored = dtype == AS_STORED
    return [
        Result(
            f"loading {weights:.0f} MiB of weights, {dtype}: time", "load", times,
            against=[Against("qwenvl", "transformers", round(1 / 0.6, 2) if stored else None)],
        ),
        Result(
            f"loading {weights:.0f} MiB of weights, {dtype}: memory", "load", memory, figures=shares, quantity="MiB",
            bounds=[Bound("of the file's size", at_most=1.1)] if stored else (),
        ),
    ]  # fmt: skip


def load_here(variant: str, dtype: str, size: Size) -> dict[str, float]:
    """CPU milliseconds of loading, and MiB that it adds at most."""
    import torch

    path, stored = folder(size), dtype == AS_STORED
    if variant == "qwenvl":
        from qwenvl.inference.model import load as load_ours

        def run() -> Any:
            return load_ours(path, device="cpu", dtype=None if stored else dtype).model
    else:
        from transformers import Qwen2_5_VLForConditionalGeneration as Peer

        def run() -> Any:
            return Peer.from_pretrained(path, dtype="auto" if stored else getattr(torch, dtype))

    before = restart_peak()
    start = time.process_time()
    look_at(run())
    return {"ms": (time.process_time() - start) * 1e3, "mib": peak() - before}


def look_at(model: Any) -> int:
    """Read a byte of every page of the weights; their sum."""
    import torch

    total = 0
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.layout == torch.strided and tensor.is_contiguous():  # what oneDNN has reordered was read for that
            total += int(tensor.detach().view(-1).view(torch.uint8)[::PAGE].sum())
    return total


def main(arguments: Sequence[str]) -> None:
    variant, dtype, size = arguments
    pin_to_one_core()
    print(json.dumps(load_here(variant, dtype, TINY if size == "tiny" else SIZE)))


if __name__ == "__main__":
    main(sys.argv[1:])
