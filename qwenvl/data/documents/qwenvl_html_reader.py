"""QwenVL HTML as models write it, back to a tree of blocks. Any text is read: what is no element is passed over.

Models stray: fences and closing tags are missing, answers end in the middle, boxes are swapped or leave the picture, elements have
other names than the paper's (`div class="table"`, `formula.machine_printed`, `figure`). All of that is read for what it means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from qwenvl.data.documents.blocks import PICTURED, Block, Box, Cell, Kind, Rows, span
from qwenvl.processing.markup_style import Frame

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
STYLE_RULE = re.compile(r"\.?(table[\w-]*)\s*\{([^}]*)\}")
AROUND = re.compile(r"```(?:html)?|<\|[^<>|]*\|>|</?[a-z][^<>]*$", re.IGNORECASE)
"""What is no part of a document: fences, special tokens, and a tag in which the answer ends."""

VOID = frozenset({"img", "br", "hr", "input", "meta", "link", "col", "wbr", "area", "source"})
CLOSES = {"li": {"li"}, "tr": {"tr", "td", "th"}, "td": {"td", "th"}, "th": {"td", "th"}, "p": {"p"}}
"""An opening tag ends an element of these that is still open (HTML Living Standard, 13.1.2.4, optional tags)."""
KEEPS_OPEN = frozenset({"table", "ul", "ol", "div", "body"})
"""Elements that such an end does not go beyond."""
HEADINGS = {f"h{level}": str(level) for level in range(1, 7)}
GROUPS = frozenset({"html", "body", "section", "article", "main", "header", "footer", "nav", "thead", "tbody", "tfoot"})
"""Elements without a meaning of their own: what is in them counts."""
CLASSES: dict[str, Kind] = {
    "image caption": "image caption", "image ocr": "image ocr", "music sheet": "music sheet",
    "chemical formula": "chemical formula", "chart": "chart", "formula": "formula", "image": "image", "figure": "image",
    "table": "table", "code": "code",
}  # fmt: skip
"""Words that a div's class begins with -> its kind; the longer ones first."""


@dataclass(slots=True)
class _Node:
    """An element, its attributes and what is in it."""

    tag: str
    attributes: dict[str, str]
    children: list[_Node | str] = field(default_factory=list)

    def elements(self, *tags: str) -> Iterator[_Node]:
        """Elements of these names inside this one, but not in a table inside it."""
        for child in self.children:
            if isinstance(child, _Node):
                if child.tag in tags:
                    yield child
                elif child.tag != "table":
                    yield from child.elements(*tags)

    def text(self, *without: str) -> str:
        """The words in it, but for those in elements of these names."""
        pieces = []
        for child in self.children:
            if isinstance(child, str):
                pieces.append(child)
            elif child.tag == "br":
                pieces.append("\n")
            elif child.tag not in without:
                pieces.append(child.text(*without))
        return "".join(pieces)


class _TreeBuilder(HTMLParser):
    """Elements of any text as a tree; nothing is an error."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = _Node("body", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for back, node in enumerate(reversed(self._open)):
            if node.tag in CLOSES.get(tag, ()):
                del self._open[-1 - back :]
                break
            if node.tag in KEEPS_OPEN:
                break
        node = _Node(tag, {name: value or "" for name, value in attributes})
        self._open[-1].children.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        for back, node in enumerate(reversed(self._open)):
            if node.tag == tag and node is not self.root:
                del self._open[-1 - back :]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def read_document(text: str, frame: Frame) -> tuple[Block, ...]:
    """The blocks of a model's answer. `frame` is the (width, height) that its boxes are given in: the resized picture's, or
    (1000, 1000) for markup with a scale of 1000. A box with too few numbers or without area is None."""
    builder = _TreeBuilder()
    builder.feed(AROUND.sub("", text))
    builder.close()
    return tuple(_Reader(frame, builder.root).blocks(builder.root))


class _Reader:
    def __init__(self, frame: Frame, root: _Node) -> None:
        self.frame = frame
        sheets = "".join(node.text() for node in root.elements("style"))
        self.styles = {name: declarations.strip() for name, declarations in STYLE_RULE.findall(sheets)}

    def blocks(self, node: _Node) -> Iterator[Block]:
        """The blocks in an element. Bare words between elements are a paragraph without a box."""
        for child in node.children:
            if isinstance(child, str):
                if words := _joined(child):
                    yield Block("paragraph", text=words)
            elif child.tag in GROUPS and "data-bbox" not in child.attributes:
                yield from self.blocks(child)
            elif child.tag != "style":
                yield from self.block(child)

    def block(self, node: _Node) -> Iterator[Block]:
        box = self.box(node)
        if node.tag in HEADINGS:
            yield Block("heading", box, _joined(node.text()), attributes={"level": HEADINGS[node.tag]})
        elif node.tag in ("ul", "ol"):
            ordered = {"ordered": "true"} if node.tag == "ol" else {}
            yield Block("list", box, children=tuple(self.items(node)), attributes=ordered)
        elif node.tag == "table":
            style = self.styles.get(node.attributes.get("class", ""))
            yield Block("table", box, rows=_rows(node), attributes={"style": style} if style else {})
        elif node.tag == "pre":
            names = [name for code in node.elements("code") for name in code.attributes.get("class", "").split()]
            language = next((name.removeprefix("language-") for name in names if name.startswith("language-")), None)
            yield Block("code", box, node.text().strip("\n"), attributes={"language": language} if language else {})
        elif node.tag == "img":
            yield Block("image", box)
        elif (kind := _kind(node)) is not None:
            yield from self.div(node, kind, box)
        elif list(node.elements("p", "div", "ul", "ol", "table", "pre", "figure", *HEADINGS)):
            yield from self.blocks(node)
        elif (words := _joined(node.text())) or box:
            yield Block("paragraph", box, words)

    def items(self, node: _Node) -> Iterator[Block]:
        for child in node.children:
            if isinstance(child, str):
                if words := _joined(child):
                    yield Block("item", text=words)
            else:
                nested = [block for inner in child.children if isinstance(inner, _Node) and inner.tag in ("ul", "ol")
                          for block in self.block(inner)]  # fmt: skip
                yield Block("item", self.box(child), _joined(child.text("ul", "ol")), children=tuple(nested))

    def div(self, node: _Node, kind: Kind, box: Box | None) -> Iterator[Block]:
        tables = list(node.elements("table"))
        if kind == "table":
            rows = _rows(tables[0] if tables else node)
            yield Block("table", box or (self.box(tables[0]) if tables else None), rows=rows)
        elif kind == "code":
            yield Block("code", box, node.text().strip("\n"))
        else:
            picture = next((self.box(image) for image in node.elements("img")), None)
            rows = _rows(tables[0]) if tables and kind == "chart" else ()
            words = _joined(node.text("table", "style"))
            picture = picture if picture != box else None
            yield Block(kind, box, words, rows=rows, picture=picture)

    def box(self, node: _Node) -> Box | None:
        numbers = [float(number) for number in NUMBER.findall(node.attributes.get("data-bbox", ""))]
        if len(numbers) != 4:
            return None
        width, height = self.frame
        across = sorted(min(max(value / width, 0.0), 1.0) for value in numbers[::2])
        down = sorted(min(max(value / height, 0.0), 1.0) for value in numbers[1::2])
        return (across[0], down[0], across[1], down[1]) if across[0] < across[1] and down[0] < down[1] else None


def _kind(node: _Node) -> Kind | None:
    """What a div or figure is, by its class; `formula.handwritten` is a formula."""
    if node.tag == "figure":
        return "image caption" if list(node.elements("figcaption")) else "image"
    name = " ".join(re.split(r"[\s._-]+", node.attributes.get("class", "").lower())).strip()
    kind = next((kind for words, kind in CLASSES.items() if name == words or name.startswith(f"{words} ")), None)
    assert kind is None or kind in PICTURED or kind in ("table", "code")
    return kind


def _rows(table: _Node) -> Rows:
    return tuple(tuple(_cell(cell) for cell in row.elements("td", "th")) for row in table.elements("tr"))


def _cell(node: _Node) -> Cell:
    over, deep = (span(node.attributes.get(name, "")) for name in ("colspan", "rowspan"))
    return Cell(_joined(node.text()), node.tag == "th", over, deep)


def _joined(text: str) -> str:
    """Words with single spaces, lines kept."""
    lines = (" ".join(line.split()) for line in text.strip().split("\n"))
    return "\n".join(line for line in lines if line)
