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
"""What a variant runs. One that works in another process has a method `clock`: CPU seconds of that process so far."""
Probe = Mapping[str, float]


@dataclass(frozen=True)
class Against:
    """A peer that does the same work as one of our variants, and how many times ours it has to take at least, where that is a goal.
    aim: a goal that nobody has to reach."""

    ours: str
    peer: str
    at_least: float | None = None
    aim: float | None = None


@dataclass(frozen=True)
class Bound:
    """A goal for one of a case's figures, or for the time of one of its variants."""

    of: str
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        at_least = [] if self.at_least is None else [f"at least {self.at_least:g}"]
        at_most = [] if self.at_most is None else [f"at most {self.at_most:g}"]
        return f"{' and '.join(at_least + at_most)} {self.unit}".strip()


@dataclass(frozen=True)
class Floor:
    """What a machine cannot go below, per unit: bytes that have to be read, operations of matrix products in `dtype`."""

    bytes: float = 0.0
    flops: float = 0.0
    dtype: str = "bfloat16"

    def milliseconds(self, probe: Probe) -> float:
        read = self.bytes / (probe["read_gb_s"] * 1e6)
        return max(read, self.flops / (probe[f"gemm_{self.dtype}_gflop_s"] * 1e6)) if self.flops else read


@dataclass(frozen=True)
class Case:
    """One comparison. `variants` maps a name to what it runs; the first is ours, the others are peers that do the same work.

    Every run does `units` units of work (tokens decoded, pictures encoded); times are reported per unit.
    agreement: computes how far the outputs of ours and the first peer lie apart, where they have the same weights.
    figures: other numbers worth telling, by name, asked for after the measured runs.
    rounds: at most so many, where one takes long.
    warm_up: every variant runs once unmeasured first.
    against: who is compared with whom, where it is not the first with all others.
    floors: a variant's floor, or the name of the variant that is: a part of the work that nobody can do without.
    bounds: goals beside those of `against`.
    """

    name: str
    unit: str
    variants: Mapping[str, Run]
    units: int = 1
    repeats: int = 1
    agreement: Callable[[], float] | None = None
    figures: Callable[[], dict[str, float]] | None = None
    rounds: int | None = None
    warm_up: bool = True
    against: Sequence[Against] = ()
    floors: Mapping[str, Floor | str] = field(default_factory=dict)
    bounds: Sequence[Bound] = ()


@dataclass(frozen=True)
class Result:
    """CPU milliseconds per unit of every run, in order, and how far the outputs lie apart (None: not comparable). `quantity`: what
    was measured, where it is not milliseconds but, say, MiB; less is better. The rest as in Case."""

    name: str
    unit: str
    times: dict[str, list[float]]
    difference: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    quantity: str = "ms"
    against: Sequence[Against] = ()
    floors: Mapping[str, Floor | str] = field(default_factory=dict)
    bounds: Sequence[Bound] = ()

    @property
    def medians(self) -> dict[str, float]:
        return {name: statistics.median(times) for name, times in self.times.items()}

    @property
    def pairs(self) -> list[Against]:
        """Who is compared with whom: by default the first with all others, but for one that is only a floor."""
        ours, *peers = self.times
        return list(self.against) or [Against(ours, peer) for peer in peers if peer not in self.floors.values()]

    def ratio(self, pair: Against) -> float:
        return self.medians[pair.peer] / self.medians[pair.ours]

    @property
    def speedups(self) -> dict[str, float]:
        """Peer -> its median over ours: above 1, ours is faster, or takes less."""
        several = len({pair.ours for pair in self.pairs}) > 1
        return {f"{pair.ours} to {pair.peer}" if several else pair.peer: self.ratio(pair) for pair in self.pairs}

    def floor(self, variant: str, probe: Probe) -> float | None:
        """Milliseconds; None where none is known."""
        known = self.floors.get(variant)
        return self.medians[known] if isinstance(known, str) else None if known is None else known.milliseconds(probe)

    def goals(self) -> list[Goal]:
        found = []
        for pair in self.pairs:
            if pair.at_least is not None:
                ratio, wanted = self.ratio(pair), pair.at_least
                aim = "" if pair.aim is None else f" (aim {pair.aim:g}x)"
                text = f"at least {wanted:g}x{aim}"
                found.append(Goal(self.name, f"{pair.ours} against {pair.peer}", ratio, "x", text, ratio / wanted))
        known = {**self.medians, **self.speedups, **self.figures}
        for bound in self.bounds:
            value = known[bound.of]
            share = min(
                (value / bound.at_least) if bound.at_least else float("inf"),
                (bound.at_most / max(value, 1e-12)) if bound.at_most is not None else float("inf"),
            )
            found.append(Goal(self.name, bound.of, value, bound.unit, str(bound), share))
        return found

    def as_dict(self, probe: Probe | None = None) -> dict[str, Any]:
        minima, quantity = {name: min(times) for name, times in self.times.items()}, self.quantity.lower()
        floors = {name: self.floor(name, probe) for name in self.floors} if probe else {}
        return {
            "name": self.name, "unit": self.unit, f"median_{quantity}": self.medians, f"minimum_{quantity}": minima,
            "speedups": self.speedups, "floors": floors, "difference": self.difference, "figures": self.figures,
            "goals": [goal.as_dict() for goal in self.goals()], f"times_{quantity}": self.times,
        }  # fmt: skip


@dataclass(frozen=True)
class Goal:
    """A number that was measured, and what it should be. share: of the way there; 1 or more is reached."""

    case: str
    what: str
    value: float
    unit: str
    wanted: str
    share: float

    @property
    def reached(self) -> bool:
        return self.share >= 1.0

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "reached": self.reached}


Item = Case | Callable[[int], list[Result]]
"""What a suite is made of: a comparison, or what measures by itself in so many rounds."""


def measure(case: Case, rounds: int, clock: Callable[[], float] = time.process_time) -> Result:
    """Run every variant once unmeasured, unless the case says otherwise, then `rounds` times in turn."""
    if rounds < 1:
        raise ValueError(f"{rounds} rounds: give at least 1")
    for run in case.variants.values() if case.warm_up else ():
        run()
    times: dict[str, list[float]] = {name: [] for name in case.variants}
    clocks = {name: getattr(run, "clock", clock) for name, run in case.variants.items()}
    with _no_garbage_collection():
        for _ in range(min(rounds, case.rounds or rounds)):
            for name, run in case.variants.items():
                start = clocks[name]()
                for _ in range(case.repeats):
                    run()
                times[name].append((clocks[name]() - start) * 1e3 / (case.repeats * case.units))
    difference, figures = case.agreement() if case.agreement else None, case.figures() if case.figures else {}
    return Result(
        case.name, case.unit, times, difference, figures, against=case.against, floors=case.floors, bounds=case.bounds,
    )  # fmt: skip


class Kept:
    """A run whose last output stays, so that outputs can be compared without another run."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self.last: Any = None

    def __call__(self) -> None:
        self.last = self.run()


def pin_to_one_core() -> int | None:
    """Restrict this process to one core and torch to one thread; return the core, or None where pinning is not to be had."""
    import torch

    torch.set_num_threads(1)
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))  # the first core is where most systems put interrupts
    os.sched_setaffinity(0, {core})
    return core


def probe(tiny: bool = False) -> dict[str, float]:
    """What this core can do right now: GB/s read from memory, GFLOP/s of a matrix product in float32 and bfloat16."""
    import torch

    generator = torch.Generator().manual_seed(0)
    large = torch.ones((1 if tiny else 64) << 20)  # 256 MB: larger than any cache
    report = {"read_gb_s": large.nbytes / 1e9 / _best_seconds(large.sum)}
    side = 128 if tiny else 1024
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(side, side, generator=generator).to(dtype) for _ in range(2))
        seconds = _best_seconds(lambda a=a, b=b: a @ b)  # type: ignore[misc]
        report[f"gemm_{str(dtype).removeprefix('torch.')}_gflop_s"] = 2 * side**3 / 1e9 / seconds
    return {key: round(value, 1) for key, value in report.items()}


def best_of(*probes: Probe) -> dict[str, float]:
    """The most that was seen of each: what floors are worked out from."""
    return {key: max(found[key] for found in probes if found) for key in probes[0]}


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
