"""`python -m benchmarks [--quick] [--only NAME] [--out FOLDER]`: run the comparisons, print a table, write JSON and Markdown.
With --gpu-training: training at full size on one GPU, see training_gpu.py."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read once, when torch is imported

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks import attention, decode, encode, head, native, packer, serving, training, training_gpu
from benchmarks.harness import Item, Report, Result, measure, pin_to_one_core, probe
from qwenvl.runtime import atomic_write, environment

SUITES: dict[str, Callable[[bool], Iterable[Item]]] = {
    "encode": encode.cases, "native": native.cases, "decode": decode.cases, "attention": attention.cases,
    "training": training.cases, "head": head.cases, "packer": packer.cases, "serving": serving.cases,
}  # fmt: skip

# With --check, a peer may be this much faster before the run fails: what repeated runs on a shared machine differ by.
SLACK = 1.25


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed against peers, measured in one run.")
    parser.add_argument("--quick", action="store_true", help="fewer shapes, 3 rounds: a few minutes")
    parser.add_argument("--rounds", type=int, help="measured rounds (7; 3 with --quick)")
    parser.add_argument("--only", choices=SUITES, action="append", help="run this suite; may be given more than once")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of report.json and report.md")
    parser.add_argument("--check", action="store_true", help=f"exit 1 where a peer is more than {SLACK}x as fast")
    parser.add_argument("--note", default="", help="a remark to keep with the results")
    parser.add_argument("--gpu-training", action="store_true", help="training at full size on one GPU instead; about 10 minutes")
    parser.add_argument("--tiny", action="store_true", help="with --gpu-training: all of it at a size of seconds, without a GPU")
    options = parser.parse_args(arguments)
    if options.gpu_training:
        return training_gpu.run_all(options.out, options.tiny, options.note)

    rounds = options.rounds or (3 if options.quick else 7)
    core = pin_to_one_core()
    command = f"python -m benchmarks {shlex.join(sys.argv[1:] if arguments is None else arguments)}".strip()
    machine = {**environment(), "transformers": version("transformers")}
    report = Report(command, commit(), machine, core, rounds, probe(), note=options.note)
    for suite in options.only or SUITES:
        for item in SUITES[suite](options.quick):
            for result in results_of(item, rounds):
                report.results.append(result)
                print(f"{result.name}: {', '.join(f'{s:.2f}x {peer}' for peer, s in result.speedups.items())}", file=sys.stderr)
    report.probe_after = probe()

    with atomic_write(options.out / "report.json") as path:
        path.write_text(json.dumps(report.as_dict(), indent=1), encoding="utf-8")
    with atomic_write(options.out / "report.md") as path:
        path.write_text(report.markdown(), encoding="utf-8")
    print(report.markdown())
    slow = [result.name for result in report.results if min(result.speedups.values()) < 1 / SLACK]
    if options.check and slow:
        print(f"slower than a peer: {'; '.join(slow)}", file=sys.stderr)
        return 1
    return 0


def results_of(item: Item, rounds: int) -> list[Result]:
    return item(rounds) if callable(item) else [measure(item, rounds)]


def commit() -> str:
    """The checkout's commit, marked where files differ from it."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return result.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
