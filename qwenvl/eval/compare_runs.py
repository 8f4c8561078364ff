"""Two runs side by side: on which questions they differ, how sure their difference is, and what else differs between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwenvl.eval.runs import ScoredRun
from qwenvl.eval.task import EvaluationError, Prediction, resamples

TOLD = ("model", "fingerprint", "prompt", "decoding", "style", "shots", "pixels", "data", "limit", "version", "versions")
"""Parts of run.json that may explain a difference, the weightiest first."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one measure over the questions that both runs answered: B's value less A's, with its 95 % interval. p: how often a
    resample has the other sign, twice; small where the difference is more than chance."""

    measure: str
    first: float
    second: float
    low: float
    high: float
    p: float
    n: int

    @property
    def value(self) -> float:
        return self.second - self.first


def paired(first: ScoredRun, second: ScoredRun, seed: int = 0) -> Difference:
    """The paired bootstrap over questions (Efron and Tibshirani, An Introduction to the Bootstrap, 1993) of the main measure.

    Raises EvaluationError for runs of two benchmarks or splits, and for runs that share no question.
    """
    _check(first, second)
    benchmark, measure = first.benchmark, first.benchmark.measure
    ours, theirs = _by_id(first), _by_id(second)
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise EvaluationError(f"{first.folder} and {second.folder} share no answered question; compare runs of one split")
    before, after = _earned(first, shared), _earned(second, shared)
    if before is None or after is None:
        raise EvaluationError(f"{benchmark.name}: {measure} is known of no single question; compare the intervals of the reports")
    whole = np.arange(len(shared))[None]
    one, other = ratio(before, whole)[0], ratio(after, whole)[0]
    spread = np.concatenate([ratio(after, draws) - ratio(before, draws) for draws in resamples(len(shared), seed)])
    spread = spread[np.isfinite(spread)]  # a resample of questions that could earn nothing says nothing
    if not len(spread):
        raise EvaluationError(f"{benchmark.name}: no question that both runs answered could earn any {measure}")
    low, high = (float(bound) for bound in np.quantile(spread, (0.025, 0.975)))
    p = 2 * min(float((spread <= 0).mean()), float((spread >= 0).mean()))
    return Difference(measure, float(one), float(other), low, high, min(p, 1.0), len(shared))


Points = np.ndarray
"""(questions, 2): earned and possible."""


def ratio(points: Points, draws: np.ndarray) -> np.ndarray:
    """draws (resamples, questions) -> the ratio of sums of each resample; nan where nothing could be earned."""
    sums = points[draws].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = sums[:, 0] / sums[:, 1]
    return found


def _earned(run: ScoredRun, names: Sequence[str]) -> Points | None:
    """Of these predictions of a run; None where none has points of its own."""
    found = [run.points.get(name) for name in names]
    return np.array([tally or (0.0, 0.0) for tally in found], dtype=np.float64) if any(found) else None


def changed_answers(first: ScoredRun, second: ScoredRun) -> list[tuple[Prediction, Prediction, float, float]]:
    """Questions that one run earned more on than the other, most different first: (A's, B's, A's points, B's points)."""
    _check(first, second)
    ours, theirs = _by_id(first), _by_id(second)
    shared = sorted(ours.keys() & theirs.keys())
    points = [_earned(run, shared) for run in (first, second)]
    if points[0] is None or points[1] is None:
        differing = [name for name in shared if ours[name].reply != theirs[name].reply]
        return [(ours[name], theirs[name], 0.0, 0.0) for name in differing]
    rows = [
        (ours[name], theirs[name], float(points[0][index][0]), float(points[1][index][0])) for index, name in enumerate(shared)
    ]
    return sorted((row for row in rows if row[2] != row[3]), key=lambda row: (-abs(row[2] - row[3]), row[0].id))


def what_differs(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Dotted parts of the two run.json that are not the same, with both values."""
    found: list[tuple[str, Any, Any]] = []
    for name in TOLD:
        found += _different(name, first.get(name), second.get(name))
    return found


def _different(name: str, one: Any, other: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = sorted({*one, *other})
        return [row for key in keys for row in _different(f"{name}.{key}", one.get(key), other.get(key))]
    return [] if one == other else [(name, one, other)]


def _by_id(run: ScoredRun) -> dict[str, Prediction]:
    return {prediction.id: prediction for prediction in run.predictions}


def _check(first: ScoredRun, second: ScoredRun) -> None:
    for key in ("task", "split"):
        if first.run[key] != second.run[key]:
            asked = f"{first.run['task']} {first.run['split']} and {second.run['task']} {second.run['split']}"
            raise EvaluationError(f"{first.folder} and {second.folder} asked {asked}; compare runs of one benchmark and split")
