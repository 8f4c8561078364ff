"""Dense labels: for every patch of a grid, which class covers it and the box of the thing that does.

Classes: 0 background | 1..60 emoji | 61..100 shapes, ten colours each | 101..136 digits and capitals | then Chinese characters.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import numpy as np

from qwenvl.data.synth.names import COLOURS, EMOJI, HAN, SHAPES

if TYPE_CHECKING:
    from qwenvl.data.synth.scene import Scene

BACKGROUND = 0
CHARACTERS = string.digits + string.ascii_uppercase + HAN
_EMOJI = {name: 1 + place for place, name in enumerate(EMOJI)}
_SHAPES = {pair: 1 + len(EMOJI) + place for place, pair in enumerate((s, c) for s in SHAPES for c in COLOURS)}
_FIRST_CHARACTER = 1 + len(EMOJI) + len(SHAPES) * len(COLOURS)
_CHARACTERS = {character: _FIRST_CHARACTER + place for place, character in enumerate(CHARACTERS)}

NUM_DENSE_CLASSES = _FIRST_CHARACTER + len(CHARACTERS)

_LEAST_COVER = 0.25
"""A patch belongs to a thing from this share of its area on; below it is background."""


def thing_class(kind: str, name: str, colour: str | None) -> int:
    """The class of an emoji or of a shape in its colour; BACKGROUND for a text, whose characters have classes of their own."""
    if kind == "text":
        return BACKGROUND
    return _EMOJI[name] if kind == "emoji" else _SHAPES[name, str(colour)]


def character_class(character: str) -> int:
    """The class of a digit, capital or Chinese character of the scenes' texts."""
    return _CHARACTERS[character]


def class_names() -> list[str]:
    """A readable name of every class, by id."""
    shapes = [f"{colour} {shape}" for shape, colour in _SHAPES]
    return ["background", *EMOJI, *shapes, *CHARACTERS]


def dense_targets(scene: Scene, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the grid x grid patches of a scene, row by row.

    Returns classes (grid * grid,) int64 and boxes (grid * grid, 4) float32: left, top, right, bottom in [0, 1] of the picture,
    zeros on background. A patch takes the thing or character whose ink box covers most of it, if that is a quarter or more.
    """
    labelled = [glyph for thing in scene.things for glyph in (thing.glyphs or ((thing.class_id, thing.box),))]
    classes = np.zeros(grid * grid, np.int64)
    boxes = np.zeros((grid * grid, 4), np.float32)
    if not labelled:
        return classes, boxes
    ids = np.array([class_id for class_id, _ in labelled], np.int64)
    size = (scene.width, scene.height, scene.width, scene.height)
    places = np.array([box for _, box in labelled], np.float64) / size
    edges = np.arange(grid + 1) / grid

    def overlap(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """(things, grid): the share of each cell, along one axis, that lies within [low, high)."""
        shared = np.minimum(high[:, None], edges[None, 1:]) - np.maximum(low[:, None], edges[None, :-1])
        return np.maximum(shared, 0.0) * grid

    cover = overlap(places[:, 1], places[:, 3])[:, :, None] * overlap(places[:, 0], places[:, 2])[:, None, :]
    cover = cover.reshape(len(ids), grid * grid)
    owner = cover.argmax(axis=0)
    covered = cover.max(axis=0) >= _LEAST_COVER
    classes[covered] = ids[owner[covered]]
    boxes[covered] = places[owner[covered]]
    return classes, boxes
