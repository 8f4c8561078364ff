"""The truth of figures: answers follow from the data, the drawing shows the data, and every notation says what is drawn."""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest

from qwenvl.data.synth.figures import arithmetic
from qwenvl.data.synth.figures.arithmetic import Matrix
from qwenvl.data.synth.figures.asking import Ask
from qwenvl.data.synth.figures.chart import make_chart
from qwenvl.data.synth.figures.chart_data import ChartSpec, nice_axis
from qwenvl.data.synth.figures.form import FormSpec, make_form
from qwenvl.data.synth.figures.icon import IconSpec, icon_keys, icon_mask, make_icon
from qwenvl.data.synth.figures.screen import ScreenSpec, make_screen, screen_samples
from qwenvl.data.synth.figures.table import make_table
from qwenvl.data.synth.figures.table_data import HEADERS, TableSpec
from qwenvl.data.synth.figures.words import Group, book
from qwenvl.data.wording import Voice
from tests.figures import KINDS, said

pytestmark = pytest.mark.usefixtures("figure_sources")


def voice(seed: int = 0, language: Any = "en") -> Voice:
    return Voice(language, "chat", np.random.default_rng(seed))


# Arithmetic

MONTHS = Group("months", "month", ("Jan", "Feb", "Mar", "Apr"), True)
SHOPS = Group("channels", "channel", ("Online", "Retail"), False)
SALES = Matrix("Sales", "USD", MONTHS, SHOPS, (tuple(map(Decimal, (10, 30, 20, 40))), tuple(map(Decimal, ("5", "2.5", "10", "8")))))


def test_answers_are_the_ones_worked_out_by_hand() -> None:
    by_kind: dict[str, set[str]] = {}
    for seed in range(40):
        for ask in arithmetic.asks(SALES, voice(seed)):
            by_kind.setdefault(f"{ask.kind}{ask.slots.get('of', '')}", set()).add(ask.answer)
    assert by_kind["total of Online"] == {"100"} and by_kind["total of Retail"] == {"25.5"}
    assert by_kind["mean of Online"] == {"25"} and by_kind["mean of Retail"] == {"6.38"}
    assert by_kind["highest of Online"] == {"Apr"} and by_kind["lowest of Retail"] == {"Feb"}
    assert by_kind["second of Online"] == {"Feb"} and by_kind["span of Retail"] == {"7.5"}
    assert "rise of Online" not in by_kind, "two steps up are the largest"
    assert by_kind["rise of Retail"] == {"Feb to Mar"}
    assert by_kind["above of Online"] == {"1", "2", "3"}, "no count that the number of months alone would give"
    assert by_kind["sum_rows of Online"] == {"40", "30", "50", "60", "70"}
    assert by_kind["ratio of Online"] == {"3", "2", "4", "1.5"}, "40 / 30 has no end"
    assert by_kind["sum_columns"] == {"15", "32.5", "30", "48"} == by_kind["row_total"]
    assert by_kind["compare of Online"] == {"Yes", "No"}
    assert by_kind["best_column"] == {"Online"}


def independent(ask: Ask, records: list[dict[str, Any]], row_noun: str) -> set[str]:
    """The answers that the records allow, by fractions."""
    slots = ask.slots
    column = re.sub(r"^ of |的$", "", slots.get("of", "")) or list(records[0])[-1]
    values = {
        str(record.pop(row_noun)): {key: Fraction(str(value)) for key, value in record.items()} for record in map(dict, records)
    }
    here = [row[column] for row in values.values()] if column in list(records[0])[1:] else []

    def said_of(value: Fraction) -> set[str]:
        return {str(int(value)) if value.denominator == 1 else str(float(value))}

    row, row2 = (values.get(slots.get(name), {}).get(column, Fraction(0)) for name in ("row", "row2"))
    ordered = sorted(here, reverse=True)
    return {
        "value": lambda: said_of(row),
        "argument": lambda: {name for name, cells in values.items() if cells[column] == Fraction(slots["value"])},
        "highest": lambda: {name for name, cells in values.items() if cells[column] == ordered[0]},
        "lowest": lambda: {name for name, cells in values.items() if cells[column] == ordered[-1]},
        "second": lambda: {name for name, cells in values.items() if cells[column] == ordered[1]},
        "span": lambda: said_of(ordered[0] - ordered[-1]),
        "total": lambda: said_of(sum(here, Fraction(0))),
        "sum_rows": lambda: said_of(row + row2),
        "difference": lambda: said_of(row - row2),
        "ratio": lambda: said_of(row / row2),
        "compare": lambda: {"Yes", "是"} if row > row2 else {"No", "否"},
        "above": lambda: said_of(Fraction(sum(value > Fraction(slots["limit"]) for value in here))),
        "mean": lambda: {ask.answer} if abs(Fraction(ask.answer) * len(here) - sum(here)) <= Fraction(len(here), 200) else set(),
        "rise": lambda: _steepest(here, list(values)),
        "best_column": lambda: {max(values[slots["row"]], key=values[slots["row"]].__getitem__)},
        "row_total": lambda: said_of(sum(values[slots["row"]].values(), Fraction(0))),
        "sum_columns": lambda: said_of(values[slots["row"]][slots["col"]] + values[slots["row"]][slots["col2"]]),
    }[ask.kind]()


def _steepest(values: list[Fraction], names: list[str]) -> set[str]:
    steps = [after - before for before, after in pairwise(values)]
    at = steps.index(max(steps))
    return {f"{names[at]} to {names[at + 1]}", f"{names[at]}到{names[at + 1]}"}


def test_shares_are_not_summed_up() -> None:
    """They make 100, whatever the chart shows."""
    shares = Matrix("Share of sales", "%", MONTHS, Group("", "", ("Sales",), False), (tuple(map(Decimal, (40, 30, 20, 10))),))
    kinds = {ask.kind for ask in arithmetic.asks(shares, voice())}
    assert "total" not in kinds and {"sum_rows", "mean"} <= kinds


@pytest.mark.parametrize("kind", ["chart", "table"])
def test_answers_follow_from_the_data(kind: str) -> None:
    """Worked out again from the JSON truth alone, for charts and tables of every sort."""
    seen = Counter()
    for index in range(25):
        drawn = make_chart(ChartSpec(), 4, index) if kind == "chart" else make_table(TableSpec(), 4, index)
        matrix = drawn.data.matrix
        if matrix is None:
            continue
        for ask in arithmetic.asks(matrix, voice(index, drawn.language)):
            assert ask.answer in independent(ask, matrix.records(), matrix.rows.name), (index, ask)
            seen[ask.kind] += 1
            sides = re.split(" = | ≈ ", ask.steps[-1]) if ask.steps and ask.kind not in ("compare", "best_column") else []
            assert all(eval(side) == pytest.approx(float(sides[-1]), abs=0.006) for side in sides), ask.steps
    assert len(seen) >= 15


# Charts


def test_bars_are_as_high_as_their_values() -> None:
    """The numbers read off the picture, by the labels of its axis, are those of the data."""
    read = 0
    for index in range(12):
        chart = make_chart(ChartSpec(kinds=("bar", "grouped bar")), 5, index)
        matrix = chart.data.matrix
        assert matrix is not None
        ticks = [(float(label.text), (label.box[1] + label.box[3]) / 2) for label in chart.of_kind("y label")]
        (low, low_y), (high, high_y) = ticks[0], ticks[-1]
        per_pixel = (high - low) / (low_y - high_y)
        zero = low_y + low / per_pixel
        values = [value for row in zip(*matrix.values, strict=True) for value in row if value]
        for bar, value in zip(chart.of_kind("bar"), values, strict=True):
            shown = (zero - bar.box[1]) * per_pixel if value > 0 else (zero - bar.box[3]) * per_pixel
            assert shown == pytest.approx(float(value), abs=2.6 * per_pixel), (index, bar)
            read += 1
    assert read > 40


def test_unlabelled_values_can_be_read_off_the_axis() -> None:
    for index in range(20):
        data = make_chart(ChartSpec(), 6, index).data
        if data.matrix and not data.labelled:
            assert all(value / (data.axis.step / 2) % 1 == 0 for column in data.matrix.values for value in column)


def test_no_point_of_a_line_hides_another() -> None:
    for index in range(12):
        matrix = make_chart(ChartSpec(kinds=("line", "area"), width=(440, 440)), 6, index).data.matrix
        assert matrix and all(len(set(values)) == len(values) for values in zip(*matrix.values, strict=True))


def test_shares_add_up_and_slices_have_their_angles() -> None:
    for index in range(6):
        chart = make_chart(ChartSpec(kinds=("pie",), width=(440, 500)), 7, index)
        assert chart.data.matrix is not None
        values = chart.data.matrix.values[0]
        if chart.data.unit == "%":
            assert sum(values) == 100
        pixels = np.asarray(chart.image).astype(int)
        inside = [pixels[int(mark.point[1]), int(mark.point[0])] for mark in chart.of_kind("slice") if mark.point]
        areas = [int((np.abs(pixels - colour).max(axis=2) <= 1).sum()) for colour in inside]
        if len(set(chart.colours.values())) == len(values):
            for area, value in zip(areas, values, strict=True):
                assert area / sum(areas) == pytest.approx(float(value / sum(values)), abs=0.03)


def test_axes_cover_their_values() -> None:
    for low, high, steps in ((0, 7, 5), (0, 930.5, 4), (-12, 24, 6), (0, 0.9, 5), (0, 100, 10)):
        axis = nice_axis(low, high, steps)
        assert axis.low <= min(low, 0) and axis.high >= high and axis.ticks[0] == axis.low and axis.ticks[-1] == axis.high
        assert 2 <= len(axis.ticks) - 1 <= 2 * steps


def test_no_two_texts_of_a_chart_touch() -> None:
    for index in range(25):
        chart = make_chart(ChartSpec(), 8, index)
        texts = [element for element in chart.elements if element.text and element.kind != "legend entry"]
        for one, other in combinations(texts, 2):
            a, b = one.box, other.box
            assert not (min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])), (index, one, other)


@pytest.mark.parametrize("kind", ["chart", "table", "form"])
def test_json_answers_parse_to_the_truth(kind: str) -> None:
    found = 0
    for index in range(6):
        drawn = KINDS[kind].make(KINDS[kind].spec, 2, index)
        for sample in KINDS[kind].samples(drawn):
            if sample.task in ("chart_json", "table_json", "key_values"):
                fenced = re.fullmatch(r"```json\n(.*)\n```", said(sample.messages[-1].parts), re.DOTALL)
                assert fenced and json.loads(fenced[1]) == sample.extra["value"]
                found += 1
    assert found >= 6


# Tables and forms


def test_records_are_what_stands_in_the_cells() -> None:
    for index in range(10):
        table = make_table(TableSpec(), 9, index)
        written = {element.text for element in table.of_kind("cell")}
        records = table.records()
        assert len(records) == len(table.data.rows) - HEADERS[table.data.kind]
        assert {text for record in records for text in record.values()} <= written
        for row, cells in zip(table.data.values, records, strict=False):
            assert list(cells.values())[-len(row) :] == list(row)


def test_cells_tile_the_table() -> None:
    for index in range(8):
        table = make_table(TableSpec(), 10, index)
        boxes = [element.box for element in table.of_kind("cell")]
        whole = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
        covered = np.zeros((table.image.height, table.image.width), int)
        for left, top, right, bottom in boxes:
            covered[top:bottom, left:right] += 1
        assert (covered[whole[1] : whole[3], whole[0] : whole[2]] == 1).all()


def test_sums_of_invoices_are_right() -> None:
    checked = 0
    for index in range(6):
        values = make_form(FormSpec(kinds=("invoice", "receipt"), language="en"), 11, index).values
        amounts = [Decimal(item["amount"].replace(",", "")) for item in values["items"]]
        for item, amount in zip(values["items"], amounts, strict=True):
            assert Decimal(item["unit_price"].replace(",", "")) * int(item["quantity"]) == amount
        total = Decimal(values["total"].replace(",", ""))
        assert total == sum(amounts) + Decimal(values.get("tax", "0").replace(",", ""))
        if "cash" in values:
            assert Decimal(values["cash"].replace(",", "")) - total == Decimal(values["change"].replace(",", ""))
        checked += 1
    assert checked


def test_tickets_say_where_their_vehicle_leaves() -> None:
    """A boarding pass has a gate, a train or coach ticket a platform."""
    for index in range(8):
        form = make_form(FormSpec(kinds=("ticket",), language="en"), 2, index)
        flies = form.of_kind("title")[0].text == "Boarding pass"
        assert ("gate" in form.values, "platform" in form.values) == (flies, not flies)


def test_values_of_forms_stand_on_them() -> None:
    for index in range(10):
        form = make_form(FormSpec(), 12, index)
        written = "".join(element.text for element in form.elements).replace(" ", "")
        for value in form.values.values():
            texts = [value] if isinstance(value, str) else [text for item in value for text in item.values()]
            assert all(text.replace(" ", "") in written for text in texts)


# Screens and icons


def test_switches_look_like_their_state() -> None:
    seen = set()
    for index in range(4):
        screen = make_screen(ScreenSpec(devices=("mobile",), layouts=("settings",)), 13, index)
        pixels = np.asarray(screen.image).astype(int)
        for widget in screen.widgets:
            if widget.element.kind != "switch":
                continue
            left, top, right, bottom = widget.element.box
            middle, reach = (top + bottom) // 2, (bottom - top) // 2
            white = [(pixels[middle, x] == 255).all() for x in (left + reach, right - reach)]
            assert white == ([False, True] if widget.state == "on" else [True, False])
            seen.add(widget.state)
    assert seen == {"on", "off"}


def test_what_two_controls_do_is_not_asked_for() -> None:
    """A magnifying glass and a tab for searching: either would be right."""
    both = 0
    for index in range(12):
        spec = ScreenSpec(devices=("mobile",), language="en", layouts=("shop",))
        screen = make_screen(spec, 3, index)
        labels = [widget.element.name for widget in screen.widgets]
        goals = [sample.extra["phrase"] for sample in screen_samples(screen, each=99) if sample.task == "gui_target"]
        if {"the search button", "the “Search” tab"} <= set(labels):
            both += 1
            assert "Start a search." not in goals and "Switch to “Search”." in goals
    assert both


def test_controls_do_not_overlap() -> None:
    """But for the button that floats over a list, each point on a screen belongs to one control."""
    for index in range(16):
        screen = make_screen(ScreenSpec(desktop_width=(800, 800)), 14, index)
        controls = [widget.element for widget in screen.widgets if widget.element.text not in ("add", "添加")]
        for one, other in combinations(controls, 2):
            a, b = one.box, other.box
            assert min(a[2], b[2]) <= max(a[0], b[0]) + 2 or min(a[3], b[3]) <= max(a[1], b[1]) + 2, (screen.layout, one, other)


def test_icons_differ_and_are_counted_right() -> None:
    masks = {key: icon_mask(key, 32).tobytes() for key in icon_keys()}
    assert len(set(masks.values())) == len(masks) > 70
    for index in range(12):
        icon = make_icon(IconSpec(columns=(3, 5), rows=(2, 3), repeated_share=1.0), 15, index)
        assert len(icon.of_kind("icon")) == sum(map(len, icon.keys))
        counts = {name.removeprefix("the "): str(count) for name, count in Counter(e.name for e in icon.of_kind("icon")).items()}
        for sample in KINDS["icon"].samples(icon):
            if sample.task == "icon_counting":
                assert sample.extra["value"] != "1", "the icon that is there several times is to be counted"
                asked = [name for name in counts if name in sample.extra["question"].replace("icons", "icon")]
                assert counts[max(asked, key=len)] == sample.extra["value"]


# What figures are filled with


def test_every_text_of_the_books_is_a_text() -> None:
    """YAML reads yes, no and null as other things; a number must be meant as one."""

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, member in value.items():
                walk(member, f"{path}.{key}")
        elif isinstance(value, list):
            for member in value:
                walk(member, path)
        else:
            allowed = (str, int, float) if re.search(r"range|price|\.of|slope", path) else (str,)
            flag = re.fullmatch(r"words\..*\.(time|ordered|flow|mean|plain)", path) is not None
            assert isinstance(value, bool) == flag and isinstance(value, (*allowed, bool)), (path, value)

    for name in ("words", "fields", "forms", "screens", "icons", "code", "formulas", "prose", "phrases"):
        walk(book(name), name)
