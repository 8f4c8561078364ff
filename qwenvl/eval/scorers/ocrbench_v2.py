"""OCRBench v2: which rule each of its 30 kinds of question goes by, and what becomes of the scores.

OCRBench_v2/eval_scripts/eval.py and get_score.py, Yuliang-Liu/MultimodalOCR @ 794c36d.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from qwenvl.eval.scorers import ocrbench_tables as tables
from qwenvl.eval.scorers.ocrbench import (
    answer_score,
    chinese_answer_score,
    count_score,
    holds_chinese_formula,
    holds_formula,
    last_box,
    whole_box_iou,
)
from qwenvl.eval.scorers.page_text import page_likeness
from qwenvl.eval.scorers.spotting import read_words, spotting_f1, upright
from qwenvl.eval.task import EvaluationError

ABILITIES: dict[str, tuple[str, ...]] = {
    "text_recognition": ("text recognition en", "fine-grained text recognition en", "full-page OCR en", "full-page OCR cn"),
    "text_detection": ("text grounding en", "VQA with position en"),
    "text_spotting": ("text spotting en",),
    "relationship_extraction": (
        "key information extraction en", "key information mapping en", "key information extraction cn",
        "handwritten answer extraction cn",
    ),
    "element_parsing": (
        "document parsing en", "chart parsing en", "table parsing en", "formula recognition en", "document parsing cn",
        "table parsing cn", "formula recognition cn",
    ),
    "mathematical_calculation": ("math QA en", "text counting en"),
    "visual_text_understanding": ("document classification en", "cognition VQA en", "diagram QA en", "cognition VQA cn"),
    "knowledge_reasoning": (
        "reasoning VQA en", "science QA en", "APP agent en", "ASCII art classification en", "reasoning VQA cn",
        "text translation cn",
    ),
}  # fmt: skip
"""Kinds by what they ask for. An English or Chinese score is the mean of the means of its abilities."""
ABILITY_OF = {kind: ability for ability, kinds in ABILITIES.items() for kind in kinds}
SEPARATORS = ("", ".", ". ", ",", ", ", "、", ";", "; ", " ", "和")
"""What may stand between the letters of a handwritten answer."""

Truth = Mapping[str, Any]
Rule = Callable[[str, Truth], float]


def language_of(kind: str) -> str:
    """ "zh" or "en", by the end of a kind's name. Raises EvaluationError for a kind that there is none of."""
    if kind not in ABILITY_OF:
        raise EvaluationError(f"OCRBench v2 has no questions of the kind {kind!r}; known: {', '.join(ABILITY_OF)}")
    return "zh" if kind.endswith("cn") else "en"


def question_score(reply: str, truth: Truth) -> float | None:
    """What a reply earns, in [0, 1]; None for a question that is not counted.

    truth: type, question, answers, and where a question has them eval, bbox and content, as in OCRBench_v2.json. Raises
    EvaluationError for what no rule fits, and where a package of `page_likeness` is missing.
    """
    kept = {name: truth.get(name) for name in ("type", "question", "answers", "eval", "bbox", "content")}
    return _scored(reply, json.dumps(kept, ensure_ascii=False))


@lru_cache(maxsize=1 << 14)
def _scored(reply: str, truth: str) -> float | None:
    """Kept: the score of a reply is asked for by question, by ability and by group, and a page or table takes a while."""
    known: dict[str, Any] = json.loads(truth)
    if not isinstance(known["answers"], list):
        known["answers"] = [known["answers"]]
    kind = known["type"]
    language_of(kind)
    if kind == "text translation cn" and reply and not known["answers"][0]:
        return None
    try:
        return RULES[kind](reply, known)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        where = f"OCRBench v2, {kind}, {' '.join(str(known['question']).split())[:80]!r}"
        raise EvaluationError(f"{where}: its answers do not fit the kind ({error}); fetch the file again") from error


def _choice_or_answer(plain: Callable[[str, list[str]], float]) -> Rule:
    def rule(reply: str, truth: Truth) -> float:
        how = truth["eval"]
        if how == "multiple choice":
            return float("".join(letter for letter in reply if letter.isalpha()) == truth["answers"][0])
        if how == "case sensitive":
            return answer_score(reply, truth["answers"], case=True)
        if how and how not in ("None", "without eval"):
            raise ValueError(f"no rule {how!r}")
        return plain(reply, truth["answers"])

    return rule


def _page(reply: str, truth: Truth) -> float:
    return page_likeness(reply, truth["answers"][0]) if reply else 0.0


def _table(reply: str, truth: Truth) -> float:
    asked = truth["question"].lower()
    if "html" in asked:
        return tables.html_table_score(reply, truth["answers"][0])
    if "markdown" in asked:
        return tables.markdown_table_score(reply, truth["answers"][0])
    raise ValueError("a table in neither HTML nor Markdown")


def _handwritten(reply: str, truth: Truth) -> float:
    if "简答" in truth["question"]:
        return page_likeness(reply, truth["answers"][0])
    return float(any(separator.join(truth["answers"][0]) in reply for separator in SEPARATORS))


def _with_position(reply: str, truth: Truth) -> float:
    said = tables.read_pairs(reply)
    words = answer_score(said["answer"], truth["answers"]) if "answer" in said else 0.0
    place = whole_box_iou(tables.literal(said["bbox"]), truth["bbox"]) if "bbox" in said else 0.0
    return (words + place) / 2


def _grounding(reply: str, truth: Truth) -> float:
    box = last_box(reply)
    return whole_box_iou(box, truth["answers"]) if box else 0.0


def _spotting(reply: str, truth: Truth) -> float:
    true = [(upright(corners), text) for corners, text in zip(truth["bbox"], truth["content"], strict=True)]
    return spotting_f1(read_words(reply), true)


_ENGLISH, _CHINESE = _choice_or_answer(answer_score), _choice_or_answer(chinese_answer_score)
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "APP agent en", "ASCII art classification en", "math QA en", "reasoning VQA en", "science QA en", "text recognition en",
            "document classification en", "cognition VQA en", "diagram QA en",
        ),
        _ENGLISH,
    ),
    **dict.fromkeys(("cognition VQA cn", "reasoning VQA cn"), _CHINESE),
    **dict.fromkeys(("fine-grained text recognition en", "full-page OCR en", "full-page OCR cn", "text translation cn"), _page),
    **dict.fromkeys(
        ("key information extraction en", "key information mapping en", "key information extraction cn"),
        lambda reply, truth: tables.pairs_score(reply, truth["answers"][0]),
    ),
    **dict.fromkeys(
        ("document parsing en", "document parsing cn"), lambda reply, truth: tables.document_score(reply, truth["answers"][0])
    ),
    "handwritten answer extraction cn": _handwritten,
    "formula recognition en": lambda reply, truth: float(holds_formula(reply, truth["answers"])),
    "formula recognition cn": lambda reply, truth: float(holds_chinese_formula(reply, truth["answers"])),
    "text counting en": lambda reply, truth: count_score(reply, truth["answers"], truth["eval"]),
    "table parsing en": _table,
    "table parsing cn": lambda reply, truth: tables.html_table_score(reply, truth["answers"][0]),
    "chart parsing en": lambda reply, truth: tables.chart_score(reply, truth["answers"][0]),
    "VQA with position en": _with_position,
    "text grounding en": _grounding,
    "text spotting en": _spotting,
}  # fmt: skip
