"""The blocks of a page that a laid out web page is cut into.

Headings, lists, tables, code and pictures are what their elements say they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

from qwenvl.data.documents.blocks import Block, Box, Cell, Kind, Rows, span
from qwenvl.data.documents.dom import INLINE, PICTURES, Dom, Element
from qwenvl.data.documents.dom_lines import DomLine, said
from qwenvl.data.documents.page import Pixels, around, inside, scaled, sides
from qwenvl.data.documents.text_lines import normal

MIN_PICTURE = 16.0
"""Pixels below which a picture is an ornament."""
EMPTY_LINE = 1.7
"""Lines of code this many times as far apart as the closest ones have an empty line between them."""
RULED = {"style": "border-collapse: collapse; border: 1px solid"}


def page_blocks(dom: Dom, lines: Sequence[DomLine], pictures: Sequence[tuple[int, Pixels]], frame: Pixels) -> list[Block]:
    """The blocks of one page. `pictures`: numbers of elements and their boxes on the page; `frame`: its box in the whole."""
    return _Builder(dom, lines, dict(pictures), frame).flow(min(dom.elements, default=-1))


class _Builder:
    """Walks through the elements that have something on the page."""

    def __init__(self, dom: Dom, lines: Sequence[DomLine], pictures: dict[int, Pixels], frame: Pixels) -> None:
        self.dom, self.pictures, self.frame = dom, pictures, frame
        self.size = (round(frame[2] - frame[0]), round(frame[3] - frame[1]))
        self.lines: dict[int, list[DomLine]] = {}
        for line in lines:
            self.lines.setdefault(line.owner, []).append(line)
        ends = [*self.lines, *pictures]
        self.alive = {one.number for end in ends for one in dom.ancestors(end)}

    @cached_property
    def written(self) -> set[int]:
        """Elements of the whole document with text in them."""
        owners = {one.owner for one in self.dom.fragments if one.text.strip()}
        return {one.number for owner in owners for one in self.dom.ancestors(owner)}

    def flow(self, number: int) -> list[Block]:
        """What is in an element: its own lines as paragraphs, and the elements between them."""
        blocks: list[Block] = []
        run: list[DomLine] = []
        for item in self.items(number):
            if isinstance(item, DomLine):
                run.append(item)
                continue
            blocks += self.paragraph(run)
            run = []
            blocks += self.element(item)
        return blocks + self.paragraph(run)

    def items(self, number: int) -> list[DomLine | Element]:
        """Own lines and inner elements in the order of the document."""
        own: list[tuple[int, DomLine | Element]] = [(line.node, line) for line in self.lines.get(number, [])]
        return [item for _, item in sorted([*own, *((one.number, one) for one in self.inner(number))], key=lambda pair: pair[0])]

    def inner(self, number: int) -> Iterator[Element]:
        """Elements with lines of their own, and pictures, that stand in an element directly or in its inline parts."""
        for child in self.dom.children.get(number, []):
            if child in self.alive:
                element = self.dom.elements[child]
                if child in self.pictures or element.display not in INLINE or element.tag in PICTURES or element.tag == "math":
                    yield element
                else:
                    yield from self.inner(child)

    def element(self, element: Element) -> list[Block]:
        number, tag = element.number, element.tag
        if number in self.pictures:
            return [Block("image", self.boxed([self.pictures[number]]))]
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            return [self.text_block("heading", self.all_lines(number), {"level": tag[1]}), *self.all_pictures(number)]
        if tag in ("ul", "ol", "menu"):
            return self.list_block(number, tag == "ol")
        if tag == "pre":
            return self.code(number)
        if tag == "figure" and (caption := next((one for one in self.inner(number) if one.tag == "figcaption"), None)):
            return self.figure(number, caption.number)
        if tag == "math" and element.attributes.get("alttext"):
            box = self.boxed([line.line.box for line in self.all_lines(number)])
            return [Block("formula", box, element.attributes["alttext"])]
        if tag == "table" and (rows := self.rows(number)):
            ruled = any(self.dom.elements[cell].border > 0 for cell in self.cells(number))
            return [Block("table", self.clipped(element.box), rows=rows, attributes=RULED if ruled else {})]
        return self.flow(number)

    def paragraph(self, lines: Sequence[DomLine]) -> list[Block]:
        return [self.text_block("paragraph", lines)] if lines else []

    def text_block(self, kind: Kind, lines: Sequence[DomLine], attributes: dict[str, str] | None = None) -> Block:
        return Block(kind, self.boxed([line.line.box for line in lines]), said(lines), attributes=attributes or {})

    def list_block(self, number: int, ordered: bool) -> list[Block]:
        items: list[Block] = []
        for element in self.inner(number):
            markers = "".join(one.text for line in self.all_lines(element.number) for one in line.fragments[:1] if one.marker)
            inner = self.flow(element.number)
            first = inner[0] if inner and inner[0].kind == "paragraph" else None
            text = first.text if first else ""
            label = normal(markers.split(" ")[0]).strip()
            if ordered and label and label.rstrip(".") != str(len(items) + 1):
                text = f"{label} {text}".strip()
            boxes = [block.box for block in inner if block.box is not None]
            items.append(Block("item", around(boxes) if boxes else None, text, children=tuple(inner[1:] if first else inner)))
        boxes = [item.box for item in items if item.box is not None]
        attributes = {"ordered": "true"} if ordered else {}
        return [Block("list", around(boxes), children=tuple(items), attributes=attributes)] if boxes else []

    def code(self, number: int) -> list[Block]:
        lines = self.all_lines(number)
        tops = [line.line.box[1] for line in lines]
        pitch = min((b - a for a, b in pairwise(tops) if b - a > 2), default=0.0)
        text = ""
        for index, line in enumerate(lines):
            apart = tops[index] - tops[index - 1] if index else 0.0
            text += "\n" * (1 + (apart > EMPTY_LINE * pitch > 0)) if index and apart > 2 else " " if index else ""
            text += "".join(fragment.text for fragment in line.fragments).replace("\xa0", " ").rstrip()
        box = self.boxed([line.line.box for line in lines])
        return [*([Block("code", box, text)] if lines else []), *self.all_pictures(number)]

    def figure(self, number: int, caption: int) -> list[Block]:
        lines, pictures = self.all_lines(caption), self.all_pictures(number)
        others = [line for line in self.all_lines(number) if line not in lines]
        if len(pictures) != 1 or others or not lines:
            return self.flow(number)
        picture = pictures[0].box
        assert picture is not None
        box = around([picture, *([block] if (block := self.boxed([line.line.box for line in lines])) else [])])
        return [Block("image caption", box, said(lines), picture=picture)]

    def rows(self, number: int) -> Rows:
        """The cells of a table of data; nothing for one that only lays out a page, such as a note with a picture beside it."""
        role = self.dom.elements[number].attributes.get("role")
        rows = [list(self.below(row, "td", "th")) for row in self.below(number, "tr")]
        cells = [cell for row in rows for cell in row]
        inner = [found for cell in cells for found in self.below(cell, "table", "h1", "h2", "h3")]
        side_by_side = any(sum(cell in self.written for cell in row) > 1 for row in rows)
        if role in ("presentation", "none") or inner or len(rows) < 2 or not side_by_side:
            return ()
        made = [tuple(map(self.cell, row)) for row in rows if any(cell in self.alive for cell in row)]
        return tuple(row for row in made if any(cell.text for cell in row))

    def cell(self, number: int) -> Cell:
        element = self.dom.elements[number]
        over, deep = (span(element.attributes.get(name, "")) for name in ("colspan", "rowspan"))
        return Cell(said(self.all_lines(number)), element.tag == "th", over, deep, self.clipped(element.box))

    def cells(self, number: int) -> list[int]:
        return [cell for row in self.below(number, "tr") for cell in self.below(row, "td", "th")]

    def below(self, number: int, *tags: str) -> Iterator[int]:
        """Elements of these names inside an element, but not inside one of them."""
        for child in self.dom.children.get(number, []):
            if self.dom.elements[child].tag in tags:
                yield child
            else:
                yield from self.below(child, *tags)

    def all_lines(self, number: int) -> list[DomLine]:
        """All lines in an element, in order."""
        found = list(self.lines.get(number, []))
        for child in self.dom.children.get(number, []):
            if child in self.alive:
                found += self.all_lines(child)
        return sorted(found, key=lambda line: line.node)

    def all_pictures(self, number: int) -> list[Block]:
        found = []
        for child in self.dom.children.get(number, []):
            if child in self.pictures:
                found.append(Block("image", self.boxed([self.pictures[child]])))
            elif child in self.alive:
                found += self.all_pictures(child)
        return found

    def boxed(self, boxes: Sequence[Pixels]) -> Box | None:
        return scaled(around(boxes), self.size) if boxes else None

    def clipped(self, box: Pixels) -> Box:
        """A box in the whole page as one in this page."""
        left, top = self.frame[:2]
        return scaled((box[0] - left, box[1] - top, box[2] - left, box[3] - top), self.size)


def visible_pictures(dom: Dom, frame: Pixels) -> list[tuple[int, Pixels]]:
    """Pictures on a page, by number and box in its pixels: the outermost of those in each other, most of each on the page."""
    found: dict[int, Pixels] = {}
    for number, element in dom.elements.items():
        if element.tag in PICTURES and element.visible and not any(one.number in found for one in dom.ancestors(number)):
            left, top, right, bottom = element.box
            if min(sides(element.box)) >= MIN_PICTURE and inside(element.box, frame, 0.9):
                found[number] = (left - frame[0], top - frame[1], right - frame[0], bottom - frame[1])
    return list(found.items())
