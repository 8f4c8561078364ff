"""What every source of training rows is told: how rows are rendered, how many make a step, how much a token's loss counts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from qwenvl.config import Strict
from qwenvl.types import Style

Weight = Annotated[float, Field(ge=0)]


class LossWeights(Strict):
    """Weight of a supervised token in the loss. All ones, as published, unless set."""

    coordinate_digits: tuple[Weight, Weight, Weight] = (1.0, 1.0, 1.0)
    """Hundreds, tens, units of a coordinate."""
    box_punctuation: Weight = 1.0
    """Everything else after <box> or <quad>, up to and with the closing token; of a JSON list everything but labels."""
    tasks: dict[str, Weight] = Field(default_factory=dict)


class RowRecipe(Strict):
    style: Style = "raw"
    rows_per_step: int = Field(default=32, gt=0)
    """Rows of one optimiser step, over all ranks."""
    workers: int = Field(default=0, ge=0)
    """Processes of each rank that make rows ahead; 0 makes them in the training process, between its steps."""
    box_jitter: float = Field(default=0.0, ge=0)
    """Regions move by up to so many pixels of the model's picture, corner by corner: whole pixels would favour some coordinates."""
    loss: LossWeights = LossWeights()
