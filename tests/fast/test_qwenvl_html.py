"""QwenVL HTML: every element is written as the paper has it, keeps its place through tokens, and is read from what models write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qwenvl.data.documents.blocks import Block, Box, Cell, table_rows
from qwenvl.data.documents.qwenvl_html import document_parts
from qwenvl.data.documents.qwenvl_html_reader import read_document
from qwenvl.data.formats import PARSE_SYSTEM, parse_document
from qwenvl.data.record import record_to_sample, sample_to_record
from qwenvl.families.spec import Markup
from qwenvl.processing.grid import frame_size
from qwenvl.processing.regions import parts_text
from qwenvl.types import RegionError, Sample
from tests.round_trip import FAMILIES, processor

WHOLE, PART = (0.1, 0.2, 0.5, 0.4), (0.1, 0.2, 0.5, 0.3)
B, P = 'data-bbox="100 200 500 400"', 'data-bbox="100 200 500 300"'
FRAME = (1000, 1000)
INNER = Block("list", PART, children=(Block("item", PART, "in"),))

# What the paper prints for each element (section 2.2.1 of arXiv 2502.13923), and headings, lists and code in HTML's own elements.
ELEMENTS: list[tuple[Block, str]] = [
    (Block("paragraph", WHOLE, "a < b & c"), f"<p {B}>a &lt; b &amp; c</p>"),
    *((Block("heading", WHOLE, "Title", attributes={"level": str(n)}), f"<h{n} {B}>Title</h{n}>") for n in range(1, 7)),
    (
        Block("table", WHOLE, rows=table_rows([["x", "y"], ["1", "2"]]), attributes={"style": "border: 1px solid"}),
        f'<style>.table1 {{border: 1px solid}}</style><table {B} class="table1">'
        "<tr><th>x</th><th>y</th></tr><tr><td>1</td><td>2</td></tr></table>",
    ),
    (
        Block("table", WHOLE, rows=((Cell("x", column_span=2),), (Cell("y", row_span=2), Cell("z")))),
        f'<table {B} class="table1"><tr><td colspan="2">x</td></tr><tr><td rowspan="2">y</td><td>z</td></tr></table>',
    ),
    (
        Block("chart", WHOLE, rows=table_rows([["x", "y"], ["1", "2"]]), picture=PART),
        f'<div class="chart" {B}><img {P}/><table><tr><th>x</th><th>y</th></tr><tr><td>1</td><td>2</td></tr></table></div>',
    ),
    (Block("formula", WHOLE, r"\frac{a}{b}"), rf'<div class="formula" {B}><img {B}/><div>\frac{{a}}{{b}}</div></div>'),
    (Block("image", WHOLE), f'<div class="image" {B}><img {B}/></div>'),
    (Block("image caption", WHOLE, "Figure 1", picture=PART), f'<div class="image caption" {B}><img {P}/><p>Figure 1</p></div>'),
    (Block("image ocr", WHOLE, "EXIT"), f'<div class="image ocr" {B}><img {B}/><p>EXIT</p></div>'),
    (
        Block("music sheet", WHOLE, "X:1\nK:C"),
        f'<div class="music sheet" format="abc notation" {B}><img {B}/><div>X:1\nK:C</div></div>',
    ),
    (Block("chemical formula", WHOLE, "C=O"), f'<div class="chemical formula" format="smile" {B}><img {B}/><div>C=O</div></div>'),
    (
        Block("list", WHOLE, children=(Block("item", PART, "one", children=(INNER,)),)),
        f"<ul {B}><li {P}>one<ul {P}><li {P}>in</li></ul></li></ul>",
    ),
    (Block("list", None, children=(Block("item", None, "one"),), attributes={"ordered": "true"}), "<ol><li>one</li></ol>"),
    (
        Block("code", WHOLE, "if x:\n    y()", attributes={"language": "python"}),
        f'<pre {B}><code class="language-python">if x:\n    y()</code></pre>',
    ),
]


def written(*blocks: Block) -> str:
    return parts_text(document_parts(blocks, "test"), Markup(style="json"), {0: FRAME})


@pytest.mark.parametrize(("block", "text"), ELEMENTS, ids=lambda value: value.kind if isinstance(value, Block) else "")
def test_every_element_is_written_as_published_and_read_back(block: Block, text: str) -> None:
    answer = written(block)
    assert answer == f"```html\n<html><body>\n{text} \n</body></html>\n```"
    assert read_document(answer, FRAME) == (block,)


def test_elements_stand_one_after_the_other_as_in_the_cookbook() -> None:
    answer = written(Block("heading", WHOLE, "A", attributes={"level": "2"}), Block("paragraph", PART, "b"))
    assert answer == f"```html\n<html><body>\n<h2 {B}>A</h2> \n <p {P}>b</p> \n</body></html>\n```"


def test_every_table_has_its_own_name() -> None:
    table = ELEMENTS[7][0]
    answer = written(table, replace(table, attributes={"style": "border: none"}))
    assert "<style>.table1 {border: 1px solid}</style>" in answer and "<style>.table2 {border: none}</style>" in answer
    assert [block.attributes["style"] for block in read_document(answer, FRAME)] == ["border: 1px solid", "border: none"]


@pytest.mark.parametrize("box", [(0.2, 0.2, 0.1, 0.4), (-0.1, 0.0, 0.5, 0.5), (0.1, 0.2, 0.5, 1.1)])
def test_a_box_that_cannot_be_taught_is_refused_by_name(box: Box) -> None:
    with pytest.raises(RegionError, match="page 7"):
        document_parts([Block("paragraph", box, "text")], "page 7")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_document_goes_to_tokens_and_back(family: str) -> None:
    """Also through a shard's record. Boxes come back to within a pixel, or a thousandth, of where they were."""
    ours = processor(family)
    blocks = tuple(block for block, _ in ELEMENTS)
    sample = Sample(parse_document(Image.new("RGB", (300, 420), "white"), document_parts(blocks, "test"), "en"), "page")
    sample = record_to_sample(sample_to_record(sample))
    encoded = ours.encode(sample, "chat")
    answer = ours.tokenizer.decode([int(token) for token in encoded.labels if token >= 0]).removesuffix("<|im_end|>")
    frame = frame_size(encoded.grids.tolist()[0], ours.config.vision.patch_size)
    side = frame if ours.markup.style == "json" else (ours.markup.scale, ours.markup.scale)
    read = read_document(answer, side)
    assert [_plain(block) for block in read] == [_plain(block) for block in blocks]
    for got, wanted in zip(_boxes(read), _boxes(blocks), strict=True):
        assert got is None if wanted is None else got == pytest.approx(wanted, abs=0.5 / min(side) + 1e-9)
    assert PARSE_SYSTEM in ours.tokenizer.decode(encoded.input_ids.tolist())


def _plain(block: Block) -> Any:
    """A block without its boxes, which are rounded; two of one place may fall together."""
    return replace(block, box=None, picture=None, children=tuple(map(_plain, block.children)), attributes=block.attributes)


def _boxes(blocks: Any) -> list[Box | None]:
    return [inner.box for block in blocks for inner in block.walk()]


STRAYING = [
    ("no fence, no closing", f"<html><body><h2 {B}>Title</h2><p {B}>cut off", [("heading", "Title"), ("paragraph", "cut off")]),
    ("closed as the paper prints it", f"```html\n<html><body><p {B}>a</p></html></body>\n```", [("paragraph", "a")]),
    ("handwritten formula", f'<div class="formula.handwritten" {B}><img {B}/><div>x^2</div></div>', [("formula", "x^2")]),
    ("table in a div", f'<div class="table" {B}><table><tr><td>a<td>b</table></div>', [("table", "")]),
    ("a figure", f"<figure {B}><img {B}><figcaption>Fig. 1</figcaption></figure>", [("image caption", "Fig. 1")]),
    ("items that are not closed", f"<ul {B}><li>one<li>two</ul>", [("list", "")]),
    ("bare words", "Here is the result: <p>x</p>", [("paragraph", "Here is the result:"), ("paragraph", "x")]),
    ("unknown elements", f'<section><article><div class="header" {B}>head</div></article></section>', [("paragraph", "head")]),
    ("an attribute that is cut", '<p data-bbox="1 2', []),
    ("nothing", "", []),
]


@pytest.mark.parametrize(("answer", "blocks"), [case[1:] for case in STRAYING], ids=[case[0] for case in STRAYING])
def test_what_models_write_is_read(answer: str, blocks: list[tuple[str, str]]) -> None:
    assert [(block.kind, block.text) for block in read_document(answer, FRAME)] == blocks


def test_boxes_are_read_however_they_are_written() -> None:
    found = read_document('<p data-bbox="500,400,100,200">a</p><p data-bbox="1 2 3">b</p><p data-bbox="0 0 2000 10">c</p>', FRAME)
    assert [block.box for block in found] == [(0.1, 0.2, 0.5, 0.4), None, (0.0, 0.0, 1.0, 0.01)]


@given(st.text(alphabet="<>/abptdlih123= \"'&;-\n", max_size=120))
def test_any_text_is_read(text: str) -> None:
    for block in read_document(text, FRAME):
        for inner in block.walk():
            assert inner.box is None or (inner.box[0] < inner.box[2] and inner.box[1] < inner.box[3])
