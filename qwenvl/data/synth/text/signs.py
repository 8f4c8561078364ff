"""Text in the wild: lettering on a picture itself, each piece turned and tilted by itself, some on plates of a colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qwenvl.data.synth.draws import between, whole
from qwenvl.data.synth.ink import Box, Colour
from qwenvl.data.synth.text.effects import Perspective, Rotation
from qwenvl.data.synth.text.layout import luminance, metrics
from qwenvl.data.synth.text.spec import SignSpec
from qwenvl.data.synth.text.truth import TextLine, placed_lines
from qwenvl.data.synth.text.typecase import type_case
from qwenvl.data.synth.text.typeset import Flow, Line, set_line
from qwenvl.data.synth.text.warp import Chain, Homography, fitted, follow, resample, sources_of

_TRIES = 20
_WIDEST = 0.8
"""Of the picture's width."""
_LEGIBLE = 90.0
"""Least difference of luminance (of 255) between letters and what is behind them."""
_PADDING = 0.35
"""Room about the letters of a plate, in font sizes."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A piece of lettering before it has a place: its line and its plate, upright, on a rectangle of `size`."""

    line: Line
    size: tuple[int, int]
    plate: Colour | None


def paint_signs(
    spec: SignSpec, picture: np.ndarray, flow: Flow, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[TextLine, ...]]:
    """The picture (height, width, 3) uint8 with signs that do not overlap, and their lines from the top to the bottom."""
    canvas = Image.fromarray(picture)
    taken: list[Box] = []
    found: list[tuple[Line, np.ndarray]] = []
    for number in range(whole(rng, *spec.count)):
        sign = _sign(spec, flow, number, canvas.size, rng)
        if sign is None:
            continue
        turn, tilt = Rotation(degrees=spec.turn), Perspective(sides=(1 - spec.tilt[1], 1 - spec.tilt[0]))
        bent = Chain((tilt.draw_map(rng, sign.size), turn.draw_map(rng, sign.size)))
        place = _free_place(bent, sign.size, canvas.size, taken, rng)
        if place is not None:
            moved, area = place
            taken.append(area)
            _paint(canvas, sign, moved, area, rng)
            found.append((sign.line, follow([sign.line.box, *(word.box for word in sign.line.words)], moved)))
    found.sort(key=lambda sign: float(sign[1][0, :, 1].mean()))
    quads = np.concatenate([quads for _, quads in found]) if found else np.zeros((0, 4, 2))
    return np.asarray(canvas), placed_lines([line for line, _ in found], quads, canvas.size)


def _sign(spec: SignSpec, flow: Flow, number: int, canvas: tuple[int, int], rng: np.random.Generator) -> Sign | None:
    """A sign's words on a rectangle with some room about them; None if no word fits."""
    face = flow.choose_face(rng)
    size = max(round(min(canvas) * between(rng, *spec.text_scale)), 8)
    case = type_case(face, size)
    words = flow.take_line(case, canvas[0] * _WIDEST, most=whole(rng, *spec.words))
    if not words:
        return None
    padding = round(size * _PADDING)
    ascent, _ = metrics(face, flow.script)
    set_words = set_line(words, case.space, flow.script, (padding, padding + size * ascent, 0.0), "left")
    line = Line(set_words, face, (0, 0, 0), number)
    left, top, right, bottom = line.box
    line = line.moved(padding - left, padding - top)
    plate = (whole(rng, 0, 255), whole(rng, 0, 255), whole(rng, 0, 255)) if rng.random() < spec.plate_share else None
    return Sign(line, (right - left + 2 * padding, bottom - top + 2 * padding), plate)


def _free_place(
    bent: Chain, size: tuple[int, int], canvas: tuple[int, int], taken: Sequence[Box], rng: np.random.Generator
) -> tuple[Chain, Box] | None:
    """The map into the canvas, and the area that it fills, at a random place where nothing stands yet; None after some tries."""
    for _ in range(_TRIES):
        moved = fitted(bent, size, canvas, rng.random(2))
        corners = moved.forward(np.array([[0, 0], [size[0], 0], size, [0, size[1]]], np.float64))
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        if not any(left < x1 and x0 < right and top < y1 and y0 < bottom for x0, y0, x1, y1 in taken):
            return moved, (left, top, right, bottom)
    return None


def _paint(canvas: Image.Image, sign: Sign, moved: Chain, area: Box, rng: np.random.Generator) -> None:
    """Draw the plate, if there is one, and the letters, within the area that the sign fills."""
    left, top = math.floor(area[0]), math.floor(area[1])
    window = (left, top, min(math.ceil(area[2]), canvas.width), min(math.ceil(area[3]), canvas.height))
    sources = sources_of(Chain((moved, Homography.scaled(1.0, -left, -top))), (window[2] - left, window[3] - top))
    covered = resample(np.full(sign.size[::-1], 255, np.uint8), sources)
    if sign.plate is not None:
        canvas.paste(sign.plate, window, Image.fromarray(covered))
    behind = np.asarray(canvas.crop(window))[covered > 0].mean(axis=0)
    letters = sign.line.lay_ink(np.zeros(sign.size[::-1], np.uint8))
    canvas.paste(_legible_on(behind, rng), window, Image.fromarray(resample(letters, sources)))


def _legible_on(behind: np.ndarray, rng: np.random.Generator) -> Colour:
    """A random colour that stands out against a mean colour (3,)."""
    ground = luminance(behind)
    for _ in range(_TRIES):
        colour = rng.integers(0, 256, 3)
        if abs(luminance(colour) - ground) >= _LEGIBLE:
            return (int(colour[0]), int(colour[1]), int(colour[2]))
    return (255, 255, 255) if ground < 128 else (0, 0, 0)
