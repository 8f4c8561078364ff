"""What a chart says, before it is drawn: its kind, a matrix of numbers or a cloud of points, and the axis that they are read from.

Where values are not written beside the marks they lie on the axis's lines or half-way between two, so that the chart alone gives
every one of them exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field, model_validator

from qwenvl.data.synth.draws import between, pick, whole
from qwenvl.data.synth.figures.arithmetic import Matrix
from qwenvl.data.synth.figures.figure import FigureSpec
from qwenvl.data.synth.figures.words import Group, book, draw_group, draw_topic, say
from qwenvl.data.synth.names import Language

ChartKind = Literal["bar", "horizontal bar", "grouped bar", "stacked bar", "line", "area", "pie", "donut", "scatter"]
KIND_NAMES: dict[str, tuple[str, str]] = {
    "bar": ("bar chart", "柱状图"),
    "horizontal bar": ("horizontal bar chart", "条形图"),
    "grouped bar": ("grouped bar chart", "分组柱状图"),
    "stacked bar": ("stacked bar chart", "堆叠柱状图"),
    "line": ("line chart", "折线图"),
    "area": ("area chart", "面积图"),
    "pie": ("pie chart", "饼图"),
    "donut": ("donut chart", "环形图"),
    "scatter": ("scatter chart", "散点图"),
}
_SEVERAL = ("grouped bar", "stacked bar", "line", "area")
_ROUND = ("pie", "donut")
_MOST_NUMBERS = 12
"""Numbers that have room above the bars of groups."""


class ChartSpec(FigureSpec):
    """What charts may be."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "chart_qa", "chart_reading", "chart_json", "chart_table", "document_parsing", "grounding", "point",
        "element_naming", "reading",
    )  # fmt: skip

    kinds: tuple[ChartKind, ...] = get_args(ChartKind)
    width: tuple[int, int] = (440, 900)
    """Least and greatest width in pixels."""
    aspect: tuple[float, float] = (1.15, 1.9)
    """Least and greatest width by height."""
    categories: tuple[int, int] = (3, 8)
    series: tuple[int, int] = (2, 4)
    """Of kinds that may have several."""
    labelled_share: float = Field(default=0.5, ge=0, le=1)
    """Share of charts with their values written beside the marks, of kinds that have room for them."""
    dark_share: float = Field(default=0.15, ge=0, le=1)

    @model_validator(mode="after")
    def _is_drawable(self) -> ChartSpec:
        for name in ("width", "aspect", "categories", "series"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: needs 0 < least <= greatest, not {low}, {high}")
        if not self.kinds:
            raise ValueError("kinds: name at least one")
        if self.width[0] < 320 or self.width[0] / self.aspect[1] < 200:
            raise ValueError("width and aspect: a chart needs 320 x 200 pixels at least")
        if self.categories[0] < 2:
            raise ValueError("categories: two at least")
        return self


@dataclass(frozen=True, slots=True)
class Axis:
    """Numbers from `low` to `high`, both lines of the axis, in steps."""

    low: Decimal
    high: Decimal
    step: Decimal

    @property
    def ticks(self) -> list[Decimal]:
        return [self.low + self.step * place for place in range(int((self.high - self.low) / self.step) + 1)]

    def share(self, value: Decimal) -> float:
        """Where a value lies between low (0) and high (1)."""
        return float((value - self.low) / (self.high - self.low))


@dataclass(frozen=True, slots=True)
class Cloud:
    """The points of a scatter chart: (x, y) of each, by series."""

    names: tuple[str, ...]
    points: tuple[tuple[tuple[Decimal, Decimal], ...], ...]
    x_name: str
    y_name: str
    x_unit: str
    y_unit: str
    x_axis: Axis


@dataclass(frozen=True, slots=True)
class ChartData:
    """One of `matrix` and `cloud` is there, the cloud for a scatter chart. `labelled`: values are written beside the marks."""

    kind: ChartKind
    title: str
    measure: str
    unit: str
    axis: Axis
    labelled: bool
    matrix: Matrix | None = None
    cloud: Cloud | None = None


def nice_axis(low: float, high: float, steps: int) -> Axis:
    """An axis of about so many steps of 1, 2, 2.5 or 5 times a power of ten that covers low to high, and zero."""
    low = min(low, 0.0)
    wanted = (high - low) / steps
    power = Decimal(1)
    while power * 10 <= Decimal(wanted):
        power *= 10
    while power > Decimal(wanted):
        power /= 10
    step = next(
        power * factor
        for factor in (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))
        if float(power * factor) >= wanted
    )
    first = int(np.floor(low / float(step)))
    last = int(np.ceil(high / float(step)))
    return Axis(step * first, step * last, step)


def draw_data(rng: np.random.Generator, spec: ChartSpec, language: Language) -> ChartData:
    """A chart's content."""
    kind = pick(rng, spec.kinds)
    if kind == "scatter":
        return _scatter(rng, language)
    topic = draw_topic(rng)
    additive_needed = kind == "stacked bar" or kind in _ROUND
    while (additive_needed and not topic["flow"]) or (topic["range"][0] < 0 and kind == "area"):
        topic = draw_topic(rng)
    count = whole(rng, *spec.categories)
    if kind in _ROUND:
        count = min(count, 7)
    over = [key for key in topic["over"] if kind not in ("line", "area") or _is_time(key)] or ["years"]
    rows = draw_group(rng, pick(rng, over), count, language)
    several = kind in _SEVERAL and (kind in ("grouped bar", "stacked bar") or rng.random() < 0.65)
    columns = _columns(rng, spec, topic, rows, language) if several else None
    title = _title(rng, topic, rows, columns, language)
    if kind in _ROUND:
        return _shares(rng, kind, topic, rows, title, language)
    return _matrix_chart(rng, spec, kind, topic, rows, columns, title, language)


def _is_time(key: str) -> bool:
    return key == "years" or bool(book("words")["groups"][key].get("time"))


def _columns(rng: np.random.Generator, spec: ChartSpec, topic: dict[str, Any], rows: Group, language: Language) -> Group:
    keys = [key for key in topic["by"] if key != rows.key] or ["regions"]
    return draw_group(rng, pick(rng, keys), max(whole(rng, *spec.series), 2), language)


def _title(rng: np.random.Generator, topic: dict[str, Any], rows: Group, columns: Group | None, language: Language) -> str:
    measure = say(topic["title"], language)
    if rng.random() < 0.3 or topic.get("plain"):
        return measure
    year = whole(rng, 2010, 2024)
    if language == "zh":
        if columns is not None:
            return f"各{columns.name}{measure}"
        return f"各{rows.name}{measure}" if rows.time or rng.random() < 0.5 else f"{year}年{measure}"
    if columns is not None:
        return f"{measure} by {rows.name} and {columns.name}"
    return f"{measure} by {rows.name}" if rows.time or rng.random() < 0.5 else f"{measure}, {year}"


def _matrix_chart(
    rng: np.random.Generator,
    spec: ChartSpec,
    kind: ChartKind,
    topic: dict[str, Any],
    rows: Group,
    columns: Group | None,
    title: str,
    language: Language,
) -> ChartData:
    series = len(columns.items) if columns else 1
    low, high = topic["range"]
    top = low + (high - low) * between(rng, 0.25, 1.0) if low >= 0 else high * between(rng, 0.4, 1.0)
    axis = nice_axis(
        low if low < 0 else 0, top * (series if kind == "stacked bar" else 1), 8 if kind == "stacked bar" else whole(rng, 4, 6)
    )
    room = {"bar": True, "horizontal bar": True, "grouped bar": series * len(rows.items) <= _MOST_NUMBERS, "line": series == 1}
    labelled = rng.random() < spec.labelled_share and room.get(kind, False)
    unit = axis.step / 2
    if labelled:
        unit = Decimal("0.1") if axis.high <= 50 and rng.random() < 0.5 else Decimal(1)
    values = _numbers(rng, kind, axis, unit, low, len(rows.items), series)
    columns = columns or Group("", "", (say(topic["title"], language),), False)
    flows = not topic.get("mean")
    matrix = Matrix(
        title, say(topic["unit"], language), rows, columns, values,
        additive=flows and (topic["flow"] or not rows.time), across=flows and (topic["flow"] or not columns.time),
    )  # fmt: skip
    return ChartData(kind, title, say(topic["title"], language), matrix.unit, axis, labelled, matrix)


def _numbers(
    rng: np.random.Generator, kind: ChartKind, axis: Axis, unit: Decimal, low: float, rows: int, series: int
) -> tuple[tuple[Decimal, ...], ...]:
    """values[series][row], multiples of `unit` on the axis; stacked ones on top of each other too, those of several lines apart, so
    that no point hides another. None is 0 but of a topic that goes below."""
    least, most = int(axis.low / unit), int(axis.high / unit)
    if low >= 0:
        least = max(min(max(int(Decimal(str(low)) / unit / 2), 1), most // 3), 1)
    columns: list[list[int]] = []
    while len(columns) < rows:
        if kind == "stacked bar":
            parts = [whole(rng, 1, max(round(1.6 * most / series), 2)) for _ in range(series)]
            fits = sum(parts) <= most
        else:
            parts = [whole(rng, least, most) for _ in range(series)]
            fits = kind not in ("line", "area") or len(set(parts)) == series
        columns += [parts] if fits else []
    return tuple(tuple(unit * part for part in parts) for parts in zip(*columns, strict=True))


def _shares(
    rng: np.random.Generator, kind: ChartKind, topic: dict[str, Any], rows: Group, title: str, language: Language
) -> ChartData:
    """Parts of a whole, the smallest not below 4 %: percentages that add up to 100, or numbers."""
    count = len(rows.items)
    weights = rng.random(count) + 0.25
    if rng.random() < 0.6:
        parts = [max(round(100 * float(weight) / float(weights.sum())), 4) for weight in weights]
        parts[parts.index(max(parts))] += 100 - sum(parts)
        unit = "%"
        if not topic.get("plain"):  # of a survey its title says all
            title = say(["Share of {}", "{}占比"], language).format(title[:1].lower() + title[1:] if language == "en" else title)
    else:
        high = topic["range"][1]
        parts = [max(round(high * float(weight)), 1) for weight in weights]
        unit = say(topic["unit"], language)
    values = tuple(Decimal(part) for part in parts)
    matrix = Matrix(title, unit, rows, Group("", "", (say(topic["title"], language),), False), (values,))
    return ChartData(
        kind,
        title,
        say(topic["title"], language),
        unit,
        Axis(Decimal(0), sum(values, Decimal(0)), sum(values, Decimal(0))),
        True,
        matrix,
    )


def _scatter(rng: np.random.Generator, language: Language) -> ChartData:
    topic = pick(rng, book("words")["scatters"])
    (x_low, x_high), (y_low, y_high) = topic["x_range"], topic["y_range"]
    x_axis = nice_axis(0, x_high, 10) if x_low == 0 else Axis(Decimal(x_low), Decimal(x_high), Decimal(5))
    y_axis = nice_axis(0, y_high, 8) if y_low == 0 else Axis(Decimal(y_low), Decimal(y_high), Decimal(10))
    names = ("",) if rng.random() < 0.6 else draw_group(rng, pick(rng, ["regions", "cities", "years"]), 2, language).items
    x_unit, y_unit = x_axis.step / 2, y_axis.step / 2
    columns, rows = int((x_axis.high - x_axis.low) / x_unit), int((y_axis.high - y_axis.low) / y_unit)
    free = [int(place) for place in rng.permutation(columns - 1) + 1]
    points = []
    for _ in names:
        places = []
        for _ in range(min(whole(rng, 4, 9), len(free) // 2)):
            column = free.pop()
            along = column / columns if topic["slope"] > 0 else 1 - column / columns
            height = round(rows * min(max(along + between(rng, -0.18, 0.18), 0.05), 0.95))
            places.append((x_axis.low + x_unit * column, y_axis.low + y_unit * height))
        points.append(tuple(sorted(places)))
    x_name, y_name, x_unit_name, y_unit_name = (say(topic[key], language) for key in ("x", "y", "x_unit", "y_unit"))
    cloud = Cloud(names, tuple(points), x_name, y_name, x_unit_name, y_unit_name, x_axis)
    return ChartData("scatter", say(topic["title"], language), y_name, y_unit_name, y_axis, False, cloud=cloud)
