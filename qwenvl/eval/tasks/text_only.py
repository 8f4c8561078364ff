"""Examinations without pictures: what training on pictures left of the language model (arXiv 2308.12966, appendix E.3).

Five examples of the same subject, from its dev file, come before each question, and letters are ranked by likelihood, as
Qwen's own scripts do it. Cells are taken as they stand in the files; pandas, which those scripts read with, turns some into numbers
or nothing ("0.50", "NA"). MMLU's script cuts prompts of more than 2048 tokens from the left; here they are not cut.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qwenvl.data.adapters.files import find
from qwenvl.data.sources import Record, SourceError, records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.lettered import RANKED
from qwenvl.eval.scorers.choices import by_vlmevalkit, choice_score, chosen
from qwenvl.eval.scorers.groups import mean_over_groups
from qwenvl.eval.task import Pooled, Prediction
from qwenvl.families.spec import Markup

QWEN = "QwenLM/Qwen @ 2df8e8a, eval/"
EXAMPLES = 5
COLUMNS = ("question", *"ABCD", "answer")
ENGLISH = "Question: {question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\nAnswer:"
CHINESE = "问题：{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n答案："


def subject_items(
    subject: str, dev: Sequence[Record], asked: Sequence[Record], question: str, before_letter: str, language: str
) -> Iterator[Item]:
    """The questions of a subject, each with the examples before it. Raises SourceError for fewer examples than five."""
    if len(dev) < EXAMPLES:
        raise SourceError(f"{subject}: {len(dev)} examples in its dev file, and {EXAMPLES} are shown; fetch it again")
    examples = "".join(f"{question.format(**row)}{before_letter}{row['answer']}\n\n" for row in dev[:EXAMPLES])
    for number, row in enumerate(asked):
        fields = {name: row[name] for name in ("question", *"ABCD")}
        fields |= {"subject": subject.replace("_", " "), "examples": examples}
        letter = row.get("answer", "")
        truth = {"choices": {name: row[name] for name in "ABCD"}} | ({"answer": letter} if letter else {"number": row["id"]})
        options = tuple(f"{before_letter}{name}" for name in "ABCD")
        answer = f"{before_letter}{letter}" if letter else ""
        yield Item(f"{subject}/{number}", fields, (), answer, truth, options, language, subject)


def unheaded(path: Path) -> list[Record]:
    """Rows of a CSV without a header. Raises SourceError naming the line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    for number, row in enumerate(rows, start=1):
        if len(row) != len(COLUMNS):
            raise SourceError(f"{path}, row {number}: {len(row)} cells instead of {len(COLUMNS)}; fetch the file again")
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def read_mmlu(folder: Path, split: str) -> Iterator[Item]:
    for file in find(folder, "test/*_test.csv"):
        subject = file.stem.removesuffix("_test")
        dev = unheaded(folder / "dev" / f"{subject}_dev.csv")
        yield from subject_items(subject, dev, unheaded(file), ENGLISH, " ", "en")


def read_ceval(folder: Path, split: str) -> Iterator[Item]:
    for file in find(folder, f"{split}/*_{split}.csv"):
        subject = file.stem.removesuffix(f"_{split}")
        dev = list(records(folder / "dev" / f"{subject}_dev.csv"))
        yield from subject_items(subject, dev, list(records(file)), CHINESE, "", "zh")


def read_cmmlu(folder: Path, split: str) -> Iterator[Item]:
    """With capitals in the names of two columns."""
    for file in find(folder, "test/*.csv"):
        dev, asked = ([_renamed(row) for row in records(path)] for path in (folder / "dev" / file.name, file))
        yield from subject_items(file.stem, dev, asked, CHINESE, "", "zh")


def _renamed(row: Record) -> Record:
    return {"question": row["Question"], "answer": row["Answer"]} | {letter: row[letter] for letter in "ABCD"}


def by_subject(predictions: Sequence[Prediction], markup: Markup) -> Mapping[str, Pooled]:
    """`subjects`: the mean of the subjects' accuracies."""
    known = [prediction for prediction in predictions if "answer" in prediction.truth]
    return {"subjects": mean_over_groups(known, lambda one: chosen(one, by_vlmevalkit) == one.truth["answer"])} if known else {}


def hand_in_ceval(predictions: Sequence[Prediction]) -> dict[str, bytes]:
    """{subject: {number: letter}}, as submission_example.json of hkust-nlp/ceval @ cba65ae."""
    letters: dict[str, dict[str, str]] = {}
    for prediction in predictions:
        letter = chosen(prediction, by_vlmevalkit)
        letters.setdefault(prediction.truth["group"], {})[str(prediction.truth["number"])] = letter or ""
    return {"ceval.json": json.dumps(letters).encode()}


_ALL = (
    Benchmark(
        "mmlu", "MMLU, 5 examples",
        "data.tar of https://people.eecs.berkeley.edu/~hendrycks/, unpacked: dev/ and test/.",
        f"{QWEN}evaluate_mmlu.py",
        {"test": Split(("dev/*_dev.csv", "test/*_test.csv"))},
        {"paper": Prompt(
            "The following are multiple choice questions (with answers) about {subject}.\n\n{examples}" + ENGLISH,
            f"{QWEN}evaluate_mmlu.py", RANKED,
        )},
        read_mmlu, "accuracy", score=choice_score(by_vlmevalkit), pool=by_subject,
    ),
    Benchmark(
        "cmmlu", "CMMLU, 5 examples",
        "cmmlu_v1_0_1.zip of https://huggingface.co/datasets/haonan-li/cmmlu, unpacked: dev/ and test/.",
        f"{QWEN}evaluate_cmmlu.py",
        {"test": Split(("dev/*.csv", "test/*.csv"))},
        {"paper": Prompt("{examples}" + CHINESE, f"{QWEN}evaluate_cmmlu.py", RANKED)},
        read_cmmlu, "subjects", score=choice_score(by_vlmevalkit), pool=by_subject,
    ),
    Benchmark(
        "ceval", "C-Eval, 5 examples",
        "ceval-exam.zip of https://huggingface.co/datasets/ceval/ceval-exam, unpacked: dev/, val/ and test/.",
        f"{QWEN}evaluate_ceval.py; hkust-nlp/ceval @ cba65ae, README.md, submission_example.json",
        {"val": Split(("dev/*_dev.csv", "val/*_val.csv")), "test": Split(("dev/*_dev.csv", "test/*_test.csv"), answers=False)},
        {"paper": Prompt("{examples}" + CHINESE, f"{QWEN}evaluate_ceval.py", RANKED)},
        read_ceval, "subjects", score=choice_score(by_vlmevalkit), pool=by_subject, submit=hand_in_ceval,
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
