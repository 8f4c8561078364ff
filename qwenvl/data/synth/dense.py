"""Dense labels: for every patch of a grid, which class covers it and the box of the thing that does.

Classes: 0 background | 1..60 emoji | 61..100 shapes, ten colours each | 101..136 digits and capitals | then Chinese characters.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qwenvl.data.synth.names import COLOURS, EMOJI, HAN, SHAPES
from qwenvl.processing.grid import by_squares

if TYPE_CHECKING:
    from qwenvl.data.synth.ink import Box
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


def dense_targets(scene: Scene, grid: tuple[int, int], merge: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the patches of a scene's picture; see `patch_targets`."""
    labelled = [glyph for thing in scene.things for glyph in (thing.glyphs or ((thing.class_id, thing.box),))]
    return patch_targets(labelled, (scene.width, scene.height), grid, merge)


def patch_targets(
    labelled: Sequence[tuple[int, Box]], size: tuple[int, int], grid: tuple[int, int], merge: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a grid (rows, columns) of patches over a picture of size (width, height), from classes with boxes in its pixels.

    Returns classes (P,) int64 and boxes (P, 4) float32: left, top, right, bottom in [0, 1] of the picture, zeros on background.
    A patch takes the thing or character whose ink box covers most of it, if that is a quarter or more. The patches are in the
    order of the tower's packed axis, that of `by_squares`.
    """
    rows, columns = grid
    classes = np.zeros(rows * columns, np.int64)
    boxes = np.zeros((rows * columns, 4), np.float32)
    if not labelled:
        return classes, boxes
    ids = np.array([class_id for class_id, _ in labelled], np.int64)
    places = np.array([box for _, box in labelled], np.float64) / (*size, *size)

    def overlap(low: np.ndarray, high: np.ndarray, cells: int) -> np.ndarray:
        """(things, cells): the share of each cell, along one axis, that lies within [low, high)."""
        edges = np.arange(cells + 1) / cells
        shared = np.minimum(high[:, None], edges[None, 1:]) - np.maximum(low[:, None], edges[None, :-1])
        return np.maximum(shared, 0.0) * cells

    cover = overlap(places[:, 1], places[:, 3], rows)[:, :, None] * overlap(places[:, 0], places[:, 2], columns)[:, None, :]
    cover = cover.reshape(len(ids), rows * columns)
    owner = cover.argmax(axis=0)
    covered = cover.max(axis=0) >= _LEAST_COVER
    classes[covered] = ids[owner[covered]]
    boxes[covered] = places[owner[covered]]
    return by_squares(classes.reshape(rows, columns), merge), by_squares(boxes.reshape(rows, columns, 4), merge)
