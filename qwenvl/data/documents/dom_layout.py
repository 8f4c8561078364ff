"""A laid out web page cut into pages: where it is cut, and the lines and blocks of each.

Headings, lists, tables, code and pictures are what their elements say they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from qwenvl.data.documents.blocks import Block, Box, Cell, Rows
from qwenvl.data.documents.dom import INLINE, PICTURES, Dom, Element, Fragment
from qwenvl.data.documents.page import Line, Pixels, around, inside, scaled
from qwenvl.data.documents.text_lines import WIDE, normal

SAME_LINE = 0.5
GAP, BACK = 2.0, 1.0
"""Sizes of the font that a piece of a line stands behind the one before it at most, or before its end."""
LEAST_PAGE = 0.4
"""Part of a page's height that a cut may leave of it at least, to keep a table's row or a picture whole."""
WHOLE = 0.5
"""Part of a page's height up to which a row or a picture is kept whole."""
MIN_PICTURE = 16.0
"""Pixels below which a picture is an ornament."""
EMPTY_LINE = 1.7
"""Lines of code this many times as far apart as the closest ones have an empty line between them."""
RULED = {"style": "border-collapse: collapse; border: 1px solid"}


@dataclass(frozen=True, slots=True)
class DomLine:
    """A line and the fragments that it is made of; `ink` in pixels of the page that it stands on."""

    line: Line
    fragments: tuple[Fragment, ...]

    @property
    def owner(self) -> int:
        return self.fragments[0].owner

    @property
    def node(self) -> int:
        return self.fragments[0].node


def page_cuts(dom: Dom, height: float, limit: int) -> list[tuple[float, float]]:
    """(top, bottom) of each of the first `limit` pages. A cut goes through no line, nor, where possible, a row or a picture."""
    lines = [(fragment.box[1], fragment.box[3]) for fragment in dom.fragments]
    rest = [
        (one.box[1], one.box[3]) for one in dom.elements.values()
        if one.tag in ("tr", *PICTURES) and one.box[3] - one.box[1] <= WHOLE * height
    ]  # fmt: skip
    cuts: list[tuple[float, float]] = []
    top, end = 0.0, dom.size[1]
    while top < end and len(cuts) < limit:
        bottom = min(top + height, end)
        if bottom < end:
            near = [span for span in lines if top <= span[0] and span[0] < bottom < span[1]]
            least = top + LEAST_PAGE * height
            bottom = _cut(bottom, lines + rest, least) or (_cut(bottom, lines, least) if near else None) or bottom
        cuts.append((top, bottom))
        top = bottom
    return cuts


def _cut(bottom: float, spans: Sequence[tuple[float, float]], least: float) -> float | None:
    """The lowest place from `bottom` up to `least` that no span reaches across, in whole pixels."""
    here = float(int(bottom))
    crossed = sorted((span for span in spans if span[0] < bottom and span[1] > least), key=lambda span: -span[1])
    while here >= least:
        above = [span[0] for span in crossed if span[0] < here < span[1]]
        if not above:
            return here
        here = float(int(min(above)))
    return None


def lines_of_fragments(fragments: Sequence[Fragment]) -> Iterator[tuple[Fragment, ...]]:
    """Fragments that follow each other on one line of one element."""
    line: list[Fragment] = []
    for fragment in fragments:
        if line and not (fragment.owner == line[0].owner and _goes_on(line[-1], fragment)):
            yield tuple(line)
            line = []
        line.append(fragment)
    if line:
        yield tuple(line)


def _goes_on(before: Fragment, after: Fragment) -> bool:
    common = min(before.box[3], after.box[3]) - max(before.box[1], after.box[1])
    height = min(before.box[3] - before.box[1], after.box[3] - after.box[1])
    size = max(before.size, after.size)
    return common >= SAME_LINE * height and -BACK * size <= after.box[0] - before.box[2] <= GAP * size


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

    def text_block(self, kind: str, lines: Sequence[DomLine], attributes: dict[str, str] | None = None) -> Block:
        return Block(kind, self.boxed([line.line.box for line in lines]), said(lines), attributes=attributes or {})  # type: ignore[arg-type]

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
        return (
            [Block("list", around(boxes), children=tuple(items), attributes={"ordered": "true"} if ordered else {})]
            if boxes
            else []
        )

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
        """The cells of a table of data; nothing for one that only lays out a page."""
        role = self.dom.elements[number].attributes.get("role")
        rows = [list(self.below(row, "td", "th")) for row in self.below(number, "tr")]
        cells = [cell for row in rows for cell in row]
        layout = role in ("presentation", "none") or any(
            True for cell in cells for _ in self.below(cell, "table", "h1", "h2", "h3")
        )
        if layout or len(rows) < 2 or max(map(len, rows)) < 2:
            return ()
        made = [tuple(map(self.cell, row)) for row in rows if any(cell in self.alive for cell in row)]
        return tuple(row for row in made if any(cell.text for cell in row))

    def cell(self, number: int) -> Cell:
        element = self.dom.elements[number]
        over, deep = (_count(element.attributes.get(name, "")) for name in ("colspan", "rowspan"))
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
        if (
            element.tag not in PICTURES
            or not element.visible
            or any(one.number in found for one in list(dom.ancestors(number))[1:])
        ):
            continue
        left, top, right, bottom = element.box
        if min(right - left, bottom - top) >= MIN_PICTURE and inside(element.box, frame, 0.9):
            moved = (left - frame[0], top - frame[1], right - frame[0], bottom - frame[1])
            found[number] = moved
    return list(found.items())


def said(lines: Sequence[DomLine]) -> str:
    """Lines of running text as one, with the blanks that were collapsed where a line ends. Markers of a list are left out."""
    text = ""
    for index, line in enumerate(lines):
        if index and lines[index - 1].owner != line.owner and text:
            text += " "
        for fragment in line.fragments:
            if not fragment.marker:
                text += fragment.text + fragment.blank
        if (
            index + 1 < len(lines)
            and text
            and not text[-1].isspace()
            and not WIDE.match(text[-1])
            and _breaks(line, lines[index + 1])
        ):
            text += " "
    return " ".join(normal(text).split())


def _breaks(line: DomLine, after: DomLine) -> bool:
    """Whether a line ends by a break of the document, and not because it was full."""
    return line.fragments[-1].node != after.fragments[0].node


def _count(written: str) -> int:
    return max(int(written), 1) if written.isdecimal() else 1
