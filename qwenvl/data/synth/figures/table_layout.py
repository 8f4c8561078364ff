"""Tables of cells, which may span rows and columns: how wide and high everything is, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qwenvl.data.documents.blocks import Cell, Rows
from qwenvl.data.synth.draws import between, pick
from qwenvl.data.synth.figures.canvas import Box, Canvas, Colour
from qwenvl.data.synth.figures.lettering import Family, Type, wrap
from qwenvl.data.synth.figures.style import Theme, legible, mixed

Lines = Literal["grid", "level", "book", "none", "frame"]
Header = Literal["plain", "tint", "accent"]


@dataclass(frozen=True, slots=True)
class TableLook:
    """`lines`: all of them; level ones alone; as books have them (above, below and under the header); none; header and frame."""

    theme: Theme
    family: Family
    size: int
    lines: Lines
    stripes: bool
    header: Header
    centred: bool
    pad: float

    @property
    def line_height(self) -> int:
        return round(self.family.plain(self.size).line_height)


def draw_table_look(rng: np.random.Generator, theme: Theme, family: Family, size: int) -> TableLook:
    lines: Lines = pick(rng, ("grid", "grid", "level", "book", "none", "frame"))
    stripes = lines in ("none", "level") or rng.random() < 0.25
    header: Header = pick(rng, ("plain", "tint", "accent"))
    return TableLook(theme, family, size, lines, stripes, header, rng.random() < 0.3, between(rng, 0.35, 0.75))


@dataclass(frozen=True, slots=True)
class Placed:
    """A cell at its first row and column."""

    cell: Cell
    row: int
    column: int


def grid(rows: Rows) -> tuple[list[Placed], int]:
    """Every cell with its row and column, as HTML places them, and the number of columns."""
    taken: set[tuple[int, int]] = set()
    placed = []
    for row, cells in enumerate(rows):
        column = 0
        for cell in cells:
            while (row, column) in taken:
                column += 1
            placed.append(Placed(cell, row, column))
            taken |= {(row + down, column + along) for down in range(cell.row_span) for along in range(cell.column_span)}
            column += cell.column_span
    return placed, 1 + max(column for _, column in taken)


def expanded(rows: Rows) -> list[list[str]]:
    """The texts of a table as a full rectangle: a cell that spans several places stands in each of them."""
    placed, count = grid(rows)
    texts = [[""] * count for _ in rows]
    for item in placed:
        for row in range(item.row, item.row + item.cell.row_span):
            for column in range(item.column, item.column + item.cell.column_span):
                texts[row][column] = item.cell.text
    return texts


@dataclass(frozen=True, slots=True)
class Drawn:
    """A cell on the picture: its box, and every line of its text with the box of its ink, in pixels."""

    cell: Cell
    row: int
    column: int
    box: Box
    lines: tuple[tuple[str, Box], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Cells with their edges: columns[c] to columns[c + 1], rows[r] to rows[r + 1], from the table's own top left corner."""

    cells: tuple[Placed, ...]
    lines: tuple[tuple[str, ...], ...]
    columns: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        return self.columns[-1], self.rows[-1]

    def widened(self, width: int) -> Layout:
        """The layout with the first column grown to a total width, if it is narrower."""
        more = max(width - self.columns[-1], 0)
        return replace(self, columns=(0, *(column + more for column in self.columns[1:])))

    def box(self, placed: Placed, left: int = 0, top: int = 0) -> Box:
        right, bottom = placed.column + placed.cell.column_span, placed.row + placed.cell.row_span
        return (
            left + self.columns[placed.column], top + self.rows[placed.row], left + self.columns[right], top + self.rows[bottom],
        )  # fmt: skip


def lay_out(rows: Rows, look: TableLook, widest: int) -> Layout:
    """Columns as wide as their texts, squeezed to `widest` in all by breaking the texts of wide columns."""
    placed, count = grid(rows)
    across, down = round(look.size * look.pad * 1.4), round(look.size * look.pad * 0.8)
    widths = [0.0] * count
    for item in sorted(placed, key=lambda item: item.cell.column_span):
        span = range(item.column, item.column + item.cell.column_span)
        missing = _width(item, look) + 2 * across - sum(widths[column] for column in span)
        for column in span:
            widths[column] += max(missing, 0) / len(span)
    widths = _squeezed(widths, widest, look.size * 3.5 + 2 * across)
    columns = [0]
    for width in widths:
        columns.append(columns[-1] + round(width))
    lines, heights = [], [0.0] * len(rows)
    for item in sorted(placed, key=lambda item: item.cell.row_span):
        room = columns[item.column + item.cell.column_span] - columns[item.column] - 2 * across
        lines.append((item, tuple(wrap(item.cell.text, _type(item.cell, look), room)) if item.cell.text else ()))
        span = range(item.row, item.row + item.cell.row_span)
        missing = max(len(lines[-1][1]), 1) * look.line_height + 2 * down - sum(heights[row] for row in span)
        for row in span:
            heights[row] += max(missing, 0) / len(span)
    edges = [0]
    for height in heights:
        edges.append(edges[-1] + round(height))
    lines.sort(key=lambda pair: (pair[0].row, pair[0].column))
    return Layout(tuple(item for item, _ in lines), tuple(text for _, text in lines), tuple(columns), tuple(edges))


def _type(cell: Cell, look: TableLook) -> Type:
    return look.family.strong(look.size) if cell.header else look.family.plain(look.size)


def _width(item: Placed, look: TableLook) -> float:
    return _type(item.cell, look).width(item.cell.text) if item.cell.text else 0.0


def _squeezed(widths: list[float], widest: int, least: float) -> list[float]:
    """The widths, the greatest ones cut down so that all of them together fit."""
    cap = max(widths)
    while sum(min(width, cap) for width in widths) > widest and cap > least:
        cap *= 0.94
    return [min(width, cap) for width in widths]


def is_number(text: str) -> bool:
    return bool(text) and all(character in "0123456789.,-+%¥$() " for character in text) and any(map(str.isdigit, text))


def draw_table(canvas: Canvas, layout: Layout, look: TableLook, left: int, top: int) -> list[Drawn]:
    """Draw the table with its top left corner there. Returns its cells from the first row on."""
    width, height = layout.size
    bottom = _last_header_row(layout)
    _fills(canvas, layout, look, left, top, bottom)
    _rules(canvas, layout, look, (left, top, left + width, top + height), bottom)
    across = round(look.size * look.pad * 1.4)
    drawn = []
    for item, lines in zip(layout.cells, layout.lines, strict=True):
        box = layout.box(item, left, top)
        written = []
        kind = _type(item.cell, look)
        accent = item.cell.header and item.row < bottom and look.header == "accent"
        ink = legible(look.theme.accent) if accent else look.theme.ink
        start = (box[1] + box[3] - len(lines) * look.line_height) / 2
        for number, line in enumerate(lines):
            y = start + (number + 0.5) * look.line_height
            if look.centred or (item.cell.header and item.cell.column_span > 1):
                ink_box = canvas.text((box[0] + box[2]) / 2, y, line, kind, ink, "centre", "middle")
            elif is_number(item.cell.text) or (item.cell.header and _numbers_below(layout, item)):
                ink_box = canvas.text(box[2] - across, y, line, kind, ink, "right", "middle")
            else:
                ink_box = canvas.text(box[0] + across, y, line, kind, ink, "left", "middle")
            written.append((line, ink_box))
        drawn.append(Drawn(item.cell, item.row, item.column, box, tuple(written)))
    return drawn


def _numbers_below(layout: Layout, header: Placed) -> bool:
    below = [item.cell.text for item in layout.cells if item.column == header.column and not item.cell.header]
    return header.row < _last_header_row(layout) and bool(below) and all(map(is_number, below))


def _last_header_row(layout: Layout) -> int:
    """The number of rows at the top that are headers all along."""
    body = [item.row for item in layout.cells if not item.cell.header]
    return min(body, default=0)


def _fills(canvas: Canvas, layout: Layout, look: TableLook, left: int, top: int, bottom: int) -> None:
    right = left + layout.columns[-1]
    if look.stripes and all(item.cell.row_span == 1 for item in layout.cells if item.row >= bottom):
        for row in range(bottom + 1, len(layout.rows) - 1, 2):
            canvas.rectangle((left, top + layout.rows[row], right, top + layout.rows[row + 1]), look.theme.fill)
    for item in layout.cells:
        if item.cell.header and look.header != "plain":
            colour: Colour = look.theme.accent if look.header == "accent" and item.row < bottom else look.theme.fill
            canvas.rectangle(layout.box(item, left, top), colour)


def _rules(canvas: Canvas, layout: Layout, look: TableLook, box: Box, bottom: int) -> None:
    line = look.theme.ink if look.lines == "book" else mixed(look.theme.line, look.theme.muted, 0.4)
    left, top, right, low = box
    if look.lines == "grid":
        for item in layout.cells:
            cell = layout.box(item, left, top)
            canvas.rectangle((cell[0], cell[1], cell[2] + 1, cell[3] + 1), None, line)
        return
    if look.lines == "level":
        for item in layout.cells:
            cell = layout.box(item, left, top)
            canvas.rule(cell[0], cell[3], cell[2], cell[3], line)
    if look.lines == "frame":
        canvas.rectangle((left, top, right + 1, low + 1), None, line)
    if look.lines == "book":
        canvas.rule(left, top, right, top, line, 2)
        canvas.rule(left, low - 1, right, low - 1, line, 2)
    if bottom and look.lines in ("frame", "book"):
        canvas.rule(left, top + layout.rows[bottom], right, top + layout.rows[bottom], line)
