"""Tables of PDF pages from the rules that are drawn: grids, and rows between horizontal rules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from qwenvl.data.documents.blocks import Cell, Rows
from qwenvl.data.documents.page import Line, Pixels, around, scaled
from qwenvl.data.documents.pdf_graphics import Graphics, clusters
from qwenvl.data.documents.text_blocks import joined

CLOSE = 4.0
"""Pixels within which two rules are one."""
COVERED = 0.6
"""Part of a cell's side that a rule has to cover to close it."""
FULL = 0.4
"""Part of a table's cells that hold text at least; a drawing of boxes holds less."""
MAX_CELLS = 2000
COLUMN_GAP = 0.8
"""Parts of the font's size that columns without rules between them are apart."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table in pixels of the page, and the indices of the lines that are in it."""

    box: Pixels
    rows: Rows
    lines: tuple[int, ...]
    ruled: bool


def find_tables(lines: Sequence[Line], graphics: Graphics, size: tuple[int, int]) -> list[Table]:
    """All tables of a page of `size`."""
    tables: list[Table] = []
    groups, down = clusters([*graphics.across, *graphics.down], CLOSE), set(graphics.down)
    for group in groups:
        table = _grid(lines, set(group), graphics, size)
        tables += [table] if table else []
    taken = {index for table in tables for index in table.lines}
    # Two framed texts, one above the other, are no table: each frame's rules are looked at by themselves.
    frames = [[rule for rule in group if rule not in down] for group in groups if down.intersection(group)]
    alone = [rule for group in groups if not down.intersection(group) for rule in group]
    for rules in (stack for part in (alone, *frames) for stack in _stacks(part)):
        table = _between(lines, rules, taken, size)
        if table is not None:
            tables.append(table)
            taken |= set(table.lines)
    return tables


def _grid(lines: Sequence[Line], rules: set[Pixels], graphics: Graphics, size: tuple[int, int]) -> Table | None:
    """A table with rules between its rows and between its columns; it may be open to the left and right."""
    across, down = [rule for rule in graphics.across if rule in rules], [rule for rule in graphics.down if rule in rules]
    if not across or not down:
        return None
    whole = around(list(rules))
    ys = _places([(rule[1] + rule[3]) / 2 for rule in across])
    xs = _places([(rule[0] + rule[2]) / 2 for rule in down] + [whole[0], whole[2]])
    if len(xs) < 3 or len(ys) < 3 or (len(xs) - 1) * (len(ys) - 1) > MAX_CELLS:
        return None
    cells: dict[tuple[int, int], list[int]] = {}
    for index, line in enumerate(lines):
        left, top, right, bottom = line.box
        x, y = (left + right) / 2, (top + bottom) / 2
        if xs[0] < x < xs[-1] and ys[0] < y < ys[-1]:
            cells.setdefault((bisect_right(ys, y) - 1, bisect_right(xs, x) - 1), []).append(index)
    spans = _spans(xs, ys, across, down)
    filled = {place: [index for inner in _area(place, span) for index in cells.get(inner, [])] for place, span in spans.items()}
    if sum(bool(found) for found in filled.values()) < FULL * len(spans):
        return None
    rows: list[tuple[Cell, ...]] = []
    for r in range(len(ys) - 1):
        row = []
        for c in range(len(xs) - 1):
            if (r, c) in spans:
                down_by, over = spans[r, c]
                box = scaled((xs[c], ys[r], xs[c + over], ys[r + down_by]), size)
                found = [lines[index] for index in filled[r, c]]
                row.append(Cell(joined(found), _bold(found), over, down_by, box))
        rows.append(tuple(row))
    used = tuple(sorted(index for found in cells.values() for index in found))
    return Table((xs[0], ys[0], xs[-1], ys[-1]), _header(rows), used, True)


def _places(values: Sequence[float]) -> list[float]:
    """Where rules stand: values that are close to each other as one."""
    places: list[list[float]] = []
    for value in sorted(values):
        if places and value - places[-1][-1] <= CLOSE:
            places[-1].append(value)
        else:
            places.append([value])
    return [sum(group) / len(group) for group in places]


def _spans(
    xs: list[float], ys: list[float], across: Sequence[Pixels], down: Sequence[Pixels]
) -> dict[tuple[int, int], tuple[int, int]]:
    """The first (row, column) of every cell -> how many rows and columns it has."""
    wall = [[_covered(down, 0, xs[c + 1], ys[r], ys[r + 1]) for c in range(len(xs) - 2)] for r in range(len(ys) - 1)]
    floor = [[_covered(across, 1, ys[r + 1], xs[c], xs[c + 1]) for c in range(len(xs) - 1)] for r in range(len(ys) - 2)]
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    taken: set[tuple[int, int]] = set()
    for r in range(len(ys) - 1):
        for c in range(len(xs) - 1):
            if (r, c) in taken:
                continue
            over = 1
            while c + over < len(xs) - 1 and not wall[r][c + over - 1] and (r, c + over) not in taken:
                over += 1
            deep = 1
            while r + deep < len(ys) - 1 and not any(floor[r + deep - 1][c : c + over]) and (r + deep, c) not in taken:
                deep += 1
            spans[r, c] = (deep, over)
            taken |= set(_area((r, c), (deep, over)))
    return spans


def _area(place: tuple[int, int], span: tuple[int, int]) -> list[tuple[int, int]]:
    return [(place[0] + r, place[1] + c) for r in range(span[0]) for c in range(span[1])]


def _covered(rules: Sequence[Pixels], axis: int, place: float, start: float, end: float) -> bool:
    """Whether rules at `place` on one axis cover most of [start, end] on the other."""
    other = 1 - axis
    near = [rule for rule in rules if abs((rule[axis] + rule[axis + 2]) / 2 - place) <= CLOSE]
    covered = sum(max(min(rule[other + 2], end) - max(rule[other], start), 0.0) for rule in near)
    return covered >= COVERED * (end - start)


def _stacks(across: Sequence[Pixels]) -> list[list[Pixels]]:
    """Horizontal rules of one length, each above the next, three at least."""
    stacks: list[list[Pixels]] = []
    for rule in sorted(across, key=lambda rule: rule[1]):
        for stack in stacks:
            if abs(stack[0][0] - rule[0]) <= CLOSE and abs(stack[0][2] - rule[2]) <= CLOSE:
                stack.append(rule)
                break
        else:
            stacks.append([rule])
    return [stack for stack in stacks if len(stack) >= 3]


def _between(lines: Sequence[Line], rules: list[Pixels], taken: set[int], size: tuple[int, int]) -> Table | None:
    """A table with rules above and below its rows alone: columns are where free strips part all of its lines."""
    box = around(rules)
    inner = [
        index for index, line in enumerate(lines)
        if index not in taken and box[0] - CLOSE <= line.box[0] and line.box[2] <= box[2] + CLOSE
        and box[1] < (line.box[1] + line.box[3]) / 2 < box[3]
    ]  # fmt: skip
    columns = _strips([lines[index] for index in inner])
    rows = _lines_in_rows(lines, inner, columns, [(rule[1] + rule[3]) / 2 for rule in rules])
    if len(columns) < 2 or len(rows) < 2 or sum(bool(cell) for row in rows for cell in row) < FULL * len(columns) * len(rows):
        return None
    filled = [[[lines[index] for index in cell] for cell in row] for row in rows]
    made = [tuple(Cell(joined(cell), _bold(cell)) for cell in row) for row in filled]
    return Table(box, _header(made), tuple(inner), False)


def _strips(lines: Sequence[Line]) -> list[float]:
    """Left edges of columns: where a line begins with nothing above or below reaching across."""
    starts: list[float] = []
    reach = float("-inf")
    for line in sorted(lines, key=lambda line: line.box[0]):
        if line.box[0] - reach > COLUMN_GAP * line.size:
            starts.append(line.box[0])
        reach = max(reach, line.box[2])
    return starts


def _lines_in_rows(lines: Sequence[Line], inner: Sequence[int], columns: list[float], rules: list[float]) -> list[list[list[int]]]:
    """Lines by row and column. A row begins below a rule, and wherever the first column has a line."""
    rows: list[list[list[int]]] = []
    last = (-1, float("-inf"))
    for index in sorted(inner, key=lambda index: (lines[index].box[1] + lines[index].box[3], lines[index].box[0])):
        left, top, _, bottom = lines[index].box
        middle = (top + bottom) / 2
        column, band = bisect_right(columns, left + 1) - 1, bisect_right(rules, middle)
        if band != last[0] or (column == 0 and top > last[1]):
            rows.append([[] for _ in columns])
            last = (band, bottom)
        rows[-1][column].append(index)
    return rows


def _bold(lines: Sequence[Line]) -> bool:
    return bool(lines) and all(line.bold for line in lines)


def _header(rows: Sequence[tuple[Cell, ...]]) -> Rows:
    """Bold cells are headers in a row or column of nothing else."""
    whole = [all(cell.header or not cell.text for cell in row) and any(cell.text for cell in row) for row in rows]
    first = all(row and (row[0].header or not row[0].text) for row in rows)
    return tuple(
        tuple(
            Cell(cell.text, cell.header and (whole[r] or (first and c == 0)), cell.column_span, cell.row_span, cell.box)
            for c, cell in enumerate(row)
        )
        for r, row in enumerate(rows)
    )  # fmt: skip
