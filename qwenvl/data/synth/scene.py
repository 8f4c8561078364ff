"""Scenes: bilingual toy pictures with ground truth, each a pure function of (spec, seed, index).

A scene shows one to four things (emoji, coloured shapes) and sometimes a short text, their ink apart from each other, on a
background of one named colour. Boxes are those of the ink, in pixels of the scene; right and bottom are exclusive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image

from qwenvl.data.synth import dense, fonts, ink, names
from qwenvl.data.synth.background import draw_background, jitter
from qwenvl.data.synth.draws import between, pick, whole
from qwenvl.data.synth.ink import Box, Colour, Ink, Quad
from qwenvl.data.synth.spec import WORLD_VERSION, SceneSpec, drawable, spec_hash
from qwenvl.data.synth.strings import draw_string
from qwenvl.types import QwenVLError

__all__ = ["WORLD_VERSION", "Scene", "SceneSpec", "Thing", "generate_scene", "spec_hash"]

REFERENCE_SIDE = 112
"""The canvas that lengths of a spec refer to."""

SPLITS = {"train": 1, "held_out": 2}
_KINDS = {"mixed": 1, "text": 2}
BACKGROUNDS = tuple(names.COLOURS)
_GAP = 2
"""Least distance in pixels between the ink boxes of two things."""
_TRIES = 40
_LEGIBLE = 75.0
"""Least difference of luminance (of 255) between lettering and its background colour."""
_TEXT_COUNTS = (1, 1, 1, 1, 1, 2, 2, 2, 3, 3)
"""How many strings stand in a picture of text alone."""


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


@dataclass(frozen=True, slots=True)
class Plan:
    """A thing before it has a place."""

    kind: Literal["emoji", "shape", "text"]
    name: str
    ink: Ink
    colour: str | None = None
    paint: Colour = (0, 0, 0)

    def at(self, left: int, top: int) -> Thing:
        def moved(box: Box) -> Box:
            return (box[0] + left, box[1] + top, box[2] + left, box[3] + top)

        glyphs: tuple[tuple[int, Box], ...] = ()
        if self.kind == "text":
            classes = [dense.character_class(character) for character in self.name]
            glyphs = tuple((class_id, moved(box)) for class_id, box in zip(classes, self.ink.glyphs, strict=True))
        box = (left, top, left + self.ink.width, top + self.ink.height)
        quad = tuple((x + left, y + top) for x, y in self.ink.quad)
        return Thing(self.kind, self.name, self.colour, box, quad, dense.thing_class(self.kind, self.name, self.colour), glyphs)


@dataclass(frozen=True, slots=True)
class Layout:
    """A scene before its things are painted: the empty picture, and what is to stand where (top left corners)."""

    ground: Image.Image
    background: str
    placed: tuple[tuple[Plan, int, int], ...]
    seed: int
    index: int

    def painted(self) -> Scene:
        picture = self.ground.copy()
        for plan, left, top in self.placed:
            plan.ink.paint(picture, left, top, plan.paint)
        return Scene(picture, tuple(plan.at(left, top) for plan, left, top in self.placed), self.background, self.seed, self.index)


def generate_scene(spec: SceneSpec, seed: int, index: int) -> Scene:
    """Scene number `index` of a stream. The same arguments give the same bytes, in any order and any process.

    Raises QwenVLError, one line with the apt-get command, if fonts or names are not installed.
    """
    return lay_out(spec, seed, index).painted()


def lay_out(spec: SceneSpec, seed: int, index: int) -> Layout:
    """What `generate_scene` paints; raises as it does."""
    require_sources()
    if seed < 0 or index < 0:
        raise QwenVLError(f"scene (seed {seed}, index {index}): seed and index count from 0")
    rng = np.random.default_rng((WORLD_VERSION, SPLITS[spec.split], _KINDS[spec.kind], seed, index))
    side = int(rng.integers(spec.canvas[0], spec.canvas[1] + 1))
    canvas = _canvas(spec, side, rng)
    background = pick(rng, BACKGROUNDS)
    ground = draw_background(background, canvas, pick(rng, spec.patterns), rng)
    return Layout(ground, background, tuple(arrange(spec, rng, side, canvas, background)), seed, index)


def _canvas(spec: SceneSpec, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """(width, height) of a canvas of about side * side pixels. A spec of squares alone draws nothing from the generator."""
    if spec.aspect == (1.0, 1.0):
        return side, side
    stretch = math.exp(between(rng, *map(math.log, spec.aspect)) / 2)
    return round(side * stretch), round(side / stretch)


@cache
def require_sources() -> None:
    """Check once that everything a scene could need is installed, so that a stream does not fail half-way."""
    fonts.require()
    for key in names.EMOJI:
        names.noun(key, "en")
        names.noun(key, "zh")


@cache
def _legible_on(background: str) -> tuple[str, ...]:
    """The colours that lettering may have on a background, by their difference of luminance (ITU-R BT.601 weights)."""

    def luminance(colour: str) -> float:
        red, green, blue = names.COLOURS[colour]
        return 0.299 * red + 0.587 * green + 0.114 * blue

    return tuple(colour for colour in names.COLOURS if abs(luminance(colour) - luminance(background)) >= _LEGIBLE)


def arrange(
    spec: SceneSpec, rng: np.random.Generator, side: int, canvas: tuple[int, int], background: str
) -> list[tuple[Plan, int, int]]:
    """What stands in a scene, each with the place of its top left corner; ink boxes are apart.

    `side` sets how large things are, `canvas` (width, height) where they may stand.
    Texts are placed first and then things, large ones first, since what is wide finds no gap later. What finds no place even at
    its least size is left out.
    """
    scale = side / REFERENCE_SIDE
    texts = pick(rng, _TEXT_COUNTS) if spec.kind == "text" else int(rng.random() < spec.text_share)
    placed: list[tuple[Plan, int, int]] = []
    for _ in range(texts):
        plan = _plan_text(spec, rng, side, canvas, background)
        place = free_place(rng, canvas, plan.ink, placed)
        if place is not None and plan.name not in [other.name for other, _, _ in placed]:
            placed.append((plan, *place))
    if spec.kind == "text":
        return placed
    least = round(spec.thing_size[0] * scale)
    for size, name, colour in _choose_things(spec, rng, scale, background):
        for actual in (size, least):
            drawn = ink.emoji(name, actual) if colour is None else ink.shape(name, actual)
            place = free_place(rng, canvas, drawn, placed)
            if place is not None:
                paint = (0, 0, 0) if colour is None else jitter(colour, rng)
                placed.append((Plan("emoji" if colour is None else "shape", name, drawn, colour, paint), *place))
                break
    return placed


def _choose_things(spec: SceneSpec, rng: np.random.Generator, scale: float, background: str) -> list[tuple[int, str, str | None]]:
    """Size, name and colour (of shapes) of the things of a scene, largest first."""
    emoji, shapes = drawable(background, spec.pairs)
    kinds: list[tuple[str, str | None]] = []
    for _ in range(whole(rng, *spec.things)):
        if kinds and rng.random() < spec.duplicate_share:
            kinds.append(pick(rng, kinds))
        elif shapes and (not emoji or rng.random() < spec.shape_share):
            kinds.append(pick(rng, shapes))
        else:
            kinds.append((pick(rng, emoji), None))
    sizes = sorted((round(between(rng, *spec.thing_size) * scale) for _ in kinds), reverse=True)
    return [(size, name, colour) for size, (name, colour) in zip(sizes, kinds, strict=True)]


def _plan_text(spec: SceneSpec, rng: np.random.Generator, side: int, canvas: tuple[int, int], background: str) -> Plan:
    """A string in some font, size and turn, no wider or higher than the canvas."""
    scale = side / REFERENCE_SIDE
    degrees = between(rng, -spec.turn, spec.turn) if rng.random() < spec.turned_share else 0.0
    paint = jitter(pick(rng, _legible_on(background)), rng)
    while True:
        text, chinese = draw_string(rng, latin_only=spec.font == "held_out")
        latin = fonts.HELD_OUT if spec.font == "held_out" else pick(rng, fonts.LATIN)
        face = pick(rng, fonts.CHINESE if chinese else latin)
        drawn = ink.lettering(text, face, round(between(rng, *spec.text_size) * scale), degrees)
        if drawn.width <= canvas[0] - 2 * _GAP and drawn.height <= canvas[1] - 2 * _GAP:
            return Plan("text", text, drawn, None, paint)


def free_place(
    rng: np.random.Generator, canvas: tuple[int, int], drawn: Ink, placed: list[tuple[Plan, int, int]]
) -> tuple[int, int] | None:
    """A top left corner at which the ink stays inside the canvas and clear of everything placed; None after some tries."""
    width, height = drawn.width, drawn.height
    columns, rows = canvas[0] - width - 1, canvas[1] - height - 1
    if columns < 1 or rows < 1:
        return None
    # Top left corners between these would bring the new ink too near to what is placed.
    taken = [(x - _GAP - width, y - _GAP - height, x + plan.ink.width + _GAP, y + plan.ink.height + _GAP) for plan, x, y in placed]
    for _ in range(_TRIES):
        left, top = 1 + int(rng.random() * columns), 1 + int(rng.random() * rows)
        if not any(x0 < left < x1 and y0 < top < y1 for x0, y0, x1, y1 in taken):
            return left, top
    return None
