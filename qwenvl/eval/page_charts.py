"""Charts of the report of runs, as inline SVG: a radar over benchmarks, curves over the number of examples, histograms."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

from qwenvl.data import charts
from qwenvl.data.charts import COLOURS, Curve, chart
from qwenvl.eval.runs import ScoredRun, published, published_score, told_apart

BINS = 12
WIDTH, HEIGHT, RADIUS = 640, 420, 160
"""Of the radar, in pixels; its names need more room to the sides than above."""
CENTRE = (WIDTH / 2, HEIGHT / 2)
STYLE = charts.STYLE + """
.radar { fill-opacity: .12; stroke-width: 2 } .bar { fill: var(--c0) } .charts > * { width: 27em; max-width: 100% }
svg.small { background: var(--panel); width: auto; max-width: 100% } .small text, .radars text { fill: var(--ink); font-size: 11px }
svg.radars { width: 100%; max-width: 46em; display: block }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .4em 0 1em }
"""
Spoke = tuple[str, str]
"""Benchmark and split."""


def radar(runs: Sequence[ScoredRun]) -> str:
    """A spoke for each benchmark and split, a polygon for each model; nothing where there are fewer than three spokes. The outer
    circle is the best that one of these runs or a published model has."""
    scored = [run for run in runs if run.main is not None]
    spokes = list(dict.fromkeys(map(spoke_of, scored)))
    if len(spokes) < 3:
        return ""
    drawn = [f'<circle class="grid" cx="{CENTRE[0]:g}" cy="{CENTRE[1]:g}" r="{RADIUS * part / 4:g}"/>' for part in range(1, 5)]
    for index, spoke in enumerate(spokes):
        x, y = _polar(index, len(spokes), RADIUS + 14)
        anchor = "middle" if abs(x - CENTRE[0]) < 20 else "start" if x > CENTRE[0] else "end"
        drawn.append(f'<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="{anchor}">{html.escape(" ".join(spoke))}</text>')
    names = told_apart(scored)
    models = list(dict.fromkeys(names.values()))
    for number, model in enumerate(models):
        own = {spoke_of(run): run for run in scored if names[run.folder] == model}
        parts = [_part(own[spoke], scored) if spoke in own else 0.0 for spoke in spokes]
        corners = [_polar(index, len(spokes), RADIUS * part) for index, part in enumerate(parts)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        kind = f"radar k{number % COLOURS} f{number % COLOURS}"
        drawn.append(f'<polygon class="{kind}" points="{points}"><title>{html.escape(model)}</title></polygon>')
    told = "<p><small>The outer circle is the best of these runs and of the published numbers.</small></p>"
    picture = f'<svg class="radars" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn)}</svg>'
    return f"<h2>All together</h2>{told}<p>{_key(models)}</p>{picture}"


def spoke_of(run: ScoredRun) -> Spoke:
    return run.name, run.run["split"]


def _part(run: ScoredRun, runs: Iterable[ScoredRun]) -> float:
    """How near a run is to the best, in [0, 1]."""
    benchmark, split = run.benchmark, run.run["split"]
    known = [published_score(model, run.name, split) for model in published()]
    values = [score / benchmark.scale for score in known if score is not None]
    values += [other.main.value for other in runs if other.main is not None and spoke_of(other) == spoke_of(run)]
    own = run.main.value if run.main is not None else 0.0
    best = min(values) if benchmark.lower else max(values)
    if benchmark.lower:
        return best / own if own > 0 else 1.0
    return max(own, 0.0) / best if best > 0 else 0.0


def _polar(index: int, count: int, radius: float) -> tuple[float, float]:
    angle = 2 * math.pi * index / count - math.pi / 2
    return CENTRE[0] + radius * math.cos(angle), CENTRE[1] + radius * math.sin(angle)


def _key(names: Iterable[str]) -> str:
    told = (f'<i class="key f{number % COLOURS}"></i>{html.escape(name)}' for number, name in enumerate(names))
    return f'<small>{"".join(told)}</small>'


def over_shots(runs: Sequence[ScoredRun]) -> str:
    """A chart for each benchmark of which there are runs with several numbers of examples: score over how many, beside what was
    published without examples and with four (README of QwenLM/Qwen-VL @ aa00ed0; the paper's Figure 4 has no numbers)."""
    drawn = []
    for spoke in dict.fromkeys(map(spoke_of, runs)):
        alike = [run for run in runs if spoke_of(run) == spoke and run.main is not None]
        if len({run.run["shots"]["count"] for run in alike}) < 2:
            continue
        scale = alike[0].benchmark.scale
        found: dict[str, list[tuple[float, float]]] = {}
        for run in alike:
            value = run.main.value if run.main is not None else 0.0
            found.setdefault(str(run.run["model"]), []).append((float(run.run["shots"]["count"]), value * scale))
        for model, scores in published().items():
            few = scores.get("four_shot", {}).get(spoke[0])
            none = published_score(model, *spoke)
            if few is not None:
                found[f"{model}, published"] = [*([(0.0, none)] if none is not None else []), (4.0, float(few))]
        curves = [Curve(name, sorted(points), number % COLOURS) for number, (name, points) in enumerate(found.items())]
        title = html.escape(f"{alike[0].benchmark.title}, {spoke[1]}: {alike[0].benchmark.measure} over examples")
        drawn.append(f"<div><h3>{title}</h3>{chart(curves)}<p>{_key(found)}</p></div>")
    return f'<h2>Few-shot</h2><div class="charts">{"".join(drawn)}</div>' if drawn else ""


def histogram(name: str, values: Sequence[float], width: int = 260, height: int = 120) -> str:
    """Counts of equal bins between the least and the greatest value."""
    low, high = min(values), max(values)
    step = (high - low) / BINS or 1.0
    counts = [0] * BINS
    for value in values:
        counts[min(int((value - low) / step), BINS - 1)] += 1
    wide = (width - 20) / BINS
    heights = [(height - 40) * count / max(counts) for count in counts]
    bars = "".join(
        f'<rect class="bar" x="{10 + index * wide:.1f}" y="{height - 20 - tall:.1f}" width="{wide - 1:.1f}" height="{tall:.1f}">'
        f"<title>{count}</title></rect>"
        for index, (count, tall) in enumerate(zip(counts, heights, strict=True))
    )
    ends = f'<text x="10" y="{height - 6}">{low:g}</text>'
    if high > low:
        ends += f'<text x="{width - 10}" y="{height - 6}" text-anchor="end">{high:g}</text>'
    label = f'<text x="10" y="14">{html.escape(name)}</text>'
    return f'<svg class="small" viewBox="0 0 {width} {height}" width="{width}" role="img">{label}{bars}{ends}</svg>'
