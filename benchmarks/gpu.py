"""Models of full size on one GPU: `python -m benchmarks.gpu [--only G2] [--out FOLDER]`, about ten minutes. Without a GPU only with
--tiny, which shows that all of it runs.

Weights are random and made on the device; nothing is downloaded. Every benchmark is a process with a time limit of its own
(`python -m benchmarks.gpu --here NAME` is one), so that the next one finds the memory free. gpu.json is written after each: what is
done stays if the rest is not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import inference_gpu, training_gpu
from benchmarks.gpu_steps import Benchmark

ROOT = Path(__file__).parents[1]
UNITS = (
    ("gemm_tflops", "TFLOP/s"), ("copy_tb_s", "TB/s"), ("ms", "ms"), ("step_s", "s a step"), ("tokens_per_s", "tokens/s"),
    ("samples_per_s", "samples/s"), ("requests_per_s", "requests/s"), ("mbu", "of the bandwidth"), ("mfu", "MFU"),
    ("peak_gib", "GiB at most"), ("times_floor", "times the floor"), ("times_published", "times the published figure"),
    ("times_peer", "times transformers"), ("times_sequential", "times one after another"), ("times_bfloat16", "times bfloat16"),
)  # fmt: skip


def ceilings(tiny: bool) -> dict[str, Any]:
    """What the device can do: a product of two matrices, and a copy."""
    import torch

    from benchmarks.gpu_steps import clock
    from qwenvl.runtime import resolve_device

    device, side, size = resolve_device(), 256 if tiny else 8192, 1 << (16 if tiny else 32)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def best(run: Callable[[], object]) -> float:
        seconds = []
        for _ in range(12):
            start = clock(device)
            run()
            seconds.append(clock(device) - start)
        return min(seconds)

    product, copy = best(lambda: torch.mm(a, b)), best(lambda: target.copy_(source))
    return {"gemm_tflops": 2 * side**3 / product / 1e12, "copy_tb_s": 2 * size / copy / 1e12}


_ALL = {
    "G0": Benchmark(30, "bfloat16 product of 8192 x 8192 matrices, copy of 4 GiB", ceilings), **inference_gpu.BENCHMARKS,
    **training_gpu.BENCHMARKS,
}  # fmt: skip
SLOWER = 5
"""Of --tiny, which most often runs on a CPU that does other things too: a limit is so many times what it is on a GPU."""
FIRST = ("G0", "G7", "G2", "G4")
"""What is wanted most comes first, should the machine be taken away."""
BENCHMARKS: dict[str, Benchmark] = {name: _ALL[name] for name in (*FIRST, *(name for name in _ALL if name not in FIRST))}


def run_all(out: Path, tiny: bool, note: str = "", only: Sequence[str] = ()) -> int:
    """Each benchmark in turn; 1 if one of them failed."""
    import torch

    from benchmarks.__main__ import commit
    from qwenvl.runtime import atomic_write, environment

    if not (tiny or torch.cuda.is_available()):
        print("benchmarks.gpu: no GPU here; add --tiny to run all of it at a size of seconds", file=sys.stderr)
        return 2
    command = " ".join(["python -m benchmarks.gpu", *(["--tiny"] if tiny else []), *(f"--only {name!r}" for name in only)])
    report: dict[str, Any] = {"command": command, "commit": commit(), "environment": environment(), "note": note, "results": {}}
    for name in only or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        report["results"][name] = {"about": benchmark.about, **run_alone(name, tiny, benchmark.limit * (SLOWER if tiny else 1))}
        for suffix, text in (("json", json.dumps(report, indent=1)), ("md", markdown(report))):
            with atomic_write(out / f"gpu.{suffix}") as path:
                path.write_text(text, encoding="utf-8")
        print(f"{name}: {summary(report['results'][name])}", file=sys.stderr)
    print(markdown(report))
    return int(any("error" in result for result in report["results"].values()))


def run_alone(name: str, tiny: bool, limit: float) -> dict[str, Any]:
    """What a process of its own measured, or its error."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--here", name, *(["--tiny"] if tiny else [])]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit:.0f} seconds"}
    wall = {"wall_s": time.perf_counter() - start}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"ended with {done.returncode}", **wall}
    return {**json.loads(done.stdout.splitlines()[-1]), **wall}


def summary(result: Mapping[str, Any]) -> str:
    """One line."""
    if "error" in result:
        return f"failed: {result['error']}"
    if "parts" in result:
        return "; ".join(f"{name}: {summary(found)}" for name, found in result["parts"].items())
    return ", ".join(f"{result[key]:.4g} {unit}" for key, unit in UNITS if result.get(key) is not None)


def markdown(report: Mapping[str, Any]) -> str:
    devices = ", ".join(device["name"] for device in report["environment"]["cuda"]) or "no GPU"
    where = f"{devices}, torch {report['environment']['torch']}"
    head = f"`{report['command']}` at commit {report['commit']}; {where}. {report['note']}"
    rows = []
    for name, result in report["results"].items():
        parts = result["parts"] if "parts" in result and "error" not in result else {"": result}
        rows += [f"| {name} | {result['about']}{part and ': '}{part} | {summary(found)} |" for part, found in parts.items()]
    return "\n".join([head.strip(), "", "| | what | measured |", "|---|---|---|", *rows, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Models of full size on one GPU.")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", default=[], help="run this; may be given more than once")
    parser.add_argument("--tiny", action="store_true", help="all of it at a size of seconds, without a GPU too")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of gpu.json and gpu.md")
    parser.add_argument("--note", default="", help="a remark to keep with the results")
    parser.add_argument("--here", choices=BENCHMARKS, help="run one in this process and print it as JSON")
    options = parser.parse_args(arguments)
    if options.here is not None:
        print(json.dumps(BENCHMARKS[options.here].run(options.tiny)))
        return 0
    return run_all(options.out, options.tiny, options.note, options.only)


if __name__ == "__main__":
    sys.exit(main())
