"""The marks of charts: bars, lines, areas, slices, points, and the numbers written beside them. Each mark is an element."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from decimal import Decimal

from PIL import Image, ImageDraw

from qwenvl.data.synth import fonts
from qwenvl.data.synth.figures.arithmetic import Matrix, shown
from qwenvl.data.synth.figures.canvas import OVERSAMPLING, Box, Colour, Point
from qwenvl.data.synth.figures.chart_frame import Plot, draw_legend

_BACK = 4
"""Pixels between a mark and the number beside it."""


def _matrix(plot: Plot) -> Matrix:
    assert plot.data.matrix is not None, f"a {plot.data.kind} chart without a matrix"
    return plot.data.matrix


def _name(plot: Plot, noun: str, chinese: str, row: str, column: str | None = None) -> str:
    """ "the bar of Berlin", "the Online bar of Berlin"; 柏林的柱子, 柏林线上的柱子."""
    kind = f"{column} {noun}" if column else noun
    return plot.say(f"the {kind} of {row}", f"{row}{column or ''}的{chinese}")


def bars(plot: Plot) -> None:
    """One bar per category, or a group of them side by side."""
    matrix, look = _matrix(plot), plot.look
    left, _, right, _ = plot.area
    slot = (right - left) / len(matrix.rows.items)
    width = max(slot * look.bar_share / len(matrix.columns.items), 3.0)
    base = plot.up(max(plot.data.axis.low, Decimal(0)))
    for r, row in enumerate(matrix.rows.items):
        start = left + slot * (r + 0.5) - width * len(matrix.columns.items) / 2
        for c, column in enumerate(matrix.columns.items):
            value = matrix.values[c][r]
            x0, x1, y = round(start + width * c), round(start + width * (c + 1)) - (1 if not matrix.single else 0), plot.up(value)
            colour = look.palette.colours[r if look.varied else c]
            box = (x0, min(y, base), x1, max(y, base))
            if box[1] < box[3]:
                plot.canvas.rectangle(box, colour)
                plot.add("bar", box, name=_name(plot, "bar", "柱子", row, None if matrix.single else column))
            if plot.data.labelled:
                _above(plot, (x0 + x1) / 2, y, value, slot if matrix.single else width)


def _above(plot: Plot, x: float, y: int, value: Decimal, room: float) -> None:
    """A number above a mark (below where it is negative), upright where there is no room for it level."""
    text, kind = shown(value), plot.look.text
    turn = 0 if kind.width(text) <= room * 0.95 else 90
    up = value >= 0
    place = y - _BACK if up else y + _BACK
    plot.label(
        x, place, text, "value label", colour=plot.look.theme.ink, align="centre", level="bottom" if up else "top", turn=turn
    )


def level_bars(plot: Plot) -> None:
    """One bar per category from the left to the right."""
    matrix, look, axis = _matrix(plot), plot.look, plot.data.axis
    _, top, _, bottom = plot.area
    slot = (bottom - top) / len(matrix.rows.items)
    base = plot.along(axis, max(axis.low, Decimal(0)))
    for r, row in enumerate(matrix.rows.items):
        value = matrix.values[0][r]
        middle, half, x = top + slot * (r + 0.5), slot * look.bar_share / 2, plot.along(axis, value)
        box = (min(x, base), round(middle - half), max(x, base), round(middle + half))
        if box[0] < box[2]:
            plot.canvas.rectangle(box, look.palette.colours[r if look.varied else 0])
            plot.add("bar", box, name=_name(plot, "bar", "条形", row))
        if plot.data.labelled:
            right = value >= 0
            place = box[2] + _BACK if right else box[0] - _BACK
            align = "left" if right else "right"
            plot.label(place, middle, shown(value), "value label", colour=look.theme.ink, align=align, level="middle")


def stacks(plot: Plot) -> None:
    """One bar per category, of as many parts as there are series."""
    matrix, look = _matrix(plot), plot.look
    left, _, right, _ = plot.area
    slot = (right - left) / len(matrix.rows.items)
    for r, row in enumerate(matrix.rows.items):
        middle, half = left + slot * (r + 0.5), slot * look.bar_share / 2
        reached = Decimal(0)
        for c, column in enumerate(matrix.columns.items):
            upper = reached + matrix.values[c][r]
            box = (round(middle - half), plot.up(upper), round(middle + half), plot.up(reached))
            plot.canvas.rectangle(box, look.palette.colours[c])
            plot.add("bar", box, name=_name(plot, "part of the bar", "柱段", row, column))
            reached = upper


def lines(plot: Plot) -> None:
    """A line per series, with markers on its points; in an area chart all areas lie below all lines."""
    matrix, look = _matrix(plot), plot.look
    left, _, right, _ = plot.area
    slot = (right - left) / len(matrix.rows.items)
    series: list[list[Point]] = [
        [(left + slot * (r + 0.5), plot.up(value)) for r, value in enumerate(values)] for values in matrix.values
    ]
    if plot.data.kind == "area":
        base = plot.up(plot.data.axis.low)
        for points, colour in zip(series, look.palette.colours, strict=True):
            plot.canvas.polygon([(points[0][0], base), *points, (points[-1][0], base)], colour, opacity=0.35)
    for c, (column, points) in enumerate(zip(matrix.columns.items, series, strict=True)):
        colour = look.palette.colours[c]
        box = plot.canvas.line(points, colour, look.line_width)
        name = plot.say("the line", "折线") if matrix.single else plot.say(f"the line of {column}", f"{column}的折线")
        plot.add("line", box, name=name, point=points[len(points) // 2])
        for row, value, (x, y) in zip(matrix.rows.items, matrix.values[c], points, strict=True):
            if look.marker != "none":
                named = _name(plot, "point", "数据点", row, None if matrix.single else column)
                plot.add("point", mark(plot, x, y, colour), name=named)
            if plot.data.labelled:
                above = y - look.size * 0.45
                plot.label(x, above, shown(value), "value label", colour=look.theme.ink, align="centre", level="bottom")


def mark(plot: Plot, x: float, y: float, colour: Colour, scale: float = 1.0) -> Box:
    """A marker centred on a point."""
    radius = plot.look.size * 0.3 * scale
    if plot.look.marker == "square":
        return plot.canvas.rectangle((round(x - radius), round(y - radius), round(x + radius), round(y + radius)), colour)
    if plot.look.marker == "triangle":
        corners = [(x, y - radius * 1.2), (x + radius * 1.15, y + radius * 0.8), (x - radius * 1.15, y + radius * 0.8)]
        return plot.canvas.polygon(corners, colour)
    return plot.canvas.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def cloud(plot: Plot) -> None:
    """The points of a scatter chart."""
    points = plot.data.cloud
    assert points is not None
    for name, places, colour in zip(points.names, points.points, plot.look.palette.colours, strict=True):
        for x, y in places:
            box = mark(plot, plot.along(points.x_axis, x), plot.up(y), colour, 1.2)
            called = plot.say(f"the {name} point at ({shown(x)}, {shown(y)})", f"{name}({shown(x)}, {shown(y)})处的点").replace(
                "  ", " "
            )
            plot.add("point", box, name=called)


def slices(plot: Plot, start: float) -> None:
    """A pie or a donut from the angle `start` on, clockwise; names and numbers beside it, or in a legend where they would meet."""
    matrix, look = _matrix(plot), plot.look
    values, names = matrix.values[0], matrix.rows.items
    total = sum(values, Decimal(0))
    unit = "%" if matrix.unit == "%" else ""
    said = [f"{name} {shown(value)}{unit}" for name, value in zip(names, values, strict=True)]
    edges = [start]
    for value in values:
        edges.append(edges[-1] + float(360 * value / total))
    widest = max(look.text.width(text) for text in said)
    beside = _keep_apart(plot, edges, widest)
    if not beside:
        draw_legend(plot, said, look.legend)
    centre, radius = _circle(plot, widest + look.size if beside else 0)
    for place, (name, begin, end) in enumerate(zip(names, edges, edges[1:], strict=False)):
        box = _slice(plot, centre, radius, begin, end, look.palette.colours[place])
        angle = math.radians((begin + end) / 2)
        inside = (centre[0] + math.cos(angle) * radius * 0.75, centre[1] + math.sin(angle) * radius * 0.75)
        plot.add("slice", box, name=_name(plot, "slice", "扇区", name), point=inside)
        if beside:
            x, y = (
                centre[0] + math.cos(angle) * (radius + look.size * 0.6),
                centre[1] + math.sin(angle) * (radius + look.size * 0.6),
            )
            align = "left" if math.cos(angle) >= 0 else "right"
            plot.label(x, y, said[place], "slice label", align=align, level="middle", colour=look.theme.ink)


def _circle(plot: Plot, margin: float) -> tuple[Point, float]:
    left, top, right, bottom = plot.area
    lines = plot.look.text.line_height if margin else 0
    radius = min((right - left) / 2 - margin, (bottom - top) / 2 - lines)
    return ((left + right) / 2, (top + bottom) / 2), radius


def _keep_apart(plot: Plot, edges: list[float], widest: float) -> bool:
    """Whether labels beside the slices leave room for them and do not touch each other."""
    _, radius = _circle(plot, widest + plot.look.size)
    if radius < min(plot.area[2] - plot.area[0], plot.area[3] - plot.area[1]) * 0.22:
        return False
    heights: dict[bool, list[float]] = {True: [], False: []}
    for begin, end in itertools.pairwise(edges):
        angle = math.radians((begin + end) / 2)
        heights[math.cos(angle) >= 0].append(math.sin(angle) * (radius + plot.look.size * 0.6))
    for side in heights.values():
        ordered = sorted(side)
        if any(second - first < plot.look.text.line_height for first, second in itertools.pairwise(ordered)):
            return False
    return True


def _slice(plot: Plot, centre: Point, radius: float, begin: float, end: float, colour: Colour) -> Box:
    """One slice, with a thin gap of the ground's colour to its neighbours."""
    inner = radius * 0.55 if plot.data.kind == "donut" else 0.0
    left, top, side = round(centre[0] - radius), round(centre[1] - radius), math.ceil(2 * radius)

    def painted(paint: Callable[[ImageDraw.ImageDraw, int], None]) -> Image.Image:
        mask = Image.new("L", (side * OVERSAMPLING, side * OVERSAMPLING))
        paint(ImageDraw.Draw(mask), side * OVERSAMPLING)
        return fonts.clean(mask.reduce(OVERSAMPLING))

    def paint(pen: ImageDraw.ImageDraw, full: int) -> None:
        middle, gap = full / 2, 1.2 * OVERSAMPLING
        pen.pieslice((0, 0, full - 1, full - 1), begin, end, fill=255)
        for angle in (begin, end):
            reach = (middle + full * math.cos(math.radians(angle)), middle + full * math.sin(math.radians(angle)))
            pen.line([(middle, middle), reach], 0, round(gap))
        if inner:
            hole = inner * OVERSAMPLING
            pen.ellipse((middle - hole, middle - hole, middle + hole, middle + hole), fill=0)

    return plot.canvas.stamp(painted(paint), left, top, colour)
