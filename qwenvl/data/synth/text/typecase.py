"""Letters and words of one face at one size, as masks.

Masks are (height, width) uint8 arrays, 255 where ink is full. Boxes are those of the ink, from the pen on the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import add
from typing import NamedTuple

import numpy as np

from qwenvl.data.synth import fonts
from qwenvl.data.synth.fonts import Face, Glyph
from qwenvl.data.synth.text.scripts import is_wide

PixelBox = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels; right and bottom are exclusive."""


_LARGE = 48
"""Chinese, Japanese and Korean letters, of which there are too many to draw anew at every size, are drawn at this one and made
smaller."""


class Letter(NamedTuple):
    """A letter's ink, its box, and how far the pen moves on."""

    mask: np.ndarray
    left: int
    top: int
    width: int
    bottom: int
    advance: float


@dataclass(frozen=True, slots=True)
class Written:
    """A word's ink, its box, where the pen stands for each letter, and how far it moves on over all."""

    mask: np.ndarray
    box: PixelBox
    pens: tuple[float, ...]
    advance: float


class TypeCase:
    """The letters of a face at a size in pixels, each drawn when it is first needed: of a page's thousands few are new."""

    def __init__(self, face: Face, size: int) -> None:
        self.face, self.size = face, size
        self.space = fonts.font(face, size).getlength(" ")
        self._letters: dict[str, Letter] = {}

    def write(self, text: str) -> Written:
        """A word, letter beside letter, as SynthDoG writes. Raises FontError if the face lacks one."""
        letters = self._letters
        for character in set(text).difference(letters):
            letters[character] = self._draw(character)
        return _joined([letters[character] for character in text])

    def _draw(self, character: str) -> Letter:
        if is_wide(character) and self.size < _LARGE:
            return _scaled(_large_letter(self.face, character), self.size / _LARGE)
        return _letter(fonts.draw(self.face, self.size, character))

    def write_leftwards(self, text: str) -> Written:
        """A word of a language that runs from right to left, its letters joined. Raises FontError if the face lacks one."""
        return _joined([_letter(fonts.draw(self.face, self.size, text, "rtl"))])


@lru_cache(maxsize=128)
def type_case(face: Face, size: int) -> TypeCase:
    return TypeCase(face, size)


@lru_cache(maxsize=32768)
def _large_letter(face: Face, character: str) -> Letter:
    return _letter(fonts.draw(face, _LARGE, character))


def _scaled(letter: Letter, scale: float) -> Letter:
    """A letter made smaller, each of its pixels the mean of what it covers."""
    import cv2

    left, top = round(letter.left * scale), round(letter.top * scale)
    size = (max(round(letter.width * scale), 1), max(round(letter.mask.shape[0] * scale), 1))
    mask = cv2.resize(letter.mask, size, interpolation=cv2.INTER_AREA)
    mask *= mask >= fonts.INK
    return Letter(mask, left, top, size[0], top + size[1], letter.advance * scale)


def _letter(glyph: Glyph) -> Letter:
    mask = np.asarray(glyph.mask)
    return Letter(mask, glyph.left, glyph.top, mask.shape[1], glyph.top + mask.shape[0], glyph.advance)


def _joined(letters: Sequence[Letter]) -> Written:
    masks, lefts, tops, widths, bottoms, advances = zip(*letters)
    pens = list(accumulate(advances, initial=0.0))
    starts = [round(pen) + left for pen, left in zip(pens, lefts)]
    ends = list(map(add, starts, widths))
    left, top, right, bottom = min(starts), min(tops), max(ends), max(bottoms)
    ink = np.zeros((bottom - top, right - left), np.uint8)
    free = left
    for mask, start, end, high, low in zip(masks, starts, ends, tops, bottoms):
        window = ink[high - top : low - top, start - left : end - left]
        if start >= free:
            window[...] = mask
        else:  # it stands over the letter before, as a slanted one does
            np.maximum(window, mask, out=window)
        free = max(free, end)
    return Written(ink, (left, top, right, bottom), tuple(pens[:-1]), pens[-1])


def lay(ink: np.ndarray, mask: np.ndarray, left: int, top: int) -> None:
    """Put a mask into a larger one, at a place in it."""
    height, width = mask.shape
    window = ink[top : top + height, left : left + width]
    np.maximum(window, mask, out=window)
