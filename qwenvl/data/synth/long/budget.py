"""What all generators of long samples are told: how long."""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from qwenvl.config import ConfigError, Strict
from qwenvl.data.length import Ruler
from qwenvl.data.synth.draws import between
from qwenvl.families import find_preset

LONG_VERSION = 2
"""Raised by every change of this package that changes a sample."""


class LongSpec(Strict):
    """Long samples are filled up to a number of tokens, drawn per sample and counted for one model as `data.length` does: visual
    tokens exactly, text by a rule of thumb that gives rather too many."""

    tokens: tuple[int, int] = (8192, 32768)
    preset: str = Field(default="qwen2.5-vl-7b", validate_default=True)
    """The model that tokens are counted for (`qwenvl model list`)."""
    held_out: bool = False
    """Put questions in the one phrasing that training does not see."""

    @model_validator(mode="after")
    def _is_possible(self) -> LongSpec:
        low, high = self.tokens
        if not 1024 <= low <= high:
            raise ValueError(f"tokens: needs 1024 <= least <= greatest, not {low}, {high}")
        try:
            find_preset(self.preset)
        except ConfigError as error:
            raise ValueError(f"preset: {error}") from None
        return self

    @property
    def ruler(self) -> Ruler:
        return Ruler(self.preset)

    def budget(self, rng: np.random.Generator) -> int:
        return int(between(rng, self.tokens[0], self.tokens[1] + 1))


def stream(kind: int, seed: int, index: int) -> np.random.Generator:
    """The random numbers of one sample; `kind` is its generator's own number. Raises ConfigError for a number below 0."""
    if seed < 0 or index < 0:
        raise ConfigError(f"long sample (seed {seed}, index {index}): seed and index count from 0")
    return np.random.default_rng((LONG_VERSION, kind, seed, index))
