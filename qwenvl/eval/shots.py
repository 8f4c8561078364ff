"""Examples before a question. Never from the split that is asked, nor with a picture that it shows."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from qwenvl.eval.benchmark import Benchmark, Item, Shots, file_names
from qwenvl.eval.task import EvaluationError

MOST_READ = 200_000
"""Items of the split of examples that are read at most: those of VQAv2 and OCR-VQA are hundreds of thousands."""


def draw_shots(benchmark: Benchmark, folder: Path, split: str, shots: Shots) -> Callable[[Item], list[Item]]:
    """Item -> its examples: drawn anew for each, from a generator seeded by the run's seed and the item's id, so that neither the
    order of questions nor the number of ranks changes them.

    Raises EvaluationError where the benchmark has no split for examples, or where too few are left.
    """
    if not shots.count:
        return lambda item: []
    source = benchmark.splits[split].shots
    if source is None or source == split:
        raise EvaluationError(f"{benchmark.name}: no split to take examples from for {split}; leave --shots out")
    pool = list(islice(benchmark.items(folder, source), MOST_READ))

    def draw(item: Item) -> list[Item]:
        shown = pictures_of(item)
        rng = random.Random(f"{shots.seed}/{item.id}")
        chosen: list[Item] = []
        for candidate in rng.sample(pool, len(pool)) if len(pool) <= 4 * shots.count else _endless(rng, pool):
            if len(chosen) == shots.count:
                break
            if candidate.answer and candidate not in chosen and not shown & pictures_of(candidate):
                chosen.append(candidate)
        if len(chosen) < shots.count:
            found = f"{source} has {len(chosen)} examples for {item.id}, and {shots.count} are wanted"
            raise EvaluationError(f"{benchmark.name}: {found}; give fewer --shots")
        return chosen

    return draw


def _endless(rng: random.Random, pool: list[Item]) -> Any:
    for _ in range(50 * len(pool)):
        yield pool[rng.randrange(len(pool))]


def pictures_of(item: Item) -> set[str]:
    """What tells its pictures from others: a split of examples must not show the test's own."""
    return set(file_names(item))
