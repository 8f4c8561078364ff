"""The rules of OCRBench and OCRBench v2 for short answers, numbers, formulas and boxes.

OCRBench: OCRBench/example.py; v2: OCRBench_v2/eval_scripts/vqa_metric.py and IoUscore_metric.py; both of
Yuliang-Liu/MultimodalOCR @ 794c36d.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from qwenvl.eval.scorers.editing import distance_share

FORMULAS = "HME100k"
"""The data set of OCRBench whose answers are formulas: spaces do not count, case does."""
ALIKE = 0.5
"""Long answers that are less alike than this earn nothing."""
SHORT_WORDS, SHORT_LISTS = 5, 4
"""Answers of fewer words (Chinese: pieces between commas) have to stand in the reply word for word."""
LARGEST = 1000
COORDINATES = re.compile(r"[(\[]\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*[)\]]")
NUMBER = re.compile(r"\d+")
WORDS_IN_LATEX = re.compile(r"\\text\{([^{}]*)\}")


def is_read(reply: str, answers: Sequence[str], dataset: str) -> bool:
    """OCRBench: the reply contains an answer, in small letters, with line breaks as spaces; a formula without any spaces."""
    if dataset == FORMULAS:
        return holds_formula(reply, answers)
    said = reply.lower().strip().replace("\n", " ")
    return any(answer.lower().strip().replace("\n", " ") in said for answer in answers)


def holds_formula(reply: str, answers: Sequence[str]) -> bool:
    """The reply contains an answer when white space is left out of both."""
    said = _close(reply)
    return any(_close(answer) in said for answer in answers)


def holds_chinese_formula(reply: str, answers: Sequence[str]) -> bool:
    r"""The same, with \text{...} of LaTeX as its words alone."""
    return holds_formula(WORDS_IN_LATEX.sub(r"\1", reply), [WORDS_IN_LATEX.sub(r"\1", answer) for answer in answers])


def answer_score(reply: str, answers: Sequence[str], case: bool = False) -> float:
    """v2: 1 where the reply contains a short answer; else how alike it is to a long one. `case`: capitals count."""

    def plain(text: str) -> str:
        return (text if case else text.lower()).strip().replace("\n", " ")

    return _best(plain(reply), map(plain, map(str, answers)), lambda answer: len(answer.split()) < SHORT_WORDS)


def chinese_answer_score(reply: str, answers: Sequence[str]) -> float:
    """v2 in Chinese: without spaces, and an answer is long from four pieces between commas on."""

    def plain(text: str) -> str:
        return text.lower().strip().replace("\n", " ").replace(" ", "")

    return _best(plain(reply), map(plain, map(str, answers)), lambda answer: len(answer.split(",")) < SHORT_LISTS)


def count_score(reply: str, answers: Sequence[str], how: str) -> float:
    """v2, text counting. `exact match`: the reply contains the number. `regression`: 1 - the first number's relative error, where
    that is below half. Any other way: 0.0, as published."""
    best = 0.0
    for answer in (str(answer).lower().strip().replace("\n", " ") for answer in answers):
        if how == "exact match":
            best = max(best, float(answer in reply))
        elif how == "regression" and (found := NUMBER.search(reply)) and int(found[0]):
            said, true = int(found[0]), int(answer)
            share = 1 - abs(said - true) / true if said < 2 * true else 0.0
            best = max(best, share if share > ALIKE else 0.0)
    return best


def last_box(reply: str) -> list[int] | None:
    """v2: the last (x1, y1, x2, y2) of thousandths that a reply names."""
    found = [[int(value) for value in match.groups()] for match in COORDINATES.finditer(reply)]
    found = [box for box in found if max(box) <= LARGEST]
    return found[-1] if found else None


def whole_box_iou(said: object, true: object) -> float:
    """Intersection over union of boxes in whole numbers, cut off towards 0; 0.0 for what is no box.

    As published, a swapped box has a negative area; it stays so, to score the same.
    """
    try:
        first, second = ([int(value) for value in box] for box in (said, true))  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return 0.0
    if len(first) < 4 or len(second) < 4:
        return 0.0
    width, height = min(first[2], second[2]) - max(first[0], second[0]), min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    whole = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - shared
    return shared / whole if whole else 0.0


def _best(said: str, answers: map[str], is_short: Callable[[str], bool]) -> float:
    best = 0.0
    for answer in answers:
        if is_short(answer):
            best = max(best, float(answer in said))
        else:
            alike = 1 - distance_share(said, answer)
            best = max(best, alike if alike >= ALIKE else 0.0)
    return best


def _close(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")
