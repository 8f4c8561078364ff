"""What stands on a page: a tree of blocks with boxes, in reading order. Readers of PDF and HTML and the drawers of pages make it;
one writer turns it into QwenVL HTML.

Kinds are the elements of that format (section 2.2.1 of arXiv 2502.13923), and headings, lists and plain pictures, which real output
has too. `text` holds what a block says: words, LaTeX of a formula, ABC of a sheet of music, SMILES of a molecule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Box = tuple[float, float, float, float]
"""left, top, right, bottom in [0, 1] of the page."""

Kind = Literal[
    "heading", "paragraph", "list", "item", "table", "chart", "formula", "image", "image caption", "image ocr",
    "music sheet", "chemical formula", "code",
]  # fmt: skip

PICTURED: frozenset[Kind] = frozenset(
    {"chart", "formula", "image", "image caption", "image ocr", "music sheet", "chemical formula"}
)
"""Kinds that are a picture on the page, with what it says written beside it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table; `box` is that of the whole cell, where known."""

    text: str
    header: bool = False
    column_span: int = 1
    row_span: int = 1
    box: Box | None = None


def span(written: str) -> int:
    """How many columns or rows an HTML attribute asks for; 1 where it is missing or makes no sense."""
    return max(int(written), 1) if written.isdecimal() else 1


Rows = tuple[tuple[Cell, ...], ...]
"""Rows of cells as HTML has them: a cell that spans several rows stands in the first of them alone."""


@dataclass(frozen=True, slots=True)
class Block:
    """One element of a page.

    `box` is the whole element's, None where it has no ink of its own; `picture` the box of the picture in it, where it is smaller
    (a chart below its caption). `rows` are a table's, or a chart's data; `children` the items of a list, or what a block holds.
    `attributes`: "level" of a heading ("1" to "6"), "ordered" of a list ("true"), "language" of code.
    """

    kind: Kind
    box: Box | None = None
    text: str = ""
    rows: Rows = ()
    children: tuple[Block, ...] = ()
    picture: Box | None = None
    attributes: dict[str, str] = field(default_factory=dict)

    def walk(self) -> Iterator[Block]:
        """The block and all that is in it, in reading order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def moved(self, frame: Box) -> Block:
        """The block as it stands when its page becomes the part `frame` of a larger one."""
        cells = tuple(tuple(replace(cell, box=placed(cell.box, frame)) for cell in row) for row in self.rows)
        children = tuple(child.moved(frame) for child in self.children)
        return replace(self, box=placed(self.box, frame), picture=placed(self.picture, frame), rows=cells, children=children)


def placed(box: Box | None, frame: Box) -> Box | None:
    """A box in [0, 1] of `frame`, in the coordinates that `frame` is given in."""
    if box is None:
        return None
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    return (frame[0] + box[0] * width, frame[1] + box[1] * height, frame[0] + box[2] * width, frame[1] + box[3] * height)


def table_rows(rows: Sequence[Sequence[str]], header_rows: int = 1, header_columns: int = 0) -> Rows:
    """Plain rows of texts as cells; the first rows and columns are headers."""
    return tuple(
        tuple(Cell(text, header=r < header_rows or c < header_columns) for c, text in enumerate(row)) for r, row in enumerate(rows)
    )
