"""Answers to problems in mathematics, found by rule: no judge is asked. What a judge would find is scored by the same functions.

MathVista: lupantech/MathVista @ 53d5258, evaluation/extract_answer.py and calculate_score.py. There a language model takes the
answer out of a reply that is not the answer itself; here `mathvista_extracted` looks for it, by rules of our own where said.
MATH-Vision: mathllm/MATH-V @ a1f5cc3, evaluation/evaluate.py and utils.py, which ask no judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from qwenvl.eval.scorers.arithmetic import value_of
from qwenvl.eval.scorers.choices import LETTERS, by_vlmevalkit
from qwenvl.eval.scorers.text import edit_distance
from qwenvl.eval.task import Prediction, Tally
from qwenvl.families.spec import Markup

FIGURES = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")
LIST = re.compile(r"\[[^\[\]]*\]")


def mathvista_score(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """Whether the answer that a reply gives equals truth["answer"] as it is written; `decided`: whether it gives one."""
    truth = prediction.truth
    found = mathvista_extracted(prediction.reply, truth["choices"], truth["answer_type"])
    right = found is not None and mathvista_normalised(found, **_kind(truth)) == truth["answer"]
    return {"accuracy": (float(right), 1.0), "decided": (float(found is not None), 1.0)}


def _kind(truth: Mapping[str, Any]) -> dict[str, Any]:
    return {name: truth[name] for name in ("choices", "answer_type", "precision")}


def mathvista_extracted(reply: str, choices: Sequence[str], answer_type: str) -> str | None:
    """The answer in a reply, or None. Of choices: one of them word for word, or the letter that by_vlmevalkit finds, as VLMEvalKit
    does before it asks its judge. Of numbers: the reply itself, as there; else, by our rule, what the last \\boxed{} holds, what
    follows the last "answer is" or "Answer:", or the reply, if there is exactly one number in it (of lists: one list)."""
    reply = reply.strip()
    if choices:
        letters = dict(zip(LETTERS, choices, strict=False))
        return reply if reply in choices else by_vlmevalkit(reply, letters)
    pattern = LIST if answer_type == "list" else FIGURES
    boxed = re.findall(r"\\boxed\{([^{}]*)\}", reply)
    said = re.split(r"answer is|answer:", reply, flags=re.IGNORECASE)
    for text in (*boxed[-1:], *said[1:][-1:], reply):
        found = pattern.findall(text)
        if len(found) == 1:
            return str(found[0]) if answer_type == "list" else found[0].replace(",", "")
    return None


def mathvista_normalised(extraction: str, choices: Sequence[str], answer_type: str, precision: float | None) -> str | None:
    """An extracted answer as the key writes answers: a choice's text (by letter, bare or in brackets, else the most similar one),
    an integer cut to one, a number rounded to `precision` decimals, a list as it stands. None for what is no number."""
    if choices:
        bracketed = re.findall(r"\(([a-zA-Z])\)", extraction)
        letter = bracketed[0].upper() if bracketed else extraction.strip()
        if letter in LETTERS[: len(choices)] and len(letter) == 1:
            return choices[LETTERS.index(letter)]
        return min(choices, key=lambda choice: edit_distance(letter, choice))
    try:
        if answer_type == "integer":
            return str(int(float(extraction)))
        if answer_type == "float":
            return str(round(float(extraction), int(precision or 0)))
    except (ValueError, OverflowError):
        return None
    return extraction


INTRODUCTIONS = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
CLEANED = (
    (" ", ""), ("\\,", ""), ("∞", "\\infty"), ("+\\infty", "\\infty"), ("\\\\", "\\"), ("\n", ""), ("\\text", ""), ("\\mbox", ""),
    ("bmatrix", "pmatrix"), ("\\left", ""), ("\\right", ""), ("^{\\circ}", ""), ("^\\circ", ""), ("{m}^3", ""), ("m^3", ""),
    ("{units}", ""), ("units", ""), ("{km}", ""), ("km", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"),
    ("\\left", ""), ("\\right", ""), ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""), ("$", ""),
)  # fmt: skip
"""Replaced in this order."""


def mathvision_score(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """Whether a reply comes to truth["answer"], or to the text of that option."""
    truth = prediction.truth
    said = mathvision_extracted(prediction.reply)
    keys = [truth["answer"], truth["choices"][LETTERS.index(truth["answer"])]] if truth["choices"] else [truth["answer"]]
    return {"accuracy": (float(any(is_equal(key, said) for key in keys)), 1.0)}


def mathvision_extracted(reply: str) -> str:
    """What a reply comes to, in small letters and cleaned of LaTeX that changes nothing."""
    answer = reply.strip()
    for letter in "ABCDE":
        if answer.endswith((f" {letter}.", f" ({letter}).")) or answer.startswith(
            (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        ):
            answer = letter
    last = answer.split("is ")[-1].rstrip(".")
    answer = last if _is_number(last) else answer
    if "oxed{" not in answer:
        for words in INTRODUCTIONS:
            for introduction in (words, words.replace("the", "The")):
                if introduction in answer:
                    answer = answer.split(introduction)[-1].strip().split("\n")[0].split(". ")[0]
                else:
                    answer = answer.strip()
    elif answer.count("oxed{") > 1:
        answer = "\\boxed{" + answer.split("oxed{")[-1]
    found = _cleaned(answer)
    for form in ("({})", "{{{}}}"):
        for letter in "abcde":
            found = found.replace(form.format(letter), letter)
    return found.rstrip(".").lstrip(":").strip()


def _cleaned(answer: str) -> str:
    small = answer.lower().replace("{}", "")
    boxed = re.search(r"oxed\{(.*)\}", small, flags=re.DOTALL)
    text = boxed[1] if boxed else small
    if "}" in text and ("{" not in text or text.index("}") < text.index("{")):
        text = text.split("}")[0]
    text = text.split("=")[-1].split("\\approx")[-1]
    for old, new in CLEANED:
        text = text.replace(old, new)
    text = text.replace("\\%", "").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    if "sqrt" in text:
        first, *parts = text.split("\\sqrt")
        text = first + "".join("\\sqrt" + (part if part[:1] in ("", "{") else f"{{{part[0]}}}{part[1:]}") for part in parts)
        text = _braced_fractions(text)
    if text == "0.5":
        return "\\frac{1}{2}"
    halves = text.split("/")
    whole = len(halves) == 2 and all(re.fullmatch(r"0|-?[1-9]\d*", half) for half in halves)
    return f"\\frac{{{halves[0]}}}{{{halves[1]}}}" if whole else text


def _braced_fractions(text: str) -> str:
    """\\frac12 as \\frac{1}{2}; as it was, where a fraction is cut off."""
    first, *parts = text.split("\\frac")
    written = first
    for part in parts:
        if not part.startswith("{"):
            if len(part) < 2:
                return text
            part = f"{{{part[0]}}}{part[1:]}" if part[1] == "{" else f"{{{part[0]}}}{{{part[1]}}}{part[2:]}"
        written += "\\frac" + part
    return written


def is_equal(key: str, said: str) -> bool:
    """The same text; or the same values to two decimals, each by itself in a tuple or list. Values are those of `value_of`; there
    latex2sympy finds them, which knows more formulas."""
    key, said = key.lower(), said.lower()
    if not key.replace(" ", "") or not said.replace(" ", ""):
        return False
    if key.strip() == said.strip() or _valued(key) == _valued(said):
        return True
    try:
        return round(value_of(key), 2) == round(value_of(said), 2)
    except ValueError:
        return False


def _valued(text: str) -> str:
    """A tuple or list of formulas with their values in their place; anything else as it is."""
    parts = text[1:-1].split(",")
    if len(parts) < 2 or (text[0], text[-1]) not in (("(", ")"), ("[", "]")):
        return text
    try:
        values = [part if "infty" in part or part in ("a", "-a") else str(round(value_of(part), 2)) for part in parts]
    except ValueError:
        return text
    return f"{text[0]}{','.join(values)}{text[-1]}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
