"""How alike two tables, or two HTML documents, are: 1 - edit distance of their trees / elements of the larger (TEDS).

Zhong, ShafieiBavani and Jimeno Yepes, arXiv 1911.10683, section 4; the details are those of src/metric.py, ibm-aur-nlp/PubTabNet
@ 8ffde90, which OCRBench v2, CC-OCR and OmniDocBench run too.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from qwenvl.eval.scorers.editing import distance_share
from qwenvl.eval.scorers.html_tree import Element, read_html
from qwenvl.eval.scorers.trees import tree_distance


@dataclass(slots=True)
class _Node:
    """What has to agree, and the content that may differ in part."""

    label: Hashable
    content: tuple[str, ...] | str = ()
    children: list[_Node] = field(default_factory=list)


def teds(reply: str, truth: str, structure_only: bool = False) -> float:
    """Of the first table of each, which must stand right in <body> of an <html>; 0.0 where there is none.

    A cell (td) agrees in how many columns and rows it spans; its text, its inner tags as one character each, counts by edit
    distance. Cells of a heading (th) have no text here: the published scorers turn them into td before, or lose it. A span that is
    no whole number is no table: 0.0, where the published code raises.
    """
    tables = [_first_table(reply), _first_table(truth)]
    if tables[0] is None or tables[1] is None:
        return 0.0
    try:
        ours, theirs = _table_node(tables[0], structure_only), _table_node(tables[1], structure_only)
    except ValueError:
        return 0.0
    return _alike(ours, theirs, max(sum(1 for _ in table.descendants()) for table in tables if table))


def html_teds(reply: str, truth: str) -> float:
    """The same of whole documents, not below 0: <body>, or the text where there is none, and all elements in it agree in their
    names and spans, and their own text counts by edit distance with white space collapsed.

    Ours, for replies in HTML: arXiv 2502.13923 has documents as HTML (section 2.2.1) and names no score of them.
    """
    ours, theirs = _document_node(_body(reply)), _document_node(_body(truth))
    ours.label = theirs.label = "body"
    return max(0.0, _alike(ours, theirs, max(_size(ours), _size(theirs))))


def _alike(ours: _Node, theirs: _Node, elements: int) -> float:
    known: dict[tuple[Hashable, Hashable], float] = {}

    def rename(first: _Node, second: _Node) -> float:
        if first.label != second.label:
            return 1.0
        key = (first.content, second.content)
        if key not in known:
            known[key] = distance_share(*key)
        return known[key]

    # A table without a single row has none to be right about; the published code divides by zero.
    return 1.0 - tree_distance(ours, theirs, rename) / elements if elements else 0.0


def _first_table(text: str) -> Element | None:
    if not text:
        return None
    for page in read_html(text).children:
        for body in page.children if page.tag == "html" else ():
            for table in body.children if body.tag == "body" else ():
                if table.tag == "table":
                    return table
    return None


def _table_node(element: Element, structure_only: bool) -> _Node:
    """Raises ValueError for a span that is no whole number."""
    if element.tag != "td":
        return _Node((element.tag, None, None), (), [_table_node(child, structure_only) for child in element.children])
    spans = (int(element.attributes.get("colspan", "1")), int(element.attributes.get("rowspan", "1")))
    return _Node((element.tag, *spans), () if structure_only else tuple(_tokens(element)))


def _tokens(cell: Element) -> list[str]:
    """Text behind a cell that stands in a cell is lost, as published."""
    tokens: list[str] = []
    after_cell = False
    for part in cell.content:
        if isinstance(part, str):
            tokens += "" if after_cell else part
        else:
            tokens += [f"<{part.tag}>", *_tokens(part), f"</{part.tag}>"]
        after_cell = isinstance(part, Element) and part.tag == "td"
    return tokens


def _body(text: str) -> Element:
    root = read_html(text)
    return next((element for element in root.descendants() if element.tag == "body"), root)


def _document_node(element: Element) -> _Node:
    spans = tuple(element.attributes.get(name, "1") for name in ("colspan", "rowspan"))
    return _Node((element.tag, *spans), " ".join(element.text.split()), [_document_node(child) for child in element.children])


def _size(node: _Node) -> int:
    return 1 + sum(map(_size, node.children))
