"""How figures look: themes of page colours, and palettes of colours that can be named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qwenvl.data.synth.draws import pick
from qwenvl.data.synth.figures.canvas import Colour
from qwenvl.data.synth.names import Language

# Each colour in three tones: strong, soft, dark. Names apart enough to be told from each other in every tone.
HUES: dict[str, tuple[Colour, Colour, Colour]] = {
    "blue": ((38, 110, 200), (112, 162, 222), (24, 72, 140)),
    "orange": ((245, 130, 30), (250, 175, 105), (214, 102, 12)),
    "green": ((44, 160, 60), (125, 195, 120), (20, 110, 50)),
    "red": ((214, 39, 45), (236, 120, 115), (165, 25, 30)),
    "purple": ((140, 75, 190), (180, 145, 215), (95, 45, 145)),
    "yellow": ((245, 205, 40), (248, 222, 115), (225, 180, 15)),
    "brown": ((135, 85, 60), (178, 138, 112), (98, 60, 38)),
    "pink": ((235, 110, 170), (245, 165, 200), (215, 75, 145)),
    "grey": ((125, 125, 125), (170, 170, 172), (90, 90, 94)),
    "teal": ((25, 165, 165), (115, 200, 195), (10, 115, 120)),
}
HUE_NAMES: dict[str, tuple[str, str]] = {
    "blue": ("blue", "蓝色"),
    "orange": ("orange", "橙色"),
    "green": ("green", "绿色"),
    "red": ("red", "红色"),
    "purple": ("purple", "紫色"),
    "yellow": ("yellow", "黄色"),
    "brown": ("brown", "棕色"),
    "pink": ("pink", "粉色"),
    "grey": ("grey", "灰色"),
    "teal": ("teal", "青色"),
}
# Series colours that matplotlib, spreadsheets and the like begin with come first more often.
_USUAL = ("blue", "orange", "green", "red", "purple", "teal")


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a page: ground, ink, fainter ink for small print, lines, a fill for headers and stripes, one that stands out."""

    ground: Colour
    ink: Colour
    muted: Colour
    line: Colour
    fill: Colour
    accent: Colour

    @property
    def dark(self) -> bool:
        return luminance(self.ground) < 128


_LIGHT = (
    Theme((255, 255, 255), (20, 20, 24), (85, 88, 94), (205, 208, 212), (238, 241, 245), (32, 98, 190)),
    Theme((255, 255, 255), (0, 0, 0), (60, 60, 60), (150, 150, 150), (225, 225, 225), (150, 30, 35)),
    Theme((247, 248, 250), (35, 40, 50), (95, 102, 114), (212, 217, 224), (231, 235, 241), (16, 122, 110)),
    Theme((252, 249, 240), (50, 40, 30), (112, 100, 84), (216, 206, 188), (240, 233, 218), (178, 84, 24)),
    Theme((240, 244, 249), (22, 36, 58), (80, 96, 120), (196, 206, 220), (222, 230, 240), (92, 62, 168)),
)
_DARK = (
    Theme((30, 32, 38), (236, 238, 242), (168, 174, 184), (74, 78, 88), (48, 52, 60), (96, 160, 250)),
    Theme((16, 24, 39), (226, 232, 240), (148, 163, 184), (51, 65, 85), (30, 41, 59), (52, 199, 150)),
)


def draw_theme(rng: np.random.Generator, dark_share: float = 0.15) -> Theme:
    """A theme; white paper is the most likely one."""
    if rng.random() < dark_share:
        return pick(rng, _DARK)
    return pick(rng, (_LIGHT[0], _LIGHT[0], *_LIGHT))


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of series, in order; `names` are keys of HUES, empty where the colours are shades of one."""

    colours: tuple[Colour, ...]
    names: tuple[str, ...]


def draw_palette(rng: np.random.Generator, count: int, ground: Colour) -> Palette:
    """Colours that stand out from the ground: of several hues, or with few series in one of six cases shades of one."""
    if 1 < count <= 4 and rng.random() < 1 / 6:
        strong = HUES[pick(rng, _USUAL)][1 if luminance(ground) < 128 else 2]
        return Palette(tuple(mixed(strong, ground, 0.72 * place / (count - 1)) for place in range(count)), ())
    tone = int(rng.random() * 3)
    names = [name for name in HUES if abs(luminance(HUES[name][tone]) - luminance(ground)) > 35]
    order = [names[int(place)] for place in rng.permutation(len(names))]
    if rng.random() < 0.4:
        order.sort(key=lambda name: _USUAL.index(name) if name in _USUAL else len(_USUAL))
    chosen = tuple(order[place % len(order)] for place in range(count))
    return Palette(tuple(HUES[name][tone] for name in chosen), chosen if len(set(chosen)) == count else ())


def colour_name(key: str, language: Language) -> str:
    return HUE_NAMES[key][0 if language == "en" else 1]


def luminance(colour: Colour) -> float:
    """0 to 255, by the weights of ITU-R BT.601."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def legible(ground: Colour, inks: Sequence[Colour] = ((255, 255, 255), (20, 20, 24))) -> Colour:
    """The ink that stands out most from a ground."""
    return max(inks, key=lambda ink: abs(luminance(ink) - luminance(ground)))


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """A colour with that share of another one in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return (red, green, blue)
