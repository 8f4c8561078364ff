"""How the harness measures: in turn, per unit of work, ours against each peer."""

from __future__ import annotations

import pytest

from benchmarks.harness import Case, measure, table


class Clock:
    """A clock that only moves when work is done."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> None:
        self.order.append(name)
        self.now += seconds


def two_variants(clock: Clock, repeats: int = 1, units: int = 1) -> Case:
    variants = {"ours": lambda: clock.work("ours", 0.1), "peer": lambda: clock.work("peer", 0.3)}
    return Case("case", "token", variants, units=units, repeats=repeats, agreement=lambda: 1e-6)


def test_variants_are_warmed_up_and_interleaved() -> None:
    clock = Clock()
    measure(two_variants(clock), rounds=3, clock=clock)
    assert clock.order == ["ours", "peer"] * 4


def test_times_are_milliseconds_per_unit() -> None:
    clock = Clock()
    result = measure(two_variants(clock, repeats=5, units=10), rounds=2, clock=clock)
    assert result.times["ours"] == pytest.approx([10.0, 10.0])
    assert result.speedups == pytest.approx({"peer": 3.0})


def test_one_slow_round_does_not_move_the_median() -> None:
    clock = Clock()
    delays = iter([0.1, 0.1, 9.0, 0.1])
    case = Case("case", "step", {"ours": lambda: clock.work("ours", next(delays)), "peer": lambda: clock.work("peer", 0.2)})
    assert measure(case, rounds=3, clock=clock).speedups["peer"] == pytest.approx(2.0)


def test_the_table_says_who_was_faster_and_whether_they_agree() -> None:
    clock = Clock()
    rows = table([measure(two_variants(clock), rounds=1, clock=clock)]).splitlines()
    assert rows[-1] == "| case | 100.00 ms/token | peer | 300.00 ms/token | 3.00x | 1e-06 |"
