"""What Chromium says of a laid out web page: its elements with their boxes, and every piece of text on its line.

It is asked by `DOMSnapshot.captureSnapshot` of the DevTools protocol, not by a script's `Range.getClientRects`: the text is the one
that is drawn (`text-transform`, collapsed blanks), and what style sheets add is there too: numbers of lists, `::before`, counters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from qwenvl.data.documents.page import Pixels, sides
from qwenvl.data.documents.pdf_text import BOLD_FROM, MONO_NAMES

STYLES = ("display", "visibility", "font-size", "font-weight", "font-family", "border-top-width")
"""Computed styles that a snapshot is asked for."""
INLINE = frozenset({"inline", "contents", "inline-block", "inline-flex", "inline-grid", "ruby", "ruby-text", "ruby-base", "none"})
"""Displays that do not begin a line of their own."""
PICTURES = frozenset({"img", "svg", "canvas", "video", "object", "embed", "picture"})
TINY = 2.0
"""An element this many pixels high or wide, or less, hides its text from everyone but screen readers."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element that is laid out, in pixels of the whole page. `parent` is the number of the element around it, -1 for none."""

    number: int
    tag: str
    parent: int
    box: Pixels
    attributes: Mapping[str, str]
    display: str
    visible: bool = True
    border: float = 0.0


@dataclass(frozen=True, slots=True)
class Fragment:
    """Text of one node on one line. `owner` is the element whose lines it is part of, `blank` what was collapsed behind it."""

    text: str
    blank: str
    box: Pixels
    node: int
    owner: int
    size: float
    bold: bool
    mono: bool
    marker: bool = False


@dataclass(slots=True)
class Dom:
    """A page: elements by number, which grows in the order of the document, and fragments of text in that order."""

    elements: dict[int, Element]
    fragments: list[Fragment]
    size: tuple[float, float]
    """Width and height of the whole page in pixels."""
    title: str = ""
    language: str = ""
    children: dict[int, list[int]] = field(default_factory=dict)

    def ancestors(self, number: int) -> Iterator[Element]:
        """The element of that number and all around it, from the inside out."""
        while number in self.elements:
            yield self.elements[number]
            number = self.elements[number].parent


def read_snapshot(snapshot: Mapping[str, Any], scale: float = 1.0) -> Dom:
    """The first document of an answer to captureSnapshot with STYLES. `scale`: pixels of a CSS pixel."""
    return _Snapshot(snapshot, scale).read()


class _Snapshot:
    def __init__(self, snapshot: Mapping[str, Any], scale: float) -> None:
        self.strings: list[str] = snapshot["strings"]
        self.document = snapshot["documents"][0]
        self.nodes, self.layout = self.document["nodes"], self.document["layout"]
        self.scale = scale

    def read(self) -> Dom:
        elements = self.elements()
        size = (self.document["contentWidth"] * self.scale, self.document["contentHeight"] * self.scale)
        title, language = (self.string(self.document[name]) for name in ("title", "contentLanguage"))
        dom = Dom(elements, [], size, title, language)
        for number in elements:
            dom.children.setdefault(elements[number].parent, []).append(number)
        dom.fragments = [fragment for place in sorted(self.boxes) for fragment in self.fragments(dom, place)]
        return dom

    def string(self, index: int) -> str:
        return self.strings[index] if index >= 0 else ""

    def elements(self) -> dict[int, Element]:
        """Elements and pseudo-elements that have a box. One without (`display: contents`) is left out, its children go up."""
        found: dict[int, Element] = {}
        for place, number in enumerate(self.layout["nodeIndex"]):
            name = self.string(self.nodes["nodeName"][number])
            if number in found or name.startswith("#") or not self.layout["styles"][place]:
                continue
            styles = self.styles(place)
            written = [self.string(index) for index in self.nodes["attributes"][number]]
            attributes = dict(zip(written[::2], written[1::2], strict=True))
            found[number] = Element(
                number, name.lower(), self.around(number, found), self.box(self.layout["bounds"][place]), attributes,
                styles["display"], styles["visibility"] == "visible", _number(styles["border-top-width"]),
            )  # fmt: skip
        return found

    def around(self, number: int, found: Mapping[int, Element]) -> int:
        """The nearest element around a node."""
        parent: int = self.nodes["parentIndex"][number]
        while parent >= 0 and parent not in found:
            parent = self.nodes["parentIndex"][parent]
        return parent

    def styles(self, place: int) -> dict[str, str]:
        return dict(zip(STYLES, (self.string(index) for index in self.layout["styles"][place]), strict=True))

    def box(self, bounds: list[float]) -> Pixels:
        left, top, width, height = (value * self.scale for value in bounds)
        return left, top, left + width, top + height

    @cached_property
    def boxes(self) -> dict[int, list[tuple[list[float], int, int]]]:
        """Layout entry -> the boxes of its text: bounds, first character and number of characters."""
        texts = self.document["textBoxes"]
        found: dict[int, list[tuple[list[float], int, int]]] = {}
        for place, bounds, start, length in zip(
            *(texts[name] for name in ("layoutIndex", "bounds", "start", "length")), strict=True
        ):
            found.setdefault(place, []).append((bounds, start, length))
        return found

    def fragments(self, dom: Dom, place: int) -> Iterator[Fragment]:
        """The pieces of one layout entry's text, one for each line. Positions count UTF-16 units."""
        number = self.layout["nodeIndex"][place]
        inner = number if number in dom.elements else self.around(number, dom.elements)
        if inner not in dom.elements or any(min(sides(one.box)) <= TINY * self.scale for one in list(dom.ancestors(inner))[:3]):
            return
        marker = dom.elements[inner].tag == "::marker"
        owner = next((one.number for one in dom.ancestors(inner) if one.display not in INLINE), inner)
        units = self.string(self.layout["text"][place]).encode("utf-16-le")
        styles = self.styles(place)
        size, families = _number(styles["font-size"]) * self.scale, styles["font-family"].lower()
        bold = _number(styles["font-weight"]) >= BOLD_FROM
        mono = any(name in families for name in MONO_NAMES)
        pieces = self.boxes[place]
        for index, (bounds, start, length) in enumerate(pieces):
            end = start + length
            after = pieces[index + 1][1] if index + 1 < len(pieces) else len(units) // 2
            text = units[2 * start : 2 * end].decode("utf-16-le", "replace")
            blank = units[2 * end : 2 * max(after, end)].decode("utf-16-le", "replace")
            if text:
                yield Fragment(text, blank, self.box(bounds), number, owner, size, bold, mono, marker)


def _number(written: str) -> float:
    """The number of a computed style, `16px` or `700`."""
    digits = written.removesuffix("px")
    return float(digits) if digits.replace(".", "", 1).isdecimal() else 0.0
