"""Scenes: pictures with ground truth, each a pure function of (spec, seed, index)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from qwenvl.config import Strict

Box = tuple[float, float, float, float]


class SceneSpec(Strict):
    """What may be drawn. Lengths are in pixels of a canvas of 112, and grow with the canvas."""

    kind: Literal["mixed", "text"] = "mixed"
    split: Literal["train", "held_out"] = "train"
    canvas: tuple[int, int] = (112, 160)
    things: tuple[int, int] = (1, 4)
    text_share: float = 0.4
    font: Literal["trained", "held_out"] = "trained"
    pairs: Literal["trained", "held_out"] = "trained"


@dataclass(frozen=True, slots=True)
class Thing:
    kind: Literal["emoji", "shape", "text"]
    name: str
    colour: str | None
    box: Box
    quad: tuple[tuple[float, float], ...]
    class_id: int
    glyphs: tuple[tuple[int, Box], ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
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


def spec_hash(spec: SceneSpec) -> str: ...


def generate_scene(spec: SceneSpec, seed: int, index: int) -> Scene: ...
