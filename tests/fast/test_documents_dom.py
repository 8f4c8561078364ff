"""Web pages as Chromium describes them: text on its lines, blocks as the elements say, cuts between lines, boxes fitted to ink.

tests/fixtures/documents/page.snapshot.json is what Chromium 156 answers for page.html beside it: DOMSnapshot.captureSnapshot with
the styles of dom.STYLES, in a view of 500 x 700.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from qwenvl.data.documents.blocks import Block
from qwenvl.data.documents.dom import Dom, Element, Fragment, read_snapshot
from qwenvl.data.documents.dom_layout import page_blocks, visible_pictures
from qwenvl.data.documents.dom_lines import DomLine, lines_of_fragments, page_cuts, said
from qwenvl.data.documents.html import ATTEMPTS, capture
from qwenvl.data.documents.ink import Ink
from qwenvl.data.documents.page import Line, Pixels

SNAPSHOT = Path(__file__).resolve().parents[1] / "fixtures" / "documents" / "page.snapshot.json"


@cache
def dom(scale: float = 1.0) -> Dom:
    return read_snapshot(json.loads(SNAPSHOT.read_text(encoding="utf-8")), scale)


def shown(fragments: list[Fragment]) -> list[Fragment]:
    """What the picture shows of the fixture: one word of it is hidden."""
    return [one for one in fragments if one.text != "hidden"]


def lines(page: Dom, top: float = 0.0, bottom: float = 1e9) -> list[DomLine]:
    """Lines with the boxes that the snapshot says, in place of their ink's."""
    found = []
    for group in lines_of_fragments([one for one in shown(page.fragments) if top <= one.box[1] and one.box[3] <= bottom]):
        text = "".join(one.text + one.blank for one in group).strip()
        left, right = min(one.box[0] for one in group), max(one.box[2] for one in group)
        upper, lower = min(one.box[1] for one in group) - top, max(one.box[3] for one in group) - top
        if text:
            quad = ((left, upper), (right, upper), (right, lower), (left, lower))
            found.append(DomLine(Line(text, quad, group[0].size), group))
    return found


def blocks(top: float = 0.0, bottom: float = 828.0) -> list[Block]:
    page = dom()
    frame = (0.0, top, 500.0, bottom)
    return page_blocks(page, lines(page, top, bottom), visible_pictures(page, frame), frame)


def test_text_is_the_text_that_is_drawn() -> None:
    texts = [line.line.text for line in lines(dom())]
    assert texts[:2] == ["ALL   ELEMENTS", "Note: A paragraph with bold words and code that is long"]
    assert {"• one", "◦ inner", "3. third", "中文段落，没有空格，但是足够长，所以它会在这一行的末尾折"} <= set(texts)
    assert not [text for text in texts if "readers" in text]


def test_every_element_keeps_its_structure() -> None:
    found = blocks()
    laid_out = ["paragraph"] * 4
    kinds = ["heading", "paragraph", "paragraph", "list", "list", "table", *laid_out, "code", "image caption", "image", "paragraph"]
    assert [block.kind for block in found] == kinds
    heading, paragraph, hidden, bullets, numbers, table = found[:6]
    assert (heading.text, heading.attributes) == ("ALL ELEMENTS", {"level": "1"})
    assert paragraph.text == "Note: A paragraph with bold words and code that is long enough to go on in a second line."
    assert hidden.text == "Shown again."
    assert [item.text for item in bullets.children] == ["one", "two"]
    assert [item.text for item in bullets.children[1].children[0].children] == ["inner"]
    assert numbers.attributes == {"ordered": "true"} and [item.text for item in numbers.children] == ["3. third", "4. fourth"]
    assert [[cell.text for cell in row] for row in table.rows] == [["name", "price"], ["apple", "1"], ["2"]]
    assert table.rows[1][0].row_span == 2 and table.rows[0][0].header and "border" in table.attributes["style"]
    assert found[10].text == "if x:\n    y()\n\nz()"
    assert found[11].text == "A teal box." and found[11].picture is not None and found[11].picture != found[11].box
    assert found[13].text == "中文段落，没有空格，但是足够长，所以它会在这一行的末尾折到第二行去，中间不会有空格出现。"


@pytest.mark.parametrize(("written", "kinds"), [((4, 6), ["paragraph", "paragraph"]), ((3, 4, 6), ["table"])])
def test_a_table_without_words_side_by_side_is_no_table_of_data(written: tuple[int, ...], kinds: list[str]) -> None:
    """Manuals put a note and the picture beside it into one: td (picture), th / td."""
    shape = [("body", -1), ("table", 0), ("tr", 1), ("td", 2), ("th", 2), ("tr", 1), ("td", 5)]
    page = Dom({}, [], (500, 700))
    for number, (tag, parent) in enumerate(shape):
        page.elements[number] = Element(number, tag, parent, (0, 0, 500, 100), {}, "block")
        page.children.setdefault(parent, []).append(number)
    for number in written:
        page.fragments.append(Fragment("words", "", (10, 20 * number, 90, 20 * number + 16), number, number, 12, False, False))
    assert [block.kind for block in page_blocks(page, lines(page), [], (0.0, 0.0, 500.0, 700.0))] == kinds


def test_boxes_are_those_of_the_page_that_a_block_stands_on() -> None:
    code, whole = next(block for block in blocks(480.0, 828.0) if block.kind == "code"), blocks()[10]
    assert code.text == whole.text and code.box is not None and whole.box is not None
    assert code.box[1] * 348 + 480 == pytest.approx(whole.box[1] * 828)
    assert (code.box[0], code.box[2]) == (whole.box[0], whole.box[2])


def test_a_page_holds_only_what_stands_on_it() -> None:
    top, bottom = blocks(0.0, 380.0), blocks(380.0, 828.0)
    assert [cell.text for row in top[-1].rows for cell in row] == ["name", "price", "", "1"] or top[-1].kind == "table"
    assert bottom[0].kind == "table"
    words = [said([line]) for line in lines(dom())]
    assert not [word for word in words if word in said(lines(dom(), 0.0, 380.0)) and word in said(lines(dom(), 380.0, 828.0))]


def test_cuts_go_through_no_line_and_no_row() -> None:
    page = dom()
    for height in range(120, 500, 7):
        cuts = page_cuts(page, height, 100)
        assert cuts[0][0] == 0 and cuts[-1][1] == page.size[1]
        assert [cut[1] for cut in cuts[:-1]] == [cut[0] for cut in cuts[1:]]
        for _, bottom in cuts[:-1]:
            assert not [one.text for one in page.fragments if one.box[1] < bottom < one.box[3]], (height, bottom)
        rows = [one.box for one in page.elements.values() if one.tag == "tr"]
        assert not [box for box in rows for cut in cuts[:-1] if box[1] < cut[1] < box[3]]
    assert len(page_cuts(page, 120, 3)) == 3


def test_pixels_follow_the_scale() -> None:
    small, large = dom(), dom(2.0)
    assert large.size == (small.size[0] * 2, small.size[1] * 2)
    assert large.fragments[3].box == tuple(2 * value for value in small.fragments[3].box)
    assert large.fragments[3].size == 2 * small.fragments[3].size


def test_pieces_of_a_line_are_joined_and_columns_are_not() -> None:
    one = Fragment("a", "", (10, 10, 20, 26), 1, 0, 12, False, False)
    beside, below = replace(one, text="b", box=(22, 10, 30, 26)), replace(one, text="c", box=(10, 30, 20, 46))
    far, other = replace(one, text="d", box=(200, 10, 210, 26)), replace(one, text="e", box=(22, 10, 30, 26), owner=9)
    for after, joined in ((beside, True), (below, False), (far, False), (other, False)):
        assert (len(list(lines_of_fragments([one, after]))) == 1) == joined


def painted(*boxes: Pixels) -> Ink:
    picture = Image.new("L", (100, 100), 255)
    for left, top, right, bottom in boxes:
        ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), fill=0)
    return Ink.between(picture, Image.new("L", (100, 100), 255))


def test_boxes_are_fitted_to_their_ink() -> None:
    ink = painted((12, 22, 30, 31), (12, 42, 30, 50))
    assert ink.fitted([(10, 20, 40, 40), (10, 40, 40, 60)]) == [(12, 22, 30, 31), (12, 42, 30, 50)]
    assert ink.fitted([(10, 24, 40, 36)]) == [(12, 22, 30, 31)], "ink a little outside of the box belongs to it"
    assert ink.fitted([(60, 60, 90, 90)]) == [None]
    assert ink.shows((25, 25, 80, 26)) and not ink.shows((31, 31, 80, 40))


def test_ink_outside_of_all_boxes_is_told() -> None:
    ink = painted((10, 10, 20, 20), (50, 50, 60, 80))
    assert ink.missed([(10, 10, 20, 20)]) == pytest.approx(0.75)
    assert ink.missed([(0, 0, 100, 100)]) == 0
    assert painted().missed([]) == 0


@pytest.mark.parametrize("failures", [2, 3])
def test_a_picture_that_fails_is_asked_for_again_but_not_for_ever(failures: int) -> None:
    errors = pytest.importorskip("playwright.sync_api")
    file = io.BytesIO()
    Image.new("RGB", (3, 2), "teal").save(file, "png")
    answers = iter([errors.Error("Unable to capture screenshot")] * failures + [{"data": base64.b64encode(file.getvalue())}])

    class Session:
        def send(self, method: str, wanted: dict[str, object]) -> object:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    if failures < ATTEMPTS:
        assert capture(Session()).size == (3, 2)
    else:
        with pytest.raises(errors.Error):
            capture(Session())


def test_faint_changes_are_no_ink() -> None:
    light, lighter = (Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (240, 250))
    assert not Ink.between(light, lighter).mask.any()
