"""Lines of English and Chinese: which face draws which character, how wide a line is, where it breaks, its ink as a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from qwenvl.data.synth import fonts
from qwenvl.data.synth.draws import pick
from qwenvl.data.synth.fonts import Face, FontError
from qwenvl.data.synth.text import scripts

Class = Literal["sans", "serif", "mono"]

# Families of text/scripts.py that documents and screens are set in: all with a regular and a bold face, and a free licence.
_LATIN: dict[Class, tuple[str, ...]] = {
    "sans": ("DejaVu Sans", "Arimo", "Carlito", "Roboto", "Roboto Condensed", "Open Sans", "Lato", "Inter", "Cantarell", "Cabin",
             "Oxygen-Sans", "Quicksand", "Sora", "B612"),
    "serif": ("Tinos", "Caladea", "Roboto Slab", "Linux Libertine O", "Vollkorn", "Latin Modern Roman"),
    "mono": ("DejaVu Sans Mono", "Cousine", "Courier Prime", "JetBrains Mono"),
}  # fmt: skip
_CHINESE: dict[Class, tuple[str, ...]] = {
    "sans": ("Noto Sans CJK SC", "Noto Sans CJK SC", "Droid Sans Fallback"),
    "serif": ("Noto Serif CJK SC", "Noto Serif CJK SC", "LXGW WenKai"),
    "mono": ("Noto Sans Mono CJK SC",),
}
# A line may not begin with these, nor end with those (the common part of Chinese and English rules).
_NOT_FIRST = frozenset("，。、；：？！）》」』”’%…·,.;:?!)]}")
_NOT_LAST = frozenset("（《「『“‘([{¥$")


@dataclass(frozen=True, slots=True)
class Type:
    """A size in pixels, the face of Latin letters, and the one of all that it lacks."""

    latin: Face
    chinese: Face
    size: int

    @property
    def ascent(self) -> float:
        return fonts.font(self.latin, self.size).getmetrics()[0]

    @property
    def descent(self) -> float:
        return fonts.font(self.latin, self.size).getmetrics()[1]

    @property
    def middle(self) -> float:
        """From the baseline up to the middle of a capital, which looks like the middle of a line."""
        return 0.36 * self.size

    @property
    def line_height(self) -> float:
        return 1.35 * self.size

    def sized(self, size: float) -> Type:
        return replace(self, size=max(round(size), 6))

    def width(self, text: str) -> float:
        """The advance of a line. Raises FontError for a character that no face has."""
        return _width(text, self)


@dataclass(frozen=True, slots=True)
class Family:
    """A typeface as figures use it: regular and bold faces of Latin and of Chinese."""

    regular: Face
    bold: Face
    chinese: Face
    chinese_bold: Face

    def plain(self, size: float) -> Type:
        return Type(self.regular, self.chinese, max(round(size), 6))

    def strong(self, size: float) -> Type:
        return Type(self.bold, self.chinese_bold, max(round(size), 6))


@cache
def _faces(name: str) -> tuple[Face, Face]:
    """The regular and the bold face of a family; the only one twice where there is one."""
    families = {faces[0].family: faces for faces in (*scripts.FAMILIES["en"], *scripts.FAMILIES["zh"])}
    upright = [face for face in families[name] if "Italic" not in face.file]
    bold = next((face for face in upright if any(word in face.file for word in ("Bold.", "-bold.", "_RB."))), upright[-1])
    return upright[0], bold


def draw_family(rng: np.random.Generator, kind: Class | None = None) -> Family:
    """A typeface of a class, or of sans or serif ones at random; its Chinese is of the same class."""
    _require()
    kind = kind or ("serif" if rng.random() < 0.3 else "sans")
    return Family(*_faces(pick(rng, _LATIN[kind])), *_faces(pick(rng, _CHINESE[kind])))


@cache
def _require() -> None:
    """Check once that all of them are installed, so that a stream does not fail half-way."""
    fonts.require(face for table in (_LATIN, _CHINESE) for names in table.values() for name in names for face in _faces(name))


@cache
def _known(latin: Face, chinese: Face) -> dict[str, Face]:
    """Which of two faces draws a character, as far as has been asked."""
    return {}


def _runs(text: str, latin: Face, chinese: Face) -> list[tuple[Face, str]]:
    """The text in pieces of one face each. Raises FontError for a character that neither has."""
    known = _known(latin, chinese)
    runs: list[tuple[Face, str]] = []
    for character in text:
        face = known.get(character)
        if face is None:
            face = known[character] = _face_of(character, latin, chinese)
        if runs and runs[-1][0] is face:
            runs[-1] = (face, runs[-1][1] + character)
        else:
            runs.append((face, character))
    return runs


def _face_of(character: str, latin: Face, chinese: Face) -> Face:
    if character.isspace() or fonts.has(latin, character):
        return latin
    if fonts.has(chinese, character):
        return chinese
    raise FontError(f"neither {latin.family} nor {chinese.family} has a glyph for {character!r} (U+{ord(character):04X})")


@lru_cache(maxsize=16384)
def _width(text: str, kind: Type) -> float:
    return sum(_advance(run, face, kind.size) for face, run in _runs(text, kind.latin, kind.chinese))


def _advance(run: str, face: Face, size: int) -> float:
    """The advance of a run; wide characters neither join nor kern, and theirs are remembered."""
    if scripts.is_wide(run[0]):
        return sum(fonts.glyph(face, size, character).advance for character in run)
    return fonts.font(face, size).getlength(run)


def text_mask(text: str, kind: Type) -> tuple[Image.Image, int, int]:
    """The line's mask (L), cropped to its ink, and where the ink's left and top lie from the pen on the baseline.

    Raises FontError for a character that no face has, and for a text without ink.
    """
    margin, above = kind.size, 2 * kind.size
    mask = Image.new("L", (math.ceil(kind.width(text)) + 2 * margin, 3 * kind.size))
    pen, x = ImageDraw.Draw(mask), float(margin)
    for face, run in _runs(text, kind.latin, kind.chinese):
        if scripts.is_wide(run[0]):
            for character in run:
                glyph = fonts.glyph(face, kind.size, character)
                mask.paste(glyph.mask, (round(x) + glyph.left, above + glyph.top))
                x += glyph.advance
        else:
            drawn = fonts.font(face, kind.size)
            pen.text((round(x), above), run, fill=255, font=drawn, anchor="ls")
            x += drawn.getlength(run)
    mask = fonts.clean(mask)
    box = mask.getbbox()
    if box is None:
        raise FontError(f"text {text!r} has no ink; leave it out")
    return mask.crop(box), box[0] - margin, box[1] - above


def wrap(text: str, kind: Type, width: float, indent: float = 0.0) -> list[str]:
    """Lines of at most that width, the first shorter by `indent`: broken at spaces and between Chinese characters; a longer word
    stands alone on its line."""
    lines: list[str] = []
    line, used = "", 0.0
    for piece in _breakable(text):
        visible = piece.rstrip()
        if line and used + kind.width(visible) > width - (0 if lines else indent):
            lines.append(line.rstrip())
            line, used = "", 0.0
        line += piece
        used += kind.width(piece)
    return [*lines, line.rstrip()] if line.strip() else lines


@lru_cache(maxsize=4096)
def _breakable(text: str) -> tuple[str, ...]:
    """The text cut wherever a line may end: after a space or a Chinese character, but not before closing punctuation."""
    pieces: list[str] = []
    for index, character in enumerate(text):
        before = text[index - 1] if index else " "
        joined = not (scripts.is_wide(character) or scripts.is_wide(before) or before == " ")
        if pieces and (joined or character in _NOT_FIRST or before in _NOT_LAST or (character == " " and before != " ")):
            pieces[-1] += character
        else:
            pieces.append(character)
    return tuple(pieces)


def shorten(text: str, kind: Type, width: float) -> str:
    """The text, cut with an ellipsis where it is too wide."""
    if kind.width(text) <= width:
        return text
    while text and kind.width(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
