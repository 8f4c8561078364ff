"""What stands around the marks of a chart: title, unit, legend, axes with their labels. What is left in the middle is the plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import numpy as np

from qwenvl.data.synth.draws import between, pick
from qwenvl.data.synth.figures.arithmetic import shown
from qwenvl.data.synth.figures.canvas import Box, Canvas, Colour, Point, union
from qwenvl.data.synth.figures.chart_data import Axis, ChartData
from qwenvl.data.synth.figures.figure import Element
from qwenvl.data.synth.figures.lettering import Family, Type, draw_family
from qwenvl.data.synth.figures.style import Palette, Theme, draw_palette, draw_theme
from qwenvl.data.synth.names import Language

_LEAST_TURNED = 0.55
"""Labels below a slanted axis may take at most this part of the height."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a chart is drawn."""

    theme: Theme
    palette: Palette
    family: Family
    size: int
    centred: bool
    legend: Literal["top", "bottom", "right"]
    grid: bool
    dash: int
    frame: Literal["box", "corner", "base"]
    axis_titles: bool
    bar_share: float
    line_width: float
    marker: Literal["circle", "square", "triangle", "none"]
    varied: bool
    rounded: bool

    @property
    def text(self) -> Type:
        return self.family.plain(self.size)


def draw_look(rng: np.random.Generator, data: ChartData, width: int, dark_share: float) -> Look:
    theme = draw_theme(rng, dark_share)
    varied = data.kind in ("pie", "donut") or (data.kind in ("bar", "horizontal bar") and rng.random() < 0.25)
    if data.cloud:
        count = len(data.cloud.names)
    else:
        assert data.matrix is not None
        count = len(data.matrix.rows.items if varied else data.matrix.columns.items)
    return Look(
        theme,
        draw_palette(rng, count, theme.ground),
        draw_family(rng),
        round(min(max(width / 46, 11), 17) * between(rng, 0.92, 1.12)),
        centred=rng.random() < 0.6,
        legend=pick(rng, ("top", "bottom", "right")),
        grid=rng.random() < 0.75,
        dash=pick(rng, (0, 0, 3, 5)),
        frame=pick(rng, ("box", "corner", "corner", "base")),
        axis_titles=data.cloud is not None or rng.random() < 0.65,
        bar_share=between(rng, 0.5, 0.85),
        line_width=between(rng, 1.6, 3.2),
        marker=pick(rng, ("circle", "circle", "square", "triangle")),
        varied=varied,
        rounded=rng.random() < 0.2,
    )


@dataclass(slots=True)
class Plot:
    """A chart being drawn: `area` is what is still free, and at last the plot itself."""

    canvas: Canvas
    look: Look
    data: ChartData
    language: Language
    area: Box
    elements: list[Element] = field(default_factory=list)

    def say(self, english: str, chinese: str) -> str:
        return english if self.language == "en" else chinese

    def add(self, kind: str, box: Box, text: str = "", name: str = "", point: Point | None = None) -> None:
        self.elements.append(Element(kind, box, text, name, point))

    def shrink(self, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0) -> None:
        self.area = (self.area[0] + left, self.area[1] + top, self.area[2] - right, self.area[3] - bottom)

    def up(self, value: Decimal) -> int:
        """The height of a value of the data's axis, in pixels of the picture."""
        return round(self.area[3] - (self.area[3] - self.area[1]) * self.data.axis.share(value))

    def along(self, axis: Axis, value: Decimal) -> int:
        """The place of a value on a level axis."""
        return round(self.area[0] + (self.area[2] - self.area[0]) * axis.share(value))

    def label(self, x: float, y: float, text: str, kind: str, name: str = "", colour: Colour | None = None, **place: object) -> Box:
        """A text of the chart's own size, as an element."""
        box = self.canvas.text(x, y, text, self.look.text, colour or self.look.theme.muted, **place)  # type: ignore[arg-type]
        self.add(kind, box, text, name)
        return box


def draw_title(plot: Plot, with_unit: bool) -> None:
    """The title, and below it the unit where no axis says it."""
    look, area = plot.look, plot.area
    x, align = ((area[0] + area[2]) / 2, "centre") if look.centred else (area[0], "left")
    kind = look.family.strong(look.size * 1.3)
    title = plot.data.title
    while kind.width(title) > area[2] - area[0] and kind.size > 9:
        kind = kind.sized(kind.size - 1)
    box = plot.canvas.text(x, area[1], title, kind, look.theme.ink, align)  # type: ignore[arg-type]
    plot.add("title", box, title, plot.say("the title", "标题"))
    plot.shrink(top=round(kind.line_height))
    if with_unit:
        text = plot.say(f"Unit: {plot.data.unit}", f"单位：{plot.data.unit}")
        plot.label(x, plot.area[1], text, "unit", plot.say("the unit", "单位"), align=align)
        plot.shrink(top=round(look.text.line_height))
    plot.shrink(top=round(look.size * 0.5))


def draw_legend(plot: Plot, names: Sequence[str], side: Literal["top", "bottom", "right"], swatch: str = "square") -> None:
    """Names beside their colours: a column at the right, or as many rows as they need at top or bottom."""
    look, kind = plot.look, plot.look.text
    mark, gap = round(look.size * 0.85), round(look.size * 0.5)
    widths = [mark + gap + round(kind.width(name)) for name in names]
    step = round(kind.line_height)
    if side == "right":
        width = max(widths)
        height = step * len(names)
        x, y = plot.area[2] - width, plot.area[1] + max((plot.area[3] - plot.area[1] - height) // 3, 0)
        places = [(x, y + step * row) for row in range(len(names))]
        plot.shrink(right=width + 2 * gap)
    else:
        rows = _flow(widths, plot.area[2] - plot.area[0], 3 * gap)
        height = step * len(rows)
        top = plot.area[1] if side == "top" else plot.area[3] - height
        places = []
        for number, row in enumerate(rows):
            x = (plot.area[0] + plot.area[2] - sum(widths[item] for item in row) - 3 * gap * (len(row) - 1)) // 2
            for item in row:
                places.append((x, top + step * number))
                x += widths[item] + 3 * gap
        plot.shrink(**{side: height + gap})
    boxes = []
    for name, colour, (x, y) in zip(names, look.palette.colours, places, strict=True):
        middle = y + step // 2
        if swatch == "line":
            sign = plot.canvas.line([(x, middle), (x + mark, middle)], colour, look.line_width)
        else:
            sign = plot.canvas.rectangle((x, middle - mark // 2, x + mark, middle - mark // 2 + mark), colour)
        box = union(sign, plot.canvas.text(x + mark + gap, middle, name, kind, look.theme.ink, level="middle"))
        plot.add("legend entry", box, name, plot.say(f"the legend entry “{name}”", f"图例项“{name}”"))
        boxes.append(box)
    plot.add("legend", union(*boxes), "", plot.say("the legend", "图例"))


def _flow(widths: Sequence[int], room: int, gap: int) -> list[list[int]]:
    """Numbers of items in rows of at most that width."""
    rows: list[list[int]] = [[]]
    used = 0
    for item, width in enumerate(widths):
        if rows[-1] and used + gap + width > room:
            rows.append([])
            used = 0
        used += width + (gap if rows[-1] else 0)
        rows[-1].append(item)
    return rows


def value_title(plot: Plot) -> str:
    """What the axis of values is called: its measure and unit."""
    measure, unit = plot.data.measure, plot.data.unit
    return plot.say(f"{measure} ({unit})", f"{measure}（{unit}）")


def draw_axes(plot: Plot, categories: Sequence[str], category_title: str, x_axis: Axis | None = None) -> None:
    """Axes of an upright chart: values at the left, categories (or the numbers of `x_axis`) below."""
    look, kind, axis = plot.look, plot.look.text, plot.data.axis
    pad = round(look.size * 0.45)
    if look.axis_titles:
        _side_title(plot, value_title(plot))
    widest = max(round(kind.width(shown(tick))) for tick in axis.ticks)
    above = _room_for_numbers(plot)
    below = above if axis.low < 0 else 0
    beyond = round(kind.width(shown(x_axis.high)) / 2) if x_axis else 0
    plot.shrink(left=widest + 2 * pad, top=round(kind.line_height / 2) + above, right=max(pad, beyond))
    slot = (plot.area[2] - plot.area[0]) / max(len(categories), 1)
    if x_axis:
        turn, depth = 0, round(kind.line_height)
    else:
        turn, depth = _turn(categories, kind, slot, plot.area[3] - plot.area[1])
    if look.axis_titles and category_title:
        bottom = plot.area[3]
        middle = (plot.area[0] + plot.area[2]) / 2
        plot.label(
            middle,
            bottom,
            category_title,
            "axis title",
            plot.say("the title of the x axis", "横轴标题"),
            align="centre",
            level="bottom",
        )
        plot.shrink(bottom=round(kind.line_height))
    plot.shrink(bottom=depth + pad + below)
    _grid(plot)
    left, bottom = plot.area[0], plot.area[3] + below
    if x_axis:
        for tick in x_axis.ticks:
            x = plot.along(x_axis, tick)
            plot.canvas.rule(x, bottom, x, bottom + pad // 2 + 1, look.theme.muted)
            plot.label(x, bottom + pad, shown(tick), "x label", align="centre")
    for place, name in enumerate(categories):
        label = plot.say(f"the x axis label “{name}”", f"横轴标签“{name}”")
        plot.label(
            left + slot * (place + 0.5), bottom + pad, name, "x label", label, align="right" if turn == 45 else "centre", turn=turn
        )


def _room_for_numbers(plot: Plot) -> int:
    """What numbers beside the marks need beyond the ends of the axis; those of narrow bars may stand upright."""
    matrix = plot.data.matrix
    if matrix is None or not plot.data.labelled:
        return 0
    kind = plot.look.text
    widest = max(kind.width(shown(value)) for column in matrix.values for value in column)
    return round(widest if plot.data.kind == "grouped bar" else kind.line_height * 0.8) + 4


def _side_title(plot: Plot, text: str) -> None:
    kind = plot.look.text
    middle = (plot.area[1] + plot.area[3]) / 2
    name = plot.say("the title of the y axis", "纵轴标题")
    plot.label(plot.area[0], middle, text, "axis title", name, turn=90, level="middle")
    plot.shrink(left=round(kind.line_height))


def _turn(names: Sequence[str], kind: Type, slot: float, height: int) -> tuple[int, int]:
    """How far labels are turned so that they do not touch, and how deep they reach."""
    widest = max(kind.width(name) for name in names)
    if widest < slot * 0.92:
        return 0, round(kind.line_height)
    slanted = round(0.71 * (widest + kind.size) + 2)
    if kind.size * 1.5 < slot and slanted < height * _LEAST_TURNED:
        return 45, slanted
    return 90, round(widest) + 2


def _grid(plot: Plot) -> None:
    """Level lines with their numbers, and the frame."""
    look, (left, top, right, bottom) = plot.look, plot.area
    pad = round(look.size * 0.45)
    for tick in plot.data.axis.ticks:
        y = plot.up(tick)
        if look.grid:
            plot.canvas.rule(left, y, right, y, look.theme.line, dash=look.dash)
        else:
            plot.canvas.rule(left - pad // 2 - 1, y, left, y, look.theme.muted)
        text = shown(tick)
        plot.label(left - pad - 2, y, text, "y label", align="right", level="middle")
    if look.frame == "box":
        plot.canvas.rectangle((left, top, right + 1, bottom + 1), None, look.theme.muted)
    elif look.frame == "corner":
        plot.canvas.rule(left, top, left, bottom, look.theme.muted)
    plot.canvas.rule(left, bottom, right, bottom, look.theme.muted)


def draw_level_axes(plot: Plot, categories: Sequence[str]) -> None:
    """Axes of a chart on its side: categories at the left, values below."""
    look, kind, axis = plot.look, plot.look.text, plot.data.axis
    pad = round(look.size * 0.45)
    widest = max(round(kind.width(name)) for name in categories)
    plot.shrink(left=widest + 2 * pad, right=round(kind.width(shown(axis.high)) / 2) + pad)
    if look.axis_titles:
        middle = (plot.area[0] + plot.area[2]) / 2
        name = plot.say("the title of the x axis", "横轴标题")
        plot.label(middle, plot.area[3], value_title(plot), "axis title", name, align="centre", level="bottom")
        plot.shrink(bottom=round(kind.line_height))
    plot.shrink(bottom=round(kind.line_height) + pad)
    left, top, right, bottom = plot.area
    for tick in axis.ticks:
        x = plot.along(axis, tick)
        if look.grid:
            plot.canvas.rule(x, top, x, bottom, look.theme.line, dash=look.dash)
        plot.canvas.rule(x, bottom, x, bottom + pad // 2 + 1, look.theme.muted)
        plot.label(x, bottom + pad, shown(tick), "x label", align="centre")
    slot = (bottom - top) / len(categories)
    for place, name in enumerate(categories):
        label = plot.say(f"the y axis label “{name}”", f"纵轴标签“{name}”")
        plot.label(left - pad, top + slot * (place + 0.5), name, "y label", label, align="right", level="middle")
    if look.frame == "box":
        plot.canvas.rectangle((left, top, right + 1, bottom + 1), None, look.theme.muted)
    plot.canvas.rule(left, top, left, bottom, look.theme.muted)
