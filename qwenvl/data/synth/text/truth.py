"""A page of text and what is true of it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qwenvl.data.synth.ink import Quad
from qwenvl.data.synth.text.scripts import Script
from qwenvl.data.synth.text.typeset import Line

LOSSLESS = 100
"""The quality at which a page's file is a PNG."""


@dataclass(frozen=True, slots=True)
class TextWord:
    """`quad`: four points in pixels of the picture, clockwise from the word's own top left."""

    text: str
    quad: Quad


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line, its words in the order of reading, and the number of the block that it belongs to."""

    text: str
    quad: Quad
    words: tuple[TextWord, ...]
    block: int
    font: str


@dataclass(frozen=True, slots=True)
class Page:
    """A picture (RGB, before compression) and its lines in the order of reading.

    `effects` names those that this page has; `dropped` counts words of the corpus that its fonts lack or that fit no line.
    """

    picture: Image.Image
    lines: tuple[TextLine, ...]
    script: Script
    seed: int
    index: int
    quality: int
    effects: tuple[str, ...]
    dropped: int

    @property
    def name(self) -> str:
        return f"{self.script} {self.seed}/{self.index}"

    def file(self) -> bytes:
        """The picture as a JPEG file of the page's quality, or PNG: what a model is shown."""
        written = io.BytesIO()
        if self.quality == LOSSLESS:
            self.picture.save(written, "png", compress_level=1)
        else:
            self.picture.save(written, "jpeg", quality=self.quality)
        return written.getvalue()


def placed_lines(lines: Sequence[Line], quads: np.ndarray, canvas: tuple[int, int]) -> tuple[TextLine, ...]:
    """Lines with their quads (n, 4, 2), which come one after another: a line's own, then those of its words."""
    corners: Iterator[Quad] = (tuple(map(tuple, quad)) for quad in np.clip(quads, 0, canvas).tolist())
    found = []
    for line in lines:
        quad = next(corners)
        words = tuple(TextWord(word.text, next(corners)) for word in line.words)
        found.append(TextLine(line.text, quad, words, line.block, line.face.family))
    return tuple(found)
