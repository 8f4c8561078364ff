"""Icons: some eighty signs drawn from strokes, alone or in grids, with and without their names; and questions about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from qwenvl.data.synth import fonts
from qwenvl.data.synth.draws import between, draw_language, pick, whole
from qwenvl.data.synth.figures.asking import Ask, Samples, put, voice_of
from qwenvl.data.synth.figures.canvas import OVERSAMPLING, Box, Canvas, Colour
from qwenvl.data.synth.figures.figure import Element, Figure, FigureSpec, generator
from qwenvl.data.synth.figures.lettering import draw_family
from qwenvl.data.synth.figures.style import HUES, draw_theme, legible
from qwenvl.data.synth.figures.words import book, say
from qwenvl.data.synth.names import Language
from qwenvl.types import Sample

STREAM = 3
_GRID = 24
_LEAST = 112
"""Least side of a picture in pixels."""
_ALONE_SHARE = 0.08
"""How often one icon is to be counted where all are different."""


class IconSpec(FigureSpec):
    """What pictures of icons may show."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "icon_naming", "icon_counting", "grounding", "point", "element_naming",
    )  # fmt: skip

    columns: tuple[int, int] = (1, 6)
    rows: tuple[int, int] = (1, 4)
    size: tuple[float, float] = (24, 64)
    """Side of an icon in pixels."""
    labelled_share: float = Field(default=0.35, ge=0, le=1)
    repeated_share: float = Field(default=0.25, ge=0, le=1)
    """Share of pictures with one icon more than once, for counting."""
    dark_share: float = Field(default=0.25, ge=0, le=1)

    @model_validator(mode="after")
    def _is_drawable(self) -> IconSpec:
        for name in ("columns", "rows", "size"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        if self.size[0] < 14:
            raise ValueError("size: an icon needs 14 pixels at least")
        return self


@dataclass(frozen=True, slots=True)
class Icon(Figure):
    """A picture of icons, row by row. Elements: "icon", named, and "label" below it."""

    source: ClassVar[str] = "synth/icon"

    keys: tuple[tuple[str, ...], ...]
    """Keys of icons.yaml by row."""


@cache
def icon_keys() -> tuple[str, ...]:
    return tuple(book("icons"))


def icon_name(key: str, language: Language) -> str:
    return say(book("icons")[key]["name"], language)


@lru_cache(maxsize=2048)
def icon_mask(key: str, size: int, weight: float = 2.0) -> Image.Image:
    """The icon as a mask (L) of size x size pixels; `weight` is the width of a stroke on the grid of 24."""
    scale = size * OVERSAMPLING / _GRID
    mask = Image.new("L", (size * OVERSAMPLING, size * OVERSAMPLING))
    pen = _Pen(ImageDraw.Draw(mask), scale, weight * scale)
    for command in book("icons")[key]["draw"].split(";"):
        letter, *numbers = command.split()
        pen.draw(letter, [float(number) for number in numbers])
    return fonts.clean(mask.reduce(OVERSAMPLING))


@dataclass(frozen=True, slots=True)
class _Pen:
    """Draws the commands of icons.yaml; strokes have round ends."""

    canvas: ImageDraw.ImageDraw
    scale: float
    width: float

    def draw(self, letter: str, numbers: list[float]) -> None:
        n = [number * self.scale for number in numbers]
        pairs = list(zip(n[::2], n[1::2], strict=False))
        if letter == "L":
            self.stroke(pairs)
        elif letter == "P":
            self.canvas.polygon(pairs, fill=255)
            self.stroke([*pairs, pairs[0]], self.width * 0.5)
        elif letter == "D":
            self.disc(n[0], n[1], n[2])
        elif letter in "CE":
            self.stroke(_round(n[0], n[1], n[2], n[-1], 0, 360))
        elif letter == "A":
            self.stroke(_round(n[0], n[1], n[2], n[2], numbers[3], numbers[4]))
        elif letter == "R":
            self.canvas.rounded_rectangle(self._grown(n), n[4] + self.width / 2, outline=255, width=round(self.width))
        elif letter == "B":
            self.canvas.rounded_rectangle(n[:4], n[4], fill=255)
        elif letter == "S":
            self.stroke(_star(n[0], n[1], n[2]))
        elif letter == "G":
            self.stroke(_cogs(n[0], n[1], n[2], n[3], int(numbers[4])))
        else:
            raise ValueError(f"icons.yaml: no such command as {letter!r}")

    def stroke(self, points: list[tuple[float, float]], width: float | None = None) -> None:
        width = width or self.width
        self.canvas.line(points, 255, max(round(width), 1), "curve")
        for x, y in (points[0], points[-1]):
            self.disc(x, y, width / 2)

    def disc(self, x: float, y: float, radius: float) -> None:
        self.canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)

    def _grown(self, n: list[float]) -> tuple[float, float, float, float]:
        """Pillow draws an outline inside; strokes lie on the line."""
        half = self.width / 2
        return (n[0] - half, n[1] - half, n[2] + half, n[3] + half)


def _round(x: float, y: float, rx: float, ry: float, begin: float, end: float) -> list[tuple[float, float]]:
    steps = max(int(abs(end - begin) / 8), 2)
    angles = [math.radians(begin + (end - begin) * step / steps) for step in range(steps + 1)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


def _star(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    corners = [(math.radians(36 * k - 90), radius * (1.0 if k % 2 == 0 else 0.45)) for k in range(11)]
    return [(x + r * math.cos(angle), y + r * math.sin(angle)) for angle, r in corners]


def _cogs(x: float, y: float, inner: float, outer: float, teeth: int) -> list[tuple[float, float]]:
    points = []
    for tooth in range(teeth):
        for share, radius in ((-0.30, inner), (-0.17, outer), (0.17, outer), (0.30, inner)):
            angle = math.tau * (tooth + share) / teeth
            points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    return [*points, points[0]]


def make_icon(spec: IconSpec, seed: int, index: int) -> Icon:
    """Picture number `index` of a stream. The same arguments give the same bytes, in any order and any process."""
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    columns, rows = whole(rng, *spec.columns), whole(rng, *spec.rows)
    keys = _choose(rng, columns * rows, spec.repeated_share)
    theme, family = draw_theme(rng, spec.dark_share), draw_family(rng, "sans")
    size = round(between(rng, *spec.size))
    label = family.plain(max(size * 0.28, 11)) if rng.random() < spec.labelled_share else None
    widest = max(label.width(icon_name(key, language)) for key in keys) if label else 0.0
    step_x = round(max(size * between(rng, 1.4, 2.2), widest + 12))
    step_y = round(size * between(rng, 1.4, 2.0) + (label.line_height if label else 0))
    width, height = max(columns * step_x + size // 2, _LEAST), max(rows * step_y + size // 2, _LEAST)
    left, top = (width - columns * step_x) // 2, (height - rows * step_y) // 2
    canvas = Canvas.blank(width, height, theme.ground)
    plate = pick(rng, ("none", "none", "disc", "square"))
    colours = [HUES[name][1 if theme.dark else 0] for name in HUES]
    one_colour = theme.ink if rng.random() < 0.5 else pick(rng, colours)
    varied, weight = rng.random() < 0.3, round(between(rng, 1.4, 2.5), 1)
    elements = []
    for place, key in enumerate(keys):
        row, column = divmod(place, columns)
        x, y = left + column * step_x + step_x // 2, top + row * step_y + size * 0.65
        box = draw_icon(canvas, key, x, y, size, pick(rng, colours) if varied else one_colour, weight, plate)
        elements.append(Element("icon", box, name=_called(key, language)))
        if label:
            name = icon_name(key, language)
            elements.append(Element("label", canvas.text(x, y + size * 0.62, name, label, theme.ink, "centre"), name))
    grid = tuple(tuple(keys[row * columns : (row + 1) * columns]) for row in range(rows))
    return Icon(canvas.image, tuple(elements), language, seed, index, grid)


def _choose(rng: np.random.Generator, count: int, repeated_share: float) -> list[str]:
    names = icon_keys()
    keys = [names[int(place)] for place in rng.permutation(len(names))[:count]]
    if count > 3 and rng.random() < repeated_share:
        for _ in range(whole(rng, 1, count // 2)):
            keys[whole(rng, 1, count - 1)] = keys[0]
    return [keys[int(place)] for place in rng.permutation(count)]


def _called(key: str, language: Language) -> str:
    name = icon_name(key, language)
    return f"the {name} icon" if language == "en" else f"{name}图标"


def draw_icon(
    canvas: Canvas, key: str, x: float, y: float, size: int, colour: Colour, weight: float = 2.0, plate: str = "none"
) -> Box:
    """An icon with its middle there, by itself or on a coloured plate ("disc", "square"). Returns the box of its ink or plate."""
    if plate == "none":
        return canvas.stamp(icon_mask(key, size, weight), round(x - size / 2), round(y - size / 2), colour)
    around = (round(x - size / 2), round(y - size / 2), round(x - size / 2) + size, round(y - size / 2) + size)
    canvas.rectangle(around, colour, radius=size // 2 if plate == "disc" else max(size // 5, 2))
    inner = round(size * 0.6)
    canvas.stamp(icon_mask(key, inner, weight), round(x - inner / 2), round(y - inner / 2), legible(colour))
    return around


def samples(spec: IconSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(icon_samples(make_icon(spec, seed, index), spec.held_out))


def icon_samples(icon: Icon, held_out: bool = False, each: int = 3) -> list[Sample]:
    """What is asked about icons: names, places, how many, which is beside which. `each`: at most so many questions of one task."""
    voice = voice_of(icon, held_out)
    made = Samples(icon, voice)
    drawn = icon.of_kind("icon")
    made.find(drawn, each, points=1)
    made.name(drawn, each)
    if len(drawn) == 1:
        name = icon_name(icon.keys[0][0], icon.language)
        made.say("icon_naming", put(voice, "icon_what"), name, kind="icon_what", value=name, accept=[name])
        return made.found
    keys = [key for row in icon.keys for key in row]
    # Most icons stand there once: they are seldom asked for, or "1" would be the answer without looking.
    counted = [key for key in dict.fromkeys(keys) if keys.count(key) > 1] or (keys if voice.happens(_ALONE_SHARE) else [])
    asks = [Ask("icon_count", {"name": icon_name(key, icon.language)}, str(keys.count(key))) for key in counted]
    made.ask("icon_counting", asks, 1)
    beside = []
    for row in icon.keys:
        for here, there in pairwise(row):
            if keys.count(here) == 1:
                name = icon_name(there, icon.language)
                beside.append(Ask("icon_right_of", {"name": icon_name(here, icon.language)}, name))
    made.ask("icon_naming", beside, each)
    return made.found
