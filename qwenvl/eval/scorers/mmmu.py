"""MMMU's open questions: what a reply may mean, and whether the answer is among it.

Source: MMMU-Benchmark/MMMU @ bb0b95a, mmmu/utils/eval_utils.py (parse_open_response, normalize_str, extract_numbers, eval_open);
EvolvingLMMs-Lab/lmms-eval @ 75571cf has the same in lmms_eval/tasks/mmmu/utils.py. Its multiple choice is `by_mmmu` of choices.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence

from qwenvl.eval.scorers.choices import by_mmmu, chosen
from qwenvl.eval.task import Prediction, Tally
from qwenvl.families.spec import Markup

Meaning = str | float

BEFORE_ANSWERS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
NOTHING = (":", ",", ".", "!", "?", ";", "'")
NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)
"""With commas between thousands, in scientific notation, plain."""


def meanings(reply: str) -> set[Meaning]:
    """Everything that a reply may be taken to say: the shortest tail behind an introduction in each of its lines (behind "=" in the
    last one), else all of it; and the numbers in these."""
    whole = reply.strip().strip(".").lower()
    # There sentences are cut too, before a capital, but only after all has become small.
    lines = whole.split("\n")
    tails = [_shortest_tail(line, (*BEFORE_ANSWERS, "=") if line_number == len(lines) else BEFORE_ANSWERS)
             for line_number, line in enumerate(lines, start=1)]  # fmt: skip
    said = [tail for tail in tails if tail and tail not in NOTHING] or [whole]
    found = said + [number for text in said for pattern in NUMBERS for number in re.findall(pattern, text)]
    return {meaning for text in found for meaning in normalised(text)}


def _shortest_tail(line: str, introductions: Sequence[str]) -> str:
    """An empty tail gives way to whatever comes after it, longer or not, as there."""
    shortest = ""
    for words in introductions:
        if words in line:
            tail = line.split(words)[-1].strip()
            shortest = tail if not shortest or len(tail) < len(shortest) else shortest
    return shortest


def normalised(text: str) -> list[Meaning]:
    """A number rounded to hundredths; else small letters, a single one only with a blank beside it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        small = text.lower()
        return [f" {small}", f"{small} "] if len(small) == 1 else [small]


def is_meant(answers: Sequence[str], reply: str) -> bool:
    """Whether one of the answers is a number that the reply says, or lies in a text that it says."""
    wanted = [meaning for answer in answers for meaning in normalised(answer)]
    texts = [meaning for meaning in wanted if isinstance(meaning, str)]
    return any(said in wanted if isinstance(said, float) else any(text in said for text in texts) for said in meanings(reply))


def mmmu_score(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """Right or not, of truth["answer"] among truth["choices"], or of truth["answers"] where there is nothing to choose."""
    truth = prediction.truth
    if truth["choices"]:
        letter = chosen(prediction, by_mmmu)
        return {"accuracy": (float(letter == truth["answer"]), 1.0), "decided": (float(letter is not None), 1.0)}
    return {"accuracy": (float(is_meant(truth["answers"], prediction.reply)), 1.0)}


def as_list(answer: str) -> list[str]:
    """Several accepted answers that stand as a Python list in a field of text; else the one. As lists they stand in
    mmmu/answer_dict_val.json of the same repository."""
    try:
        found = ast.literal_eval(answer) if answer.startswith("[") else answer
    except (ValueError, SyntaxError):
        return [answer]
    return [str(one) for one in found] if isinstance(found, list) else [answer]
