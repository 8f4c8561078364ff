"""Dialogues about several scenes as a generator: the strategies of dialogues, and scenes with one change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from qwenvl.config import Strict
from qwenvl.data.dialogues.difference import scene_difference
from qwenvl.data.dialogues.strategies import STRATEGIES, conversation
from qwenvl.data.scene_recipe import draw
from qwenvl.data.shown import Shown, gather
from qwenvl.data.synth.names import Language
from qwenvl.data.synth.scene import SceneSpec, generate_scene
from qwenvl.data.synth.scene_pair import generate_pair
from qwenvl.data.tasks import questions
from qwenvl.data.wording import Voice
from qwenvl.types import ImagePart, Message, Sample

_SALT = 9
_MOST = 16
"""Pictures of one dialogue at most; each dialogue has so many numbers of scenes for itself."""
_KNOWN = ("caption", "grounded_caption", "what", "count", "where", "colour", "yes_no", "referring", "ocr", "find_text")
"""Tasks whose answers are what is known of a scene."""
CHANGED = "changed"


class SceneDialogues(Strict):
    """How scenes become dialogues."""

    scene: SceneSpec = SceneSpec()
    language: Literal["en", "zh", "both"] = "both"
    pictures: tuple[int, int] = (2, 5)
    """Least and greatest number of pictures; a needle has as many as are allowed."""
    strategies: dict[str, float] = Field(default={"together": 3.0, "in_turn": 3.0, CHANGED: 3.0, "difference": 0.5, "needle": 0.5})
    """Those of `qwenvl data dialogues`, and "changed": a scene drawn twice, with one thing changed."""
    held_out: bool = False
    """Put questions in the one phrasing that training does not see."""

    @model_validator(mode="after")
    def _is_possible(self) -> SceneDialogues:
        low, high = self.pictures
        if not 2 <= low <= high <= _MOST:
            raise ValueError(f"pictures: needs 2 <= least <= greatest <= {_MOST}, not {low}, {high}")
        if unknown := set(self.strategies) - {*STRATEGIES, CHANGED}:
            raise ValueError(f"strategies: no {', '.join(sorted(unknown))}; known: {', '.join((*STRATEGIES, CHANGED))}")
        if not self.strategies or min(self.strategies.values()) < 0 or not sum(self.strategies.values()):
            raise ValueError("strategies: give at least one a weight above 0, and none one below")
        return self


def samples(spec: SceneDialogues, seed: int, index: int) -> list[Sample]:
    """One dialogue, by a strategy drawn by its weight; by another one where the scenes do not allow it."""
    rng = np.random.default_rng((_SALT, seed, index))
    language: Language = ("en", "zh")[int(rng.integers(2))] if spec.language == "both" else spec.language
    voice = Voice(language, "chat", rng, spec.held_out)
    left = {name: weight for name, weight in spec.strategies.items() if weight}
    while left:
        strategy = draw(left, rng)
        del left[strategy]
        if strategy == CHANGED:
            sample = changed(spec.scene, seed, index * _MOST, voice)
        else:
            count = spec.pictures[1] if strategy == "needle" else int(rng.integers(spec.pictures[0], spec.pictures[1] + 1))
            sample = STRATEGIES[strategy](shown_scenes(spec.scene, seed, index * _MOST, count, voice), voice)
        if sample is not None:
            return [replace(sample, id=f"scene dialogue {seed}/{index} {strategy} {language}", source="scene dialogues")]
    return []


def shown_scenes(spec: SceneSpec, seed: int, first: int, count: int, voice: Voice) -> Sequence[Shown]:
    """Scenes with all that is known of them, in the voice's language."""
    made = [
        sample
        for number in range(first, first + count)
        for scene in [generate_scene(spec, seed, number)]
        for task in _KNOWN
        for sample in questions(scene, task, voice.language, "chat", voice.rng, voice.held_out)
    ]
    return list(gather(made))


def changed(spec: SceneSpec, seed: int, number: int, voice: Voice) -> Sample | None:
    """A scene and a changed one: what has changed, and where."""
    pair = generate_pair(spec, seed, number)
    turns = scene_difference(pair, voice) if pair is not None else []
    if pair is None or not turns:
        return None
    messages: list[Message] = []
    for turn in turns:
        messages += turn.messages(*(() if messages else (ImagePart(pair.first.image), ImagePart(pair.second.image))))
    sample = conversation(CHANGED, messages, turns, [], voice)
    return replace(sample, extra={**sample.extra, "pictures": [f"scene {seed}/{number}"] * 2})
