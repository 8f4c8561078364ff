"""Setting a page: blocks placed below each other in a column, with the boxes of all that is drawn.

Every method sets one block at the pen and moves the pen below it, or returns False where the column has no room left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from qwenvl.data.documents.blocks import Block, Kind
from qwenvl.data.pictured import caption_text
from qwenvl.data.synth.draws import between, pick, whole
from qwenvl.data.synth.figures import prose
from qwenvl.data.synth.figures.canvas import Box, Canvas, union
from qwenvl.data.synth.figures.chart import make_chart
from qwenvl.data.synth.figures.chart_data import ChartSpec
from qwenvl.data.synth.figures.chemistry import ChemistrySpec, make_chemistry
from qwenvl.data.synth.figures.code import CodeSpec, make_code
from qwenvl.data.synth.figures.figure import Element
from qwenvl.data.synth.figures.formula import MathFont, formula_mask, write_formula
from qwenvl.data.synth.figures.lettering import Family, Type, wrap
from qwenvl.data.synth.figures.music import MusicSpec, make_music
from qwenvl.data.synth.figures.style import Theme
from qwenvl.data.synth.figures.table import with_boxes
from qwenvl.data.synth.figures.table_data import TableSpec, draw_table_data
from qwenvl.data.synth.figures.table_layout import draw_table, draw_table_look, lay_out
from qwenvl.data.synth.names import Language
from qwenvl.data.synth.scene import generate_scene
from qwenvl.data.synth.spec import SceneSpec
from qwenvl.data.wording import Voice, opened
from qwenvl.types import Point

_SEEDS = 2**31


@dataclass(slots=True)
class Column:
    """Where blocks are set: from left to right, from `y` down to the bottom."""

    left: int
    right: int
    y: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left


@dataclass(slots=True)
class Press:
    """A page being set. `justified`: lines of English reach both edges."""

    canvas: Canvas
    theme: Theme
    family: Family
    heads: Family
    size: int
    language: Language
    rng: np.random.Generator
    math: MathFont
    justified: bool
    indented: bool
    blocks: list[Block] = field(default_factory=list)
    elements: list[Element] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    """Headings that are there already."""

    def em(self, count: float) -> int:
        return round(self.size * count)

    @property
    def text(self) -> Type:
        return self.family.plain(self.size)

    def share(self, box: Box) -> tuple[float, float, float, float]:
        """A box in [0, 1] of the page."""
        width, height = self.canvas.image.size
        return (box[0] / width, box[1] / height, box[2] / width, box[3] / height)

    def add(self, block: Block, box: Box, name: str = "", point: Point | None = None) -> None:
        self.blocks.append(block)
        self.elements.append(
            Element(block.kind, box, block.text if block.kind in ("heading", "paragraph", "item") else "", name, point)
        )

    def numbered(self, kind: str) -> tuple[str, int]:
        """What the next figure or table is called, and its number."""
        noun = {"table": ("Table", "表")}.get(kind, ("Figure", "图"))
        self.counts[noun[0]] = number = self.counts.get(noun[0], 0) + 1
        return (f"{noun[0]} {number}" if self.language == "en" else f"{noun[1]}{number}"), number

    def lines(self, texts: Sequence[str], kind: Type, left: float, right: float, y: float, align: str, indent: float = 0.0) -> Box:
        """Lines of one block below each other; returns the box of their ink."""
        boxes = []
        for number, line in enumerate(texts):
            start = left + (indent if number == 0 else 0)
            last = number == len(texts) - 1
            if align == "justified" and not last and " " in line and kind.width(line) > 0.75 * (right - start):
                box = self._spread(line, kind, start, right, y)
            elif align == "centre":
                box = self.canvas.text((left + right) / 2, y, line, kind, self.theme.ink, "centre")
            else:
                box = self.canvas.text(start, y, line, kind, self.theme.ink)
            boxes.append(box)
            self.elements.append(Element("line", box, line))
            y += kind.line_height
        return union(*boxes)

    def _spread(self, line: str, kind: Type, left: float, right: float, y: float) -> Box:
        """A line whose spaces are widened until it fills the column."""
        words = line.split(" ")
        gap = (right - left - sum(map(kind.width, words))) / (len(words) - 1)
        boxes, x = [], left
        for word in words:
            boxes.append(self.canvas.text(x, y, word, kind, self.theme.ink))
            x += kind.width(word) + gap
        return union(*boxes)

    def prose_block(self, column: Column, text: str, kind: Type, block: Kind, align: str = "left", **attributes: str) -> bool:
        """A block of lines: a heading, a paragraph, a caption."""
        indent = kind.size * 2.0 if block == "paragraph" and self.indented and align != "centre" else 0.0
        texts = wrap(text, kind, column.width, indent)
        height = round(kind.line_height * len(texts))
        if column.y + height > column.bottom or not texts:
            return False
        box = self.lines(texts, kind, column.left, column.right, column.y, align, indent)
        name = ""
        if block == "heading":
            name = f"the heading “{text}”" if self.language == "en" else f"标题“{text}”"
        self.add(Block(block, self.share(box), text, attributes=attributes), box, name)
        column.y += height
        return True

    def heading(self, column: Column, level: int, text: str | None = None) -> bool:
        """A heading; it is not set where nothing would fit below it."""
        kind = self.heads.strong(self.size * {1: 1.9, 2: 1.35, 3: 1.12}[level])
        if column.y + kind.line_height + self.em(6) > column.bottom:
            return False
        if text is None:
            column.y += self.em(0.4)
            text = prose.heading(self.rng, self.language, self.used)
            self.used.append(text)
        done = self.prose_block(column, text, kind, "heading", "centre" if level == 1 else "left", level=str(level))
        column.y += self.em(0.35)
        return done

    def paragraph(self, column: Column) -> bool:
        """A paragraph; near the column's end a shorter one, or none."""
        for count in (whole(self.rng, 2, 6), 2, 1):
            text = prose.paragraph(self.rng, count, self.language)
            if self.prose_block(column, text, self.text, "paragraph", "justified" if self.justified else "left"):
                column.y += self.em(0.7)
                return True
        return False

    def list(self, column: Column) -> bool:
        """Items with bullets or numbers."""
        ordered, step = self.rng.random() < 0.5, self.em(1.7)
        texts = [wrap(item, self.text, column.width - step) for item in prose.items(self.rng, whole(self.rng, 2, 5), self.language)]
        if column.y + sum(map(len, texts)) * self.text.line_height > column.bottom:
            return False
        items, boxes = [], []
        for number, item in enumerate(texts, 1):
            sign = self.canvas.text(
                column.left + self.em(0.3), column.y, f"{number}." if ordered else "•", self.text, self.theme.ink
            )
            box = union(sign, self.lines(item, self.text, column.left + step, column.right, column.y, "left"))
            said = (" " if self.language == "en" else "").join(item)
            items.append(Block("item", self.share(box), said))
            boxes.append(box)
            column.y += round(self.text.line_height * len(item))
        column.y += self.em(0.7)
        self.add(
            Block("list", self.share(union(*boxes)), children=tuple(items), attributes={"ordered": "true"} if ordered else {}),
            union(*boxes),
        )
        return True

    def table(self, column: Column) -> bool:
        """A table with its caption above it."""
        data = draw_table_data(self.rng, TableSpec(rows=(2, 6), columns=(2, 4), language=self.language), self.language)
        look = draw_table_look(self.rng, self.theme, self.family, round(self.size * 0.92))
        layout = lay_out(data.rows, look, column.width)
        caption = self.family.plain(self.size * 0.9)
        if layout.size[0] > column.width or column.y + layout.size[1] + 3 * caption.line_height > column.bottom:
            return False
        called, number = self.numbered("table")
        self.prose_block(
            column, prose.caption(self.rng, "table", number, data.title, self.language), caption, "paragraph", "centre"
        )
        column.y += self.em(0.3)
        left = column.left + (column.width - layout.size[0]) // 2
        drawn = draw_table(self.canvas, layout, look, left, column.y)
        self.elements += [Element("line", box, text) for cell in drawn for text, box in cell.lines]
        box = (left, column.y, left + layout.size[0], column.y + layout.size[1])
        self.add(Block("table", self.share(box), rows=with_boxes(data.rows, drawn, self.canvas.image.size)), box, called)
        column.y = box[3] + self.em(1)
        return True

    def picture(
        self, column: Column, image: Image.Image, block: Block, texts: Sequence[Element] = (), name: str = "", gap: float = 0.9
    ) -> bool:
        """A picture in the middle of the column. `block` fills the picture; `texts` are what can be read in it."""
        if image.width > column.width or column.y + image.height > column.bottom:
            return False
        left = column.left + (column.width - image.width) // 2
        box = self.canvas.paste(image, left, column.y)
        self.add(block.moved(self.share(box)), box, name)
        for text in texts:
            x0, y0, x1, y1 = text.box
            self.elements.append(Element("line", (left + x0, column.y + y0, left + x1, column.y + y1), text.text))
        column.y = box[3] + self.em(gap)
        return True

    def chart(self, column: Column) -> bool:
        """A chart with its caption below it, which is a paragraph of its own."""
        width = max(min(column.width, 640), 320)
        spec = ChartSpec(language=self.language, width=(width, width), aspect=(1.3, 1.6), dark_share=0.0, categories=(3, 6))
        chart = make_chart(spec, *self._seed())
        caption = self.family.plain(self.size * 0.9)
        if column.y + chart.image.height + 2.5 * caption.line_height > column.bottom or width > column.width:
            return False
        called, number = self.numbered("chart")
        self.picture(column, chart.image, chart.block(), [element for element in chart.elements if element.text], called, 0.3)
        title = prose.caption(self.rng, "chart", number, chart.data.title, self.language)
        self.prose_block(column, title, caption, "paragraph", "centre")
        column.y += self.em(0.9)
        return True

    def formula(self, column: Column) -> bool:
        """A formula, some with a number at the right edge."""
        latex = write_formula(self.rng, 0.5)
        mask, _ = formula_mask(latex, round(self.size * 1.25), self.math)
        if mask.width > column.width - self.em(3) or column.y + mask.height > column.bottom:
            return False
        box = self.canvas.stamp(mask, column.left + (column.width - mask.width) // 2, column.y, self.theme.ink)
        self.add(Block("formula", self.share(box), latex), box)
        column.y = box[3] + self.em(0.9)
        return True

    def music(self, column: Column) -> bool:
        spec = MusicSpec(language=self.language, bars=(2, 4), bars_per_system=(2, 2), space=(6, 7))
        sheet = make_music(spec, *self._seed())
        return self.picture(column, sheet.image, sheet.block(), sheet.of_kind("title"))

    def chemistry(self, column: Column) -> bool:
        drawing = make_chemistry(ChemistrySpec(language=self.language, bond=(24, 32), rings=(0, 1)), *self._seed())
        return self.picture(column, drawing.image, drawing.block())

    def code(self, column: Column) -> bool:
        size = max(self.size * 0.8, 9)
        code = make_code(CodeSpec(language=self.language, text_size=(size, size * 1.15)), *self._seed())
        return self.picture(column, code.image, code.block(), code.of_kind("title", "line"))

    def image(self, column: Column) -> bool:
        """A scene: without words, with a printed caption, or with lettering that is read."""
        side = min(max(round(column.width * between(self.rng, 0.4, 0.75)), 120), 320)
        kind = pick(self.rng, ("image", "image caption", "image ocr"))
        spec = SceneSpec(kind="text" if kind == "image ocr" else "mixed", canvas=(side, side), aspect=(1.0, 1.6), text_share=0.0)
        scene = generate_scene(spec, *self._seed())
        if kind == "image" or not scene.things:
            return self.picture(column, scene.image, Block("image", (0.0, 0.0, 1.0, 1.0)))
        if kind == "image ocr":
            texts = [Element("line", _whole(thing.box), thing.name) for thing in scene.things]
            words = Block("image ocr", (0.0, 0.0, 1.0, 1.0), "\n".join(text.text for text in texts))
            return self.picture(column, scene.image, words, texts)
        said = opened(caption_text(scene, Voice(self.language, "chat", self.rng)))
        return self._with_words(column, scene.image, said)

    def _with_words(self, column: Column, image: Image.Image, said: str) -> bool:
        """A picture and its caption as one block."""
        kind = self.family.plain(self.size * 0.9)
        if image.width > column.width or column.y + image.height + 3 * kind.line_height > column.bottom:
            return False
        called, number = self.numbered("image")
        text = prose.caption(self.rng, "image", number, said, self.language)
        left = column.left + (column.width - image.width) // 2
        box = self.canvas.paste(image, left, column.y)
        texts = wrap(text, kind, column.width)
        words = self.lines(texts, kind, column.left, column.right, box[3] + self.em(0.35), "centre")
        both = union(box, words)
        self.add(Block("image caption", self.share(both), text, picture=self.share(box)), both, called)
        column.y = both[3] + self.em(1)
        return True

    def _seed(self) -> tuple[int, int]:
        """Seed and index of a figure on the page."""
        return whole(self.rng, 0, _SEEDS), whole(self.rng, 0, _SEEDS)


def _whole(box: tuple[float, float, float, float]) -> Box:
    left, top, right, bottom = map(round, box)
    return (left, top, right, bottom)
