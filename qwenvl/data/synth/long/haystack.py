"""Haystacks: as many drawn pictures as fit a budget, and one question about one of the last.

A pure function of (spec, seed, index).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from qwenvl.config import Strict
from qwenvl.data.dialogues.strategies import needle
from qwenvl.data.scene_recipe import draw
from qwenvl.data.shown import Shown, gather
from qwenvl.data.synth.draws import draw_language
from qwenvl.data.synth.generators import generator_named
from qwenvl.data.synth.long.budget import LongSpec, stream
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import Voice
from qwenvl.types import Sample

_KIND = 3
_NUMBERS = 1 << 16
"""Numbers of pictures kept free for each haystack."""
_LONGEST_ANSWER = 700
"""Tokens; what is longer is not asked."""
_KEPT = (1500, 4)
"""Tokens kept free for question and answer: so many at most, and at most such a part of the budget."""


EVEN = dict.fromkeys(("scenes", "chart", "table", "form", "screen", "page"), 1.0)


class HaystackSpec(LongSpec):
    """What haystacks are made of."""

    language: Literal["en", "zh", "both"] = "both"
    sources: dict[str, float] = Field(default=EVEN, min_length=1)
    """Generators of single pictures (`qwenvl data synth`), each with its weight. One haystack may be of several."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Source -> what its generator is told."""
    mixed: float = Field(default=0.5, ge=0, le=1)
    """How often pictures of several sources lie in one haystack; otherwise all are of one, which is harder."""


def samples(spec: HaystackSpec, seed: int, index: int) -> list[Sample]:
    """One Sample: the pictures of haystack `index`, and a question. Raises ConfigError for a generator that does not exist."""
    rng = stream(_KIND, seed, index)
    budget = spec.budget(rng)
    room = budget - min(_KEPT[0], budget // _KEPT[1])
    language = draw_language(rng, spec.language)
    sources = spec.sources if rng.random() < spec.mixed else {draw(spec.sources, rng): 1.0}
    pictures: list[Shown] = []
    for shown in _pictures(spec, sources, language, seed, index, rng):
        room -= spec.ruler.part(shown.picture)
        if room < 0 and len(pictures) > 1:
            break
        pictures.append(shown)
    sample = needle(pictures, Voice(language, "chat", rng, spec.held_out))
    if sample is None:
        return []
    return [replace(sample, id=f"haystack {seed}/{index}", source="haystacks", task="haystack")]


def _spec_of(spec: HaystackSpec, name: str, language: Language) -> Strict:
    generator = generator_named(name)
    told = generator.told(language, spec.held_out)
    return generator.read_spec(spec.settings.get(name, {}) | told, f"settings of {name!r}")


def _pictures(
    spec: HaystackSpec, sources: dict[str, float], language: Language, seed: int, index: int, rng: np.random.Generator
) -> Iterator[Shown]:
    """Pictures, each with what is known of it; those of which nothing is known are left out."""
    specs = {name: _spec_of(spec, name, language) for name in sources}
    for number in range(index * _NUMBERS, (index + 1) * _NUMBERS):
        name = draw(sources, rng)
        made = generator_named(name).samples(specs[name], seed, number)
        for shown in gather(made):
            short = tuple(asked for asked in shown.asked if sum(map(spec.ruler.part, asked.answer)) < _LONGEST_ANSWER)
            yield replace(shown, asked=short)
