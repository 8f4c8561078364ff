"""Scores and answers of a model in training, and where a run keeps them: evaluations.jsonl, and the pictures in shown/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.runtime import atomic_write
from qwenvl.train.metrics import LineLog, read_lines
from qwenvl.types import Region

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "evaluations.jsonl"
PICTURES = "shown"
PICTURE_SIDE = 448
"""Pixels of the longer side, at most, of a picture that is kept."""


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """One question about one picture, with the model's answer and the true one; places in [0, 1] of the picture.

    `name` is the question's, the same in every evaluation. `asked`: places that the question names, `true` and `answered` those of
    the two answers.
    """

    name: str
    question: str
    answer: str
    truth: str
    picture: Image
    asked: tuple[Region, ...] = ()
    true: tuple[Region, ...] = ()
    answered: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Shares in [0, 1] by measure; `chance`: what a model that does not look can get, where that is known."""

    scores: Mapping[str, float]
    chance: Mapping[str, float] = field(default_factory=dict)
    shown: tuple[ShownAnswer, ...] = ()


class EvaluationLog(LineLog):
    """Appends to evaluations.jsonl. `step` of a record is how many steps were done."""

    def __init__(self, run: Path, first_step: int) -> None:
        super().__init__(run / FILE, first_step)
        self.run = run

    def keeps(self, record: Mapping[str, Any], first_step: int) -> bool:
        return bool(record["step"] <= first_step)

    def add(self, step: int, seconds: float, evaluation: Evaluation) -> dict[str, Any]:
        record = {
            "step": step,
            "seconds": round(seconds, 1),
            "scores": {name: round(value, 4) for name, value in evaluation.scores.items()},
            "chance": {name: round(value, 4) for name, value in evaluation.chance.items()},
            "shown": [self._kept(shown) for shown in evaluation.shown],
        }
        self.write(record)
        return record

    def _kept(self, shown: ShownAnswer) -> dict[str, Any]:
        """The answer as plain data. Its picture is written once: every evaluation asks the same questions."""
        path = self.run / PICTURES / f"{re.sub(r'[^A-Za-z0-9_]+', '-', shown.name)}.png"
        if not path.exists():
            picture = shown.picture.convert("RGB")
            picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
            with atomic_write(path) as temporary:
                picture.save(temporary)
        texts = {"name": shown.name, "question": shown.question, "answer": shown.answer, "truth": shown.truth}
        places = {key: list(map(region_data, getattr(shown, key))) for key in ("asked", "true", "answered")}
        return texts | {"picture": f"{PICTURES}/{path.name}"} | places


def read_evaluations(run: Path) -> list[dict[str, Any]]:
    return read_lines(run / FILE)


def region_data(region: Region) -> dict[str, Any]:
    return {"kind": region.kind, "points": [[round(x, 4), round(y, 4)] for x, y in region.points], "label": region.label}


def region_of(data: Mapping[str, Any]) -> Region:
    return Region(data["kind"], tuple((x, y) for x, y in data["points"]), data["label"])
