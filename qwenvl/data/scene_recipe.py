"""What a row from synthetic scenes is made of: kinds of scenes and clips, tasks with weights, languages.

Every draw comes from a generator that belongs to one row, so a row depends on (seed, epoch, index) alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from qwenvl.config import Strict
from qwenvl.data.row_recipe import RowRecipe
from qwenvl.data.synth.clip import ClipSpec
from qwenvl.data.synth.names import Language
from qwenvl.data.synth.spec import SceneSpec

Packing = Literal["share_prefix", "interleave", "isolate", "pictures"]


Weights = dict[str, Annotated[float, Field(ge=0)]]
"""Name -> how often it is drawn, in proportion to the sum."""


class WeightedScenes(Strict):
    weight: float = Field(default=1.0, gt=0)
    spec: SceneSpec = SceneSpec()
    tasks: Weights | None = None
    """Tasks for these scenes alone; none means data.tasks."""


class SceneRecipe(RowRecipe):
    source: Literal["scenes"] = "scenes"
    packing: Packing = "share_prefix"
    """How a row is filled; `pictures` is a picture without text, for the dense objective."""
    row_tokens: int = Field(default=124, gt=0)
    """Room of a row: tokens behind the shared picture, or tokens in all for interleave and isolate."""
    scenes: tuple[WeightedScenes, ...] = Field((WeightedScenes(),), min_length=1)
    tasks: Weights = Field(default_factory=dict)
    per_picture: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    """How many questions of a task one picture may get; 1 where not named."""
    text_rows: float = Field(default=0.0, ge=0, le=1)
    """Share of rows without any picture, of task `text`."""
    pair_rows: float = Field(default=0.0, ge=0, le=1)
    """Share of rows with a dialogue about two pictures, of task `two_pictures`."""
    clip_rows: float = Field(default=0.0, ge=0, le=1)
    """Share of rows with a clip, for families that take video."""
    clips: ClipSpec = ClipSpec()
    clip_tasks: Weights = Field(default={"clip_when": 4.0, "clip_what": 2.0, "clip_direction": 2.0, "clip_caption": 1.0})
    clip_fps: Literal["drawn"] | Annotated[float, Field(gt=0, le=60)] = "drawn"
    """Frames a second; `drawn`: from 0.5 to 4, for every clip."""
    chinese: float = Field(default=0.5, ge=0, le=1)


def draw(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    """A key, with probability proportional to its weight."""
    names = list(weights)
    bounds = np.cumsum([weights[name] for name in names])
    return names[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]


def draw_scenes(recipe: SceneRecipe, rng: np.random.Generator) -> WeightedScenes:
    bounds = np.cumsum([scenes.weight for scenes in recipe.scenes])
    return recipe.scenes[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]


def draw_language(recipe: SceneRecipe, rng: np.random.Generator) -> Language:
    return "zh" if rng.random() < recipe.chinese else "en"


def tasks_of(recipe: SceneRecipe) -> tuple[str, ...]:
    """Every task that may appear, in a fixed order."""
    named: dict[str, None] = dict.fromkeys(recipe.tasks)
    for scenes in recipe.scenes:
        named |= dict.fromkeys(scenes.tasks or ())
    extra: Sequence[str] = [task for task, share in (("text", recipe.text_rows), ("two_pictures", recipe.pair_rows)) if share]
    clips: Sequence[str] = tuple(recipe.clip_tasks) if recipe.clip_rows and recipe.packing != "pictures" else ()
    return tuple(named | dict.fromkeys((*extra, *clips)))
