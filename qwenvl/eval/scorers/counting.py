"""The number that a reply says."""

from __future__ import annotations

import re
from collections.abc import Mapping

from qwenvl.eval.task import Prediction, Tally
from qwenvl.families.spec import Markup
from qwenvl.processing.loose_json import find_json
from qwenvl.processing.regions import style_of

WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
NUMBERS = {word: number for number, word in enumerate(WORDS)} | {"none": 0}
"""The words of lmms_eval/tasks/countbench/utils.py, EvolvingLMMs-Lab/lmms-eval @ 75571cf."""
DIGITS = re.compile(r"(?<![\d.,])\d{1,9}(?![\d]|[.,]\d)")
SPELT = re.compile(rf"\b(?:{'|'.join(NUMBERS)})\b", re.IGNORECASE)
TOTAL = re.compile(r"\btotal of (\d{1,9})\b", re.IGNORECASE)


def exact_count(reply: str) -> int | None:
    """The rule of lmms-eval's countbench: the whole reply is a number, in digits or as a word."""
    said = reply.strip().lower()
    return NUMBERS.get(said, int(said) if said.isascii() and said.isdigit() and len(said) < 10 else None)


def said_count(reply: str, markup: Markup | None = None) -> int | None:
    """The number that a reply gives in its own words, beside its lists of places: "a total of …", or the last one in digits, or the
    last word for one. None where it says none: how many boxes it lists is no answer."""
    words = _own_words(reply, markup)
    if totals := TOTAL.findall(words):
        return int(totals[-1])
    if digits := DIGITS.findall(words):
        return int(digits[-1])
    spelt = SPELT.findall(words)
    return NUMBERS[spelt[-1].lower()] if spelt else None


def _own_words(reply: str, markup: Markup | None) -> str:
    """The text around all JSON, and without places in tags."""
    pieces, done = [], 0
    for found in find_json(reply):
        pieces.append(reply[done : found.start])
        done = found.end
    return style_of(markup or Markup()).readable(" ".join((*pieces, reply[done:])))


def count(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """`accuracy`: the number said is truth["count"]. `exact`: the reply is that number and nothing else (lmms-eval's rule)."""
    wanted = prediction.truth["count"]
    return {
        "accuracy": (float(said_count(prediction.reply, markup) == wanted), 1),
        "exact": (float(exact_count(prediction.reply) == wanted), 1),
    }
