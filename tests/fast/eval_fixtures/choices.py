"""Files of multiple choice about pictures, as they are distributed."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import png, save


def build_scienceqa(folder: Path) -> None:
    def problem(image: str | None, hint: str, answer: int, choices: list[str]) -> dict[str, Any]:
        return {
            "question": "Which of these is farthest north?", "choices": choices, "answer": answer, "hint": hint, "image": image,
            "task": "closed choice", "grade": "grade2", "subject": "social science", "topic": "geography",
            "category": "Geography", "skill": "Read a map: cardinal directions", "lecture": "Maps have four directions.",
            "solution": "Look at the compass rose.", "split": "test",
        }  # fmt: skip

    problems = {
        "4": problem("image.png", "", 1, ["Ohio", "Maine"]),
        "5": problem(None, "", 0, ["Ohio", "Maine"]),
        "11": problem("image.png", "The map shows {four} states.", 2, ["Ohio", "Texas", "Maine", "Utah"]),
    }
    write_json(folder / "problems.json", problems)
    write_json(folder / "pid_splits.json", {"train": ["1"], "val": ["6"], "test": ["4", "5", "11"]})
    for pid in ("4", "11"):
        save(folder / "images/test" / pid / "image.png")


def build_seed_bench(folder: Path) -> None:
    def question(id: str, kind: int, data: str, answer: str, **more: Any) -> dict[str, Any]:
        return {
            "answer": answer, "choice_a": "One", "choice_b": "Two", "choice_c": "Three", "choice_d": "Four", "data_id": data,
            "data_type": "image" if kind < 10 else "video", "question": "How many towels are in the image?", "question_id": id,
            "question_type_id": kind, **more,
        }  # fmt: skip

    asked = [question("101669", 5, "1454426_2591111986", "A"), question("v0", 11, "P01/P01_11.MP4", "C", segment=[3.1, 9.4])]
    kinds = {"Instances Counting": 5, "Action Prediction": 11}
    write_json(folder / "SEED-Bench.json", {"questions": asked, "question_type": kinds})
    save(folder / "SEED-Bench-image" / "picture.png").rename(folder / "SEED-Bench-image" / "1454426_2591111986")
    for number in range(4):
        save(folder / "video_imgs_4" / f"v0_{number}.jpg")


OPTIONS = ["a cat", "a dog", "a red square", "a tree"]


def mmbench_rows(answers: bool) -> list[dict[str, str]]:
    """A question of four options in its rotations, and one of two; rotations name the row that has their picture."""
    found = []
    for index, options, hint in ((7, OPTIONS, ""), (9, ["yes", "no"], "A square has four sides.")):
        for turn in range(len(options)):
            turned = options[turn:] + options[:turn]
            cells = dict(zip("ABCD", [*turned, "", ""], strict=False))
            right = "ABCD"[turned.index(options[-2])]
            picture = base64.b64encode(png()).decode() if not turn else str(index)
            found.append(
                {"index": str(index + turn * 1_000_000), "question": "What is shown?", "hint": hint, **cells}
                | ({"answer": right} if answers else {})
                | {"category": "object_localization", "image": picture, "source": "reader", "l2-category": "finegrained_perception",
                   "comment": "", "split": "dev"}
            )  # fmt: skip
    return found


def build_mmbench(folder: Path) -> None:
    write_tsv(folder / "MMBench_DEV_EN.tsv", mmbench_rows(answers=True))


def build_mmbench_v11(folder: Path) -> None:
    write_tsv(folder / "MMBench_TEST_EN_V11.tsv", mmbench_rows(answers=False))


def build_mmmu(folder: Path) -> None:
    def row(id: str, question: str, options: str, answer: str, kind: str, pictures: int) -> dict[str, Any]:
        stored = {"bytes": png(), "path": f"{id}.png"}
        images = {f"image_{number}": stored if number <= pictures else None for number in range(1, 8)}
        return {
            "id": id, "question": question, "options": options, "explanation": "", **images, "img_type": "['Diagrams']",
            "answer": answer, "topic_difficulty": "Easy", "question_type": kind, "subfield": "Algebra",
        }  # fmt: skip

    write_parquet(folder / "Math" / "validation-00000-of-00001.parquet", [
        row("validation_Math_1", "<image 1> What is {x}?", "['4', '5', '<image 2>']", "C", "multiple-choice", 2),
        row("validation_Math_15", "What is the share of red in <image 1>?", "[]", "['24/7', '3.429']", "open", 1),
    ])  # fmt: skip
    write_parquet(folder / "Art" / "validation-00000-of-00001.parquet", [
        row("validation_Art_1", "Who painted <image 1>?", "[\"Dürer\", 'Klee']", "B", "multiple-choice", 1),
    ])  # fmt: skip


def build_mmmu_pro(folder: Path) -> None:
    options = str([f"{number} cm" for number in range(10)])
    shared = {"options": options, "answer": "J", "subject": "Math"}
    picture = {"bytes": png(), "path": "picture.png"}
    images = {f"image_{number}": picture if number <= 2 else None for number in range(1, 8)}
    standard = {"id": "test_Math_1", "question": "How long is <image 2> beside <image 1>?", **images, **shared}
    write_parquet(folder / "standard (10 options)" / "test-00000-of-00002.parquet", [standard])
    write_parquet(folder / "vision" / "test-00000-of-00004.parquet", [{"id": "test_Math_1", "image": picture, **shared}])


def build_mmstar(folder: Path) -> None:
    rows = [
        {"index": str(number), "question": "Which option describes the picture?", **dict(zip("ABCD", OPTIONS, strict=True)),
         "answer": answer, "category": "coarse perception", "l2_category": "image scene and topic", "bench": "MMBench",
         "image": base64.b64encode(png()).decode()}
        for number, answer in enumerate("CA")
    ]  # fmt: skip
    write_tsv(folder / "MMStar.tsv", rows)


def build_realworldqa(folder: Path) -> None:
    ask = "Please answer directly with only the letter of the correct option and nothing else."
    question = f"Which is larger?\n\nA. The left one.\nB. The right one.\n{ask}\n"
    rows = [
        {"image": {"bytes": png(), "path": None}, "question": question, "answer": "B"},
        {"image": {"bytes": png(), "path": None}, "question": "How many? Please answer with a number.", "answer": "2"},
    ]  # fmt: skip
    write_parquet(folder / "data" / "test-00000-of-00002.parquet", rows)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_tsv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    from qwenvl.data.shards import arrow

    path.parent.mkdir(parents=True, exist_ok=True)
    pa = arrow()
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)


RIGHT, WRONG = {"accuracy": 1.0}, {"accuracy": 0.0}
CIRCULAR = {"circular", "majority", "accuracy"}

FIXTURES = {
    "scienceqa_img": Fixture(build_scienceqa, "test", RIGHT, WRONG, questions=2),
    "seed_bench": Fixture(build_seed_bench, "all", RIGHT, WRONG, questions=2),
    "mmbench": Fixture(build_mmbench, "dev", dict.fromkeys(CIRCULAR, 1.0), dict.fromkeys(CIRCULAR, 0.0), questions=6),
    "mmbench_v11": Fixture(build_mmbench_v11, "test", {}, {}, questions=6, submission=("mmbench.xlsx",)),
    "mmmu_val": Fixture(build_mmmu, "validation", RIGHT, WRONG, questions=3),
    "mmmu_pro": Fixture(build_mmmu_pro, "standard", RIGHT, WRONG, questions=1),
    "mmstar": Fixture(build_mmstar, "test", RIGHT, WRONG, questions=2),
    "realworldqa": Fixture(build_realworldqa, "test", RIGHT, WRONG, questions=2),
}
