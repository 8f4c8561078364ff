"""Charts with the data behind them: drawn, asked about, written as JSON and as an HTML table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qwenvl.data.documents.blocks import Block, Rows, table_rows
from qwenvl.data.documents.qwenvl_html import document_parts
from qwenvl.data.formats import json_text
from qwenvl.data.synth.draws import between, draw_language, whole
from qwenvl.data.synth.figures import arithmetic, chart_marks
from qwenvl.data.synth.figures.arithmetic import Matrix, number, shown
from qwenvl.data.synth.figures.asking import Ask, Samples, put, voice_of
from qwenvl.data.synth.figures.canvas import Canvas
from qwenvl.data.synth.figures.chart_data import KIND_NAMES, ChartData, ChartSpec, Cloud, draw_data
from qwenvl.data.synth.figures.chart_frame import Plot, draw_axes, draw_legend, draw_level_axes, draw_look, draw_title
from qwenvl.data.synth.figures.figure import Figure, generator
from qwenvl.data.synth.figures.style import colour_name
from qwenvl.data.wording import Voice
from qwenvl.types import Sample

STREAM = 1
_MARKS = ("bar", "slice", "line", "point", "legend entry", "legend", "title", "axis title", "x label", "y label")


@dataclass(frozen=True, slots=True)
class Chart(Figure):
    """A chart. `colours`: key of style.HUES by the series (or category) that it stands for; empty where they are shades of one."""

    source: ClassVar[str] = "synth/chart"

    data: ChartData
    colours: dict[str, str]

    def truth(self) -> dict[str, Any]:
        """The numbers behind the chart, as JSON."""
        told = {"title": self.data.title, "unit": self.data.unit}
        if self.data.cloud:
            return {"title": self.data.title, "data": _cloud_records(self.data.cloud)}
        assert self.data.matrix is not None
        return {**told, "data": self.data.matrix.records()}

    def rows(self) -> Rows:
        """The same as a table: a header, and a row per category."""
        if self.data.cloud:
            records = _cloud_records(self.data.cloud)
            return table_rows([list(records[0]), *([str(value) for value in record.values()] for record in records)])
        matrix = self.data.matrix
        assert matrix is not None
        body = [[name, *(shown(column[r]) for column in matrix.values)] for r, name in enumerate(matrix.rows.items)]
        return table_rows([[matrix.rows.name, *matrix.columns.items], *body], header_columns=1)

    def block(self) -> Block:
        """The chart as an element of a page that it fills."""
        return Block("chart", (0.0, 0.0, 1.0, 1.0), self.data.title, self.rows())


def _cloud_records(cloud: Cloud) -> list[dict[str, Any]]:
    series = {} if cloud.names == ("",) else {"series": cloud.names}
    return [
        {**({"series": name} if series else {}), cloud.x_name: number(x), cloud.y_name: number(y)}
        for name, points in zip(cloud.names, cloud.points, strict=True)
        for x, y in points
    ]


def make_chart(spec: ChartSpec, seed: int, index: int) -> Chart:
    """Chart number `index` of a stream. The same arguments give the same bytes, in any order and any process."""
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    data = draw_data(rng, spec, language)
    width = whole(rng, *spec.width)
    height = round(width / between(rng, *spec.aspect))
    look = draw_look(rng, data, width, spec.dark_share)
    canvas = Canvas.blank(width, height, look.theme.ground)
    pad = whole(rng, 10, 22)
    plot = Plot(canvas, look, data, language, (pad, pad, width - pad, height - pad))
    _draw(plot, between(rng, -90, 90))
    names = data.cloud.names if data.cloud else _coloured(data, look.varied)
    colours = dict(zip(names, look.palette.names, strict=False)) if len(names) > 1 else {}
    return Chart(canvas.image, tuple(plot.elements), language, seed, index, data, colours)


def _coloured(data: ChartData, varied: bool) -> tuple[str, ...]:
    """What the colours of a chart of a matrix stand for."""
    assert data.matrix is not None
    return data.matrix.rows.items if varied else data.matrix.columns.items


def _draw(plot: Plot, start: float) -> None:
    data, look = plot.data, plot.look
    round_chart = data.kind in ("pie", "donut")
    draw_title(plot, with_unit=(round_chart and data.unit != "%") or not (round_chart or look.axis_titles))
    if round_chart:
        chart_marks.slices(plot, start)
        return
    if data.cloud:
        cloud = data.cloud
        if len(cloud.names) > 1:
            draw_legend(plot, cloud.names, look.legend)
        x_title = plot.say(f"{cloud.x_name} ({cloud.x_unit})", f"{cloud.x_name}（{cloud.x_unit}）")
        draw_axes(plot, (), x_title, cloud.x_axis)
        chart_marks.cloud(plot)
        return
    matrix = data.matrix
    assert matrix is not None
    if not matrix.single:
        draw_legend(plot, matrix.columns.items, look.legend, "line" if data.kind == "line" else "square")
    if data.kind == "horizontal bar":
        draw_level_axes(plot, matrix.rows.items)
        chart_marks.level_bars(plot)
        return
    draw_axes(plot, matrix.rows.items, matrix.rows.name.capitalize())
    {"stacked bar": chart_marks.stacks, "line": chart_marks.lines, "area": chart_marks.lines}.get(data.kind, chart_marks.bars)(plot)


def samples(spec: ChartSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(chart_samples(make_chart(spec, seed, index), spec.held_out))


def chart_samples(chart: Chart, held_out: bool = False, each: int = 3) -> list[Sample]:
    """What is asked about a chart: its numbers, its parts, its data. `each`: at most so many questions of one task."""
    voice = voice_of(chart, held_out)
    made = Samples(chart, voice)
    asks = _cloud_asks(chart.data.cloud, voice) if chart.data.cloud else arithmetic.asks(_given(chart.data.matrix), voice)
    made.ask("chart_qa", asks, 2 * each)
    made.ask("chart_reading", _structure(chart, voice), each)
    made.find(chart.of_kind(*_MARKS), each, points=1)
    made.name(chart.of_kind("bar", "slice", "line", "point", "legend entry"), 1)
    made.name([element for element in chart.elements if element.text], 1, written=True)
    truth = chart.truth()
    made.say("chart_json", put(voice, "chart_json"), json_text(truth), value=truth)
    made.say("chart_table", put(voice, "chart_table"), document_parts([Block("table", rows=chart.rows())], chart.source))
    made.parse([chart.block()])
    return made.found


def _given(matrix: Matrix | None) -> Matrix:
    assert matrix is not None
    return matrix


def _structure(chart: Chart, voice: Voice) -> list[Ask]:
    """What the chart is, and what its colours mean."""
    data = chart.data
    kind = KIND_NAMES[data.kind][0 if voice.language == "en" else 1]
    found = [Ask("chart_kind", {}, kind), Ask("title", {}, data.title)]
    if data.matrix:
        found.append(Ask("unit", {}, data.unit))
        found.append(Ask("category_count", {}, str(len(data.matrix.rows.items))))
        if not data.matrix.single:
            found.append(Ask("series_count", {}, str(len(data.matrix.columns.items))))
    for name, key in chart.colours.items():
        colour = colour_name(key, voice.language)
        found += [Ask("colour_of", {"col": name}, colour), Ask("of_colour", {"colour": colour}, name)]
    return found


def _cloud_asks(cloud: Cloud, voice: Voice) -> list[Ask]:
    points = [point for series in cloud.points for point in series]
    x, y = voice.pick(points)
    slots = {"x_name": cloud.x_name, "y_name": cloud.y_name}
    if voice.language == "en":
        slots = {key: value.lower() for key, value in slots.items()}
    return [
        Ask("point_count", {}, str(len(points))),
        Ask("point_y", {"x": shown(x), **slots}, shown(y), accept=(f"{shown(y)} {cloud.y_unit}",)),
        Ask("point_top", slots, shown(max(y for _, y in points))),
    ]
