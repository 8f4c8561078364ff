"""Names that figures are filled with, in English and Chinese: the tables of the YAML files beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.names import Language

LANGUAGES: tuple[Language, ...] = ("en", "zh")
_FOLDER = Path(__file__).parent


@cache
def book(name: str) -> dict[str, Any]:
    """A YAML file of this folder, by its name without suffix. Shared: never change what it holds."""
    import yaml

    content: dict[str, Any] = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


def say(pair: list[Any], language: Language) -> str:
    """One of an [English, Chinese] pair."""
    return str(pair[LANGUAGES.index(language)])


@dataclass(frozen=True, slots=True)
class Group:
    """Names that stand in a row, what one of them is called, and whether they follow each other in time."""

    key: str
    name: str
    items: tuple[str, ...]
    time: bool


def draw_group(rng: np.random.Generator, key: str, count: int, language: Language) -> Group:
    """Up to `count` names of a group of words.yaml: neighbours of each other where they have an order, any in random order else."""
    if key == "years":
        last = whole(rng, 2012, 2024)
        return Group(key, say(["year", "年份"], language), tuple(str(last - back) for back in range(count))[::-1], True)
    entry = book("words")["groups"][key]
    items = [say(item, language) for item in entry["items"]]
    count = min(count, len(items))
    time = bool(entry.get("time"))
    if time or entry.get("ordered"):
        first = whole(rng, 0, len(items) - count)
        items = items[first : first + count]
    else:
        items = [items[int(place)] for place in rng.permutation(len(items))[:count]]
    return Group(key, say(entry["name"], language), tuple(items), time)


def draw_topic(rng: np.random.Generator) -> dict[str, Any]:
    """A topic of words.yaml."""
    topic: dict[str, Any] = pick(rng, book("words")["topics"])
    return topic
