"""Files of problems in mathematics, as they are distributed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.choices import RIGHT, WRONG, write_json
from tests.fast.eval_fixtures.drawn import save


def build_mathvista(folder: Path) -> None:
    def problem(pid: int, question: str, answer: str, kind: str, **more: Any) -> dict[str, Any]:
        about = {"split": "testmini", "language": "english", "task": "figure question answering", "source": "FigureQA"}
        save(folder / "images" / f"{pid}.jpg")
        return {
            "question": question, "image": f"images/{pid}.jpg", "choices": None, "unit": None, "precision": None, "answer": answer,
            "question_type": "free_form", "answer_type": kind, "pid": str(pid), "metadata": about,
        } | more  # fmt: skip

    problems = [
        problem(1, "By what distance is the spring compressed?", "1.2", "float", precision=1, unit="cm"),
        problem(2, "How many squares are there?", "3", "integer"),
        problem(3, "Is the square red?", "yes", "text", choices=["no", "yes"], question_type="multi_choice"),
        problem(4, "Which years?", "[2007, 2008]", "list"),
    ]
    write_json(folder / "testmini.json", {each["pid"]: each for each in problems})


def build_mathvision(folder: Path) -> None:
    rows = [
        {"id": "1", "question": "Which number should be written in place of the question mark?\n<image1>", "options": [],
         "answer": "60", "solution": None, "level": 2, "subject": "arithmetic", "image": "images/1.jpg"},
        {"id": "2", "question": "Which bike is most expensive?\n<image1>", "options": ["A", "B", "C", "D", "E"], "answer": "A",
         "solution": None, "level": 2, "subject": "arithmetic", "image": "images/2.jpg"},
        {"id": "3", "question": "How long is it?\n<image1>", "options": ["$1$", "$\\frac{1}{2}$", "$3$", "$4$", "$5$"],
         "answer": "B", "solution": None, "level": 1, "subject": "metric geometry - length", "image": "images/3.jpg"},
    ]  # fmt: skip
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for row in rows:
        save(folder / row["image"])


FIXTURES = {
    "mathvista": Fixture(build_mathvista, "testmini", RIGHT, WRONG, questions=4),
    "mathvision": Fixture(build_mathvision, "test", RIGHT, WRONG, questions=3),
}
