"""How everything here is measured, so that a number means something on a shared machine.

One thread, pinned to one core; CPU time of the process, not wall time; variants interleaved (A B A B …), so that a slow minute of
the machine slows all of them; medians; peers in the same run; and a probe of the machine's bandwidth and matrix product
before and after, so that two reports can be compared. Ratios inside a run are the result, absolute times are not.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One comparison. `variants` maps a name to what it runs; the first is ours, the others are peers that do the same work.

    Every run does `units` units of work (tokens decoded, pictures encoded); times are reported per unit.
    agreement: computes how far the outputs of ours and the first peer lie apart, where they have the same weights.
    figures: other numbers worth telling, by name, asked for after the measured runs.
    """

    name: str
    unit: str
    variants: Mapping[str, Run]
    units: int = 1
    repeats: int = 1
    agreement: Callable[[], float] | None = None
    figures: Callable[[], dict[str, float]] | None = None


@dataclass(frozen=True)
class Result:
    """CPU milliseconds per unit of every run, in order, and how far the outputs lie apart (None: not comparable). `quantity`: what
    was measured, where it is not milliseconds but, say, MiB; less is better."""

    name: str
    unit: str
    times: dict[str, list[float]]
    difference: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    quantity: str = "ms"

    @property
    def medians(self) -> dict[str, float]:
        return {name: statistics.median(times) for name, times in self.times.items()}

    @property
    def speedups(self) -> dict[str, float]:
        """Peer -> its median over ours: above 1, ours is faster, or takes less."""
        ours, *peers = self.medians
        return {peer: self.medians[peer] / self.medians[ours] for peer in peers}

    def as_dict(self) -> dict[str, Any]:
        minima, quantity = {name: min(times) for name, times in self.times.items()}, self.quantity.lower()
        return {
            "name": self.name, "unit": self.unit, f"median_{quantity}": self.medians, f"minimum_{quantity}": minima,
            "speedups": self.speedups, "difference": self.difference, "figures": self.figures, f"times_{quantity}": self.times,
        }  # fmt: skip


Item = Case | Callable[[int], list[Result]]
"""What a suite is made of: a comparison, or what measures by itself in so many rounds."""


def measure(case: Case, rounds: int, clock: Callable[[], float] = time.process_time) -> Result:
    """Run every variant once unmeasured, then `rounds` times in turn."""
    if rounds < 1:
        raise ValueError(f"{rounds} rounds: give at least 1")
    for run in case.variants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in case.variants}
    with _no_garbage_collection():
        for _ in range(rounds):
            for name, run in case.variants.items():
                start = clock()
                for _ in range(case.repeats):
                    run()
                times[name].append((clock() - start) * 1e3 / (case.repeats * case.units))
    difference, figures = case.agreement() if case.agreement else None, case.figures() if case.figures else {}
    return Result(case.name, case.unit, times, difference, figures)


def pin_to_one_core() -> int | None:
    """Restrict this process to one core and torch to one thread; return the core, or None where pinning is not to be had."""
    import torch

    torch.set_num_threads(1)
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))  # the first core is where most systems put interrupts
    os.sched_setaffinity(0, {core})
    return core


def probe() -> dict[str, float]:
    """What this core can do right now: GB/s read from memory, GFLOP/s of a matrix product in float32 and bfloat16."""
    import torch

    generator = torch.Generator().manual_seed(0)
    large = torch.randn(64 << 20, generator=generator)  # 256 MB: larger than any cache
    report = {"read_gb_s": large.nbytes / 1e9 / _best_seconds(large.sum)}
    side = 1024
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(side, side, generator=generator).to(dtype) for _ in range(2))
        seconds = _best_seconds(lambda a=a, b=b: a @ b)  # type: ignore[misc]
        report[f"gemm_{str(dtype).removeprefix('torch.')}_gflop_s"] = 2 * side**3 / 1e9 / seconds
    return {key: round(value, 1) for key, value in report.items()}


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table, one row per peer."""
    lines = ["| case | ours | peer | peer's | times ours | outputs differ by |", "|---|---|---|---|---|---|"]
    for result in results:
        ours, *_ = result.medians
        for peer, speedup in result.speedups.items():
            difference = "—" if result.difference is None else f"{result.difference:.0e}" if result.difference else "0"
            mine, theirs = (f"{result.medians[name]:.2f} {result.quantity}/{result.unit}" for name in (ours, peer))
            lines.append(f"| {result.name} | {mine} | {peer} | {theirs} | {speedup:.2f}x | {difference} |")
    return "\n".join(lines)


def figures(results: Sequence[Result]) -> str:
    """What else is worth telling, as a Markdown list; empty where there is nothing."""
    told = [(result.name, ", ".join(f"{name} {value:.4g}" for name, value in result.figures.items())) for result in results]
    return "\n".join(f"- {name}: {line}" for name, line in told if line)


@dataclass
class Report:
    """A whole run, ready to be written down."""

    command: str
    commit: str
    environment: dict[str, Any]
    core: int | None
    rounds: int
    probe_before: dict[str, float]
    probe_after: dict[str, float] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "results": [result.as_dict() for result in self.results]}

    def markdown(self) -> str:
        cpu = self.environment["cpu"]
        head = (
            f"`{self.command}` at commit {self.commit}; {cpu['model']} ({' '.join(cpu['flags'])}), one thread on core {self.core}, "
            f"CPU time, median of {self.rounds} interleaved rounds; torch {self.environment['torch']}, "
            f"transformers {self.environment['transformers']}.\n\n"
            f"The machine before and after: {self.probe_before} and {self.probe_after}."
        )
        parts = [head, self.note, table(self.results), figures(self.results)]
        return "\n\n".join(part for part in parts if part) + "\n"


def _best_seconds(run: Run, times: int = 5) -> float:
    run()
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
