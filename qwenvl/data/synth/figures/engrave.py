"""Engraving: a tune on staves, drawn from strokes and ellipses at four times the size.

Lengths are spaces of the staff; y = 0 is its lowest line and y grows upwards, so that a step of the scale is half a space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from qwenvl.data.synth import fonts
from qwenvl.data.synth.figures.canvas import OVERSAMPLING
from qwenvl.data.synth.figures.lettering import Type, text_mask
from qwenvl.data.synth.figures.tune import Note, Tune, signature

Point = tuple[float, float]

BOTTOM_LINE = 2
"""The step of the scale (from middle C) on the lowest line of the treble staff."""
_STEM = 3.4
_MIDDLE = 6
"""The step on the middle line: from it on stems point down."""
# Steps on which the signs of a key stand, in order.
_SHARP_STEPS, _FLAT_STEPS = (10, 7, 11, 8), (6, 9, 5, 8)
# The treble clef: points of its stroke from the curl's inside to the hook's end, and its half width there.
_CLEF: tuple[tuple[float, float, float], ...] = (
    (0.12, 0.62, 0.10), (-0.42, 0.95, 0.10), (-0.28, 1.66, 0.11), (0.36, 1.82, 0.15), (0.98, 1.22, 0.19), (0.86, 0.38, 0.19),
    (0.05, 0.02, 0.13), (-0.92, 0.38, 0.17), (-1.20, 1.35, 0.21), (-0.72, 2.55, 0.21), (0.20, 3.72, 0.19), (0.60, 4.85, 0.14),
    (0.38, 5.62, 0.10), (-0.02, 5.22, 0.11), (-0.16, 4.30, 0.10), (0.06, 2.60, 0.08), (0.34, 0.40, 0.08), (0.52, -1.15, 0.08),
    (0.22, -1.78, 0.09), (-0.32, -1.76, 0.10), (-0.52, -1.36, 0.12),
)  # fmt: skip


@dataclass(slots=True)
class Staff:
    """The mask that a sheet is drawn on. `left` and `base` place the origin of the staff being drawn, in pixels of the picture."""

    mask: Image.Image
    space: float
    left: float = 0.0
    base: float = 0.0
    reach: tuple[float, float] = (0.0, 4.0)
    """The lowest and the highest place that was drawn at since it was last set."""

    @classmethod
    def blank(cls, width: int, height: int, space: float) -> Staff:
        return cls(Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING)), space)

    @property
    def pen(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.mask)

    def at(self, x: float, y: float) -> Point:
        """A place on the staff, in pixels of the mask."""
        self.reach = (min(self.reach[0], y), max(self.reach[1], y))
        return ((self.left + x * self.space) * OVERSAMPLING, (self.base - y * self.space) * OVERSAMPLING)

    def stroke(self, points: Sequence[Point], width: float) -> None:
        self.pen.line([self.at(x, y) for x, y in points], 255, max(round(width * self.space * OVERSAMPLING), 1), "curve")

    def fill(self, points: Sequence[Point]) -> None:
        self.pen.polygon([self.at(x, y) for x, y in points], fill=255)

    def disc(self, x: float, y: float, radius: float) -> None:
        left, top = self.at(x - radius, y + radius)
        right, bottom = self.at(x + radius, y - radius)
        self.pen.ellipse((left, top, right, bottom), fill=255)

    def finished(self) -> Image.Image:
        """The mask at the picture's size."""
        return fonts.clean(self.mask.reduce(OVERSAMPLING))


def _curve(points: Sequence[tuple[float, float, float]], steps: int = 12) -> list[tuple[float, float, float]]:
    """A smooth curve through points (Catmull-Rom)."""
    padded = [points[0], *points, points[-1]]
    found = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for step in range(steps):
            t = step / steps
            found.append(
                tuple(
                    0.5 * (2 * q + (r - p) * t + (2 * p - 5 * q + 4 * r - s) * t * t + (3 * q - p - 3 * r + s) * t**3)
                    for p, q, r, s in zip(a, b, c, d, strict=True)
                )
            )
    return [(x, y, width) for x, y, width in found]


def clef(staff: Staff, x: float) -> None:
    for dx, y, half in _curve(_CLEF):
        staff.disc(x + dx, y, half)
    staff.disc(x - 0.28, -1.36, 0.26)


def sharp(staff: Staff, x: float, y: float) -> None:
    for dx in (-0.18, 0.18):
        staff.stroke([(x + dx, y - 1.35 + dx * 0.5), (x + dx, y + 1.35 + dx * 0.5)], 0.11)
    for dy in (-0.42, 0.42):
        staff.stroke([(x - 0.48, y + dy - 0.14), (x + 0.48, y + dy + 0.14)], 0.26)


def flat(staff: Staff, x: float, y: float) -> None:
    staff.stroke([(x - 0.3, y + 1.9), (x - 0.3, y - 0.55)], 0.11)
    bowl = [
        (x - 0.3, y - 0.5, 0.09),
        (x + 0.28, y + 0.02, 0.14),
        (x + 0.3, y + 0.42, 0.15),
        (x - 0.02, y + 0.5, 0.1),
        (x - 0.3, y + 0.22, 0.08),
    ]
    for px, py, half in _curve(bowl):
        staff.disc(px, py, half)


def natural(staff: Staff, x: float, y: float) -> None:
    staff.stroke([(x - 0.26, y + 1.4), (x - 0.26, y - 0.6)], 0.11)
    staff.stroke([(x + 0.26, y + 0.6), (x + 0.26, y - 1.4)], 0.11)
    for dy in (-0.45, 0.45):
        staff.stroke([(x - 0.26, y + dy - 0.1), (x + 0.26, y + dy + 0.1)], 0.22)


SIGNS = {"^": sharp, "_": flat, "=": natural}


def head(staff: Staff, x: float, y: float, filled: bool) -> None:
    """A note's head: an ellipse that leans; a hollow one keeps a rim."""

    def leaning(width: float, height: float, angle: float) -> list[Point]:
        turns = [math.tau * step / 40 for step in range(40)]
        cosine, sine = math.cos(angle), math.sin(angle)
        return [
            (
                x + width * math.cos(t) * cosine - height * math.sin(t) * sine,
                y + width * math.cos(t) * sine + height * math.sin(t) * cosine,
            )
            for t in turns
        ]

    staff.fill(leaning(0.66, 0.46, 0.38))
    if not filled:
        staff.pen.polygon([staff.at(px, py) for px, py in leaning(0.5, 0.24, 0.55)], fill=0)


def rest(staff: Staff, x: float, length: int, whole_bar: bool) -> None:
    if whole_bar or length >= 4:
        hangs = whole_bar or length >= 8
        y = 2.5 if hangs else 2.0
        staff.fill([(x - 0.6, y), (x + 0.6, y), (x + 0.6, y + 0.5), (x - 0.6, y + 0.5)])
    else:
        bends = [(x - 0.25, 3.5), (x + 0.32, 2.75), (x - 0.18, 2.15), (x + 0.38, 1.35)]
        for begin, end, width in zip(bends, bends[1:], (0.16, 0.38, 0.16), strict=False):
            staff.stroke([begin, end], width)
        for px, py, half in _curve(
            [(x + 0.38, 1.35, 0.09), (x - 0.28, 1.42, 0.15), (x - 0.32, 0.92, 0.11), (x + 0.12, 0.55, 0.06)]
        ):
            staff.disc(px, py, half)


def height(step: int) -> float:
    """Where a step of the scale lies, in spaces above the lowest line."""
    return (step - BOTTOM_LINE) / 2


def ledgers(staff: Staff, x: float, step: int) -> None:
    """The short lines below and above the staff that a note needs."""
    lines = [*range(BOTTOM_LINE - 2, step - 1, -2), *range(BOTTOM_LINE + 10, step + 1, 2)]
    for line in lines:
        staff.stroke([(x - 1.0, height(line)), (x + 1.0, height(line))], 0.11)


def note(staff: Staff, x: float, sounded: Note, up: bool, tip: float | None = None) -> None:
    """A note with its head, dot, sign, ledger lines, stem (to `tip` if it is beamed) and flag."""
    assert sounded.step is not None
    y = height(sounded.step)
    ledgers(staff, x, sounded.step)
    if sounded.accidental:
        SIGNS[sounded.accidental](staff, x - 1.35, y)
    hollow = sounded.length >= 4
    head(staff, x, y, filled=not hollow)
    if sounded.length in (3, 6):
        staff.disc(x + 1.15, y + (0.5 if sounded.step % 2 == BOTTOM_LINE % 2 else 0), 0.2)
    if sounded.length == 8:
        return
    side = x + (0.58 if up else -0.58)
    end = tip if tip is not None else y + (_STEM if up else -_STEM)
    staff.stroke([(side, y + (0.12 if up else -0.12)), (side, end)], 0.12)
    if sounded.length == 1 and tip is None:
        way = -1 if up else 1
        staff.fill(
            [
                (side, end),
                (side + 0.9, end + 1.5 * way),
                (side + 0.75, end + 2.4 * way),
                (side + 0.6, end + 1.6 * way),
                (side, end + 0.8 * way),
            ]
        )


def group(staff: Staff, places: Sequence[float], notes: Sequence[Note]) -> None:
    """Notes joined by a beam."""
    heights = [height(sounded.step) for sounded in notes if sounded.step is not None]
    up = sum(heights) / len(heights) < height(_MIDDLE)
    slope = min(max((heights[-1] - heights[0]) * 0.3, -0.8), 0.8) / (places[-1] - places[0])
    way = 1 if up else -1
    reach = max(way * (y - slope * (x - places[0])) for x, y in zip(places, heights, strict=True)) * way + way * 2.9
    tips = [reach + slope * (x - places[0]) for x in places]
    for x, sounded, tip in zip(places, notes, tips, strict=True):
        note(staff, x, sounded, up, tip)
    side = 0.58 if up else -0.58
    begin, end = (places[0] + side - 0.05, tips[0]), (places[-1] + side + 0.05, tips[-1])
    staff.fill([begin, end, (end[0], end[1] - 0.5 * way), (begin[0], begin[1] - 0.5 * way)])


def bar(staff: Staff, x: float, width: float, notes: Sequence[Note]) -> None:
    """The notes of a bar that begins at x, spread over its width by their lengths."""
    if len(notes) == 1 and notes[0].step is None:
        rest(staff, x + width / 2, notes[0].length, whole_bar=True)
        return
    shares = [1.0 + 0.55 * math.log2(sounded.length) + (0.5 if sounded.accidental else 0) for sounded in notes]
    places, pen = [], x + 1.2
    for share, sounded in zip(shares, notes, strict=True):
        step = share * (width - 1.4) / sum(shares)
        places.append(pen + (1.0 if sounded.accidental else 0.35))
        pen += step
    first = 0
    while first < len(notes):
        last = first
        while notes[last].beamed:
            last += 1
        if last > first:
            group(staff, places[first : last + 1], notes[first : last + 1])
        elif (step_of := notes[first].step) is None:
            rest(staff, places[first], notes[first].length, whole_bar=False)
        else:
            note(staff, places[first], notes[first], step_of < _MIDDLE)
        first = last + 1


def needed(notes: Sequence[Note]) -> float:
    """Room that a bar wants, in spaces."""
    return 1.6 + sum(2.1 + 0.8 * math.log2(sounded.length) + (1.1 if sounded.accidental else 0) for sounded in notes)


def opening(staff: Staff, tune: Tune, digits: Type | None) -> float:
    """Clef, key and (with `digits`) metre; returns where the first bar begins."""
    clef(staff, 1.7)
    x = 3.7
    signs = signature(tune.key)
    steps = _SHARP_STEPS if "^" in signs.values() else _FLAT_STEPS
    for sign, step in zip(signs.values(), steps, strict=False):
        SIGNS[sign](staff, x, height(step))
        x += 1.05
    if digits:
        x += 0.4
        for text, y in zip(tune.metre.split("/"), (2.0, 0.0), strict=True):
            mask, _, _ = text_mask(text, digits)
            enlarged = mask.resize(
                (mask.width * OVERSAMPLING, round(2 * staff.space * OVERSAMPLING * 0.94)), Image.Resampling.BICUBIC
            )
            left, top = staff.at(x, y + 1.94)
            staff.mask.paste(255, (round(left), round(top), round(left) + enlarged.width, round(top) + enlarged.height), enlarged)
        x += digits.width("0") / staff.space + 0.5
    return x + 0.3


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a bar or a line of music is, in spaces from the staff's origin, with all that belongs to it."""

    left: float
    low: float
    right: float
    high: float


def system(staff: Staff, tune: Tune, number: int, width: float, digits: Type) -> list[Extent]:
    """Line `number` of the sheet over a width in spaces; returns the extents of its bars."""
    for line in range(5):
        staff.stroke([(0, line), (width, line)], 0.1)
    begin = opening(staff, tune, digits if number == 0 else None)
    wanted = [needed(notes) for notes in tune.systems[number]]
    extents: list[Extent] = []
    for notes, share in zip(tune.systems[number], wanted, strict=True):
        end = begin + (width - begin) * share / sum(wanted[len(extents) :])
        staff.reach = (0.0, 4.0)
        bar(staff, begin, end - begin, notes)
        extents.append(Extent(begin, staff.reach[0], end, staff.reach[1]))
        begin = end
    for extent in extents[:-1]:
        staff.stroke([(extent.right, 0), (extent.right, 4)], 0.14)
    if number == len(tune.systems) - 1:
        staff.stroke([(width - 0.75, 0), (width - 0.75, 4)], 0.14)
        staff.stroke([(width - 0.2, 0), (width - 0.2, 4)], 0.4)
    else:
        staff.stroke([(width - 0.07, 0), (width - 0.07, 4)], 0.14)
    return extents
