"""What a training row is made of: kinds of scenes, tasks with weights, languages, and how much each token's loss counts.

Every draw comes from a generator that belongs to one row, so a row depends on (seed, epoch, index) alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from qwenvl.config import Strict
from qwenvl.data.synth.names import Language
from qwenvl.data.synth.spec import SceneSpec
from qwenvl.families.spec import Markup
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import Encoded, Message, RegionPart, Sample, Style

Packing = Literal["share_prefix", "interleave", "isolate", "pictures"]


Weights = dict[str, Annotated[float, Field(ge=0)]]
"""Name -> how often it is drawn, in proportion to the sum."""


class WeightedScenes(Strict):
    weight: float = Field(default=1.0, gt=0)
    spec: SceneSpec = SceneSpec()
    tasks: Weights | None = None
    """Tasks for these scenes alone; none means data.tasks."""


class LossWeights(Strict):
    """Weight of a supervised token in the loss. All ones, as published, unless set."""

    coordinate_digits: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Hundreds, tens, units of a coordinate."""
    box_punctuation: float = 1.0
    """Everything else after <box> or <quad>, up to and with the closing token."""
    tasks: dict[str, float] = Field(default_factory=dict)


class DataRecipe(Strict):
    source: Literal["scenes"] = "scenes"
    style: Style = "raw"
    packing: Packing = "share_prefix"
    """How a row is filled; `pictures` is a picture without text, for the dense objective."""
    rows_per_step: int = Field(default=32, gt=0)
    """Rows of one optimiser step, over all ranks."""
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
    chinese: float = Field(default=0.5, ge=0, le=1)
    box_jitter: float = Field(default=0.0, ge=0)
    """Regions move by up to so many pixels of the model's picture, corner by corner: whole pixels would favour some coordinates."""
    loss: LossWeights = LossWeights()


def draw(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    """A key, with probability proportional to its weight."""
    names = list(weights)
    bounds = np.cumsum([weights[name] for name in names])
    return names[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]


def draw_scenes(recipe: DataRecipe, rng: np.random.Generator) -> WeightedScenes:
    bounds = np.cumsum([scenes.weight for scenes in recipe.scenes])
    return recipe.scenes[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]


def draw_language(recipe: DataRecipe, rng: np.random.Generator) -> Language:
    return "zh" if rng.random() < recipe.chinese else "en"


def jitter_regions(sample: Sample, amount: float, rng: np.random.Generator) -> Sample:
    """The sample with every corner moved by U(-amount, amount) of the picture's side; a region that would degenerate stays."""
    if not amount:
        return sample
    messages = tuple(
        Message(message.role, tuple(_jitter(part, amount, rng) if isinstance(part, RegionPart) else part for part in message.parts))
        for message in sample.messages
    )
    return replace(sample, messages=messages)


def _jitter(part: RegionPart, amount: float, rng: np.random.Generator) -> RegionPart:
    moved = []
    for region in part.regions:
        points = np.clip(np.asarray(region.points) + rng.uniform(-amount, amount, (len(region.points), 2)), 0.0, 1.0)
        swapped = region.kind == "box" and not (points[0] < points[1]).all()
        moved.append(region if swapped else replace(region, points=tuple((float(x), float(y)) for x, y in points)))
    return replace(part, regions=tuple(moved))


class TokenWeights:
    """Loss weights of an encoded sample, from its task and from where its tokens stand in a region's markup."""

    def __init__(self, recipe: LossWeights, tokenizer: Tokenizer, markup: Markup) -> None:
        self.recipe = recipe
        self.plain = recipe.coordinate_digits == (1.0, 1.0, 1.0) and recipe.box_punctuation == 1.0
        self.kind = np.full(tokenizer.vocab_size, _OTHER, np.int8)
        self.kind[[tokenizer.encode(digit)[0] for digit in "0123456789"]] = _DIGIT
        self.kind[[tokenizer.special(pair[0]) for pair in (markup.box, markup.quad)]] = _OPENS
        self.kind[[tokenizer.special(pair[1]) for pair in (markup.box, markup.quad)]] = _CLOSES

    def of(self, encoded: Encoded) -> np.ndarray:
        """(T,) float32, aligned with input_ids as labels are."""
        task = np.float32(self.recipe.tasks.get(encoded.task, 1.0))
        weights = np.full(len(encoded), task)
        if self.plain:
            return weights
        kind = self.kind[encoded.input_ids]
        opens, closes = kind == _OPENS, kind == _CLOSES
        inside = ((np.cumsum(opens) > np.cumsum(closes)) & ~opens) | closes
        weights[inside] = self.recipe.box_punctuation * task
        digit = np.append((kind == _DIGIT) & inside, [False, False])
        # Counted from a number's last digit, so that numbers that are not padded with zeros are weighted right too.
        units = digit[:-2] & ~digit[1:-1]
        tens = digit[:-2] & digit[1:-1] & ~digit[2:]
        hundreds = digit[:-2] & digit[1:-1] & digit[2:]
        for place, weight in zip((hundreds, tens, units), self.recipe.coordinate_digits, strict=True):
            weights[place] = weight * task
        return weights


_OTHER, _DIGIT, _OPENS, _CLOSES = range(4)
"""What a token is to region markup."""


def tasks_of(recipe: DataRecipe) -> tuple[str, ...]:
    """Every task that may appear, in a fixed order."""
    named: dict[str, None] = dict.fromkeys(recipe.tasks)
    for scenes in recipe.scenes:
        named |= dict.fromkeys(scenes.tasks or ())
    extra: Sequence[str] = [task for task, share in (("text", recipe.text_rows), ("two_pictures", recipe.pair_rows)) if share]
    return tuple(named | dict.fromkeys(extra))
