"""What an evaluation is made of: questions, predictions, tallies, and the scores that they add up to.

A scorer gives, for one reply, what was earned out of what could be (`Tally`), per measure; a score is the sum of the earned
over the sum of the possible, over all questions of a (condition, measure, language).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from qwenvl.types import QwenVLError, Sample, Style

Tally = tuple[float, float]
"""(earned, possible) of one reply under one measure. A measure that does not apply to a question is left out."""

CONFIDENCE_Z = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""
RESAMPLES = 1000
POOLED_RESAMPLES = 200
"""Of measures that are no sums, such as mean average precision: each costs as much as the score."""
DRAWN_AT_ONCE = 1 << 22
"""Questions that are drawn at a time: all resamples of 200,000 questions would be gigabytes."""
CONSTANT_ANSWERS = 32
"""How many of the most frequent reference answers are tried as the one answer to everything."""


class EvaluationError(QwenVLError):
    """An evaluation that cannot run or be scored."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How an answer is drawn; greedy unless a temperature or top_p is given.

    begin: what the answer starts with, in the model's own markup, as if it had written it. rank: nothing is written; the options
    are ranked by the mean log-likelihood of their tokens after the prompt.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    begin: str = ""
    rank: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a model. `sample` ends in the reference answer, which is not shown; `truth` is plain data for the scorer.

    style: that of the wording, None where it is the model's own. numbered: whether its pictures are ("Picture 1: "), None where the
    family decides. options: what is ranked where decoding.rank says so. digest: of the item, whatever the wording and the model.
    """

    id: str
    task: str
    condition: str
    language: str
    sample: Sample
    truth: dict[str, Any]
    decoding: Decoding
    style: Style | None = None
    numbered: bool | None = None
    options: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's reply to one question: its text with markup, and why it ended. ranked: mean log-likelihood of each option.

    pixels: (width, height) of each picture or frame as the model saw it. seconds: of its batch, shared out. error: why there is no
    reply, where a server gave none.
    """

    text: str
    finish_reason: str = "stop"
    ranked: tuple[float, ...] = ()
    prompt: str = ""
    prompt_tokens: int = 0
    image_tokens: int = 0
    reply_tokens: int = 0
    pixels: tuple[tuple[int, int], ...] = ()
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One line of predictions.jsonl: all that a scorer needs, the words for a reader, and how the reply came about."""

    id: str
    task: str
    condition: str
    language: str
    question: str
    reference: str
    reply: str
    finish_reason: str
    truth: dict[str, Any]
    ranked: Sequence[float] = ()
    prompt: str = ""
    prompt_tokens: int = 0
    image_tokens: int = 0
    reply_tokens: int = 0
    pixels: Sequence[Sequence[int]] = ()
    decoding: str = ""
    seconds: float = 0.0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """What is empty is left out."""
        optional = {"ranked", "prompt", "prompt_tokens", "image_tokens", "reply_tokens", "pixels", "decoding", "seconds", "error"}
        return {name: value for name, value in asdict(self).items() if value or name not in optional}


def frame_of(truth: Mapping[str, Any]) -> tuple[int, int] | None:
    """(width, height) of the resized picture that a question's places are written in, where they are written in pixels."""
    return (truth["frame"][0], truth["frame"][1]) if "frame" in truth else None


Scorer = Callable[[Prediction], Mapping[str, Tally]]
"""Prediction -> {measure: (earned, possible)}. Pure: no model, no file, no clock."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """A measure that is no sum over questions: units (a question, a picture with all that was asked of it), and what they are
    together. `value` must take any selection of the units, with repetitions: its interval is a bootstrap over them."""

    units: tuple[Any, ...]
    value: Callable[[Sequence[Any]], float]


@dataclass(frozen=True, slots=True)
class Score:
    """A share with its 95 % interval. `n` counts questions; `possible` what they could earn (phrases, boxes, answers)."""

    value: float
    n: int
    possible: float
    low: float
    high: float
    interval: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(tallies: Sequence[Tally], seed: int = 0) -> Score:
    """The ratio of sums of some tallies, with its interval.

    Right-or-wrong measures of one point each get Wilson's interval (Wilson, 1927), and so does a measure that every question
    earned in full or none at all, whose resamples would all be alike; others get a percentile bootstrap over questions (1000
    resamples, drawn from `seed`). Raises EvaluationError when nothing could be earned.
    """
    earned = np.array([tally[0] for tally in tallies], dtype=np.float64)
    possible = np.array([tally[1] for tally in tallies], dtype=np.float64)
    if not possible.sum() > 0:
        raise EvaluationError("nothing to score: no question of this measure could earn anything")
    value = float(earned.sum() / possible.sum())
    whole = np.all((earned == 0) | (earned == possible))
    if whole and (np.all(possible == 1) or value in (0.0, 1.0)):
        low, high = wilson(round(value * len(tallies)), len(tallies))
        return Score(value, len(tallies), float(possible.sum()), low, high, "wilson")
    drawn = [(earned[draw].sum(axis=1), possible[draw].sum(axis=1)) for draw in resamples(len(tallies), seed)]
    gained, sums = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    # A resample may hold only questions that could earn nothing; it says nothing and is left out.
    ratios = gained[sums > 0] / sums[sums > 0]
    low, high = (float(bound) for bound in np.quantile(ratios, (0.025, 0.975)))
    return Score(value, len(tallies), float(possible.sum()), low, high, "bootstrap")


def resamples(count: int, seed: int) -> Iterator[np.ndarray]:
    """RESAMPLES rows of `count` indices each, drawn with replacement; some rows at a time."""
    rng = np.random.default_rng(seed)
    rows = max(DRAWN_AT_ONCE // count, 1)
    for begin in range(0, RESAMPLES, rows):
        yield rng.integers(0, count, size=(min(rows, RESAMPLES - begin), count))


def summarise_pooled(pooled: Pooled, seed: int = 0) -> Score:
    """The value of all units, with the percentile bootstrap over them. Raises EvaluationError where there is no unit."""
    if not pooled.units:
        raise EvaluationError("nothing to score: no unit of this measure was answered")
    value, count = pooled.value(pooled.units), len(pooled.units)
    rng = np.random.default_rng(seed)
    resampled = [pooled.value([pooled.units[i] for i in rng.integers(0, count, count)]) for _ in range(POOLED_RESAMPLES)]
    low, high = (float(bound) for bound in np.quantile(resampled, (0.025, 0.975)))
    return Score(value, count, float(count), low, high, "bootstrap")


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion: within [0, 1], and of some width at 0 and 1 too."""
    share, z2 = hits / n, CONFIDENCE_Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = CONFIDENCE_Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


Scores = dict[str, dict[str, dict[str, Score]]]
"""condition -> measure -> language -> Score"""


def score_all(predictions: Sequence[Prediction], scorer: Scorer) -> Scores:
    """Score saved predictions. The order of the lines does not matter."""
    tallies: dict[tuple[str, str, str], list[Tally]] = {}
    for prediction in sorted(predictions, key=lambda prediction: prediction.id):
        for measure, tally in scorer(prediction).items():
            tallies.setdefault((prediction.condition, measure, prediction.language), []).append(tally)
    scores: Scores = {}
    for (condition, measure, language), collected in sorted(tallies.items()):
        if sum(possible for _, possible in collected) > 0:
            scores.setdefault(condition, {}).setdefault(measure, {})[language] = summarise(collected)
    return scores


def chance_levels(predictions: Sequence[Prediction], scorer: Scorer) -> dict[str, dict[str, dict[str, float]]]:
    """condition -> measure -> language -> what a model that does not look at the picture can get.

    It is the score of the best single answer given to every question of a task, out of the references that occur most often:
    one half where yes and no are balanced, the share of the commonest colour or count, of the luckiest fixed box.
    """
    groups: dict[tuple[str, str, str], list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault((prediction.condition, prediction.task, prediction.language), []).append(prediction)
    levels: dict[str, dict[str, dict[str, float]]] = {}
    for (condition, _, language), group in sorted(groups.items()):
        references = Counter(prediction.reference for prediction in sorted(group, key=lambda prediction: prediction.id))
        for answer, _ in references.most_common(CONSTANT_ANSWERS):
            given = [scorer(replace(prediction, reply=answer)) for prediction in group]
            for measure in {measure for tallies in given for measure in tallies}:
                tallies = [tallies[measure] for tallies in given if measure in tallies]
                possible = sum(tally[1] for tally in tallies)
                level = sum(tally[0] for tally in tallies) / possible if possible > 0 else 0.0
                best = levels.setdefault(condition, {}).setdefault(measure, {})
                best[language] = max(best.get(language, 0.0), level)
    return levels
