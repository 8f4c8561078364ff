"""What a fault is: a function that makes a wrong answer of a right one, so near to it that one must look to tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qwenvl.data.wording import Voice
from qwenvl.types import Part, Region, Sample


@dataclass(frozen=True, slots=True)
class Truth:
    """A Sample of one question and its answer, and the other regions that are known in its picture, each with its phrase."""

    sample: Sample
    answer: tuple[Part, ...]
    others: Sequence[tuple[str, Region]] = ()

    @property
    def kind(self) -> str:
        return str(self.sample.extra.get("kind", self.sample.task))


Fault = Callable[[Truth, Voice], tuple[Part, ...] | None]
"""Gives the wrong answer, None where the Sample does not allow the fault."""
