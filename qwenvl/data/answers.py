"""The answers of questions that have a closed list of them, with every spelling that counts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from qwenvl.data.synth.names import COLOUR_NAMES, COLOURS, number

if TYPE_CHECKING:
    from qwenvl.data.synth.names import Language

Choices = dict[str, list[str]]
"""Value -> its spellings in the language of the question. Where one spelling holds another, the longest one found counts."""

MAX_COUNT = 9

# The nine places of a picture, row by row: short form, form within a sentence, Chinese.
PLACES = {
    "top left": ("in the top left", "左上角"),
    "top": ("at the top", "上方"),
    "top right": ("in the top right", "右上角"),
    "left": ("on the left", "左侧"),
    "center": ("in the center", "中间"),
    "right": ("on the right", "右侧"),
    "bottom left": ("in the bottom left", "左下角"),
    "bottom": ("at the bottom", "下方"),
    "bottom right": ("in the bottom right", "右下角"),
}

SIDES = {"left": ("left", "左边"), "right": ("right", "右边"), "above": ("above", "上面"), "below": ("below", "下面")}

# Shared between Samples: never changed.


@cache
def count_choices(language: Language) -> Choices:
    if language == "en":
        spelt = {str(n): [str(n), number(n, "en")] for n in range(MAX_COUNT + 1)}
        spelt["0"].append("no")
        return spelt
    spelt = {str(n): [str(n), number(n, "zh")] for n in range(MAX_COUNT + 1)}
    spelt["0"].append("没有")
    spelt["2"].append("二")
    return spelt


@cache
def colour_choices(language: Language) -> Choices:
    return {key: [COLOUR_NAMES[key][language]] for key in COLOURS}


@cache
def place_choices(language: Language) -> Choices:
    return {key: [key] if language == "en" else [chinese] for key, (_, chinese) in PLACES.items()}


@cache
def yes_no_choices(language: Language) -> Choices:
    return {"yes": ["yes"], "no": ["no"]} if language == "en" else {"yes": ["有", "是"], "no": ["没有", "不是"]}


@cache
def side_choices(first: str, second: str, language: Language) -> Choices:
    return {side: [SIDES[side][0 if language == "en" else 1]] for side in (first, second)}
