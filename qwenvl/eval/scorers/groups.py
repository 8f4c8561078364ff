"""Means over groups of questions that count alike, however many questions each has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qwenvl.eval.task import Pooled, Prediction


def group_mean(answers: Sequence[tuple[str, float]]) -> float:
    """The mean of the groups' means, of (group, what an answer earned)."""
    groups: dict[str, list[float]] = {}
    for group, earned in answers:
        groups.setdefault(group, []).append(earned)
    return sum(sum(found) / len(found) for found in groups.values()) / len(groups)


def mean_over_groups(predictions: Sequence[Prediction], is_right: Callable[[Prediction], bool]) -> Pooled:
    """Over the groups of the items (truth["group"])."""
    return Pooled(tuple((prediction.truth["group"], is_right(prediction)) for prediction in predictions), group_mean)
