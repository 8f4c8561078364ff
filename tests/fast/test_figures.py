"""Promises of synthetic figures: determinism, boxes that hold their ink, truth that can be read back, samples for every family."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qwenvl.config import ConfigError, validate
from qwenvl.data.documents.blocks import Block
from qwenvl.data.documents.qwenvl_html_reader import read_document
from qwenvl.data.places import for_markup
from qwenvl.data.record import record_to_sample, sample_to_record
from qwenvl.data.synth.figures.canvas import Canvas, dashes, union
from qwenvl.data.synth.figures.figure import Element, Figure
from qwenvl.data.synth.figures.lettering import draw_family, shorten, wrap
from qwenvl.data.synth.figures.words import book
from qwenvl.data.synth.fonts import FontError
from qwenvl.data.synth.generators import GENERATORS, Generated
from qwenvl.types import CoordinatesPart, ImagePart, QwenVLError, RegionPart, Sample
from tests.fast import test_native_rows
from tests.figures import KINDS, said

EACH = 3
SOLID = ("bar", "cell", "point", "slice", "box")
"""What may be of one colour all over."""
FAMILIES = ("qwen_vl", "qwen2_vl", "qwen2_5_vl")


pytestmark = pytest.mark.usefixtures("figure_sources")


@cache
def figure(kind: str, index: int = 0) -> Figure:
    return KINDS[kind].make(KINDS[kind].spec, 0, index)


def digest(drawn: Figure) -> str:
    return hashlib.sha256(drawn.image.tobytes() + repr(drawn.elements).encode()).hexdigest()


def changed(before: Image.Image, after: Image.Image) -> tuple[int, int, int, int]:
    """The box around all pixels that differ."""
    rows, columns = np.nonzero((np.asarray(before) != np.asarray(after)).any(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


# Every kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_numbers_give_the_same_figure(kind: str) -> None:
    """In any order, with other figures drawn in between; other numbers give another one."""
    first = digest(figure(kind))
    others = [digest(KINDS[kind].make(KINDS[kind].spec, seed, index)) for seed, index in ((0, 1), (1, 0))]
    again = KINDS[kind].make(KINDS[kind].spec, 0, 0)
    assert digest(again) == first
    assert len({first, *others}) == 3
    assert repr(KINDS[kind].samples(again)) == repr(KINDS[kind].samples(again))


@pytest.mark.parametrize("kind", KINDS)
def test_every_box_is_in_the_picture_and_holds_something(kind: str) -> None:
    for index in range(EACH):
        drawn = figure(kind, index)
        width, height = drawn.image.size
        pixels = np.asarray(drawn.image).astype(int)
        for element in drawn.elements:
            left, top, right, bottom = element.box
            assert 0 <= left < right <= width and 0 <= top < bottom <= height, (index, element)
            inside = pixels[top:bottom, left:right].reshape(-1, 3)
            assert element.kind in SOLID or np.ptp(inside, axis=0).max() > 20, (index, element)


@pytest.mark.parametrize("kind", ["table", "form", "code", "page"])
def test_a_line_of_text_fills_its_box_and_nothing_sticks_out(kind: str) -> None:
    """On flat ground: ink on all four edges, none right outside. Lines on rules, with stamps or tick boxes, are left out."""
    checked = 0
    for index in range(EACH):
        drawn = figure(kind, index)
        pixels = np.asarray(drawn.image).astype(int)
        for element in drawn.of_kind("line", "label", "number"):
            left, top, right, bottom = element.box
            around = pixels[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]
            ground = around[0, 0]
            ink = np.abs(around - ground).max(axis=2) > 0
            ring = np.concatenate([ink[0], ink[1], ink[-1], ink[-2], ink[:, 0], ink[:, 1], ink[:, -1], ink[:, -2]])
            if ring.any() and kind in ("form", "page"):
                continue
            assert not ring.any(), (index, element)
            inner = ink[2:-2, 2:-2]
            assert inner[0].any() and inner[-1].any() and inner[:, 0].any() and inner[:, -1].any(), (index, element)
            checked += 1
    assert checked > 12


@pytest.mark.parametrize("kind", KINDS)
def test_points_lie_on_what_they_point_at(kind: str) -> None:
    for index in range(EACH):
        drawn = figure(kind, index)
        for element in drawn.elements:
            (x, y), (left, top, right, bottom) = drawn.spot(element).points[0], drawn.share(element.box)
            assert left <= x <= right and top <= y <= bottom
            if kind == "chart" and element.kind in ("bar", "slice"):
                column, row = int(x * drawn.image.width), int(y * drawn.image.height)
                corner = np.asarray(drawn.image.getpixel((1, 1)))
                assert np.abs(np.asarray(drawn.image.getpixel((column, row))) - corner).max() > 8, element


@pytest.mark.parametrize("kind", KINDS)
def test_samples_say_what_they_are(kind: str) -> None:
    spec = KINDS[kind].spec
    for index in range(EACH):
        made = KINDS[kind].samples(figure(kind, index))
        assert made
        assert len({sample.id for sample in made}) == len(made)
        for sample in made:
            assert sample.task in spec.TASKS and sample.source == f"synth/{kind}"
            assert sample.language == figure(kind, index).language
            assert {"kind", "question", "answer"} <= sample.extra.keys()
            assert json.loads(json.dumps(sample.extra)) == sample.extra
            assert sum(isinstance(part, ImagePart) for message in sample.messages for part in message.parts) == 1
            for message in sample.messages:
                for part in message.parts:
                    regions = part.regions if isinstance(part, RegionPart) else ()
                    regions += (part.region,) if isinstance(part, CoordinatesPart) else ()
                    assert all(region.check(sample.id) for region in regions)
            assert "{" not in said(sample.messages[-2].parts).replace('{"', "") or sample.task == "gui_action"


@pytest.mark.parametrize("kind", KINDS)
def test_samples_go_to_tokens_for_every_family(kind: str) -> None:
    """Where markup has no points, what is asked for with a point is refused in one line that names the sample."""
    made = KINDS[kind].samples(figure(kind))
    one_of_each = {sample.task: sample for sample in made}
    for family in FAMILIES:
        ours = test_native_rows.processor(family)
        decoder = ours.config.decoder.model_copy(update={"max_position_embeddings": 32768})
        ours = type(ours)(ours.config.model_copy(update={"decoder": decoder}), ours.spec, ours.tokenizer, ours.markup)
        for task, sample in one_of_each.items():
            if family != "qwen2_5_vl" and task in ("point", "gui_click"):
                with pytest.raises(QwenVLError, match=re.escape(sample.id)):
                    ours.encode(for_markup(sample, ours.markup), "chat")
                continue
            encoded = ours.encode(for_markup(sample, ours.markup), "chat")
            assert (encoded.labels >= 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_documents_parse_back(kind: str) -> None:
    """The HTML of a figure, read again, has the same blocks; boxes to a thousandth."""
    found = 0
    for index in range(EACH):
        for sample in KINDS[kind].samples(figure(kind, index)):
            if sample.task != "document_parsing":
                continue
            read = read_document(said(sample.messages[-1].parts), (1000, 1000))
            blocks = blocks_of(figure(kind, index))
            assert [plain(block) for block in read] == [plain(block) for block in blocks]
            for one, other in zip(read, blocks, strict=True):
                assert np.abs(np.subtract(one.box, other.box)).max() <= 0.0011
            found += 1
    assert found == (EACH if "document_parsing" in KINDS[kind].spec.TASKS else 0)


def blocks_of(drawn: Any) -> list[Block]:
    if hasattr(drawn, "blocks"):
        return list(drawn.blocks() if callable(drawn.blocks) else drawn.blocks)
    if hasattr(drawn, "block"):
        return [drawn.block()]
    return [Block("formula", drawn.share(element.box), element.text) for element in drawn.of_kind("formula")]


def plain(block: Block) -> tuple[Any, ...]:
    """What a block says, without places. A chart's title is no part of its HTML."""
    rows = [[(cell.text, cell.header, cell.column_span, cell.row_span) for cell in row] for row in block.rows]
    return block.kind, "" if block.kind == "chart" else block.text, rows, [plain(child) for child in block.children]


def test_a_sample_survives_storage() -> None:
    for sample in KINDS["table"].samples(figure("table")):
        again = record_to_sample(sample_to_record(sample))
        assert (again.id, again.task, again.extra) == (sample.id, sample.task, sample.extra)
        assert [said(message.parts) for message in again.messages] == [said(message.parts) for message in sample.messages]


def test_held_out_phrasings_are_not_in_training() -> None:
    kept = {phrasings[language][-1] for phrasings in book("phrases").values() for language in ("en", "zh")}
    trained = [phrasing for phrasings in book("phrases").values() for lists in phrasings.values() for phrasing in lists[:-1]]
    assert not kept & set(trained)
    drawn = figure("form")
    asked = [sample.extra["question"] for sample in KINDS["form"].samples(drawn, held_out=True) if sample.task == "form_qa"]
    last = re.compile("|".join(re.sub(r"\\{\w+\\}", ".*", re.escape(text)) for text in kept))
    assert asked and all(last.fullmatch(question) for question in asked)


def test_phrases_have_both_languages_and_the_same_slots() -> None:
    for kind, phrasings in book("phrases").items():
        assert set(phrasings) == {"en", "zh"} and all(len(set(lists)) == len(lists) >= 3 for lists in phrasings.values()), kind
        slots = [set(re.findall(r"\{(\w+)\}", phrasing)) - {"whose", "of"} for lists in phrasings.values() for phrasing in lists]
        assert set.union(*slots) - set.intersection(*slots) <= {"group", "noun", "name", "x_name", "y_name"}, (kind, slots)


# Generators and specs


def test_every_kind_is_a_generator() -> None:
    for kind, entry in KINDS.items():
        generator = GENERATORS[kind]
        assert generator.spec_type() is type(entry.spec)
        sample = Generated(kind, entry.spec.model_dump(), seed=0).sample(3)
        assert sample.source == f"synth/{kind}"


def test_a_spec_names_its_tasks() -> None:
    spec = KINDS["chart"].spec.model_copy(update={"tasks": ("chart_json",)})
    assert {sample.task for sample in GENERATORS["chart"].samples(spec, 0, 0)} == {"chart_json"}
    for kind, settings, complaint in (
        ("chart", {"tasks": ["chart_jason"]}, "chart_jason"),
        ("chart", {"width": [100, 200]}, "320 x 200"),
        ("table", {"rows": [5, 2]}, "rows"),
        ("screen", {"devices": ["mobile"], "layouts": ["cockpit"]}, "cockpit"),
        ("page", {"parts": ["chart"]}, "paragraphs"),
        ("icon", {"colour": "red"}, "colour"),
    ):
        with pytest.raises(ConfigError, match=complaint) as caught:
            validate(settings, type(KINDS[kind].spec), "spec")
        assert "\n" not in str(caught.value)
    with pytest.raises(QwenVLError, match="count from 0"):
        KINDS["icon"].make(KINDS["icon"].spec, 0, -1)


# What all are drawn with


@pytest.mark.parametrize("turn", [0, 45, 90])
@pytest.mark.parametrize("align", ["left", "centre", "right"])
def test_the_box_of_a_text_is_that_of_its_ink(align: Any, turn: int) -> None:
    kind = draw_family(np.random.default_rng(3)).plain(19)
    for text in ("Berlin 2019", "图表gy，", "f"):
        canvas = Canvas.blank(400, 300)
        before = canvas.image.copy()
        assert canvas.text(200.4, 150, text, kind, (0, 0, 0), align, "middle", turn) == changed(before, canvas.image)


def test_the_box_of_a_shape_is_that_of_its_ink() -> None:
    drawn = {
        "rectangle": lambda canvas: canvas.rectangle((10.4, 20, 80, 60), (200, 0, 0)),
        "outline": lambda canvas: canvas.rectangle((10, 20, 80, 60), None, (0, 0, 0), 3),
        "level rule": lambda canvas: canvas.rule(10, 40, 90, 40, (0, 0, 0), 2),
        "upright rule": lambda canvas: canvas.rule(40, 10, 40, 90, (0, 0, 0)),
        "polygon": lambda canvas: canvas.polygon([(10.3, 20.8), (90, 35), (40, 80.2)], (0, 0, 0)),
        "line": lambda canvas: canvas.line([(10, 20), (50.5, 80), (90, 30)], (0, 0, 0), 3),
        "dashes": lambda canvas: canvas.line([(10, 20), (90, 70)], (0, 0, 0), 2, dash=6),
        "disc": lambda canvas: canvas.ellipse((20.5, 20.5, 61, 70), (0, 0, 0)),
        "ring": lambda canvas: canvas.ellipse((20, 20, 61, 70), None, (0, 0, 0), 3),
    }
    for name, draw in drawn.items():
        canvas = Canvas.blank(100, 100)
        before = canvas.image.copy()
        assert draw(canvas) == changed(before, canvas.image), name


def test_dashes_keep_their_length_around_corners() -> None:
    pieces = dashes([(0, 0), (10, 0), (10, 10)], 4)
    lengths = [abs(x1 - x0) + abs(y1 - y0) for (x0, y0), (x1, y1) in pieces]
    assert sum(lengths) == pytest.approx(12) and pieces[0] == [(0, 0), (4, 0)]


def test_lines_are_broken_where_they_may_be() -> None:
    kind = draw_family(np.random.default_rng(1), "sans").plain(16)
    text = "数据来自对“三十户”家庭的调查，结果与往年一致。"
    lines = wrap(text, kind, 90)
    assert "".join(lines) == text and len(lines) > 3
    assert all(line[0] not in "，。”" and line[-1] != "“" for line in lines)
    english = "The figures are taken from a survey (of 30 households)."
    lines = wrap(english, kind, 120)
    assert " ".join(lines) == english and all(kind.width(line) <= 120 for line in lines)
    assert kind.width(wrap(english, kind, 120, indent=40)[0]) <= 80
    assert wrap("incomprehensibilities", kind, 20) == ["incomprehensibilities"]
    assert shorten(english, kind, 80).endswith("…") and kind.width(shorten(english, kind, 80)) <= 80


def test_a_character_without_a_glyph_is_refused() -> None:
    kind = draw_family(np.random.default_rng(0)).plain(20)
    with pytest.raises(FontError, match=re.escape("U+10FFFD")):
        kind.width("a\U0010fffd")
    with pytest.raises(FontError, match="no ink"):
        Canvas.blank(50, 50).text(0, 0, "  ", kind, (0, 0, 0))


def test_union_and_elements() -> None:
    assert union((1, 5, 3, 6), (0, 5, 2, 9)) == (0, 5, 3, 9)
    assert Element("bar", (0, 0, 1, 1)).name == ""
    assert isinstance(KINDS["icon"].samples(figure("icon"))[0], Sample)
