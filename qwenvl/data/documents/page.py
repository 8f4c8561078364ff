"""What readers of documents give: a page as it looks, with its lines of text and its blocks; or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from qwenvl.data.documents.blocks import Block
from qwenvl.types import Point, QwenVLError, Region

Pixels = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the page's picture."""
Quad = tuple[Point, Point, Point, Point]
"""Four corners in pixels, clockwise from the top left as the text is read."""


class DocumentError(QwenVLError, ValueError):
    """A document that cannot be read at all: missing, damaged, encrypted. One line that names the file."""


class ReaderError(QwenVLError):
    """What reads documents is not installed, or does not start: no file's fault."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text as it stands on a page. `size` is that of its font, in pixels."""

    text: str
    quad: Quad
    size: float
    bold: bool = False
    mono: bool = False

    @property
    def box(self) -> Pixels:
        """The upright box around the line."""
        across, down = zip(*self.quad, strict=True)
        return min(across), min(down), max(across), max(down)


@dataclass(frozen=True, slots=True)
class Page:
    """A page, or a piece of one that has no pages. `lines` and `blocks` are in reading order; `number` counts from 1.

    `characters` are those that the document says are here, also where nothing of them shows.
    """

    image: Image.Image
    lines: tuple[Line, ...]
    blocks: tuple[Block, ...]
    source: str
    number: int
    characters: str = ""
    notes: dict[str, int] = field(default_factory=dict)
    """What a reader has counted: lines left out because nothing of them shows, characters without a code."""

    @property
    def name(self) -> str:
        return f"{self.source}#{self.number}"

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)

    def region(self, line: Line) -> Region:
        """A line as a quad in [0, 1], clamped to the picture."""
        width, height = self.image.size
        points = tuple((min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)) for x, y in line.quad)
        return Region("quad", points)


@dataclass(frozen=True, slots=True)
class NoPage:
    """A page, or `count` of them from `number` on, that could not be made, and why. Refusals are counted by `reason`."""

    source: str
    number: int
    reason: str
    count: int = 1

    @property
    def name(self) -> str:
        return f"{self.source}#{self.number}"


def around(boxes: Sequence[Pixels]) -> Pixels:
    """The smallest box around all of them."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def shared(a: Pixels, b: Pixels) -> float:
    """The area that two boxes have in common."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def area(box: Pixels) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def sides(box: Pixels) -> tuple[float, float]:
    """Width and height."""
    return box[2] - box[0], box[3] - box[1]


def inside(inner: Pixels, outer: Pixels, part: float = 0.5) -> bool:
    """Whether at least `part` of the inner box lies in the outer one."""
    return shared(inner, outer) >= part * area(inner) > 0


def scaled(box: Pixels, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box in pixels as one in [0, 1] of a picture of that size, clamped to it."""
    width, height = size
    left, top, right, bottom = box
    return max(left / width, 0.0), max(top / height, 0.0), min(right / width, 1.0), min(bottom / height, 1.0)
