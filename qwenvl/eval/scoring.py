"""Predictions of a benchmark -> its scores, all together and by group. No model is needed."""

from __future__ import annotations

from collections.abc import Sequence

from qwenvl.eval.benchmark import Benchmark
from qwenvl.eval.task import EvaluationError, Prediction, Score, Tally, summarise, summarise_pooled
from qwenvl.families.spec import Markup


def score_benchmark(benchmark: Benchmark, predictions: Sequence[Prediction], markup: Markup) -> dict[str, Score]:
    """Measure -> Score, over all of them. The order of predictions does not matter. A prediction with an error earns what an empty
    reply earns: nothing is left out in silence."""
    ordered = sorted(predictions, key=lambda prediction: prediction.id)
    tallies: dict[str, list[Tally]] = {}
    for prediction in ordered:
        for measure, tally in benchmark.score(prediction, markup).items():
            tallies.setdefault(measure, []).append(tally)
    scores = {measure: summarise(found) for measure, found in tallies.items() if sum(possible for _, possible in found) > 0}
    pooled = benchmark.pool(ordered, markup)
    if twice := scores.keys() & pooled.keys():
        raise EvaluationError(f"{benchmark.name}: {', '.join(sorted(twice))} is a measure of replies and of all of them together")
    return scores | {measure: summarise_pooled(found) for measure, found in pooled.items() if found.units}


def score_groups(benchmark: Benchmark, predictions: Sequence[Prediction], markup: Markup) -> dict[str, dict[str, Score]]:
    """Group -> measure -> Score, of predictions whose items have a group (a category, a subject)."""
    groups: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if group := prediction.truth.get("group"):
            groups.setdefault(group, []).append(prediction)
    return {group: score_benchmark(benchmark, found, markup) for group, found in sorted(groups.items())}
