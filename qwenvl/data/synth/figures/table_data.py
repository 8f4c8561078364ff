"""What a table says, before it is drawn: numbers or records, with headers and names that span columns or rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from qwenvl.data.documents.blocks import Cell, Rows, table_rows
from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.figures.arithmetic import Matrix, shown
from qwenvl.data.synth.figures.fields import column
from qwenvl.data.synth.figures.figure import FigureSpec
from qwenvl.data.synth.figures.words import Group, book, draw_group, draw_topic, say
from qwenvl.data.synth.names import Language

TableKind = Literal["numbers", "records", "spanned columns", "spanned rows"]
HEADERS: dict[TableKind, int] = {"numbers": 1, "records": 1, "spanned columns": 2, "spanned rows": 1}
"""Rows of headers above the body."""


class TableSpec(FigureSpec):
    """What tables may be."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "table_qa", "table_reading", "table_json", "table_html", "document_parsing", "grounding", "point",
        "reading", "ocr", "ocr_spotting",
    )  # fmt: skip

    kinds: tuple[TableKind, ...] = ("numbers", "records", "records", "spanned columns", "spanned rows")
    """Each as likely; one named twice is drawn twice as often."""
    rows: tuple[int, int] = (3, 9)
    columns: tuple[int, int] = (2, 5)
    text_size: tuple[float, float] = (13, 20)
    """Font size in pixels."""
    width: int = Field(default=1000, ge=400)
    """Greatest width in pixels; longer texts are broken."""
    titled_share: float = Field(default=0.6, ge=0, le=1)
    dark_share: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _is_drawable(self) -> TableSpec:
        for name in ("rows", "columns", "text_size"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        if not self.kinds or self.rows[0] < 2 or self.columns[0] < 2:
            raise ValueError("kinds, rows, columns: name a kind, and two rows and columns at least")
        return self


@dataclass(frozen=True, slots=True)
class TableData:
    """What a table says. `names` of the body's rows, `row_noun` what one of them is; `matrix` is there for numbers."""

    kind: TableKind
    title: str
    row_noun: str
    rows: Rows
    names: tuple[str, ...]
    headers: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    """values[row][column] without the column of names; `headers` are those columns'."""
    matrix: Matrix | None = None
    summed: bool = False
    """The last row holds the sums of the others."""


def draw_table_data(rng: np.random.Generator, spec: TableSpec, language: Language) -> TableData:
    """A table's content."""
    kind = pick(rng, spec.kinds)
    if kind == "records":
        return _records(rng, spec, language)
    return _numbers(rng, spec, kind, language)


def _records(rng: np.random.Generator, spec: TableSpec, language: Language) -> TableData:
    table = pick(rng, book("fields")["lists"])
    columns = table["columns"][: max(whole(rng, *spec.columns), 2)]
    count = whole(rng, *spec.rows)
    if columns[0]["kind"] == "group":
        count = min(count, len(book("words")["groups"][columns[0]["of"]]["items"]))
    filled = [column(rng, entry, count, language) for entry in columns]
    headers = [say(entry["name"], language) for entry in columns]
    body = [list(row) for row in zip(*filled, strict=True)]
    return TableData(
        "records", say(table["title"], language), say(table["row"], language), table_rows([headers, *body]),
        tuple(filled[0]), tuple(headers[1:]), tuple(tuple(row[1:]) for row in body),
    )  # fmt: skip


def _numbers(rng: np.random.Generator, spec: TableSpec, kind: TableKind, language: Language) -> TableData:
    """A matrix with a header; with two lines of headers, or with the rows in two groups, where cells span."""
    topic = draw_topic(rng)
    count = whole(rng, *spec.rows)
    rows = draw_group(rng, pick(rng, topic["over"]), count, language)
    keys = [key for key in topic["by"] if key != rows.key] or ["regions"]
    columns = draw_group(rng, pick(rng, keys), max(whole(rng, *spec.columns), 2), language)
    low, high = topic["range"]
    unit = Decimal("0.1") if topic.get("mean") and rng.random() < 0.6 else Decimal(1)
    values = tuple(tuple(unit * whole(rng, int(low / unit), int(high / unit)) for _ in rows.items) for _ in columns.items)
    flows = not topic.get("mean")
    title = f"{say(topic['title'], language)} ({say(topic['unit'], language)})"
    matrix = Matrix(
        title, say(topic["unit"], language), rows, columns, values,
        additive=flows and (topic["flow"] or not rows.time), across=flows and (topic["flow"] or not columns.time),
    )  # fmt: skip
    written = tuple(tuple(str(values[c][r]) for c in range(len(columns.items))) for r in range(len(rows.items)))
    corner = rows.name.capitalize()
    if kind == "spanned columns":
        cells = _spanned_columns(columns, rows, written, corner)
    elif kind == "spanned rows":
        return _spanned_rows(rng, rows, columns, matrix, written, language)
    else:
        cells = table_rows([[corner, *columns.items], *([name, *row] for name, row in zip(rows.items, written, strict=True))], 1, 1)
        if matrix.additive and rng.random() < 0.35:
            sums = [shown(sum(column, Decimal(0))) for column in values]
            cells += table_rows([[say(book("words")["total"], language), *sums]], 0, 1)
    return TableData(
        kind, title, rows.name, cells, rows.items, columns.items, written, matrix, len(cells) - HEADERS[kind] > len(rows.items)
    )


def _spanned_columns(columns: Group, rows: Group, written: Sequence[Sequence[str]], corner: str) -> Rows:
    """Two lines of headers: what the columns are over their names; the corner spans both."""
    first = (Cell(corner, True, row_span=2), Cell(columns.name.capitalize(), True, column_span=len(columns.items)))
    second = tuple(Cell(name, True) for name in columns.items)
    return (first, second, *table_rows([[name, *row] for name, row in zip(rows.items, written, strict=True)], 0, 1))


def _spanned_rows(
    rng: np.random.Generator, rows: Group, columns: Group, matrix: Matrix, written: Sequence[Sequence[str]], language: Language
) -> TableData:
    """The rows in groups of two to four, whose name spans them; a row is called by both names."""
    above = draw_group(
        rng, next(key for key in ("years", "regions", "channels") if key not in (rows.key, columns.key)), 3, language
    )
    sizes: list[int] = []
    while sum(sizes) < len(rows.items):
        sizes.append(min(whole(rng, 2, 4), len(rows.items) - sum(sizes)))
    sizes = sizes[:3]
    header = (
        Cell(above.name.capitalize(), True),
        Cell(rows.name.capitalize(), True),
        *(Cell(name, True) for name in columns.items),
    )
    cells: list[tuple[Cell, ...]] = [header]
    names: list[str] = []
    for group, size in zip(above.items, sizes, strict=False):
        for place in range(size):
            item = rows.items[len(names)]
            opening = (Cell(group, True, row_span=size),) if place == 0 else ()
            cells.append((*opening, Cell(item, True), *(Cell(text) for text in written[len(names)])))
            names.append(f"{group} {item}")
    noun = f"{above.name} {rows.name}" if language == "en" else above.name + rows.name
    kept = len(names)
    group_of_both = Group(rows.key, noun, tuple(names), False)
    matrix = replace(matrix, rows=group_of_both, values=tuple(column[:kept] for column in matrix.values))
    return TableData(
        "spanned rows", matrix.title, noun, tuple(cells), tuple(names), columns.items, tuple(map(tuple, written[:kept])), matrix
    )
