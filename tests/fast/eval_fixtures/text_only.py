"""Files of examinations, as they are distributed."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.fast.eval_fixtures import Fixture


def write_csv(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def build_mmlu(folder: Path) -> None:
    """Without a header."""
    for subject in ("abstract_algebra", "virology"):
        dev = [[f"Example {number}, of {subject}?", "0", "1", "2", "3", "ABCD"[number % 4]] for number in range(5)]
        write_csv(folder / "dev" / f"{subject}_dev.csv", dev)
        test = [["Find the degree of Q(sqrt(2)), {a}.", "0", "4", "2", "6", "B"], ["Is it\nso?", "yes", "no", "NA", "all", "D"]]
        write_csv(folder / "test" / f"{subject}_test.csv", test)


def build_cmmlu(folder: Path) -> None:
    head = ["", "Question", "A", "B", "C", "D", "Answer"]
    for subject, count in (("agronomy", 3), ("world_history", 1)):
        rows = [[str(number), f"第{number}个问题？", "甲", "乙", "丙", "丁", "ABCD"[number % 4]] for number in range(5)]
        write_csv(folder / "dev" / f"{subject}.csv", [head, *rows])
        write_csv(folder / "test" / f"{subject}.csv", [head, *rows[:count]])


def build_ceval(folder: Path) -> None:
    head = ["id", "question", "A", "B", "C", "D", "answer"]
    for subject in ("computer_network", "law"):
        rows = [[str(number), f"使用位填充方法，第{number}题____", "1", "2", "3", "4", "ABCD"[number % 4]] for number in range(5)]
        write_csv(folder / "dev" / f"{subject}_dev.csv", [[*head, "explanation"], *([*row, "因为"] for row in rows)])
        write_csv(folder / "val" / f"{subject}_val.csv", [head, *rows[:2]])
        write_csv(folder / "test" / f"{subject}_test.csv", [head[:-1], *(row[:-1] for row in rows[:3])])


BEST, WORST = {"accuracy": 1.0, "subjects": 1.0}, {"accuracy": 0.0, "subjects": 0.0}

FIXTURES = {
    "mmlu": Fixture(build_mmlu, "test", BEST, WORST, questions=4),
    "cmmlu": Fixture(build_cmmlu, "test", BEST, WORST, questions=4),
    "ceval": Fixture(build_ceval, "val", BEST, WORST, questions=4),
}
