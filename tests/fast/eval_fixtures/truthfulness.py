"""Files of questions with yes or no, as they are distributed."""

from __future__ import annotations

import json
from pathlib import Path

from qwenvl.eval.scorers.yes_no import COGNITION, PERCEPTION
from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.choices import write_json
from tests.fast.eval_fixtures.drawn import save

APART = ("celebrity", "landmark", "posters", "scene", "artwork")
"""Subtasks whose pictures and texts lie in folders of their own."""


def build_mme(folder: Path) -> None:
    for subtask in (*PERCEPTION, *COGNITION):
        place = folder / subtask
        texts = place / "questions_answers_YN" if subtask in APART else place
        pictures = place / "images" if subtask in APART else place
        save((pictures / "toy_dataset" if subtask == "artwork" else pictures) / "0001.jpg")
        texts.mkdir(parents=True, exist_ok=True)
        lines = ["Is there a square? Please answer yes or no.\tYes", "Is there a cat? Please answer yes or no.\tNo"]
        (texts / "0001.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def build_hallusion(folder: Path) -> None:
    def row(visual: str, figure: str, question: str, answer: str, filename: str | None) -> dict[str, str | None]:
        return {
            "category": "VS", "subcategory": "chart", "visual_input": visual, "set_id": "0", "figure_id": figure,
            "sample_note": "import", "question_id": question, "question": f"Is the value higher in year {question}?",
            "gt_answer_details": "", "gt_answer": answer, "filename": filename,
        }  # fmt: skip

    rows = [
        row("0", "0", "0", "0", None), row("1", "1", "0", "1", "./VS/chart/0_1.png"), row("2", "2", "0", "0", "./VS/chart/0_2.png"),
    ]  # fmt: skip
    write_json(folder / "HallusionBench.json", rows)
    for name in ("0_1.png", "0_2.png"):
        save(folder / "VS" / "chart" / name)
    save(folder / "VD" / "math" / "0_0.png")


def build_pope(folder: Path) -> None:
    name = "COCO_val2014_000000310196.jpg"
    save(folder / "val2014" / name)
    rows = [
        {"question_id": 1, "image": name, "text": "Is there a snowboard in the image?", "label": "yes"},
        {"question_id": 2, "image": name, "text": "Is there a car in the image?", "label": "no"},
    ]
    (folder / "coco_pope_random.json").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


FIXTURES = {
    "mme": Fixture(
        build_mme, "test", {"perception": 20.0, "cognition": 8.0, "total": 28.0, "accuracy": 1.0},
        {"perception": 0.0, "cognition": 0.0, "total": 0.0, "accuracy": 0.0}, questions=28,
    ),
    "hallusionbench": Fixture(
        build_hallusion, "image", dict.fromkeys(("aAcc", "fAcc", "qAcc", "average", "accuracy"), 1.0),
        dict.fromkeys(("aAcc", "fAcc", "qAcc", "average", "accuracy"), 0.0), questions=2,
    ),
    "pope": Fixture(
        build_pope, "random", {"f1": 1.0, "accuracy": 1.0, "precision": 1.0, "recall": 1.0, "official_f1": 1.0},
        {"f1": 0.0, "accuracy": 0.0, "official_f1": 2 / 3}, questions=2,
    ),
}  # fmt: skip
