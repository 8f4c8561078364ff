"""What is written in scenes: digits, capitals, both mixed, English nouns in capitals, Chinese nouns."""

from __future__ import annotations

import string
from functools import cache

import numpy as np

from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.names import EMOJI, noun

# Shares of the kinds of string, cumulative: digits, capitals, capitals and digits mixed, English words, Chinese words.
_KINDS = ((0.25, "digits"), (0.45, "capitals"), (0.65, "mixed"), (0.85, "english"), (1.0, "chinese"))
_LENGTHS = (2, 5)
_LONGEST_WORD = 7
# In a mixed string nothing but a guess tells O from 0 or I from 1: those four are left out.
_UNMISTAKABLE = "".join(sorted(set(string.ascii_uppercase + string.digits) - set("O0I1")))
_ALPHABETS = {"digits": string.digits, "capitals": string.ascii_uppercase, "mixed": _UNMISTAKABLE}


@cache
def _english_words() -> tuple[str, ...]:
    words = (noun(key, "en").upper() for key in EMOJI)
    return tuple(word for word in words if word.isalpha() and len(word) <= _LONGEST_WORD)


@cache
def _chinese_words() -> tuple[str, ...]:
    return tuple(noun(key, "zh") for key in EMOJI)


def draw_string(rng: np.random.Generator, latin_only: bool = False) -> tuple[str, bool]:
    """A string to write, and whether it is Chinese."""
    top = _KINDS[-2][0] if latin_only else 1.0
    share = rng.random() * top
    kind = next(name for limit, name in _KINDS if share < limit)
    if kind == "english":
        return pick(rng, _english_words()), False
    if kind == "chinese":
        return pick(rng, _chinese_words()), True
    return "".join(pick(rng, _ALPHABETS[kind]) for _ in range(whole(rng, *_LENGTHS))), False
