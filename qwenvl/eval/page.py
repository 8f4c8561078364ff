"""The report of runs as one HTML page: our number with its interval beside the published one, what explains the difference, a radar
chart over benchmarks, histograms of each, and samples to look at."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenvl.data.html_page import html_page, marks
from qwenvl.eval import page_charts
from qwenvl.eval.compare_runs import Difference
from qwenvl.eval.page_charts import histogram, over_shots, radar, spoke_of
from qwenvl.eval.runs import ScoredRun, markup_of, published, published_score, told_apart
from qwenvl.eval.task import Prediction, Score, frame_of
from qwenvl.processing.regions import read_regions

SHOWN = 4
"""Samples shown of the best and of the worst of each run."""
PICTURE = 320
"""Longest side of a picture in the page, in pixels."""

STYLE = page_charts.STYLE + """
th, td { padding: .3em .8em; text-align: left; border-bottom: 1px solid var(--line) }
.samples { display: flex; flex-wrap: wrap; gap: 1em } figure { margin: 0; width: 20em; background: var(--panel); padding: .7em }
figure svg { width: 100%; height: auto; max-height: 20em } figcaption { overflow-wrap: anywhere }
figcaption p { margin: .5em 0; max-height: 15em; overflow: auto }
figure polygon, figure circle { fill: none; stroke-width: 2; filter: drop-shadow(0 0 1px #fff) }
figure polygon { vector-effect: non-scaling-stroke } .said { stroke: #e4572e } .true { stroke: #2e86ab; stroke-dasharray: 5 3 }
figure:has(polygon, circle) small.said { border-bottom: 2px solid #e4572e }
figure:has(polygon, circle) small.true { border-bottom: 2px dashed #2e86ab }
.charts { display: flex; flex-wrap: wrap; gap: 2em; align-items: flex-end; margin: 1em 0 }
.wide { overflow-x: auto } .right { color: var(--good) } .wrong { color: var(--bad) }
"""

Pictures = Mapping[str, Any]
"""Prediction id -> the PIL picture that it is about."""


Compared = tuple[ScoredRun, ScoredRun, Difference]
"""A, B, and B less A."""


@dataclass(frozen=True)
class Reported:
    """A run with the pictures of its samples, as far as the data were at hand."""

    scored: ScoredRun
    pictures: Pictures


def write_page(runs: Sequence[Reported], differences: Sequence[Compared] = ()) -> str:
    """The page of all runs, and of the pairs of them that were compared."""
    scored = [run.scored for run in runs]
    body = ["<h1>Evaluation</h1>", _table(scored), _all_models(scored), radar(scored), over_shots(scored)]
    body += [_differences(differences), *map(_run, runs)]
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
    unknown = "not judged yet" if benchmark.judge is not None else "–"
    unknown = unknown if benchmark.splits[run.run["split"]].answers else "answers withheld"
    ours = unknown if score is None else f"{value_of(score, benchmark.scale)} ({bounds_of(score, benchmark.scale)})"
    published = "–" if run.published is None else f"{run.published:g}"
    apart = ""
    if score is not None and run.published is not None:
        apart = f"{score.value * benchmark.scale - run.published:+.{digits_of(benchmark.scale)}f}"
    cells = (benchmark.title, run.run["split"], run.run["model"], benchmark.measure, ours, published, apart, explained(run))
    return tuple(html.escape(str(cell)) for cell in cells)


def value_of(score: Score, scale: float) -> str:
    return f"{score.value * scale:.{digits_of(scale)}f}"


def bounds_of(score: Score, scale: float) -> str:
    digits = digits_of(scale)
    return f"{score.low * scale:.{digits}f}–{score.high * scale:.{digits}f}"


def digits_of(scale: float) -> int:
    """Behind the point of a number on that scale."""
    return 1 if scale >= 10 else 3


def explained(run: ScoredRun) -> str:
    """What is known to set this number apart from the published one."""
    reasons = ["drawn scenes in the form of the benchmark"] if run.run.get("drawn") else []
    if not run.complete:
        reasons.append(f"{len(run.predictions)} of {run.run['questions']} questions answered")
    if run.run["limit"] is not None:
        reasons.append(f"the first {run.run['limit']} questions")
    if run.failed:
        reasons.append(f"{run.failed} without an answer")
    if run.run["shots"]["count"]:
        count = run.run["shots"]["count"]
        reasons.append(f"{count} example{'s' * (count > 1)} before each question")
    if run.published is not None:
        score = run.main
        if score is not None and score.low * run.benchmark.scale <= run.published <= score.high * run.benchmark.scale:
            reasons.append("within our interval")
        reasons.append(f"prompt {run.run['prompt']['version']}, {run.run['decoding']}")
    return "; ".join(reasons)


def _all_models(runs: Sequence[ScoredRun]) -> str:
    """A table like the papers': a row for every model with a published number on one of these benchmarks, one for each of ours."""
    columns = list(dict.fromkeys(spoke_of(run) for run in runs if run.main is not None))
    if not columns:
        return ""
    rows = []
    for model in published():
        found = [published_score(model, *column) for column in columns]
        if any(score is not None for score in found):
            rows.append((html.escape(model), *("" if score is None else f"{score:g}" for score in found)))
    names = told_apart(runs)
    for name in dict.fromkeys(names.values()):
        own = {spoke_of(run): run for run in runs if names[run.folder] == name}
        rows.append((f"<b>{html.escape(name)}</b>, ours", *(_ours(own.get(column)) for column in columns)))
    heads = ["", *(f"{html.escape(benchmark)}<br><small>{html.escape(split)}</small>" for benchmark, split in columns)]
    return f"<h2>Beside other models</h2>{_rows(heads, rows)}"


def _ours(run: ScoredRun | None) -> str:
    return "" if run is None or run.main is None else f"<b>{value_of(run.main, run.benchmark.scale)}</b>"


def _differences(compared: Sequence[Compared]) -> str:
    if not compared:
        return ""
    rows = []
    for first, second, found in compared:
        names = map(html.escape, told_apart((first, second)).values())
        scale = first.benchmark.scale
        value, low, high = (f"{part * scale:+.{digits_of(scale)}f}" for part in (found.value, found.low, found.high))
        numbers = (value, f"{low} to {high}", f"{found.p:.3f}", str(found.n))
        rows.append((html.escape(" ".join(spoke_of(first))), *names, found.measure, *numbers))
    table = _rows(("benchmark", "A", "B", "measure", "B − A", "95 %", "p", "questions"), rows)
    return f"<h2>Differences</h2><p><small>Paired bootstrap over the questions that both answered.</small></p>{table}"


def _run(run: Reported) -> str:
    scored = run.scored
    title = f"{scored.benchmark.title}, {scored.run['split']}: {scored.run['model']}"
    measure = scored.benchmark.measure
    rows = [
        (html.escape(name), f"{score.value:.4f}", f"{score.low:.4f}–{score.high:.4f}", str(score.n))
        for name, score in scored.scores.items()
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
    return {name: earned / possible for name, (earned, possible) in scored.points.items() if possible > 0}


def _histograms(scored: ScoredRun) -> str:
    asked = scored.predictions
    charts: list[tuple[str, list[float]]] = [
        ("points of a question", list(points_of(scored).values())),
        ("characters of a reply", [len(prediction.reply) for prediction in asked]),
        ("tokens of a prompt", [prediction.prompt_tokens for prediction in asked if prediction.prompt_tokens]),
    ]
    return f'<div class="charts">{"".join(histogram(name, values) for name, values in charts if values)}</div>'


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
    lines = (("said", prediction.reply or prediction.error), ("true", prediction.reference))
    words = f"<p>{html.escape(prediction.question)}</p>"
    words += "".join(f'<p><small class="{kind}">{kind}:</small> {html.escape(text)}</p>' for kind, text in lines if text)
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
    # A tag would be taken for HTML.
    cells = ([html.unescape(cell).replace("|", "/").replace("<", "&lt;") for cell in row_of(run)] for run in runs)
    lines += [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join(lines) + "\n"
