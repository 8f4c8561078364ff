"""Small random choices. Generator.random() is the cheapest draw that numpy has, and these are made dozens of times per scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from qwenvl.data.synth.names import Language

Item = TypeVar("Item")


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One of the items, each as likely."""
    return items[int(rng.random() * len(items))]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [low, high)."""
    return low + (high - low) * rng.random()


def whole(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def draw_language(rng: np.random.Generator, wanted: str) -> Language:
    """As wanted, or either of the two for "both"."""
    if wanted == "both":
        return "zh" if rng.random() < 0.5 else "en"
    return "zh" if wanted == "zh" else "en"
