"""Clips as a generator of single Samples: one question of a drawn task about each clip."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field, field_validator

from qwenvl.config import Strict
from qwenvl.data.clips import CLIP_TASKS, clip_questions
from qwenvl.data.loader import row_generator
from qwenvl.data.scene_recipe import Weights, draw
from qwenvl.data.synth.clip import ClipSpec, generate_clip
from qwenvl.types import Sample, Style

SALT = 8
"""Keeps the draws of questions apart from those of rows and of scenes."""
RICH = ClipSpec(seconds=(6.0, 16.0), visits=(1, 3), acts=("move", "stay", "grow", "shrink"))


class ClipSamples(Strict):
    clip: ClipSpec = RICH
    style: Style = "chat"
    tasks: Weights = Field(default=dict.fromkeys(CLIP_TASKS, 1.0))
    language: Literal["en", "zh", "both"] = "both"
    fps: float = Field(default=2.0, gt=0, le=60)
    """Frames a second that are looked at."""
    held_out: bool = False
    """Put questions in the one phrasing that training does not see."""

    @field_validator("tasks")
    @classmethod
    def _are_tasks(cls, tasks: dict[str, float]) -> dict[str, float]:
        if unknown := set(tasks) - set(CLIP_TASKS):
            raise ValueError(f"{', '.join(sorted(unknown))}: not a task of clips; known: {', '.join(CLIP_TASKS)}")
        return tasks


def samples(spec: ClipSamples, seed: int, index: int) -> list[Sample]:
    """The questions of one task about clip `index`: of the first one, drawn by weight, that the clip allows."""
    rng = row_generator(seed, SALT, index)
    clip = generate_clip(spec.clip, seed, index, spec.fps)
    language = ("en", "zh")[int(rng.integers(2))] if spec.language == "both" else spec.language
    left = dict(spec.tasks)
    while left:
        task = draw(left, rng)
        if found := clip_questions(clip, task, language, spec.style, rng, spec.held_out):
            return [replace(sample, id=f"{sample.id}/{number}") for number, sample in enumerate(found)]
        del left[task]
    return []
