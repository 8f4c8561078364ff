"""Where text stands on a paper: blocks below each other, columns in a block, lines in a column.

Coordinates are pixels of the paper. The order of lines is that of reading: block by block, column by column from the side where the
language begins, down each column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qwenvl.data.synth import fonts
from qwenvl.data.synth.draws import between, pick, whole
from qwenvl.data.synth.fonts import Face
from qwenvl.data.synth.ink import Box, Colour
from qwenvl.data.synth.text.scripts import RIGHT_TO_LEFT, TALLEST, Script
from qwenvl.data.synth.text.spec import Align, LayoutSpec
from qwenvl.data.synth.text.typecase import TypeCase, type_case
from qwenvl.data.synth.text.typeset import Flow, Line, PlacedWord, set_line

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_LEAST_SIZE = 6
"""Font size in pixels below which nothing is drawn."""
_METRICS_AT = 64
_NARROWEST = 4
"""Least width of a column, in heights of its lines. SynthDoG's is 1: it breaks lines within words, which are kept whole here."""


@dataclass(frozen=True, slots=True)
class Block:
    """Columns of lines: (left, width) of each column, where they begin, how many lines they have and how high each line is."""

    columns: tuple[tuple[float, float], ...]
    top: float
    rows: int
    pitch: float


def lay_out(spec: LayoutSpec, size: tuple[int, int], flow: Flow, rng: np.random.Generator) -> list[Line]:
    """The lines of a paper of `size` (width, height)."""
    width, height = size
    margin_x, margin_y = width * between(rng, *spec.margin), height * between(rng, *spec.margin)
    area = (margin_x, margin_y, width - margin_x, height - margin_y)
    colour = dark_colour(spec, rng) if rng.random() < spec.page_colour_share else None
    lines: list[Line] = []
    for number, block in enumerate(_blocks(spec, area, rng)):
        face = flow.choose_face(rng)
        ascent, letters = metrics(face, flow.script)
        font_size = int(block.pitch / letters)
        if font_size < _LEAST_SIZE:
            continue
        case = type_case(face, font_size)
        columns = block.columns[::-1] if flow.script in RIGHT_TO_LEFT else block.columns
        for left, column in columns:
            align = pick(rng, spec.align)
            for row in range(block.rows):
                baseline = block.top + row * block.pitch + font_size * ascent
                own = dark_colour(spec, rng) if rng.random() < spec.line_colour_share else (0, 0, 0)
                words = _words(spec, flow, case, (left, baseline, column), align, rng)
                if words:
                    lines.append(_kept_on(Line(words, face, colour or own, number), size))
    return lines


def _words(
    spec: LayoutSpec, flow: Flow, case: TypeCase, place: tuple[float, float, float], align: Align, rng: np.random.Generator
) -> tuple[PlacedWord, ...]:
    """One line of the flow, at (left, baseline, width); no words where nothing fits."""
    left, baseline, width = place
    meant = min(max(width * between(rng, *spec.line_fill), case.size), width)
    taken = flow.take_line(case, meant) or flow.take_line(case, width)
    if align == "justify":  # a line that is meant to be short is not stretched to its column's width
        left, width = (left + width - meant if flow.script in RIGHT_TO_LEFT else left), meant
    return set_line(taken, case.space, flow.script, (left, baseline, width), align)


def _kept_on(line: Line, size: tuple[int, int]) -> Line:
    """The line, moved by as much as its ink leaves the paper: slanted letters hang over at the ends of a line."""
    left, top, right, bottom = line.box
    across = max(-left, 0) - max(right - size[0], 0)
    down = max(-top, 0) - max(bottom - size[1], 0)
    return line.moved(across, down) if across or down else line


@lru_cache(maxsize=1024)
def metrics(face: Face, script: Script) -> tuple[float, float]:
    """How far letters rise above the baseline, and their height with what hangs below, in font sizes."""
    drawn = fonts.font(face, _METRICS_AT, shaped=True)
    _, top, _, bottom = drawn.getbbox(TALLEST[script], anchor="ls")
    ascent, descent = (max(said, needed) for said, needed in zip(drawn.getmetrics(), (-top, bottom), strict=True))
    return ascent / _METRICS_AT, (ascent + descent) / _METRICS_AT


def _blocks(spec: LayoutSpec, area: Box, rng: np.random.Generator) -> Iterator[Block]:
    """Blocks from the top to the bottom of an area (left, top, right, bottom), with the space that is left between them."""
    left, top, right, bottom = area
    width, height = right - left, bottom - top
    shorter = min(width, height)
    spacing = shorter * between(rng, *spec.stack_spacing)
    room = height * (1.0 if rng.random() < spec.stack_full else between(rng, *spec.stack_fill))
    fill = 1.0 if rng.random() < spec.full else between(rng, *spec.fill)
    found: list[Block] = []
    down = 0.0
    while True:
        pitch = shorter * between(rng, *spec.text_scale)
        shapes = _shapes(spec, width, room - down, pitch)
        if not shapes:
            break
        rows, columns = pick(rng, shapes)
        found.append(Block(_columns(left, width, columns, pitch, fill, rng), down, rows, pitch))
        down += rows * pitch + spacing
    spare = max(height - max(down - spacing, 0.0), 0.0)
    shares = rng.random(len(found) + 1)
    for block, moved in zip(found, np.cumsum(shares / shares.sum()) * spare, strict=False):
        yield Block(block.columns, top + float(moved) + block.top, block.rows, block.pitch)


def _shapes(spec: LayoutSpec, width: float, height: float, pitch: float) -> list[tuple[int, int]]:
    """How many rows and columns of lines of a height fit, of those that the spec allows."""
    return [
        (rows, columns)
        for rows in range(spec.rows[0], spec.rows[1] + 1)
        for columns in range(spec.columns[0], spec.columns[1] + 1)
        if pitch * rows <= height and pitch * ((_NARROWEST + 1) * columns - 1) <= width
    ]


def _columns(
    left: float, width: float, count: int, pitch: float, fill: float, rng: np.random.Generator
) -> tuple[tuple[float, float], ...]:
    """Left end and width of columns that together fill a share of a width, with gaps between and perhaps beside them.

    Gaps between columns are no narrower than a line is high; what is left over is shared out by chance.
    """
    narrowest = pitch * _NARROWEST
    filled = max(min(fill * width, width - pitch * (count - 1)), narrowest * count)
    beside = [rng.random() < 0.5, rng.random() < 0.5]
    if count == 1 and not any(beside):
        beside[whole(rng, 0, 1)] = True
    shares = 1.0 - rng.random(count)
    widths = narrowest + shares / shares.sum() * (filled - narrowest * count)
    weights = 1.0 - rng.random(count + 1)
    weights[0] *= beside[0]
    weights[-1] *= beside[1]
    least = np.array([0.0, *[pitch] * (count - 1), 0.0])
    spare = max(width - filled - least.sum(), 0.0)
    gaps = least + (weights / weights.sum() * spare if weights.sum() > 0 else 0.0)
    lefts = left + np.cumsum(gaps)[:-1] + np.concatenate([[0.0], np.cumsum(widths)[:-1]])
    return tuple(zip(lefts.tolist(), widths.tolist(), strict=True))


def dark_colour(spec: LayoutSpec, rng: np.random.Generator) -> Colour:
    """A colour of a luminance of the spec's."""
    colour = rng.random(3) + 0.05
    scaled = colour * (between(rng, *spec.darkness) / luminance(colour))
    red, green, blue = (min(round(value), 255) for value in scaled.tolist())
    return (red, green, blue)


def luminance(colour: np.ndarray) -> float:
    """Of a colour's three channels (3,)."""
    return float(colour @ _LUMINANCE)


def print_lines(paper: np.ndarray, lines: Sequence[Line]) -> np.ndarray:
    """Paper (height, width) uint8 in grey with the lines on it, as (height, width, 3) in colour."""
    import cv2

    ink = np.zeros_like(paper)
    for line in lines:
        line.lay_ink(ink)
    left_white = cv2.multiply(paper, cv2.bitwise_not(ink), scale=1 / 255)
    picture = cv2.merge([left_white, left_white, left_white])
    for line in lines:
        if any(line.colour):
            left, top, right, bottom = line.box
            printed = line.lay_ink(np.zeros((bottom - top, right - left), np.uint8), (left, top))
            coloured = cv2.merge([cv2.convertScaleAbs(printed, alpha=level / 255) for level in line.colour])
            window = picture[top:bottom, left:right]
            cv2.add(window, coloured, dst=window)
    return picture
