"""QwenVL HTML: blocks of a page as the text that a model is taught to answer, with a place for every element.

Elements: section 2.2.1 of arXiv 2502.13923. Frame, blanks between elements and the `image` without words: the outputs printed in
cookbooks/document_parsing.ipynb of QwenLM/Qwen2.5-VL (2025-02-10), whose drawing function also knows headings and lists. The paper
closes `</html></body>`; that is a slip, and the cookbook's order is written here. `qwenvl_html_reader` reads it back.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qwenvl.data.documents.blocks import PICTURED, Block, Box, Cell, Kind, Rows
from qwenvl.types import CoordinatesPart, Part, Region, TextPart

OPENING, BETWEEN, CLOSING = "```html\n<html><body>\n", " \n ", " \n</body></html>\n```"

FORMATS: dict[Kind, str] = {"music sheet": "abc notation", "chemical formula": "smile"}
"""The paper's own words for the notations."""
WORDS_IN: dict[Kind, str] = {
    "formula": "div", "music sheet": "div", "chemical formula": "div", "image caption": "p", "image ocr": "p", "chart": "p",
}  # fmt: skip
"""The element beside the picture that holds what it says; a chart with data has a table instead."""

Piece = str | Box


def document_parts(blocks: Sequence[Block], where: str, image: int = 0) -> tuple[Part, ...]:
    """The answer of document parsing: text, and the coordinates of every block that has a box.

    `where` names the sample in errors, `image` is the picture's number in its conversation. Raises RegionError for a box that is
    out of range or empty.
    """
    parts: list[Part] = []
    words = ""
    for piece in _Writer().document(blocks):
        if isinstance(piece, str):
            words += piece
        else:
            parts += [TextPart(words), CoordinatesPart(Region.box(*piece, image=image).check(where))]
            words = ""
    return (*parts, TextPart(words))


@dataclass(slots=True)
class _Writer:
    """Writes one document as pieces: text, and boxes that stand where their numbers go."""

    tables: int = 0

    def document(self, blocks: Sequence[Block]) -> Iterator[Piece]:
        yield OPENING
        for number, block in enumerate(blocks):
            if number:
                yield BETWEEN
            yield from self.block(block)
        yield CLOSING

    def block(self, block: Block) -> Iterator[Piece]:
        if block.kind == "heading":
            yield from self.element(f"h{block.attributes.get('level', '2')}", block)
        elif block.kind == "paragraph":
            yield from self.element("p", block)
        elif block.kind == "list":
            yield from self.element("ol" if block.attributes.get("ordered") == "true" else "ul", block)
        elif block.kind == "item":
            yield from self.element("li", block)
        elif block.kind == "table":
            yield from self.table(block)
        elif block.kind == "code":
            yield from self.code(block)
        else:
            yield from self.picture(block)

    def element(self, tag: str, block: Block) -> Iterator[Piece]:
        yield from _open(tag, block.box)
        yield _escaped(block.text)
        for child in block.children:
            yield from self.block(child)
        yield f"</{tag}>"

    def table(self, block: Block) -> Iterator[Piece]:
        """`attributes["style"]`: declarations of the table, written in a style element of their own as in the paper."""
        self.tables += 1
        name = f"table{self.tables}"
        if style := block.attributes.get("style"):
            yield f"<style>.{name} {{{style}}}</style>"
        yield from _open("table", block.box, f' class="{name}"')
        yield f"{_rows(block.rows)}</table>"

    def code(self, block: Block) -> Iterator[Piece]:
        """Code has no element in the paper; HTML's own keeps its lines, and names the language as HTML advises."""
        language = block.attributes.get("language")
        yield from _open("pre", block.box)
        yield f'<code class="language-{_escaped(language)}">' if language else "<code>"
        yield f"{_escaped(block.text)}</code></pre>"

    def picture(self, block: Block) -> Iterator[Piece]:
        assert block.kind == "image" or block.kind in PICTURED
        notation = f' format="{FORMATS[block.kind]}"' if block.kind in FORMATS else ""
        yield from _open("div", block.box, before=f' class="{block.kind}"{notation}')
        yield from _open("img", block.picture or block.box, end="/>")
        if block.kind == "chart" and block.rows:
            yield f"<table>{_rows(block.rows)}</table>"
        elif block.text and (tag := WORDS_IN.get(block.kind)):
            yield f"<{tag}>{_escaped(block.text)}</{tag}>"
        for child in block.children:
            yield from self.block(child)
        yield "</div>"


def _open(tag: str, box: Box | None, after: str = "", before: str = "", end: str = ">") -> Iterator[Piece]:
    """An opening tag with the box, if there is one, between the attributes `before` and `after`."""
    yield f"<{tag}{before}"
    if box is not None:
        yield ' data-bbox="'
        yield box
        yield '"'
    yield f"{after}{end}"


def _rows(rows: Rows) -> str:
    return "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)


def _cell(cell: Cell) -> str:
    tag = "th" if cell.header else "td"
    spans = "".join(
        f' {name}="{count}"' for name, count in (("colspan", cell.column_span), ("rowspan", cell.row_span)) if count > 1
    )
    return f"<{tag}{spans}>{_escaped(cell.text)}</{tag}>"


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)
