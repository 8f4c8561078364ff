"""C11: 100,000 ragged samples into rows with two budgets, tokens and patches: ours, which sees a pool of 64 at a time, against
greedy first fit decreasing, which sees all of them.

Fill is how full the rows are of what they run out of first: the rows that one of the two budgets needs at least, over those used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Bound, Case
from qwenvl.data.bins import pack_lengths
from qwenvl.data.packed_rows import PackedLane, PackRules, Waiting
from qwenvl.processing.measure import Measure

COUNT = 100_000
AT_TINY_SIZE = {"count": 2000}
# Tokens and patches of a row. A picture of native resolution has four patches for every visual token.
BUDGETS = ((2048, 6144), (8192, 20480))
Rows = list[list[int]]


class Lengths(NamedTuple):
    """Tokens and patches of each sample."""

    tokens: list[int]
    patches: list[int]


def ragged(count: int = COUNT, seed: int = 0) -> Lengths:
    """Three in four samples have a picture. Text of about 90 tokens and pictures of about 180, both with a long tail."""
    random = np.random.default_rng(seed)
    text = np.clip(random.lognormal(4.5, 0.8, count), 8, 1000).astype(int)
    visual = np.clip(random.lognormal(5.2, 0.7, count), 16, 1024).astype(int) * (random.random(count) < 0.75)
    return Lengths((text + visual + 2 * (visual > 0)).tolist(), (4 * visual).tolist())


class Stream(PackedLane):
    """The lane of packed rows that training has, over samples that are nothing but their lengths, again and again."""

    def __init__(self, lengths: Lengths, tokens: int, patches: int) -> None:
        self.lengths, self.rules = lengths, PackRules("raw", tokens, patches)
        self.lane, self.lanes, self.read = 0, 1, 0
        self.pool: list[Waiting] = []

    def _admit(self, number: int) -> bool:
        place = number % len(self.lengths.tokens)
        nothing: Any = None
        self.pool.append(Waiting(number, nothing, Measure(self.lengths.tokens[place], 0, self.lengths.patches[place])))
        return True

    def rows(self) -> Rows:
        """Until every sample was read once."""
        rows: Rows = []
        while self.read < len(self.lengths.tokens):
            self._fill_pool()
            rows.append([waiting.number % len(self.lengths.tokens) for waiting in self._take()])
        return rows


def first_fit_decreasing(lengths: Lengths, tokens: int, patches: int) -> Rows:
    """Each sample, largest share of a budget first, into the first row with room for it."""
    shares = np.maximum(np.array(lengths.tokens) / tokens, np.array(lengths.patches) / patches)
    room = np.empty((2, len(shares)), dtype=np.int64)
    rows: Rows = []
    for index in np.argsort(-shares, kind="stable").tolist():
        wanted = lengths.tokens[index], lengths.patches[index]
        fits = (room[0, : len(rows)] >= wanted[0]) & (room[1, : len(rows)] >= wanted[1])
        row = int(fits.argmax()) if len(rows) else 0
        if not len(rows) or not fits[row]:
            row = len(rows)
            rows.append([])
            room[:, row] = tokens, patches
        rows[row].append(index)
        room[:, row] -= wanted
    return rows


def fill(lengths: Lengths, rows: Sequence[Sequence[int]], tokens: int, patches: int | None = None) -> float:
    taken = [index for row in rows for index in row]
    needed = sum(lengths.tokens[index] for index in taken) / tokens
    if patches is not None:
        needed = max(needed, sum(lengths.patches[index] for index in taken) / patches)
    return needed / len(rows)


def cases(quick: bool, count: int = COUNT) -> Iterator[Case]:
    lengths = ragged(count // 10 if quick else count)
    for budgets in BUDGETS[1:] if quick else BUDGETS:
        yield of_stream(lengths, *budgets)
    yield of_list(lengths, BUDGETS[-1][0])


def of_stream(lengths: Lengths, tokens: int, patches: int) -> Case:
    name = f"packing {len(lengths.tokens)} samples as they come, rows of {tokens} tokens and {patches} patches"
    return compare(name, lengths, lambda: Stream(lengths, tokens, patches).rows(), tokens, patches)


def of_list(lengths: Lengths, tokens: int) -> Case:
    """All lengths known, one budget."""
    name = f"packing {len(lengths.tokens)} known lengths, rows of {tokens} tokens"
    return compare(name, lengths, lambda: pack_lengths(lengths.tokens, tokens), tokens, None)


def compare(name: str, lengths: Lengths, ours: Callable[[], Rows], tokens: int, patches: int | None) -> Case:
    found: dict[str, Rows] = {}

    def mine() -> None:
        found["qwenvl"] = ours()

    def theirs() -> None:
        # No sample has more than four patches a token, so that four for every token of a row are no budget.
        found["first fit decreasing"] = first_fit_decreasing(lengths, tokens, patches or 4 * tokens)

    def figures() -> dict[str, float]:
        return {f"fill of {who}": fill(lengths, rows, tokens, patches) for who, rows in found.items()}

    bounds = [Bound("fill of qwenvl", at_least=0.98), Bound("qwenvl", at_most=1000.0, unit="ms")]
    return Case(name, "pass", {"qwenvl": mine, "first fit decreasing": theirs}, figures=figures, bounds=bounds)
