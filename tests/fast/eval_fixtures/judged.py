"""TouchStone as it is distributed: two rows, and a judge that goes by a rule."""

from __future__ import annotations

import base64
import csv
from collections.abc import Sequence
from pathlib import Path

from qwenvl.eval.judge import Verdict, with_verdicts
from qwenvl.eval.task import Prediction
from qwenvl.eval.tasks.judged import COLUMNS, FILES, RUBRIC
from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import png

ROWS = {
    "en": [
        ("0", "What is in the picture?", "A red box on white.", "There is a red box.", "Recognition", "Object Recognition"),
        ("1", "Write a short poem\tabout it.", "A red box\non white.", "Red is the box.", "Storytelling,Recognition", "Poetry"),
    ],
    "zh": [("0", "图里有什么？", "白底上一个红色方块。", "一个红色的方块。", "识别", "物体识别")],
}


def build_touchstone(folder: Path) -> None:
    for language, rows in ROWS.items():
        with (folder / FILES[language]).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t", lineterminator="\n")
            table.writerow([*COLUMNS, "image"])
            table.writerows([*row, base64.b64encode(png()).decode()] for row in rows)


def judged(predictions: Sequence[Prediction]) -> list[Prediction]:
    """10 for GPT-4's own answer, 1 for any other, in both orders."""
    verdicts = {}
    for prediction in predictions:
        mark = 10 if prediction.reply == prediction.truth["gpt4_ha_answer"] else 1
        words = (f"9 {mark}", f"{mark} 9")
        verdicts[prediction.id] = Verdict(prediction.id, tuple(map(RUBRIC.read, words, range(2))), words)
    return with_verdicts(predictions, verdicts)


FIXTURES: dict[str, Fixture] = {
    "touchstone": Fixture(
        build_touchstone, "en", {"judge": 10.0, "overlap": 1.0, "judge_failed": 0.0}, {"judge": 1.0, "overlap": 0.0}, questions=2,
        judged=judged,
    )
}  # fmt: skip
