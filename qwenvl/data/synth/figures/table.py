"""Tables: of numbers, of records, with headers and names that span columns or rows; drawn in many styles, and asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from qwenvl.data.documents.blocks import Block, Cell, Rows
from qwenvl.data.documents.qwenvl_html import document_parts
from qwenvl.data.formats import json_text, read_text, spot_text
from qwenvl.data.synth.draws import between, draw_language, whole
from qwenvl.data.synth.figures import arithmetic
from qwenvl.data.synth.figures.asking import Ask, Samples, put, voice_of
from qwenvl.data.synth.figures.canvas import Canvas, union
from qwenvl.data.synth.figures.figure import Element, Figure, generator
from qwenvl.data.synth.figures.lettering import draw_family
from qwenvl.data.synth.figures.style import draw_theme
from qwenvl.data.synth.figures.table_data import HEADERS, TableData, TableSpec, draw_table_data
from qwenvl.data.synth.figures.table_layout import Drawn, draw_table, draw_table_look, expanded, is_number, lay_out
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import Voice
from qwenvl.types import Sample

STREAM = 2

_BEFORE_SUMS = ("above", "mean", "span", "highest", "second", "total")
"""Questions whose answer would not be the same if a row of sums counted as one of the rows."""


@dataclass(frozen=True, slots=True)
class Table(Figure):
    """A table. Elements: "title", "cell" (the whole cell's box) and "line" (a line of text, its ink)."""

    source: ClassVar[str] = "synth/table"

    data: TableData
    rows: Rows
    """With boxes in [0, 1] of the picture."""

    def records(self) -> list[dict[str, str]]:
        """One object per row: what stands in each column, under the name right above it."""
        headers, *body = expanded(self.rows)[HEADERS[self.data.kind] - 1 :]
        return [dict(zip(headers, row, strict=True)) for row in body]

    def blocks(self) -> list[Block]:
        """The title, if there is one, and the table, as a page has them."""
        titles = self.of_kind("title")
        cells = union(*(element.box for element in self.of_kind("cell")))
        heads = [Block("paragraph", self.share(title.box), title.text) for title in titles]
        return [*heads, Block("table", self.share(cells), rows=self.rows)]


def make_table(spec: TableSpec, seed: int, index: int) -> Table:
    """Table number `index` of a stream. The same arguments give the same bytes, in any order and any process."""
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    data = draw_table_data(rng, spec, language)
    theme, family = draw_theme(rng, spec.dark_share), draw_family(rng)
    size = round(between(rng, *spec.text_size))
    look = draw_table_look(rng, theme, family, size)
    layout = lay_out(data.rows, look, spec.width)
    title = family.strong(size * 1.15)
    margin = whole(rng, 10, 30)
    above = round(title.line_height * 1.3) if rng.random() < spec.titled_share else 0
    width = max(layout.size[0], round(title.width(data.title)) if above else 0) + 2 * margin
    canvas = Canvas.blank(width, layout.size[1] + above + 2 * margin, theme.ground)
    elements = []
    left = (width - layout.size[0]) // 2
    if above:
        x = width / 2 if look.centred else left if layout.size[0] >= title.width(data.title) else margin
        box = canvas.text(x, margin, data.title, title, theme.ink, "centre" if look.centred else "left")
        elements.append(Element("title", box, data.title, "the title" if language == "en" else "标题"))
    drawn = draw_table(canvas, layout, look, left, margin + above)
    elements += [element for cell in drawn for element in _elements(cell, data, language)]
    rows = with_boxes(data.rows, drawn, canvas.image.size)
    return Table(canvas.image, tuple(elements), language, seed, index, data, rows)


def _elements(drawn: Drawn, data: TableData, language: Language) -> list[Element]:
    """The cell, with a name where it is one of the body, and the lines in it."""
    row, column = drawn.row - HEADERS[data.kind], drawn.column - (_columns(data) - len(data.headers))
    name = ""
    if 0 <= row < len(data.names) and column >= 0:
        of, header = data.names[row], data.headers[column]
        name = f"the cell “{header}” of “{of}”" if language == "en" else f"“{of}”的“{header}”单元格"
    cell = Element("cell", drawn.box, drawn.cell.text, name)
    return [cell, *(Element("line", box, text) for text, box in drawn.lines)]


def _columns(data: TableData) -> int:
    return sum(cell.column_span for cell in data.rows[0])


def with_boxes(rows: Rows, drawn: Sequence[Drawn], size: tuple[int, int]) -> Rows:
    """The rows with each cell's box in [0, 1]. `drawn` are the same cells in the same order."""
    boxes = iter(drawn)

    def placed(cell: Cell) -> Cell:
        left, top, right, bottom = next(boxes).box
        return replace(cell, box=(left / size[0], top / size[1], right / size[0], bottom / size[1]))

    return tuple(tuple(placed(cell) for cell in row) for row in rows)


def samples(spec: TableSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(table_samples(make_table(spec, seed, index), spec.held_out))


def table_samples(table: Table, held_out: bool = False, each: int = 3) -> list[Sample]:
    """What is asked about a table: its numbers, its cells, its text, its records. `each`: at most so many questions of one task."""
    voice = voice_of(table, held_out)
    made = Samples(table, voice)
    if table.data.matrix:
        asks = arithmetic.asks(table.data.matrix, voice)
        made.ask("table_qa", [ask for ask in asks if not (table.data.summed and ask.kind in _BEFORE_SUMS)], 3 * each)
    else:
        made.ask("table_qa", _lookups(table.data, voice), 2 * each)
    made.ask("table_reading", _structure(table, voice), 1)
    made.find(table.of_kind("cell", "title"), each, points=1)
    made.name([element for element in table.of_kind("cell") if element.text], each, written=True)
    made.say("table_html", put(voice, "table_html"), document_parts([Block("table", rows=table.rows)], table.source))
    made.parse(table.blocks())
    records: list[dict[str, Any]] = table.records()
    made.say("table_json", put(voice, "table_json"), json_text(records), value=records)
    lines = [element for element in table.elements if element.kind in ("title", "line")]
    made.take("ocr", read_text(table.image, "\n".join(_lines_of_text(table)), table.language))
    made.take("ocr_spotting", spot_text(table.image, [(line.text, table.region(line.box)) for line in lines], table.language))
    return made.found


def _lines_of_text(table: Table) -> list[str]:
    """The text row by row, cells apart by a space."""
    title = [element.text for element in table.of_kind("title")]
    return [*title, *(" ".join(cell.text for cell in row) for row in table.rows)]


def _lookups(data: TableData, voice: Voice) -> list[Ask]:
    """What stands where in a table of records, and which row it is that has something."""
    found = []
    for c, header in enumerate(data.headers):
        entries = [row[c] for row in data.values]
        r = voice.pick(range(len(entries)))
        slots = {"header": header, "name": data.names[r], "noun": data.row_noun, "entry": entries[r]}
        found.append(Ask("cell", slots, entries[r]))
        if entries.count(entries[r]) == 1:
            found.append(Ask("row_of", slots, data.names[r]))
        elif not all(map(is_number, entries)):
            found.append(Ask("count_of", slots, str(entries.count(entries[r]))))
    return found


def _structure(table: Table, voice: Voice) -> list[Ask]:
    rows = Ask("row_count", {}, str(len(table.data.rows) - HEADERS[table.data.kind]))
    columns = Ask("table_column_count", {}, str(_columns(table.data)))
    titled = [Ask("title", {}, table.data.title)] if table.of_kind("title") else []
    return [rows, columns, *titled]
