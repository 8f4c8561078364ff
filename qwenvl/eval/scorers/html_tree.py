"""HTML as models write it, as a tree of elements: what is left open is closed, what was never opened is passed over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({
    "area", "base", "basefont", "bgsound", "br", "col", "command", "embed", "frame", "hr", "img", "input", "isindex", "keygen",
    "link", "meta", "param", "source", "track", "wbr",
})  # fmt: skip
SECTIONS, CELLS = ("thead", "tbody", "tfoot"), ("td", "th")
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
STYLES = ("b", "i", "u")
COLUMNS = ("caption", "col", "colgroup")
CLOSES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(CELLS, (*CELLS, "p", "a", "font", "span", *STYLES)),
    "tr": (*CELLS, "tr", "p", *COLUMNS), "thead": COLUMNS,
    "tbody": (*CELLS, "tr", "p", *SECTIONS, *COLUMNS), "tfoot": (*CELLS, "tr", "p", "thead", "tbody", *COLUMNS),
    "table": ("p", "a", "pre", *HEADINGS), "a": ("a",), "p": ("p", "s", "big", "small", "strike", "tt", *STYLES, *HEADINGS),
    "li": ("li", "p", "dl", "pre", "address", *HEADINGS), "ul": ("p", "pre", "address"), "dd": ("dt", "p"), "dt": ("dd", "p"),
    "dl": ("dt", "p", "address", "pre"), "pre": ("p", "ul"), "form": ("form", "p", "ul", "ol", "dl", "pre", "hr", *HEADINGS),
    **dict.fromkeys(("ol", "div", "hr", "blockquote", "address", "caption", "col", "colgroup", *HEADINGS), ("p",)),
    "option": ("option",), "center": ("b", "i", "font", "p"),
}  # fmt: skip
"""An opening tag ends these, as long as one of them is the innermost that is open: htmlStartClose of HTMLparser.c, GNOME/libxml2
@ c8eaf22, which the published scorers read with, of what is met in tables and text."""
STRENGTH = {"div": 150, "td": 160, "th": 160, "tr": 170, **dict.fromkeys(SECTIONS, 180), "table": 190, "body": 200, "html": 220}
"""A closing tag does not reach beyond an open element that is stronger than its own (htmlEndPriority of the same file); all
others have 100."""
COMMON = 100
DEEPEST = 250
"""Tags below as many open ones are passed over; libxml2 gives up at 256."""


@dataclass(slots=True)
class Element:
    """A tag in small letters, its attributes, and its text and elements in order."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    content: list[Element | str] = field(default_factory=list)

    @property
    def children(self) -> list[Element]:
        return [part for part in self.content if isinstance(part, Element)]

    def descendants(self) -> Iterator[Element]:
        """Every element in it, at any depth, in the order of the text."""
        waiting = self.children[::-1]
        while waiting:
            element = waiting.pop()
            yield element
            waiting += element.children[::-1]

    @property
    def text(self) -> str:
        """Its own text, without that of its elements."""
        return "".join(part for part in self.content if isinstance(part, str))


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[Element] = [Element("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while self.open[-1].tag in CLOSES.get(tag, ()):
            self.open.pop()
        attributes = {name: value or "" for name, value in reversed(attrs)}
        if tag in ("html", "body") and (there := next((one for one in self.open if one.tag == tag), None)):
            there.attributes = attributes | there.attributes  # a second one adds what the first did not say
            return
        if len(self.open) > DEEPEST:
            return
        element = Element(tag, attributes)
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("html", "body"):
            return  # what comes behind still belongs to it
        for depth in range(len(self.open) - 1, 0, -1):
            if self.open[depth].tag == tag:
                del self.open[depth:]
                return
            if STRENGTH.get(self.open[depth].tag, COMMON) > STRENGTH.get(tag, COMMON):
                return

    def handle_data(self, data: str) -> None:
        content = self.open[-1].content
        if content and isinstance(content[-1], str):
            content[-1] += data
        else:
            content.append(data)


def read_html(text: str) -> Element:
    """The elements of a text, in an element without a name. Any text is read; comments are left out."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    return builder.open[0]
