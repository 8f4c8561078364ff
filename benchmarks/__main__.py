"""`python -m benchmarks [--quick] [--only ROW] [--out FOLDER]`: measure the rows, print a table, write JSON, Markdown and pictures.
The suite of one GPU is `python -m benchmarks.gpu`."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read once, when torch is imported

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks import llama, reference
from benchmarks.harness import Item, Result, measure, pin_to_one_core, probe
from benchmarks.report import Report, Row
from benchmarks.rows import ROWS, items
from qwenvl.runtime import environment

# With --check, a goal may be missed by this much before the run fails: what repeated runs on a shared machine differ by.
SLACK = 0.8


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed against peers, measured in one run.")
    parser.add_argument("--quick", action="store_true", help="fewer shapes: a few minutes")
    parser.add_argument("--tiny", action="store_true", help="at a size that says nothing, to see that all of it runs")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds at most (3)")
    parser.add_argument("--only", choices=ROWS, action="append", help="measure this row; may be given more than once")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of report.json, report.md and pictures")
    parser.add_argument("--check", action="store_true", help=f"exit 1 where less than {SLACK:.0%} of a goal is reached")
    parser.add_argument("--note", default="", help="a remark to keep with the results")
    options = parser.parse_args(arguments)

    command = f"python -m benchmarks {shlex.join(sys.argv[1:] if arguments is None else arguments)}".strip()
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    core = pin_to_one_core()
    peers = {"transformers": version("transformers"), "llama.cpp": llama.missing() or f"node-llama-cpp {llama.VERSION}"}
    around, before = {**environment(), **peers}, probe(options.tiny)
    report = Report(command, commit(), around, core, options.rounds, before, note=options.note, load_before=load)
    try:
        for number in options.only or ROWS:
            report.rows.append(measure_row(number, options.quick, options.tiny, options.rounds))
            report.probe_after = probe(options.tiny)
            report.write(options.out)  # what is done is kept if the rest is not
    finally:
        llama.close()
    print(report.markdown())
    short = [f"{goal.case}: {goal.what}" for row in report.rows for goal in row.goals if goal.share < SLACK]
    if options.check and short:
        print(f"less than {SLACK:.0%} of a goal: {'; '.join(short)}", file=sys.stderr)
    return int(any(row.error for row in report.rows) or bool(options.check and short))


def measure_row(number: str, quick: bool, tiny: bool, rounds: int) -> Row:
    """One row; a row that fails says so and does not end the run."""
    row, start, used = Row(number, ROWS[number].title), time.perf_counter(), cpu_seconds()
    try:
        for item in items(number, quick, tiny):
            for result in results_of(item, rounds):
                row.results.append(result)
                ratios = ", ".join(f"{ratio:.2f}x {peer}" for peer, ratio in result.speedups.items())
                print(f"{number} {result.name}: {ratios}", file=sys.stderr)
            del item  # and with it the models that no later one needs
    except Exception as error:  # of whichever peer
        row.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        print(f"{number}: {row.error}", file=sys.stderr)
    llama.unload()
    reference.forget()
    row.seconds, row.cpu_seconds = time.perf_counter() - start, cpu_seconds() - used
    print(f"{number}: {row.seconds:.0f} s, {row.cpu_seconds:.0f} of them on a core", file=sys.stderr)
    return row


def cpu_seconds() -> float:
    """Of this process, of those that it waited for, and of llama.cpp's."""
    return sum(os.times()[:4]) + llama.used()


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
