"""Pages of documents with everything that QwenVL HTML has an element for, in one or two columns, and all boxes known.

The target of such a page is its tree of blocks, in reading order, as `data/documents/qwenvl_html` writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar, Literal, get_args

import numpy as np
from pydantic import Field, model_validator

from qwenvl.data.documents.blocks import Block
from qwenvl.data.formats import read_text, spot_text
from qwenvl.data.synth.draws import between, draw_language, pick, whole
from qwenvl.data.synth.figures import fields, prose
from qwenvl.data.synth.figures.asking import Samples, put, voice_of
from qwenvl.data.synth.figures.canvas import Canvas
from qwenvl.data.synth.figures.figure import Figure, FigureSpec, generator
from qwenvl.data.synth.figures.formula import MathFont
from qwenvl.data.synth.figures.lettering import draw_family
from qwenvl.data.synth.figures.press import Column, Press
from qwenvl.data.synth.figures.style import draw_theme
from qwenvl.data.synth.names import Language
from qwenvl.types import RegionPart, Sample

STREAM = 10
Part = Literal["paragraph", "list", "table", "chart", "formula", "image", "music", "chemistry", "code"]
WEIGHTS: dict[Part, float] = {
    "paragraph": 5, "list": 1, "table": 1.5, "chart": 1.2, "formula": 1, "image": 1.2, "music": 0.5, "chemistry": 0.6, "code": 0.6,
}  # fmt: skip
"""How often each follows; two figures never follow each other directly."""
_TRIES = 3
"""Parts that do not fit before a column counts as full."""
KIND_NAMES: dict[str, tuple[str, str]] = {
    "heading": ("heading", "标题"), "paragraph": ("paragraph", "段落"), "list": ("list", "列表"), "table": ("table", "表格"),
    "chart": ("chart", "图表"), "formula": ("formula", "公式"), "image": ("picture", "图片"), "image caption": ("picture", "图片"),
    "image ocr": ("picture", "图片"), "music sheet": ("sheet of music", "乐谱"), "chemical formula": ("molecule", "分子结构"),
    "code": ("code", "代码"),
}  # fmt: skip


class PageSpec(FigureSpec):
    """What pages may be."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "document_parsing", "layout", "ocr", "ocr_spotting", "grounding", "point", "reading",
    )  # fmt: skip

    width: tuple[int, int] = (760, 1240)
    """Least and greatest width in pixels."""
    aspect: tuple[float, float] = (1.25, 1.42)
    """Height by width; A4 is 1.41."""
    parts: tuple[Part, ...] = get_args(Part)
    """What may stand on a page beside headings. Formulas need matplotlib."""
    two_columns: float = Field(default=0.4, ge=0, le=1)
    """Share of pages in two columns."""

    @model_validator(mode="after")
    def _is_drawable(self) -> PageSpec:
        for name in ("width", "aspect"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        if self.width[0] < 500:
            raise ValueError("width: a page needs 500 pixels at least")
        if "paragraph" not in self.parts:
            raise ValueError("parts: paragraphs have to be among them, they fill what figures leave")
        return self


@dataclass(frozen=True, slots=True)
class Page(Figure):
    """A page. Elements: its blocks by kind (the numbered ones and headings named), and "line" for every line of text."""

    source: ClassVar[str] = "synth/page"

    blocks: tuple[Block, ...]


def make_page(spec: PageSpec, seed: int, index: int) -> Page:
    """Page number `index` of a stream. The same arguments give the same bytes, in any order and any process."""
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    width = whole(rng, *spec.width)
    height = round(width * between(rng, *spec.aspect))
    theme = draw_theme(rng, 0.0)
    canvas = Canvas.blank(width, height, theme.ground)
    size = max(round(width / between(rng, 52, 66)), 11)
    family = draw_family(rng)
    heads = family if rng.random() < 0.5 else draw_family(rng)
    math: MathFont = pick(rng, ("stix", "cm", "dejavuserif"))
    justified = language == "en" and rng.random() < 0.5
    press = Press(canvas, theme, family, heads, size, language, rng, math, justified, rng.random() < 0.3)
    margin = round(width * between(rng, 0.06, 0.1))
    _set_page(press, spec, margin, rng.random() < spec.two_columns)
    elements = [replace(element, name=_called(element.name, element.kind, press, language)) for element in press.elements]
    return Page(canvas.image, tuple(elements), language, seed, index, tuple(press.blocks))


def _called(name: str, kind: str, press: Press, language: Language) -> str:
    """The name of a block; one that is the only one of its kind is called by that."""
    if name or kind in ("line", "paragraph", "heading") or sum(block.kind == kind for block in press.blocks) != 1:
        return name
    english, chinese = KIND_NAMES[kind]
    return f"the {english}" if language == "en" else chinese


def _set_page(press: Press, spec: PageSpec, margin: int, two: bool) -> None:
    """Running head, title, columns, page number."""
    width, height = press.canvas.image.size
    rng = press.rng
    small = press.family.plain(press.size * 0.8)
    page = Column(margin, width - margin, margin, height - margin)
    if rng.random() < 0.4:
        head = Column(margin, width - margin, margin // 2, margin)
        press.prose_block(head, prose.title(rng, press.language), small, "paragraph", "centre")
        if rng.random() < 0.5:
            press.canvas.rule(margin, head.y + 2, width - margin, head.y + 2, press.theme.line)
    if rng.random() < 0.7:
        press.heading(page, 1, prose.title(rng, press.language))
        if rng.random() < 0.5:
            press.prose_block(page, fields.person(rng, press.language), press.text, "paragraph", "centre")
        page.y += press.em(0.8)
    if two:
        gap = press.em(1.6)
        middle = (page.left + page.right) // 2
        columns = [
            Column(page.left, middle - gap // 2, page.y, page.bottom),
            Column(middle + gap // 2, page.right, page.y, page.bottom),
        ]
        if rng.random() < 0.3:
            press.canvas.rule(middle, page.y, middle, page.bottom, press.theme.line)
    else:
        columns = [page]
    for column in columns:
        _fill(press, spec, column)
    if rng.random() < 0.5:
        foot = Column(margin, width - margin, height - margin // 2 - press.em(0.5), height)
        press.prose_block(foot, str(whole(rng, 1, 320)), small, "paragraph", "centre")


def _fill(press: Press, spec: PageSpec, column: Column) -> None:
    """Parts below each other until nothing more fits."""
    setters: dict[Part, Callable[[Column], bool]] = {
        "paragraph": press.paragraph, "list": press.list, "table": press.table, "chart": press.chart, "formula": press.formula,
        "image": press.image, "music": press.music, "chemistry": press.chemistry, "code": press.code,
    }  # fmt: skip
    last, misses, since_heading = "", 0, 0
    while misses < _TRIES:
        if since_heading == 0 or (since_heading > 2 and press.rng.random() < 0.35):
            if press.heading(column, 2 if press.rng.random() < 0.7 else 3):
                press.paragraph(column)
                last, since_heading = "paragraph", 1
            elif since_heading == 0:
                return
        part = _draw(press.rng, [part for part in spec.parts if part == "paragraph" or last == "paragraph"])
        if setters[part](column):
            last, misses, since_heading = part, 0, since_heading + 1
        else:
            misses += 1


def _draw(rng: np.random.Generator, parts: list[Part]) -> Part:
    """A part by weight."""
    edges = np.cumsum([WEIGHTS[part] for part in parts])
    return parts[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]


def samples(spec: PageSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(page_samples(make_page(spec, seed, index), spec.held_out))


def page_samples(page: Page, held_out: bool = False, each: int = 3) -> list[Sample]:
    """What is asked about a page: all of it as QwenVL HTML, its text, its lines with places, where its parts are."""
    voice = voice_of(page, held_out)
    made = Samples(page, voice)
    made.parse(page.blocks)
    lines = [(element.text, page.region(element.box)) for element in page.of_kind("line")]
    made.take("ocr", read_text(page.image, "\n".join(text for text, _ in lines), page.language))
    made.take("ocr_spotting", spot_text(page.image, lines, page.language))
    blocks = [element for element in page.elements if element.kind != "line"]
    made.find(blocks, each, points=1)
    made.name([element for element in blocks if element.kind in ("paragraph", "heading") and element.text], each, written=True)
    made.say("layout", put(voice, "layout"), _layout(page))
    return made.found


def _layout(page: Page) -> list[RegionPart]:
    """Every block under the name of its kind, in reading order; blocks of one kind that follow each other share the name."""
    blocks = [
        (KIND_NAMES[element.kind][0 if page.language == "en" else 1], element)
        for element in page.elements
        if element.kind in KIND_NAMES
    ]
    return [
        RegionPart(name, tuple(page.region(element.box) for _, element in members))
        for name, members in groupby(blocks, key=lambda block: block[0])
    ]
