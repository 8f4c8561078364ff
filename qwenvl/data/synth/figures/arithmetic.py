"""Questions over a matrix of numbers with names for its rows and columns: the data behind a chart or a table of numbers.

Values are Decimals, so that answers are exact; only a mean is rounded, to two decimals, and its question says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from qwenvl.data.synth.figures.asking import Ask
from qwenvl.data.synth.figures.words import Group
from qwenvl.data.wording import Voice

_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Matrix:
    """values[column][row]; rows are categories, columns series. With one column its name is the title's.

    `additive`: sums over the rows mean something. `across`: sums over the columns do.
    """

    title: str
    unit: str
    rows: Group
    columns: Group
    values: tuple[tuple[Decimal, ...], ...]
    additive: bool = True
    across: bool = True

    @property
    def single(self) -> bool:
        return len(self.columns.items) == 1

    def records(self) -> list[dict[str, Any]]:
        """One object per row: the row's name under its group's, and a number for each column."""
        return [
            {self.rows.name: row, **{name: number(self.values[c][r]) for c, name in enumerate(self.columns.items)}}
            for r, row in enumerate(self.rows.items)
        ]


def number(value: Decimal) -> int | float:
    """A JSON number."""
    return int(value) if value == value.to_integral_value() else float(value)


def shown(value: Decimal) -> str:
    """A number in an answer: no exponent, no needless zeros."""
    return str(number(value))


def asks(matrix: Matrix, voice: Voice) -> list[Ask]:
    """Questions of every kind that the matrix allows, a few of each."""
    found: list[Ask] = []
    for column in range(len(matrix.columns.items)):
        view = _View(matrix, column, voice)
        found += [*view.lookups(), *view.extremes(), *view.sums(), *view.comparisons()]
    return found + list(_across(matrix, voice))


@dataclass(frozen=True, slots=True)
class _View:
    """One column, as questions about it see it."""

    matrix: Matrix
    column: int
    voice: Voice

    @property
    def values(self) -> tuple[Decimal, ...]:
        return self.matrix.values[self.column]

    @property
    def names(self) -> tuple[str, ...]:
        return self.matrix.rows.items

    def slots(self, **more: str) -> dict[str, str]:
        column = self.matrix.columns.items[self.column]
        named = not self.matrix.single
        of = self.voice.say(f" of {column}" if named else "", f"{column}的" if named else "的")
        whose = of if named or self.voice.language == "en" else ""
        return {"of": of, "whose": whose, "group": self.matrix.rows.name, **more}

    def pair(self, descending: bool = False) -> tuple[int, int]:
        """Two rows at random; the one with the greater value first if asked for."""
        first, second = self.voice.some(range(len(self.names)), 2)
        if descending and self.values[first] < self.values[second]:
            return second, first
        return first, second

    def read(self, *rows: int) -> str:
        """The values of rows, which a worked answer begins with."""
        return listed([self.names[row] for row in rows], [self.values[row] for row in rows], self.voice)

    def lookups(self) -> Iterator[Ask]:
        row = self.voice.pick(range(len(self.names)))
        value = self.values[row]
        yield Ask("value", self.slots(row=self.names[row]), shown(value), accept=(f"{shown(value)} {self.matrix.unit}",))
        if self.values.count(value) == 1:
            yield Ask("argument", self.slots(value=shown(value)), self.names[row])

    def extremes(self) -> Iterator[Ask]:
        order = sorted(range(len(self.names)), key=lambda row: self.values[row])
        ranked = [self.values[row] for row in order]
        if ranked[-1] > ranked[-2]:
            yield Ask("highest", self.slots(), self.names[order[-1]])
        if ranked[0] < ranked[1]:
            yield Ask("lowest", self.slots(), self.names[order[0]])
        if len(order) > 2 and ranked[-1] > ranked[-2] > ranked[-3]:
            yield Ask("second", self.slots(), self.names[order[-2]])
        if ranked[-1] > ranked[0]:
            span = ranked[-1] - ranked[0]
            steps = (self.read(order[-1], order[0]), f"{_minus(ranked[-1], ranked[0])} = {shown(span)}")
            yield Ask("span", self.slots(), shown(span), steps)

    def sums(self) -> Iterator[Ask]:
        values = self.values
        everything = self.read(*range(len(values)))
        total = sum(values, Decimal(0))
        if self.matrix.additive:
            if self.matrix.unit != "%":  # shares add up to 100 whatever the chart shows
                yield Ask("total", self.slots(), shown(total), (everything, f"{_plus(values)} = {shown(total)}"))
            first, second = self.pair()
            both = values[first] + values[second]
            slots = self.slots(row=self.names[first], row2=self.names[second])
            steps = (self.read(first, second), f"{_plus((values[first], values[second]))} = {shown(both)}")
            yield Ask("sum_rows", slots, shown(both), steps)
        mean = (total / len(values)).quantize(_CENT, ROUND_HALF_UP)
        exact = "=" if mean * len(values) == total else "≈"
        steps = (everything, f"({_plus(values)}) / {len(values)} = {shown(total)} / {len(values)} {exact} {shown(mean)}")
        yield Ask("mean", self.slots(), shown(mean), steps)

    def comparisons(self) -> Iterator[Ask]:
        values = self.values
        first, second = self.pair()
        if values[first] != values[second]:
            greater = values[first] > values[second]
            slots = self.slots(row=self.names[first], row2=self.names[second])
            answer = self.voice.say("Yes" if greater else "No", "是" if greater else "否")
            yield Ask("compare", slots, answer, (self.read(first, second),))
        high, low = self.pair(descending=True)
        slots = self.slots(row=self.names[high], row2=self.names[low])
        if values[high] > values[low]:
            gap = values[high] - values[low]
            steps = (self.read(high, low), f"{_minus(values[high], values[low])} = {shown(gap)}")
            yield Ask("difference", slots, shown(gap), steps)
        if values[low] > 0 and values[high] > values[low]:
            ratio = values[high] / values[low]
            if ratio == ratio.quantize(_CENT):
                steps = (self.read(high, low), f"{shown(values[high])} / {shown(values[low])} = {shown(ratio)}")
                yield Ask("ratio", slots, shown(ratio), steps)
        _, *limits = sorted(set(values), reverse=True)
        if limits:
            limit = self.voice.pick(limits)
            yield Ask("above", self.slots(limit=shown(limit)), str(sum(value > limit for value in values)))
        if self.matrix.rows.time:
            yield from self._rise()

    def _rise(self) -> Iterator[Ask]:
        steps = [later - earlier for earlier, later in zip(self.values, self.values[1:], strict=False)]
        best = max(steps)
        if best > 0 and steps.count(best) == 1:
            at = steps.index(best)
            yield Ask("rise", self.slots(), self.voice.say(" to ", "到").join(self.names[at : at + 2]))


def _across(matrix: Matrix, voice: Voice) -> Iterator[Ask]:
    """Questions that compare or add the columns of one row."""
    if matrix.single:
        return
    row = voice.pick(range(len(matrix.rows.items)))
    name, columns = matrix.rows.items[row], matrix.columns.items
    values = [column[row] for column in matrix.values]
    read = listed(columns, values, voice)
    if values.count(max(values)) == 1:
        yield Ask("best_column", {"row": name, "cgroup": matrix.columns.name}, columns[values.index(max(values))], (read,))
    if matrix.across:
        total = sum(values, Decimal(0))
        yield Ask("row_total", {"row": name}, shown(total), (read, f"{_plus(values)} = {shown(total)}"))
        first, second = voice.some(range(len(columns)), 2)
        both = values[first] + values[second]
        slots = {"row": name, "col": columns[first], "col2": columns[second]}
        steps = (f"{_plus((values[first], values[second]))} = {shown(both)}",)
        yield Ask("sum_columns", slots, shown(both), steps)


def listed(names: Sequence[str], values: Sequence[Decimal], voice: Voice) -> str:
    """ "A: 1; B: 2", without an end."""
    colon = voice.say(": ", "：")
    return voice.say("; ", "；").join(f"{name}{colon}{shown(value)}" for name, value in zip(names, values, strict=True))


def _bracketed(value: Decimal) -> str:
    return f"({shown(value)})" if value < 0 else shown(value)


def _plus(values: Sequence[Decimal]) -> str:
    return " + ".join([shown(values[0]), *map(_bracketed, values[1:])])


def _minus(first: Decimal, second: Decimal) -> str:
    return f"{shown(first)} - {_bracketed(second)}"
