"""What is read from a finished run of an ablation: losses, seconds, scores; one number each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from qwenvl.train.metrics import read_metrics
from qwenvl.train.sight.evaluations import read_evaluations

FIRST_STEPS = 20
LAST_PART = 0.2

GROUPS = {
    "caption": ("caption_recall",),
    "questions": ("what", "count", "where", "colour", "yes_no", "left_right", "above_below"),
    "naming": ("naming",),
    "places": ("referring_iou", "find_text_iou"),
    "reading": ("ocr_scene_similarity", "ocr_text_similarity"),
}
"""Means of scores of the task `scenes`, as `qwenvl eval` calls them."""


@dataclass(frozen=True)
class Outcome:
    """A finished run. records: lines of metrics.jsonl; evaluations: of evaluations.jsonl; losses: on rows kept out of training."""

    records: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    losses: Mapping[str, float] = field(default_factory=dict)

    def loss(self, begin: float, end: float) -> float | None:
        """Mean loss of the tokens over logged steps begin < step <= end, where steps count from 1."""
        inside = [record["losses"]["next_token"] for record in self.records if begin < record["step"] + 1 <= end]
        return mean(inside) if inside else None

    @property
    def steps(self) -> int:
        return int(self.records[-1]["step"]) + 1 if self.records else 0

    def scores(self, names: Sequence[str]) -> float | None:
        """Mean of some scores of the last evaluation."""
        found = [self.evaluations[-1]["scores"].get(name) for name in names] if self.evaluations else []
        there = [score for score in found if score is not None]
        return mean(there) if there else None

    def until(self, step: int) -> Outcome:
        """What was known after so many steps."""
        earlier = [record for record in self.records if record["step"] < step]
        return Outcome(earlier, [one for one in self.evaluations if one["step"] <= step])


@dataclass(frozen=True)
class Measure:
    """title: of its column. form: how one of its numbers is written."""

    title: str
    read: Callable[[Outcome], float | None]
    form: str = "{:.3f}"

    def write(self, value: float | None) -> str:
        return "–" if value is None else self.form.format(value)


def _seconds(outcome: Outcome) -> float | None:
    """Of a step, without the making of its rows, which all variants share. The first line has the slow start in it."""
    records = outcome.records[1:] or outcome.records
    return median(record["step_seconds"] * (1 - record["data_share"]) for record in records) if records else None


def _visual_tokens(outcome: Outcome) -> float | None:
    seen = [(record["visual_tokens_per_s"], record["images_per_s"]) for record in outcome.records if record["images_per_s"]]
    return sum(tokens for tokens, _ in seen) / sum(images for _, images in seen) if seen else None


def _text(name: str, perplexity: bool = False) -> Callable[[Outcome], float | None]:
    def read(outcome: Outcome) -> float | None:
        loss = outcome.losses.get(name)
        return loss if loss is None or not perplexity else math.exp(loss)

    return read


def _group(name: str) -> Callable[[Outcome], float | None]:
    return lambda outcome: outcome.scores(GROUPS[name])


PER_CENT = "{:.1%}"

MEASURES: dict[str, Measure] = {
    "loss_first": Measure(f"loss, first {FIRST_STEPS} steps", lambda outcome: outcome.loss(0, FIRST_STEPS)),
    "loss_last": Measure("loss, last fifth", lambda outcome: outcome.loss((1 - LAST_PART) * outcome.steps, math.inf)),
    "held_out": Measure("held-out loss", _text("held_out")),
    "seconds": Measure("seconds a step", _seconds, "{:.2f}"),
    "visual_tokens": Measure("visual tokens", _visual_tokens, "{:.1f}"),
    "perplexity": Measure("perplexity", _text("text", perplexity=True), "{:.2f}"),
    "perplexity_en": Measure("of English", _text("text_en", perplexity=True), "{:.2f}"),
    "perplexity_zh": Measure("of Chinese", _text("text_zh", perplexity=True), "{:.2f}"),
    "caption": Measure("captions", _group("caption"), PER_CENT),
    "questions": Measure("questions", _group("questions"), PER_CENT),
    "naming": Measure("naming", _group("naming"), PER_CENT),
    "places": Measure("places", _group("places"), PER_CENT),
    "reading": Measure("reading", _group("reading"), PER_CENT),
}

LOSSES = {"held_out": ("held_out",)} | dict.fromkeys(("perplexity", "perplexity_en", "perplexity_zh"), ("text_en", "text_zh"))
"""Measure -> the losses on kept-out rows that it needs (`held_out.mean_losses`)."""


def losses_for(measures: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(loss for name in measures for loss in LOSSES.get(name, ())))


def read_outcome(run: Path, losses: Mapping[str, float]) -> Outcome:
    texts = [losses[name] for name in ("text_en", "text_zh") if name in losses]
    told = {**losses, "text": mean(texts)} if texts else dict(losses)
    records = sorted(read_metrics(run), key=lambda record: record["step"])
    return Outcome(records, sorted(read_evaluations(run), key=lambda record: record["step"]), told)


def values_of(outcome: Outcome, measures: Sequence[str]) -> dict[str, float | None]:
    return {name: MEASURES[name].read(outcome) for name in measures}
