"""What the specs of pages and of their effects have in common: pairs of a least and a greatest value, and chances."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from qwenvl.config import Strict

Range = tuple[float, float]
Whole = tuple[int, int]
Share = Annotated[float, Field(ge=0, le=1)]


class Ranged(Strict):
    """Refuses a pair of numbers that is not in order."""

    @model_validator(mode="after")
    def _in_order(self) -> Ranged:
        for name, value in self:
            numbers = isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], str)
            if numbers and value[0] > value[1]:
                raise ValueError(f"{name}: needs least <= greatest, not {value[0]}, {value[1]}")
        return self


class Effect(Ranged):
    """`share` is the chance of a page to have the effect."""

    share: Share = 0.0
