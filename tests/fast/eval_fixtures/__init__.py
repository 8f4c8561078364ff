"""A few rows of each benchmark in the very format of its files, and what the best and the worst possible model score on them.

Each module here stands beside one of `qwenvl/eval/tasks` and has a dictionary FIXTURES: name -> Fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwenvl.eval.task import Prediction


@dataclass(frozen=True)
class Fixture:
    """build: writes the files as they are distributed into a folder. split: the one that is asked. best, worst: measure -> value
    (as a share, before `scale`) of a model that answers from the key, and of one that answers `nonsense`."""

    build: Callable[[Path], None]
    split: str
    best: Mapping[str, float]
    worst: Mapping[str, float]
    nonsense: str = "zzz"
    questions: int = 0
    """How many there must be; 0: any number."""
    submission: tuple[str, ...] = field(default=())
    """Names of the files that are handed in, where answers are withheld."""
    judged: Callable[[Sequence[Prediction]], Sequence[Prediction]] = lambda predictions: predictions
    """What a judge would have said of them, where one is asked."""
