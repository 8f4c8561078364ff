"""Yes or no: what a reply says, and what MME, HallusionBench and POPE make of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwenvl.eval.scorers.vqa import MOST_PERIODS, without_marks
from qwenvl.eval.task import Pooled, Prediction, Tally
from qwenvl.families.spec import Markup

PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
PERIOD = re.compile(r"(?<!\d)\.(?!\d)")


def by_mme(reply: str) -> str | None:
    """What a reply begins with, in its first four characters. Source: calculation.py in tools/eval_tool.zip of
    BradyFU/Awesome-Multimodal-Large-Language-Models @ dd29509 (branch Evaluation)."""
    head = reply.lower()[:4]
    return "yes" if "yes" in head else "no" if "no" in head else None


def by_word(reply: str) -> str | None:
    """The one of the two that is among its words. Source: open-compass/VLMEvalKit @ e8e78f0, vlmeval/dataset/utils/yorn.py
    (YOrN_Extraction), vlmeval/smp/misc.py (process_punctuation)."""
    words = unpunctuated(reply.lower()).split()
    said = [word for word in ("yes", "no") if word in words]
    return said[0] if len(said) == 1 else None


def by_pope(reply: str) -> str:
    """No, if one of three words of the first sentence says so; else yes, whatever it says. Source: AoiDragon/POPE @ 08d957b,
    evaluate.py."""
    words = reply.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def unpunctuated(text: str) -> str:
    """As the VQA evaluation has it, but for a full stop behind a digit, which stays."""
    return PERIOD.sub("", without_marks(text), count=MOST_PERIODS)


def yes_no_score(rule: Callable[[str], str | None]) -> Callable[[Prediction, Markup], Mapping[str, Tally]]:
    """A `Score` of truth["answer"], "yes" or "no"; `decided`: whether the rule found one of them."""

    def score(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
        said = rule(prediction.reply)
        return {"accuracy": (float(said == prediction.truth["answer"]), 1.0), "decided": (float(said is not None), 1.0)}

    return score


def mme_value(pictures: Sequence[tuple[str, Sequence[bool]]]) -> float:
    """Sum over subtasks of accuracy and accuracy+, the share of pictures both of whose questions are right: at most 2 a subtask.
    A picture is (its subtask, whether each of its questions is right)."""
    total = 0.0
    for subtask in sorted({subtask for subtask, _ in pictures}):
        hits = [hit for name, hit in pictures if name == subtask]
        questions = [right for hit in hits for right in hit]
        total += sum(questions) / len(questions) + sum(map(all, hits)) / len(hits)
    return total


def mme_pool(predictions: Sequence[Prediction], markup: Markup) -> Mapping[str, Pooled]:
    """`perception`, `cognition` and their sum `total`, over pictures with their questions. The published scores are a hundred times
    as much, of all ten and four subtasks."""
    pictures: dict[tuple[str, str], list[bool]] = {}
    for prediction in predictions:
        key = (prediction.truth["subtask"], prediction.truth["picture"])
        pictures.setdefault(key, []).append(by_mme(prediction.reply) == prediction.truth["answer"])
    units = [(subtask, tuple(hits)) for (subtask, _), hits in sorted(pictures.items())]
    measures = {"perception": PERCEPTION, "cognition": COGNITION, "total": PERCEPTION + COGNITION}
    pooled = {name: tuple(unit for unit in units if unit[0] in subtasks) for name, subtasks in measures.items()}
    return {name: Pooled(found, mme_value) for name, found in pooled.items() if found}


def hallusion_values(sets: Sequence[Sequence[tuple[str, str, bool]]]) -> tuple[float, float, float]:
    """(aAcc, fAcc, qAcc) of sets of (figure, question, right): the share of answers that are right, of figures about which all are,
    of questions that are right on all figures. A question without a picture is of the figure "", which is none."""
    answers: list[bool] = []
    figures: list[bool] = []
    questions: list[bool] = []
    for asked in sets:
        by_figure: dict[str, list[bool]] = {}
        by_question: dict[str, list[bool]] = {}
        for figure, question, right in asked:
            answers.append(right)
            by_question.setdefault(question, []).append(right)
            if figure:
                by_figure.setdefault(figure, []).append(right)
        figures += map(all, by_figure.values())
        questions += map(all, by_question.values())
    return sum(answers) / len(answers), sum(figures) / max(len(figures), 1), sum(questions) / len(questions)


def hallusion_pool(predictions: Sequence[Prediction], markup: Markup) -> Mapping[str, Pooled]:
    """`aAcc`, `fAcc`, `qAcc` and `average` of the three, over sets of questions about the figures of one matter.

    Source: tianyi-lab/HallusionBench @ 744007c, utils.py (get_eval_all, get_eval_fig, get_eval_pair_all); a judge reads replies
    there, a rule here and in VLMEvalKit. The average is what arXiv 2409.12191, Table 2, calls HallBench avg.
    """
    sets: dict[str, list[tuple[str, str, bool]]] = {}
    for prediction in predictions:
        truth = prediction.truth
        right = by_word(prediction.reply) == truth["answer"]
        sets.setdefault(truth["set"], []).append((truth["figure"], truth["question"], right))
    units = tuple(tuple(asked) for _, asked in sorted(sets.items()))

    def value(number: int) -> Callable[[Sequence[Any]], float]:
        return lambda chosen: hallusion_values(chosen)[number]

    measures = {name: Pooled(units, value(number)) for number, name in enumerate(("aAcc", "fAcc", "qAcc"))}
    return measures | {"average": Pooled(units, lambda chosen: sum(hallusion_values(chosen)) / 3)}


def pope_values(answers: Sequence[tuple[str, str | None]]) -> dict[str, float]:
    """precision, recall and f1 of yes, and the share of yes, of (truth, said). A measure without anything to count is 0."""
    said = sum(reply == "yes" for _, reply in answers)
    there = sum(truth == "yes" for truth, _ in answers)
    both = sum(truth == reply == "yes" for truth, reply in answers)
    precision, recall = both / said if said else 0.0, both / there if there else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "yes_share": said / len(answers)}


def pope_pool(predictions: Sequence[Prediction], markup: Markup) -> Mapping[str, Pooled]:
    """Of replies read by `by_word`, as in VLMEvalKit (POPE_rating), which takes what it cannot read for a no here; `official_f1` of
    replies read as POPE's own script does, which takes it for a yes."""
    read = tuple((prediction.truth["answer"], by_word(prediction.reply)) for prediction in predictions)
    official = tuple((prediction.truth["answer"], by_pope(prediction.reply)) for prediction in predictions)

    def value(name: str) -> Callable[[Sequence[Any]], float]:
        return lambda answers: pope_values(answers)[name]

    measures = {name: Pooled(read, value(name)) for name in ("precision", "recall", "f1", "yes_share")}
    return measures | {"official_f1": Pooled(official, value("f1"))}
