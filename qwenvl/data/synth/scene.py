"""Scenes: bilingual toy pictures with ground truth, each a pure function of (spec, seed, index).

A scene shows one to four things (emoji, coloured shapes) and sometimes a short text, their ink apart from each other, on a
background of one named colour. Boxes are those of the ink, in pixels of the scene; right and bottom are exclusive.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from qwenvl.config import Strict
from qwenvl.data.synth import fonts, ink, names
from qwenvl.data.synth.background import MAX_SIDE, Pattern, draw_background, jitter
from qwenvl.data.synth.ink import Box, Ink, Quad

WORLD_VERSION = 1
"""Raised by every change of this package that moves a pixel or a label: it is part of spec_hash."""

REFERENCE_SIDE = 112
"""The canvas that lengths of a spec refer to."""

_SPLITS = {"train": 1, "held_out": 2}
_KINDS = {"mixed": 1, "text": 2}
_GAP = 2
"""Pixels of background between the ink boxes of two things, and between a thing and the edge (one less there)."""
_TRIES = 40
_HELD_OUT_EVERY = 20
_LEGIBLE = 75.0
"""Least difference of luminance (of 255) between lettering and its background colour."""

Item = TypeVar("Item")


class SceneSpec(Strict):
    """What may be drawn. Sizes are pixels on a canvas of 112 and grow with the canvas."""

    kind: Literal["mixed", "text"] = "mixed"
    """`mixed`: things, with a text in some scenes. `text`: one to three strings alone."""
    split: Literal["train", "held_out"] = "train"
    """Two streams without a common scene."""
    canvas: tuple[int, int] = (112, 160)
    """Least and greatest side of the square canvas, drawn per scene."""
    things: tuple[int, int] = (1, 4)
    thing_size: tuple[float, float] = (21, 42)
    shape_share: float = Field(0.3, ge=0, le=1)
    """Chance of a thing to be a coloured shape and not an emoji."""
    duplicate_share: float = Field(0.2, ge=0, le=1)
    """Chance of a thing to be another one of an earlier kind, for counting."""
    text_share: float = Field(0.4, ge=0, le=1)
    """Share of mixed scenes with a text."""
    text_size: tuple[float, float] = (20, 28)
    """Font size."""
    turned_share: float = Field(0.2, ge=0, le=1)
    """Share of texts that are turned, by up to `turn` degrees either way."""
    turn: float = 8.0
    patterns: tuple[Pattern, ...] = ("flat", "gradient", "stripe", "checker")
    font: Literal["trained", "held_out"] = "trained"
    pairs: Literal["trained", "held_out"] = "trained"
    """Which pairs of thing and background colour may be drawn: those of training, or only those that it never shows."""

    @model_validator(mode="after")
    def _is_drawable(self) -> SceneSpec:
        if self.split == "train" and "held_out" in (self.font, self.pairs):
            raise ValueError("a held-out font or held-out pairs belong to split held_out; training must not see them")
        for name in ("canvas", "things", "thing_size", "text_size"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        if self.canvas[0] < 56 or self.canvas[1] > MAX_SIDE:
            raise ValueError(f"canvas: sides must lie between 56 and {MAX_SIDE}")
        if not self.patterns:
            raise ValueError("patterns: name at least one")
        return self


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing in a scene.

    `name` is a key of EMOJI or SHAPES, or the string of a text; `colour` a key of COLOURS, for shapes only; `box` the ink in
    pixels of the scene; `quad` four points, clockwise from the thing's own top left; `class_id` as in dense.py (0 for a text as
    a whole); `glyphs` the class and ink box of each character of a text.
    """

    kind: Literal["emoji", "shape", "text"]
    name: str
    colour: str | None
    box: Box
    quad: Quad
    class_id: int
    glyphs: tuple[tuple[int, Box], ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture (RGB) and everything that is in it, in the order of drawing."""

    image: Image.Image
    things: tuple[Thing, ...]
    background: str
    seed: int
    index: int

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height
