"""What every style of markup can do: write places into text, read them back, and say which tokens they are made of.

A style is one subclass of MarkupStyle, in a file of its own; `regions.style_of` chooses it, and nothing else asks for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Literal

import numpy as np

from qwenvl.families.spec import Markup
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import Part, Point, Region, RegionError, RegionPart

Kind = Literal["box", "quad", "point"]
Frame = tuple[int, int]  # (width, height) in pixels of the resized picture


@dataclass(frozen=True, slots=True)
class Special:
    """A special token in a rendered text, by name; plain text beside it is str."""

    name: str


Piece = str | Special


def markup_text(pieces: Sequence[Piece]) -> str:
    """Pieces as the text that a tokenizer's `decode` would give."""
    return "".join(piece.name if isinstance(piece, Special) else piece for piece in pieces)


@dataclass(frozen=True, slots=True)
class Written:
    """A place as a text gives it: x, y, x, y, ... in the text's own frame, not yet clamped; `start` is where it was found."""

    kind: Kind
    numbers: tuple[float, ...]
    label: str | None
    start: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """The places of a text, and how many of the numbers they were written with lay outside of the picture."""

    regions: tuple[Region, ...]
    clamped: int = 0


class TokenRole(IntEnum):
    """What a token is to the markup: a word as any other, what frames a place, or a digit of a coordinate."""

    WORD = 0
    PUNCTUATION = 1
    HUNDREDS = 2
    TENS = 3
    UNITS = 4


class MarkupStyle(ABC):
    """How the places of one Markup are written and read."""

    kinds: ClassVar[tuple[Kind, ...]]
    """The regions that can be written."""
    inline: ClassVar[bool]
    """Whether phrases are marked where they stand in a sentence. If not, places are a list of their own."""
    in_pixels: ClassVar[bool]
    """Whether numbers are pixels of the resized picture, whose size is the frame. If not, they are parts of `markup.scale`."""

    def __init__(self, markup: Markup) -> None:
        self.markup = markup

    @abstractmethod
    def write(self, parts: Sequence[RegionPart], frames: Mapping[int, Frame], where: str) -> list[Piece]:
        """The pieces of phrases and places that follow each other. `frames` by Region.image.

        Raises RegionError as `check` does.
        """

    @abstractmethod
    def numbers(self, region: Region, frames: Mapping[int, Frame], where: str) -> list[str]:
        """The coordinates of any region, x, y, x, y, ..., in the frame of this markup.

        Raises RegionError naming `where` for a region that cannot be taught or whose picture has no frame.
        """

    @abstractmethod
    def find(self, text: str) -> list[Written]:
        """The places that any text names, in order, however badly they are written."""

    @abstractmethod
    def split(self, text: str) -> tuple[Part, ...]:
        """A text of the model's as parts that are rendered to the very tokens it was written with."""

    @abstractmethod
    def strip(self, text: str) -> str:
        """The text without places."""

    def readable(self, text: str) -> str:
        """The text for people: as `strip`, and without what is left of markup that is not well formed."""
        return self.strip(text)

    @abstractmethod
    def token_roles(self, ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
        """The TokenRole of each of `ids` (T,)."""

    def check(self, region: Region, where: str) -> Region:
        """Return the region if it can be taught in this markup; raise RegionError naming `where` if not."""
        if region.kind not in self.kinds:
            raise RegionError(f"{where}: this model's markup has no {region.kind}; use a {' or a '.join(self.kinds)}")
        return region.check(where)

    def read(self, text: str, scale: float | None = None, image: int = 0, frame: Frame | None = None) -> Reading:
        """The regions of `find` in [0, 1] of the picture; see `regions.read_places`."""
        sides = frame if self.in_pixels else (scale or self.markup.scale,) * 2
        if sides is None:
            return Reading(())
        regions: list[Region] = []
        clamped = 0
        for place in self.find(text):
            values = [value / sides[index % 2] for index, value in enumerate(place.numbers)]
            clamped += sum(not 0.0 <= value <= 1.0 for value in values)
            values = [min(max(value, 0.0), 1.0) for value in values]
            region = _region(place.kind, list(zip(values[::2], values[1::2], strict=True)), place.label, image)
            regions += [region] if region else []
        return Reading(tuple(regions), clamped)


def _region(kind: Kind, points: list[Point], label: str | None, image: int) -> Region | None:
    """None for a box or quad without area."""
    if kind == "point":
        return Region("point", tuple(points), label, image)
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    if left >= right or top >= bottom:
        return None
    return Region.box(left, top, right, bottom, label, image) if kind == "box" else Region("quad", tuple(points), label, image)
