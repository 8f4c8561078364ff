"""Problems in mathematics with pictures. Replies are read by rule; a judge that extracts answers first comes from judge.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qwenvl.data.adapters.files import find, picture, whole
from qwenvl.data.sources import records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.lettered import WRITTEN, lettered, listed
from qwenvl.eval.scorers.maths import mathvision_score, mathvista_score
from qwenvl.eval.task import EvaluationError
from qwenvl.types import ImagePart

MATHVISTA = "lupantech/MathVista @ 53d5258"
MATHVISION = "mathllm/MATH-V @ a1f5cc3"

HINTS = {
    "text": "Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
    "integer": "Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, 3, at the end.",
    "float 1": "Please answer the question requiring a floating-point number with one decimal place and provide the final value, "
    "e.g., 1.2, 1.3, 1.4, at the end.",
    "float 2": "Please answer the question requiring a floating-point number with two decimal places and provide the final value, "
    "e.g., 1.23, 1.34, 1.45, at the end.",
    "list": "Please answer the question requiring a Python list as an answer and provide the final list, e.g., [1, 2, 3], "
    "[1.2, 1.3, 1.4], at the end.",
}


def mathvista_query(problem: Mapping[str, Any]) -> str:
    """The words of data/query.json: hint, question, choices. Raises EvaluationError for a kind of answer that is not known."""
    kind = problem["answer_type"] + (f" {int(problem['precision'])}" if problem["answer_type"] == "float" else "")
    if kind not in HINTS:
        raise EvaluationError(f"mathvista {problem['pid']}: an answer of kind {kind!r}; known: {', '.join(HINTS)}")
    unit = f" (Unit: {problem['unit']})" if problem["unit"] else ""
    choices = f"\nChoices:\n{listed(lettered(problem['choices']), '({}) {}')}" if problem["choices"] else ""
    return f"Hint: {HINTS[kind]}\nQuestion: {problem['question']}{unit}{choices}".strip()


def read_mathvista(folder: Path, split: str) -> Iterator[Item]:
    """testmini.json: number -> problem."""
    for pid, problem in whole(find(folder, f"{split}.json", f"data/{split}.json")[0]).items():
        choices = list(problem["choices"] or ())
        truth = {"choices": choices, "answer": problem["answer"]} | {name: problem[name] for name in ("answer_type", "precision")}
        shown = ImagePart(picture(folder, problem["image"], id=f"mathvista {pid}"))
        yield Item(pid, {"query": mathvista_query(problem)}, (shown,), problem["answer"], truth, group=problem["metadata"]["task"])


def read_mathvision(folder: Path, split: str) -> Iterator[Item]:
    """test.jsonl. <image1> in a question says where its picture belongs; it is shown before the words."""
    for row in records(find(folder, f"{split}.jsonl", f"data/{split}.jsonl")[0]):
        choices = list(row["options"])
        # Options that are pictures are lettered in the picture.
        shown_options = {} if "".join(choices) == "ABCDE" else lettered(choices)
        options = "".join(f"({letter}) {text}\n" for letter, text in shown_options.items())
        fields = {"question": row["question"], "options": options}
        shown = ImagePart(picture(folder, row["image"], id=f"mathvision {row['id']}"))
        yield Item(row["id"], fields, (shown,), row["answer"], {"choices": choices, "answer": row["answer"]}, group=row["subject"])


_ALL = (
    Benchmark(
        "mathvista", "MathVista, testmini",
        "testmini.json of lupantech/MathVista (data/), images/ of images.zip of https://huggingface.co/datasets/AI4Math/MathVista.",
        f"{MATHVISTA}, evaluation/extract_answer.py, calculate_score.py, data/testmini.json",
        {"testmini": Split(("**/testmini.json", "images/*"))},
        {"chat": Prompt("{query}", f"{MATHVISTA}, data/query.json, evaluation/build_query.py", WRITTEN, style="chat")},
        read_mathvista, "accuracy", score=mathvista_score,
    ),
    Benchmark(
        "mathvision", "MATH-Vision",
        "test.jsonl and testmini.jsonl of mathllm/MATH-V (data/), and its images/.",
        f"{MATHVISION}, evaluation/evaluate.py, utils.py, data/test.jsonl",
        {split: Split((f"**/{split}.jsonl", "images/*")) for split in ("test", "testmini")},
        {"chat": Prompt(
            "Please solve the problem step by step and put your answer in one \"\\boxed{{}}\". If it is a multiple choice "
            "question, only one letter is allowed in the \"\\boxed{{}}\".\n{question}\n{options}",
            f"{MATHVISION}, models/Qwen-VL.py (geninput)", WRITTEN, style="chat",
        )},
        read_mathvision, "accuracy", score=mathvision_score,
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
