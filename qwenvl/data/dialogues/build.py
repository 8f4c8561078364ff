"""Dialogues about several pictures from a stream of Samples: which pictures come together, and by which strategy.

The pictures of a window of the stream are dealt out in random order, so that every picture is used equally often and memory holds
one window. What is drawn depends on (seed, window, dialogue) alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from pydantic import Field, model_validator

from qwenvl.config import Strict
from qwenvl.data.dialogues.strategies import STRATEGIES
from qwenvl.data.shown import Shown, gather
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import Voice
from qwenvl.types import QwenVLError, Sample

_TRIES = 3
"""Strategies tried before a group of pictures is given up."""


class DialogueSpec(Strict):
    """How pictures become dialogues."""

    pictures: tuple[int, int] = (2, 4)
    """Least and greatest number of pictures of a dialogue."""
    strategies: dict[str, float] = Field(default={"together": 0.5, "in_turn": 0.35, "difference": 0.15})
    """Name -> weight; see strategies.py."""
    rounds: int = Field(default=1, gt=0)
    """How often each picture is used."""
    window: int = Field(default=256, gt=1)
    """Neighbouring pictures that may come together."""

    @model_validator(mode="after")
    def _is_possible(self) -> DialogueSpec:
        low, high = self.pictures
        if not 2 <= low <= high <= self.window:
            raise ValueError(f"pictures: needs 2 <= least <= greatest <= window ({self.window}), not {low}, {high}")
        if unknown := set(self.strategies) - set(STRATEGIES):
            raise ValueError(f"strategies: no {', '.join(sorted(unknown))}; known: {', '.join(STRATEGIES)}")
        if not self.strategies or min(self.strategies.values()) < 0 or not sum(self.strategies.values()):
            raise ValueError("strategies: give at least one a weight above 0, and none one below")
        return self


@dataclass(slots=True)
class Tally:
    """Counts of a run: pictures by language, dialogues by strategy, Samples passed over by reason, and groups of pictures that
    allowed no dialogue."""

    pictures: Counter[str] = field(default_factory=Counter)
    dialogues: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    fruitless: int = 0
    bad: list[str] = field(default_factory=list)


def dialogues(
    samples: Iterable[Sample], spec: DialogueSpec, seed: int, tally: Tally | None = None, held_out_phrasing: bool = False
) -> Iterator[Sample]:
    """Dialogues over the pictures of a stream. Pictures of one language come together; a picture that cannot be opened is named in
    `tally.bad`, and its group gives no dialogue."""
    tally = Tally() if tally is None else tally
    pictures = gather(samples, tally.passed_over)
    for number in range(2**31):
        window = list(islice(pictures, spec.window))
        if not window:
            return
        by_language: dict[Language, list[Shown]] = defaultdict(list)
        for shown in window:
            by_language[shown.language].append(shown)
            tally.pictures[shown.language] += 1
        for place, (language, alike) in enumerate(sorted(by_language.items())):
            rng = np.random.default_rng((seed, number, place))
            voice = Voice(language, "chat", rng, held_out_phrasing)
            yield from _of_window(alike, spec, voice, f"dialogue {seed}/{number}/{language}", tally)


def _of_window(pictures: Sequence[Shown], spec: DialogueSpec, voice: Voice, name: str, tally: Tally) -> Iterator[Sample]:
    number = 0
    for _ in range(spec.rounds):
        for group in _dealt(pictures, spec, voice.rng):
            sample = _dialogue(group, spec, voice, tally)
            if sample is None:
                tally.fruitless += 1
                continue
            tally.dialogues[sample.extra["kind"]] += 1
            yield replace(sample, id=f"{name}/{number}")
            number += 1


def _dealt(pictures: Sequence[Shown], spec: DialogueSpec, rng: np.random.Generator) -> Iterator[list[Shown]]:
    """All pictures in random order, in groups; a rest that is too small joins none."""
    order = [pictures[place] for place in rng.permutation(len(pictures)).tolist()]
    start = 0
    while start + spec.pictures[0] <= len(order):
        size = int(rng.integers(spec.pictures[0], spec.pictures[1] + 1))
        yield order[start : start + size]
        start += size


def _dialogue(group: Sequence[Shown], spec: DialogueSpec, voice: Voice, tally: Tally) -> Sample | None:
    """By a strategy drawn by its weight; where the pictures do not allow it, by another one."""
    left = {name: weight for name, weight in spec.strategies.items() if weight}
    for _ in range(min(_TRIES, len(left))):
        names, weights = list(left), np.array(list(left.values()))
        drawn = names[int(voice.rng.choice(len(names), p=weights / weights.sum()))]
        del left[drawn]
        try:
            sample = STRATEGIES[drawn](group, voice)
        except QwenVLError as error:
            tally.bad.append(str(error))
            return None
        if sample is not None:
            return sample
    return None
