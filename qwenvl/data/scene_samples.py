"""Scenes as a generator of single Samples: one question of a drawn task about each scene."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qwenvl.config import Strict
from qwenvl.data.loader import row_generator
from qwenvl.data.scene_recipe import Weights, draw
from qwenvl.data.synth.scene import generate_scene
from qwenvl.data.synth.spec import SceneSpec
from qwenvl.data.tasks import questions
from qwenvl.types import Sample, Style

SALT = 7
"""Keeps the draws of questions apart from those of rows, which may have the same numbers."""


EVEN = dict.fromkeys(("caption", "grounded_caption", "referring", "naming", "what", "count", "where", "yes_no", "ocr"), 1.0)


class SceneSamples(Strict):
    scene: SceneSpec = SceneSpec()
    style: Style = "chat"
    tasks: Weights = Field(default=EVEN)
    language: Literal["en", "zh", "both"] = "both"
    held_out: bool = False
    """Put questions in the one phrasing that training does not see."""


def samples(spec: SceneSamples, seed: int, index: int) -> list[Sample]:
    """The questions of one task about scene `index`: of the first one, drawn by weight, that the scene allows."""
    rng = row_generator(seed, SALT, index)
    scene = generate_scene(spec.scene, seed, index)
    language = ("en", "zh")[int(rng.integers(2))] if spec.language == "both" else spec.language
    left = dict(spec.tasks)
    while left:
        task = draw(left, rng)
        if found := questions(scene, task, language, spec.style, rng, spec.held_out):
            return found
        del left[task]
    return []
