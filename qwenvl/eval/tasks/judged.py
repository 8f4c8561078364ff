"""Open questions that a judge scores: TouchStone (arXiv 2308.16890)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.judge import BadVerdict, Messages, Rubric, verdict_tallies
from qwenvl.eval.lettered import tsv_rows
from qwenvl.eval.scorers.page_text import words_f1
from qwenvl.eval.task import Decoding, Prediction, Tally
from qwenvl.families.spec import Markup

TOUCHSTONE = "OFA-Sys/TouchStone @ 3d85f92"
FILES = {"en": "touchstone_20230831.tsv", "zh": "touchstone_zh.tsv"}
COLUMNS = ("index", "question", "human_annotation", "gpt4_ha_answer", "category", "task_name")
SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
ASKED = (
    "[Detailed Image Description]\n{annotation}\n\n[Question]\n{question}\n\n[The Start of Assistant 1's Answer]\n{first}\n\n"
    "[The End of Assistant 1's Answer]\n\n[The Start of Assistant 2's Answer]\n{second}\n\n[The End of Assistant 2's Answer]\n\n"
    "[System]\n{request}\n\n"
)
REQUEST = (
    "We would like to request your feedback on the performance of two AI assistants in response to the user question and "
    "image description displayed above. AI assistants are provided with detailed image description and "
    "questions.\nPlease rate the helpfulness, relevance, accuracy, comprehensiveness of their responses. Each assistant "
    "receives an overall score on a scale of 1 to 10, where a higher score indicates better overall performance.\nPlease "
    "first output a single line containing only two values indicating the scores for Assistant 1 and 2, respectively. "
    "The two scores are separated by a space. In the subsequent line, please provide a comprehensive explanation of your "
    "evaluation, avoiding any potential bias and ensuring that the order in which the responses were presented does not "
    "affect your judgment."
)
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")


def _read(folder: Path, split: str) -> Iterator[Item]:
    for row, shown in tsv_rows(folder / FILES[split]):
        truth = {name: row[name] for name in COLUMNS}
        answer, group = truth["gpt4_ha_answer"], truth["task_name"]
        yield Item(truth["index"], {"question": truth["question"]}, (shown,), answer, truth, language=split, group=group)


def _rounds(prediction: Prediction) -> Sequence[Messages]:
    """GPT-4's own answer and the model's, and the other way round."""
    truth, answers = prediction.truth, (prediction.truth["gpt4_ha_answer"], prediction.reply)
    said = {"annotation": truth["human_annotation"], "question": truth["question"], "request": REQUEST}
    asked = [ASKED.format(first=first, second=second, **said) for first, second in (answers, answers[::-1])]
    return [[{"role": "system", "content": SYSTEM}, {"role": "user", "content": words}] for words in asked]


def _verdict(words: str, number: int) -> float:
    """The second of two scores in the first round, the first in the second."""
    scores = words.strip().split("\n")[0].split()
    try:
        first, second = map(float, scores)
    except ValueError:
        raise BadVerdict("no two scores in its first line") from None
    return first if number else second


def _score(prediction: Prediction, markup: Markup) -> dict[str, Tally]:
    """`overlap`: the words in common with GPT-4's answer, by rule alone. `judge`: the mean of the scores from 1 to 10, of all and
    of each category."""
    words = (WORD.findall(text.lower()) for text in (prediction.reply, prediction.truth["gpt4_ha_answer"]))
    tallies = verdict_tallies(prediction)
    if "judge" in tallies:
        tallies |= {f"judge {category}": tallies["judge"] for category in prediction.truth["category"].split(",")}
    return {"overlap": (words_f1(*words), 1.0)} | tallies


def _submit(predictions: Sequence[Prediction]) -> dict[str, bytes]:
    """The table that eval.py of the repository takes."""
    file = io.StringIO()
    table = csv.writer(file, delimiter="\t", lineterminator="\n")
    table.writerow([*COLUMNS, "response"])
    for prediction in predictions:
        truth: dict[str, Any] = prediction.truth
        table.writerow([*(truth[name] for name in COLUMNS), prediction.reply])
    return {"touchstone_response.tsv": file.getvalue().encode()}


RUBRIC = Rubric(
    f"{TOUCHSTONE}, eval.py (the judge was gpt-4; both orders, stopped after the line of scores)",
    _rounds,
    _verdict,
    {"temperature": 0, "stop": ["\n"]},
)

BENCHMARKS: dict[str, Benchmark] = {
    "touchstone": Benchmark(
        name="touchstone",
        title="TouchStone",
        get="touchstone_20230831.tsv, named in README.md of github.com/OFA-Sys/TouchStone. Of the Chinese questions only scores "
        "were published: a table of one's own with the same columns is read as touchstone_zh.tsv.",
        source=f"{TOUCHSTONE}, eval.py (mean of the judge's scores times 100)",
        splits={language: Split((file,)) for language, file in FILES.items()},
        prompts={
            "chat": Prompt(
                "{question}",
                f"{TOUCHSTONE}, README.md (picture and question of a row; it names no limit: 1024 tokens is ours)",
                Decoding(1024),
                style="chat",
            )
        },
        read=_read,
        measure="judge",
        score=_score,
        submit=_submit,
        judge=RUBRIC,
    )
}
