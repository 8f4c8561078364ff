"""Curves over steps as inline SVG. Colours and sizes are the page's, by the class of what is drawn; there is no script."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]

MOST = 240
"""Points of a drawn curve: a chart is not much wider in pixels."""
FEW = 40
"""Of fewer points a curve is drawn as it is, with no smooth one over it."""
COLOURS = 8

STYLE = """
:root { --c0: #2563c9; --c1: #c2410c; --c2: #0d8a66; --c3: #8f35b0; --c4: #a87900; --c5: #c2255c; --c6: #0e7fa3; --c7: #5c6470 }
@media (prefers-color-scheme: dark) { :root { --c0: #7aaeff; --c1: #ff9a62; --c2: #4fd6a8; --c3: #d293f0; --c4: #e8c15a;
  --c5: #ff86ab; --c6: #63cdf0; --c7: #a5adba } }
svg.chart { display: block; width: 100%; height: auto; overflow: visible }
.chart text { font: 12px system-ui, sans-serif; fill: var(--faint); font-variant-numeric: tabular-nums }
.chart .y { text-anchor: end } .chart .x { text-anchor: middle } .grid { stroke: var(--line); fill: none }
.curve { fill: none; stroke-width: 1.7; stroke-linejoin: round; stroke-linecap: round } .raw { stroke-width: 1; opacity: .3 }
.chance { stroke: var(--strong); stroke-dasharray: 5 4; stroke-width: 1.3; fill: none } .trouble { fill: var(--bad) }
""" + "".join(f".k{n} {{ stroke: var(--c{n}) }} .f{n} {{ fill: var(--c{n}); background: var(--c{n}) }}\n" for n in range(COLOURS))


@dataclass(frozen=True, slots=True)
class Curve:
    """(step, value) in the order of steps; what is not finite is left out. `colour` is one of the page's eight."""

    name: str
    points: Sequence[Point]
    colour: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", [(step, value) for step, value in self.points if math.isfinite(value)])


@dataclass(frozen=True, slots=True)
class Frame:
    """Where steps and values lie in an SVG of that size; `margins` are left, right, top, bottom."""

    first: float
    last: float
    low: float
    high: float
    log: bool
    size: tuple[int, int]
    margins: tuple[int, int, int, int]

    def x(self, step: float) -> float:
        left, right, _, _ = self.margins
        return left + (self.size[0] - left - right) * (step - self.first) / ((self.last - self.first) or 1)

    def y(self, value: float) -> float:
        _, _, top, bottom = self.margins
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.size[1] - bottom - (self.size[1] - top - bottom) * share

    def path(self, points: Iterable[Point]) -> str:
        return "M" + "L".join(f"{self.x(step):.1f} {self.y(value):.1f}" for step, value in points)


def chart(
    curves: Sequence[Curve], log: bool = False, bounds: tuple[float | None, float | None] = (None, None),
    level: float | None = None, troubles: Iterable[float] = (), bare: bool = False, smooth: bool = True,
) -> str:  # fmt: skip
    """An SVG of curves over one axis, "" where no curve has a point.

    log: logarithmic, where all values are positive. bounds: where the axis begins and ends, instead of what the values fill.
    level: a dashed line across. troubles: steps that are marked below. bare: small, without numbers. smooth: where there are many
    points, the curve is their running mean, over a pale one of the points themselves.
    """
    curves = [curve for curve in curves if curve.points]
    values = [value for curve in curves for _, value in curve.points] + ([] if level is None else [level])
    if not curves:
        return ""
    log = log and min(values) > 0
    ends = [step for curve in curves for step in (curve.points[0][0], curve.points[-1][0])]
    size, margins = ((200, 76), (1, 1, 4, 4)) if bare else ((440, 220), (46, 12, 8, 22))
    first, last = min(ends), max(ends)
    first = 0.0 if first < 0.1 * last else first
    frame = Frame(first, last, *_bounds(values, log, bounds), log, size, margins)
    parts = [_axes(frame, bare)]
    if level is not None:
        parts.append(f'<path class="chance" d="M{margins[0]} {frame.y(level):.1f}H{size[0] - margins[1]}"/>')
    parts += [_curve(curve, frame, smooth) for curve in curves]
    base = size[1] - margins[3]
    inside = sorted({step for step in troubles if frame.first <= step <= frame.last})
    parts += [
        f'<path class="trouble" d="M{frame.x(step):.1f} {base - 7}l4 7h-8z"><title>step {step:g}</title></path>' for step in inside
    ]
    names = html.escape(", ".join(curve.name for curve in curves))
    return f'<svg class="chart" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{names}">{"".join(parts)}</svg>'


def _curve(curve: Curve, frame: Frame, smooth: bool) -> str:
    if len(curve.points) < FEW:
        dots = "".join(
            f'<circle class="f{curve.colour}" cx="{frame.x(step):.1f}" cy="{frame.y(value):.1f}" r="2.4"/>'
            for step, value in (curve.points if len(curve.points) <= FEW // 2 else ())
        )
        return f'<path class="curve k{curve.colour}" d="{frame.path(curve.points)}"/>{dots}'
    raw = frame.path(thinned(curve.points))
    if not smooth:
        return f'<path class="curve k{curve.colour}" d="{raw}"/>'
    mean = frame.path(smoothed(curve.points, frame.log))
    return f'<path class="curve raw k{curve.colour}" d="{raw}"/><path class="curve k{curve.colour}" d="{mean}"/>'


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most so many of the points: of every stretch its lowest and its highest, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    kept: list[Point] = []
    for stretch in np.array_split(np.arange(len(points)), most // 2):
        values = [points[index][1] for index in stretch]
        extremes = {int(stretch[int(np.argmin(values))]), int(stretch[int(np.argmax(values))])}
        kept += [points[index] for index in sorted(extremes)]
    return kept


def smoothed(points: Sequence[Point], log: bool = False, most: int = MOST // 2) -> list[Point]:
    """The running mean over a thirtieth of the points (a geometric mean on a logarithmic axis), at no more than so many places."""
    steps, values = np.array(points, dtype=np.float64).T
    values = np.log(values) if log else values
    sums = np.concatenate([[0.0], values.cumsum()])
    index = np.unique(np.linspace(0, len(points) - 1, min(len(points), most)).round().astype(int))
    half = max(len(points) // 60, 1)
    # At its start a curve may be steep, so the window is short there on both sides; at its end it only lacks what comes.
    behind = np.minimum(np.minimum(half, len(points) - 1 - index), np.maximum(index, half // 4))
    before = np.minimum(half, index)
    means = (sums[index + behind + 1] - sums[index - before]) / (before + behind + 1)
    return list(zip(steps[index].tolist(), (np.exp(means) if log else means).tolist(), strict=True))


def _bounds(values: Sequence[float], log: bool, wanted: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        room = math.exp(max(math.log(high / low) * 0.06, 0.05))
        return low / room, high * room
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    bottom, top = wanted
    bottom = low - room if bottom is None else min(bottom, low)
    top = high + room if top is None else max(top, high)
    return bottom, top if top > bottom else bottom + 1.0


def _axes(frame: Frame, bare: bool) -> str:
    (left, right, _, bottom), (width, height) = frame.margins, frame.size
    if bare:
        return f'<path class="grid" d="M{left} {height - bottom}H{width - right}"/>'
    parts = []
    for value in ticks(frame.low, frame.high, frame.log):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{width - right}"/>')
        parts.append(f'<text class="y" x="{left - 6}" y="{y + 4:.1f}">{short(value)}</text>')
    if frame.last > frame.first:
        for step in ticks(frame.first, frame.last):
            parts.append(f'<text class="x" x="{frame.x(step):.1f}" y="{height - 6}">{short(step)}</text>')
    else:
        parts.append(f'<text class="x" x="{frame.x(frame.first) + 8:.1f}" y="{height - 6}">{short(frame.first)}</text>')
    return "".join(parts)


def ticks(low: float, high: float, log: bool = False) -> list[float]:
    """Round numbers within the bounds, some four of them."""
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5)):
            found = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
            if len(found) >= 3:
                return found[:: -(-len(found) // 6)]
    if high <= low:
        return [low]
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number in few characters."""
    size = abs(value)
    if size >= 1e5 or (size >= 1e4 and value % 1000 == 0):
        unit, sign = next((unit, sign) for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if size >= unit)
        return f"{value / unit:.4g}{sign}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size and size < 1e-3:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.3g}"
