"""PDF pages: lines of text in the order they are read, boxes around their ink, whatever the page or the text is turned by."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.documents import Tally, pdf_ink, pdf_pages, slack
from qwenvl.data.documents.page import DocumentError, NoPage, Page
from qwenvl.data.documents.pdf import PdfSpec, read_pdf
from tests.pdfs import Sheet, text, write_pdf

pypdfium2 = pytest.importorskip("pypdfium2")

SPEC = PdfSpec(dpi=144)


def pages(path: Path, spec: PdfSpec = SPEC) -> list[Page]:
    found = list(read_pdf(path, spec))
    assert all(isinstance(page, Page) for page in found)
    return [page for page in found if isinstance(page, Page)]


def one_page(tmp_path: Path, sheet: Sheet) -> Page:
    return pages(write_pdf(tmp_path / "page.pdf", [sheet]))[0]


def check_ink(path: Path, page: Page) -> None:
    """Every line's box holds ink up to its borders, and no ink of text is outside of all boxes."""
    ink = pdf_ink(pypdfium2.PdfDocument(path), page.number, page.image, SPEC)
    assert ink.mask.any()
    assert ink.missed([line.box for line in page.lines]) == 0
    for line in page.lines:
        room = slack(ink, line.box)
        assert room is not None and room <= 3, (line.text, room)


def test_the_check_of_ink_finds_boxes_that_stand_elsewhere(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "page.pdf", [Sheet(text("Words that are enough to make this a page", 30, 150)), Sheet("")])
    right, wrong = Tally(), Tally()
    (page,) = pdf_pages(path, right, spec=SPEC)
    assert (right.pages, right.kept, right.dropped) == (2, 1, {"characters": 1})
    assert (right.lines, right.with_ink, right.close, right.outside) == (1, 1, 1, 0) and right.ink > 0
    below = [replace(line, quad=tuple((x, y + 40) for x, y in line.quad)) for line in page.lines]  # type: ignore[arg-type]
    wrong.look(replace(page, lines=tuple(below)), pdf_ink(pypdfium2.PdfDocument(path), 1, page.image, SPEC))
    assert (wrong.lines, wrong.with_ink, wrong.close) == (1, 0, 0) and wrong.outside == wrong.ink == right.ink
    assert wrong.empty == ["page.pdf#1: Words that are enough to make this a page"]


TURNS = {0: "1 0 0 1", 90: "0 1 -1 0", 180: "-1 0 0 -1", 270: "0 -1 1 0"}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_boxes_fit_the_ink_however_page_and_text_are_turned(tmp_path: Path, turn: int, rotate: int) -> None:
    content = text("Where jackdaws quiz", 200, 150, 14, matrix=TURNS[turn])
    page = one_page(tmp_path, Sheet(content, rotate=rotate))
    assert [line.text for line in page.lines] == ["Where jackdaws quiz"]
    check_ink(tmp_path / "page.pdf", page)
    first, second = page.lines[0].quad[:2]
    # A page turned clockwise turns what stands on it; PDF counts the angle of text the other way.
    wanted = math.radians(rotate - turn)
    direction = (second[0] - first[0], second[1] - first[1])
    assert math.hypot(*direction) * math.cos(wanted) == pytest.approx(direction[0], abs=0.01)
    assert math.hypot(*direction) * math.sin(wanted) == pytest.approx(direction[1], abs=0.01)


def test_slanted_text_is_inside_its_quad(tmp_path: Path) -> None:
    cosine, sine = math.cos(math.radians(30)), math.sin(math.radians(30))
    content = text("CONFIDENTIAL", 100, 100, 20, matrix=f"{cosine} {sine} {-sine} {cosine}")
    page = one_page(tmp_path, Sheet(content))
    assert [line.text for line in page.lines] == ["CONFIDENTIAL"]
    ink = pdf_ink(pypdfium2.PdfDocument(tmp_path / "page.pdf"), 1, page.image, SPEC)
    quad = np.array(page.lines[0].quad)
    down, across = np.nonzero(ink.mask)
    for start, end in zip(quad, np.roll(quad, -1, axis=0)):
        edge = end - start
        inside = edge[0] * (down + 0.5 - start[1]) - edge[1] * (across + 0.5 - start[0])
        assert (inside >= -1.5 * np.hypot(*edge)).all()


def test_the_crop_box_is_the_page(tmp_path: Path) -> None:
    content = text("kept", 120, 150) + text("cut away", 20, 20) + text("half way out", 270, 150)
    page = one_page(tmp_path, Sheet(content, crop=(100, 100, 300, 200)))
    assert page.image.size == (400, 200)
    assert page.lines[0].text == "kept"
    assert "half way out".startswith(page.lines[1].text) and 2 < len(page.lines[1].text) < 10
    assert len(page.lines) == 2


def test_text_that_does_not_show_is_left_out(tmp_path: Path) -> None:
    white = "1 1 1 rg\n" + text("white on white", 50, 50) + "0 0 0 rg\n"
    content = text("shown", 50, 200) + text("a layer of recognised text", 50, 100, mode=3) + white
    page = one_page(tmp_path, Sheet(content))
    assert [line.text for line in page.lines] == ["shown"]
    assert page.notes == {"hidden lines": 1}
    assert "recognised" in page.characters


def test_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    left = ["The first column has", "three lines that fill", "its width all through"]
    right = ["and what follows goes", "on in the second one", "to its right as usual"]
    rows = [text(line, 30, 200 - 14 * row) for row, line in enumerate(left)]
    rows += [text(line, 220, 200 - 14 * row) for row, line in enumerate(right)]
    mixed = [line for pair in zip(rows[:3], rows[3:]) for line in pair]
    page = one_page(tmp_path, Sheet(text("A title that reaches over both of the columns", 30, 250, 14) + "".join(mixed)))
    assert [line.text for line in page.lines][1:] == left + right
    assert [block.kind for block in page.blocks] == ["heading", "paragraph", "paragraph"]
    assert page.blocks[1].text == " ".join(left)


def test_words_are_parted_where_there_is_a_gap(tmp_path: Path) -> None:
    content = "BT /F 12 Tf 50 200 Td [(Wo) 20 (rds) -300 (apart) 120 (ly)] TJ ET\n" + text("next cell", 250, 200)
    page = one_page(tmp_path, Sheet(content))
    assert [line.text for line in page.lines] == ["Words apartly", "next cell"]


def test_a_ruled_table_has_its_cells(tmp_path: Path) -> None:
    rules = "".join(f"50 {y} m 250 {y} l S\n" for y in (200, 180, 160, 140))
    rules += "".join(f"{x} 140 m {x} 200 l S\n" for x in (50, 250)) + "150 140 m 150 180 l S\n"
    cells = text("over two columns", 55, 186, font="B")
    cells += text("a", 55, 166) + text("1", 155, 166) + text("b", 55, 146) + text("2", 155, 146)
    page = one_page(tmp_path, Sheet(text("Before the table.", 50, 230) + rules + cells))
    table = page.blocks[1]
    assert [block.kind for block in page.blocks] == ["paragraph", "table"]
    assert [[cell.text for cell in row] for row in table.rows] == [["over two columns"], ["a", "1"], ["b", "2"]]
    assert table.rows[0][0].column_span == 2 and table.rows[0][0].header and not table.rows[1][0].header
    assert table.box == pytest.approx((50 / 400, 100 / 300, 250 / 400, 160 / 300), abs=0.005)


def test_framed_texts_one_above_the_other_are_no_table(tmp_path: Path) -> None:
    """And a line that ends at its frame is not the last of its paragraph: the frame is the edge, not the longer line above."""
    words = ("Each frame holds a paragraph", "of two lines.", "The second one holds another", "of the same kind.")
    content = text("A line of running text that reaches further to the right than both of the frames do.", 50, 270, 8)
    for top in (240, 180):
        content += f"40 {top} m 200 {top} l S 40 {top - 50} m 200 {top - 50} l S\n"
        content += f"40 {top - 50} m 40 {top} l S 200 {top - 50} m 200 {top} l S\n"
        content += text("Tip", 45, top - 15, 8)
    content += "".join(text(line, 68, y, 8) for line, y in zip(words, (210, 200, 150, 140)))
    page = one_page(tmp_path, Sheet(content))
    assert [block.kind for block in page.blocks] == ["paragraph"] * 5
    assert [block.text for block in page.blocks[1:]] == ["Tip", " ".join(words[:2]), "Tip", " ".join(words[2:])]


def test_lists_and_code_keep_their_form(tmp_path: Path) -> None:
    content = text("1. first thing", 50, 250) + text("2. second thing", 50, 236)
    content += text("if (x) {", 50, 200, font="C") + text("y();", 64.4, 186, font="C") + text("}", 50, 172, font="C")
    page = one_page(tmp_path, Sheet(content))
    items, code = page.blocks
    assert items.kind == "list" and items.attributes == {"ordered": "true"}
    assert [item.text for item in items.children] == ["1. first thing", "2. second thing"]
    assert (code.kind, code.text) == ("code", "if (x) {\n  y();\n}")


def test_bullets_that_are_drawn_are_bullets(tmp_path: Path) -> None:
    content = "50 203 4 4 re f 50 183 4 4 re f\n" + text("one thing", 62, 200) + text("another thing", 62, 180)
    page = one_page(tmp_path, Sheet(content))
    assert [line.text for line in page.lines] == ["• one thing", "• another thing"]
    assert page.lines[0].box[0] < 101
    (items,) = page.blocks
    assert [item.text for item in items.children] == ["one thing", "another thing"]


def test_a_large_page_is_drawn_within_the_budget(tmp_path: Path) -> None:
    sheet = Sheet(text("poster", 500, 7000, 400), media=(0, 0, 14000, 14000))
    (page,) = pages(write_pdf(tmp_path / "page.pdf", [sheet]), PdfSpec(max_pixels=250_000))
    assert page.image.size == (500, 500)
    assert page.lines[0].text == "poster"


def test_pages_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "page.pdf", [Sheet(text(f"page {number}", 50, 50)) for number in range(5)])
    found = list(read_pdf(path, PdfSpec(max_pages=2)))
    assert [one.number for one in found] == [1, 2, 3]
    assert isinstance(found[2], NoPage) and found[2].count == 3 and "beyond the first 2 pages" in found[2].reason


def test_packed_files_are_read(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "page.pdf", [Sheet(text("packed", 50, 50))])
    packed = tmp_path / "page.pdf.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert pages(packed)[0].text == "packed"


ENCRYPTED = "/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{0}> /U <{0}> >> /ID [<00> <00>]".format("ab" * 32)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("text.pdf", b"no PDF at all", "not a readable PDF"),
        ("empty.pdf", b"", "not a readable PDF"),
        ("cut.pdf.gz", gzip.compress(b"%PDF-1.7", mtime=0)[:-6], "cannot be read"),
        ("absent.pdf", None, "cannot be read"),
    ],
)
def test_what_is_no_document_is_one_line(tmp_path: Path, name: str, content: bytes | None, complaint: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DocumentError, match=complaint) as error:
        list(read_pdf(path, SPEC))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "secret.pdf", [Sheet(text("secret", 50, 50))], ENCRYPTED)
    with pytest.raises(DocumentError, match="encrypted"):
        list(read_pdf(path, SPEC))


def test_a_page_without_a_size_is_no_page(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "page.pdf", [Sheet("", media=(0, 0, 100000, 1)), Sheet(text("fine", 50, 50))])
    none, fine = read_pdf(path, PdfSpec(max_pixels=10_000))
    assert isinstance(none, NoPage) and none.reason == "page without a size"
    assert isinstance(fine, Page) and fine.text == "fine"
