"""What every figure is: a picture, and all that stands in it with exact boxes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import model_validator

from qwenvl.config import Strict
from qwenvl.data.synth.figures.canvas import Box, Point
from qwenvl.data.synth.names import Language
from qwenvl.types import QwenVLError, Region, Sample


class FigureError(QwenVLError, ValueError):
    """A figure that cannot be drawn as asked."""


class FigureSpec(Strict):
    """What all specs of figures have."""

    TASKS: ClassVar[tuple[str, ...]] = ()
    """What can be asked about such a figure."""

    language: Literal["en", "zh", "both"] = "both"
    """Of the questions, and of what is written where that is not code or a formula."""
    tasks: tuple[str, ...] = ()
    """What is asked; all of it where none is named. `point` and `gui_click` are for markup that has points (Qwen2.5-VL)."""
    held_out: bool = False
    """Put questions in the one phrasing that training does not see."""

    @model_validator(mode="after")
    def _are_tasks(self) -> FigureSpec:
        for task in self.tasks:
            if task not in self.TASKS:
                raise ValueError(f"tasks: {task!r} is not asked about it; known: {', '.join(self.TASKS)}")
        return self

    def asked(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples of the tasks that are wanted."""
        return [sample for sample in samples if not self.tasks or sample.task in self.tasks]


@dataclass(frozen=True, slots=True)
class Element:
    """One thing in a figure.

    `box` in pixels, right and bottom exclusive: that of its ink, or of the whole where that is what one would click or mark (a
    button, a cell); `text` what is written in it; `name` what it is called in the figure's language, empty for what has no name;
    `point` a place on it, where the middle of the box is not.
    """

    kind: str
    box: Box
    text: str = ""
    name: str = ""
    point: Point | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture (RGB) and its elements, in reading order; a pure function of (spec, seed, index)."""

    source: ClassVar[str] = "synth/figure"

    image: Image.Image
    elements: tuple[Element, ...]
    language: Language
    seed: int
    index: int

    def region(self, box: Box) -> Region:
        """A box in pixels as a Region, clamped to the picture."""
        width, height = self.image.size
        left, top, right, bottom = box
        return Region.box(max(left / width, 0.0), max(top / height, 0.0), min(right / width, 1.0), min(bottom / height, 1.0))

    def share(self, box: Box) -> tuple[float, float, float, float]:
        """A box in [0, 1] of the picture."""
        (left, top), (right, bottom) = self.region(box).points
        return (left, top, right, bottom)

    def spot(self, element: Element) -> Region:
        """A point on an element."""
        left, top, right, bottom = element.box
        x, y = element.point or ((left + right) / 2, (top + bottom) / 2)
        return Region("point", ((min(max(x / self.image.width, 0.0), 1.0), min(max(y / self.image.height, 0.0), 1.0)),))

    def of_kind(self, *kinds: str) -> list[Element]:
        return [element for element in self.elements if element.kind in kinds]


def generator(stream: int, seed: int, index: int) -> np.random.Generator:
    """The random numbers of one figure. `stream` is the kind's own number, so that no two kinds share a sequence.

    Raises FigureError for a seed or index below 0.
    """
    if seed < 0 or index < 0:
        raise FigureError(f"figure (seed {seed}, index {index}): seed and index count from 0")
    return np.random.default_rng((FIGURES_VERSION, stream, seed, index))


FIGURES_VERSION = 1
"""Raised by every change of this package that moves a pixel or a label."""


