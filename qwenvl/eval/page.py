"""The report of runs as one HTML page: our number with its interval beside the published one, what explains the difference, a radar
chart over benchmarks, histograms of each, and samples to look at."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenvl.data.html_page import html_page, marks
from qwenvl.eval.compare_runs import Difference
from qwenvl.eval.runs import ScoredRun, markup_of
from qwenvl.eval.task import Prediction, Score, frame_of
from qwenvl.processing.regions import read_regions

SHOWN = 4
"""Samples shown of the best and of the worst of each run."""
PICTURE = 320
"""Longest side of a picture in the page, in pixels."""
BINS = 12

STYLE = """
th, td { padding: .3em .8em; text-align: left; border-bottom: 1px solid var(--line) }
.samples { display: flex; flex-wrap: wrap; gap: 1em } figure { margin: 0; width: 20em; background: var(--panel); padding: .7em }
figure svg { width: 100%; height: auto } figure polygon, figure circle { fill: none; stroke-width: 2 }
figure polygon { vector-effect: non-scaling-stroke } .said { stroke: #e4572e } .true { stroke: #2e86ab; stroke-dasharray: 5 3 }
.radar { fill-opacity: .12; stroke-width: 2 } .charts { display: flex; flex-wrap: wrap; gap: 2em; align-items: flex-end }
.charts svg { background: var(--panel) } text { fill: var(--ink); font-size: 11px } .wide { overflow-x: auto }
.bar { fill: #2e86ab } .grid { fill: none; stroke: var(--line) } .right { color: var(--good) } .wrong { color: var(--bad) }
"""
COLOURS = ("#2e86ab", "#e4572e", "#3b8b5a", "#8e5ea2", "#b8860b", "#5f6caf")

Pictures = Mapping[str, Any]
"""Prediction id -> the PIL picture that it is about."""


@dataclass(frozen=True)
class Reported:
    """A run with the pictures of its samples, as far as the data were at hand."""

    scored: ScoredRun
    pictures: Pictures


def write_page(runs: Sequence[Reported], differences: Sequence[tuple[str, str, Difference]] = ()) -> str:
    """The page of all runs. differences: (name of A, name of B, B less A) of pairs that were compared."""
    body = ["<h1>Evaluation</h1>", _table([run.scored for run in runs])]
    if differences:
        body.append(_differences(differences))
    body.append(_radar([run.scored for run in runs]))
    body += [_run(run) for run in runs]
    return html_page("Evaluation", "\n".join(body), STYLE)


def _cells(*values: str, tag: str = "td") -> str:
    return "".join(f"<{tag}>{value}</{tag}>" for value in values)


def _rows(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are HTML."""
    told = "".join(f"<tr>{_cells(*row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{_cells(*heads, tag="th")}</tr>{told}</table></div>'


HEADS = ("benchmark", "split", "model", "measure", "ours (95 %)", "published", "difference", "what explains it")


def _table(runs: Sequence[ScoredRun]) -> str:
    return _rows(HEADS, map(row_of, runs))


def row_of(run: ScoredRun) -> tuple[str, ...]:
    """Of the table: text, escaped for HTML."""
    benchmark, score = run.benchmark, run.main
    ours = "answers withheld" if score is None else f"{value_of(score, benchmark.scale)} ({bounds_of(score, benchmark.scale)})"
    published = "–" if run.published is None else f"{run.published:g}"
    apart = "" if score is None or run.published is None else f"{score.value * benchmark.scale - run.published:+.1f}"
    cells = (benchmark.title, run.run["split"], run.run["model"], benchmark.measure, ours, published, apart, explained(run))
    return tuple(html.escape(str(cell)) for cell in cells)


def value_of(score: Score, scale: float) -> str:
    return f"{score.value * scale:.1f}" if scale >= 10 else f"{score.value * scale:.3f}"


def bounds_of(score: Score, scale: float) -> str:
    digits = 1 if scale >= 10 else 3
    return f"{score.low * scale:.{digits}f}–{score.high * scale:.{digits}f}"


def explained(run: ScoredRun) -> str:
    """What is known to set this number apart from the published one."""
    reasons = []
    if not run.complete:
        reasons.append(f"{len(run.predictions)} of {run.run['questions']} questions answered")
    if run.run["limit"] is not None:
        reasons.append(f"the first {run.run['limit']} questions")
    if run.failed:
        reasons.append(f"{run.failed} without an answer")
    if run.run["shots"]["count"]:
        reasons.append(f"{run.run['shots']['count']} examples before each question")
    if run.published is not None:
        score = run.main
        if score is not None and score.low * run.benchmark.scale <= run.published <= score.high * run.benchmark.scale:
            reasons.append("within our interval")
        reasons.append(f"prompt {run.run['prompt']['version']}, {run.run['decoding']}")
    return "; ".join(reasons)


def _differences(rows: Sequence[tuple[str, str, Difference]]) -> str:
    told = [
        (html.escape(a), html.escape(b), d.measure, f"{d.value:+.4f}", f"{d.low:+.4f} to {d.high:+.4f}", f"{d.p:.3f}", str(d.n))
        for a, b, d in rows
    ]
    table = _rows(("A", "B", "measure", "B − A", "95 %", "p", "questions"), told)
    return f"<h2>Differences</h2><p><small>Paired bootstrap over questions.</small></p>{table}"


def _radar(runs: Sequence[ScoredRun]) -> str:
    """A spoke for each benchmark and split, a polygon for each model; nothing where there are fewer than three spokes."""
    spokes = list(dict.fromkeys(f"{run.benchmark.name} {run.run['split']}" for run in runs if run.main is not None))
    if len(spokes) < 3:
        return ""
    models = list(dict.fromkeys(run.run["model"] for run in runs))
    size, centre, radius = 460, 230, 160
    drawn = [f'<circle class="grid" cx="{centre}" cy="{centre}" r="{radius * part / 4:g}"/>' for part in range(1, 5)]
    for index, spoke in enumerate(spokes):
        x, y = _polar(index, len(spokes), radius * 1.12, centre)
        drawn.append(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{html.escape(spoke)}</text>')
    for number, model in enumerate(models):
        own = [run for run in runs if run.run["model"] == model]
        values = {f"{run.benchmark.name} {run.run['split']}": run.main.value for run in own if run.main is not None}
        parts = [min(max(values.get(spoke, 0.0), 0.0), 1.0) for spoke in spokes]
        corners = [_polar(index, len(spokes), radius * part, centre) for index, part in enumerate(parts)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        colour = COLOURS[number % len(COLOURS)]
        style = f"stroke:{colour};fill:{colour}"
        drawn.append(f'<polygon class="radar" points="{points}" style="{style}"><title>{html.escape(model)}</title></polygon>')
    colours = zip(models, COLOURS * (1 + len(models) // len(COLOURS)), strict=False)
    names = ", ".join(f'<b style="color:{colour}">{html.escape(model)}</b>' for model, colour in colours)
    return f'<h2>All together</h2><p>{names}</p><svg viewBox="0 0 {size} {size}" width="{size}" role="img">{"".join(drawn)}</svg>'


def _polar(index: int, count: int, radius: float, centre: float) -> tuple[float, float]:
    angle = 2 * math.pi * index / count - math.pi / 2
    return centre + radius * math.cos(angle), centre + radius * math.sin(angle)


def _run(run: Reported) -> str:
    scored = run.scored
    title = f"{scored.benchmark.title}, {scored.run['split']}: {scored.run['model']}"
    measure = scored.benchmark.measure
    rows = [
        (name, f"{score.value:.4f}", f"{score.low:.4f}–{score.high:.4f}", str(score.n)) for name, score in scored.scores.items()
    ]
    groups = [
        (html.escape(group), f"{found[measure].value:.4f}", str(found[measure].n))
        for group, found in scored.groups.items()
        if measure in found
    ]
    source = html.escape(scored.run["prompt"]["source"])
    parts = [f"<h2>{html.escape(title)}</h2>", f"<p><small>key {scored.run['key']}, {source}</small></p>"]
    parts.append(_rows(("measure", "value", "95 %", "questions"), rows))
    if groups:
        parts.append(f"<details><summary>by group</summary>{_rows(('group', measure, 'questions'), groups)}</details>")
    parts.append(_histograms(scored))
    parts.append(_samples(run))
    return "\n".join(parts)


def points_of(scored: ScoredRun) -> dict[str, float]:
    """Prediction id -> its share of what it could earn under the benchmark's measure; empty for a measure that is no sum."""
    markup, measure = markup_of(scored.run), scored.benchmark.measure
    found = {}
    for prediction in scored.predictions:
        tally = scored.benchmark.score(prediction, markup).get(measure)
        if tally is not None and tally[1] > 0:
            found[prediction.id] = tally[0] / tally[1]
    return found


def _histograms(scored: ScoredRun) -> str:
    asked = scored.predictions
    charts: list[tuple[str, list[float]]] = [
        ("points of a question", list(points_of(scored).values())),
        ("characters of a reply", [len(prediction.reply) for prediction in asked]),
        ("tokens of a prompt", [prediction.prompt_tokens for prediction in asked if prediction.prompt_tokens]),
    ]
    return f'<div class="charts">{"".join(histogram(name, values) for name, values in charts if values)}</div>'


def histogram(name: str, values: Sequence[float], width: int = 260, height: int = 120) -> str:
    """Counts of equal bins between the least and the greatest value, as SVG."""
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
    ends = f'<text x="10" y="{height - 6}">{low:g}</text><text x="{width - 10}" y="{height - 6}" text-anchor="end">{high:g}</text>'
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img"><text x="10" y="14">{name}</text>{bars}{ends}</svg>'


def shown_of(scored: ScoredRun) -> list[Prediction]:
    """The worst and the best, by points; the first ones where a measure has no points of a question."""
    points = points_of(scored)
    ordered = sorted(scored.predictions, key=lambda prediction: (points.get(prediction.id, 0.0), prediction.id))
    return [*ordered[:SHOWN], *(one for one in ordered[-SHOWN:] if one not in ordered[:SHOWN])] if points else ordered[: 2 * SHOWN]


def _samples(run: Reported) -> str:
    points = points_of(run.scored)
    drawn = "".join(_sample(one, run, points.get(one.id)) for one in shown_of(run.scored))
    return f'<h3>{"the worst and the best" if points else "the first"}</h3><div class="samples">{drawn}</div>'


def _sample(prediction: Prediction, run: Reported, points: float | None = None) -> str:
    drawn = _picture(prediction, run)
    earned = "" if points is None else f' <b class="{"right" if points > 0.5 else "wrong"}">{points:.2f}</b>'
    lines = (("", prediction.question), ("said: ", prediction.reply or prediction.error), ("true: ", prediction.reference))
    words = "".join(f"<p>{name and f'<small>{name}</small>'}{html.escape(text)}</p>" for name, text in lines if text)
    return f"<figure>{drawn}<figcaption><small>{html.escape(prediction.id)}</small>{earned}{words}</figcaption></figure>"


def _picture(prediction: Prediction, run: Reported) -> str:
    picture = run.pictures.get(prediction.id)
    if picture is None:
        return ""
    markup, frame = markup_of(run.scored.run), frame_of(prediction.truth)
    small = picture.convert("RGB")
    small.thumbnail((PICTURE, PICTURE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    width, height = small.size
    texts = ((prediction.reply, "said"), (prediction.reference, "true"))
    outlines = [(read_regions(text, markup, frame=frame), kind) for text, kind in texts]
    over = "".join(marks(regions, width, height, kind) for regions, kind in outlines)
    seen = f'<image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}"/>'
    return f'<svg viewBox="0 0 {width} {height}">{seen}{over}</svg>'


def markdown(runs: Iterable[ScoredRun]) -> str:
    """The page's first table."""
    lines = [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
    lines += [f"| {' | '.join(html.unescape(cell).replace('|', '/') for cell in row_of(run))} |" for run in runs]
    return "\n".join(lines) + "\n"
