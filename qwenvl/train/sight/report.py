"""report.html of a run: one file with its curves, scores, shown answers, troubles and recipe.

It is made of the run's other files, so that it can be written while the run goes on and afterwards, and of runs older than it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenvl.data import charts
from qwenvl.data.charts import COLOURS, Curve, chart, short
from qwenvl.data.html_page import html_page
from qwenvl.runtime import atomic_write
from qwenvl.train.sight.answers import ANSWER_STYLE, answers_section
from qwenvl.train.sight.run_folder import RunFolder, read_run

FILE = "report.html"
MOST_TROUBLE, MOST_SAMPLES = 20, 8
"""Troubles that are listed, the latest; samples that are named of each."""

_STYLE = charts.STYLE + """
h1 { margin: 0 0 .2em; overflow-wrap: anywhere } h2 { margin: 2.2em 0 .6em; font-size: 1.25em }
h2 small { font-weight: 400; font-size: .75em } p { margin: .4em 0 }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5em, 1fr)); gap: .7em; margin: 1.2em 0 }
.tile, .card { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .6em .8em }
.tile b { display: block; font-size: 1.45em; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.25 }
.bar { height: 5px; border-radius: 3px; background: var(--line); margin-top: .35em; overflow: hidden }
.bar i { display: block; height: 100%; background: var(--c0) }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(25em, 100%), 1fr)); gap: .9em }
.small { grid-template-columns: repeat(auto-fill, minmax(9.5em, 1fr)); gap: .6em } .card { margin: 0; min-width: 0 }
.scores { display: grid; grid-template-columns: 25em minmax(0, 1fr); gap: .9em; align-items: start }
@media (max-width: 60em) { .scores { grid-template-columns: minmax(0, 1fr) } }
.card h3 { margin: 0 0 .5em; font-size: 1em } .card h3 small { font-weight: 400 }
.small .card { padding: .4em .6em } .small h3 { font-size: .85em; margin: 0 0 .2em; overflow-wrap: anywhere }
.small p { margin: .2em 0 0; font-size: .85em; font-variant-numeric: tabular-nums }
.legend { display: flex; flex-wrap: wrap; gap: .2em 1.1em; font-size: .87em; margin-top: .4em }
.legend i { display: inline-block; width: .75em; height: .75em; border-radius: 2px; margin-right: .4em }
.legend b { font-variant-numeric: tabular-nums; font-weight: 600 }
td, th { padding: .25em 1.2em .25em 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
th { font-weight: 600 } .n { text-align: right; font-variant-numeric: tabular-nums } .wide { overflow-x: auto }
.bad { color: var(--bad) } td.said { overflow-wrap: anywhere; min-width: 12em }
pre { overflow-x: auto; font: 12.5px/1.5 ui-monospace, monospace }
details { margin-top: 2.2em } summary { font-size: 1.25em; font-weight: 600; cursor: pointer } li { margin: .2em 0 }
"""


def write_report(run: Path) -> Path:
    """Write report.html into a run's folder; its path. Raises ConfigError for a folder that holds no run."""
    folder = read_run(run)
    body = "".join(
        section(folder)
        for section in (
            _head, _tiles, _curves, _tasks, _logged, _scores, answers_section, _trouble, _refused, _trains, _deviations, _recipe,
        )
    )  # fmt: skip
    path = run / FILE
    with atomic_write(path) as temporary:
        temporary.write_text(html_page(f"{folder.name} · training", body, _STYLE + ANSWER_STYLE, width="80em"), encoding="utf-8")
    return path


def _head(run: RunFolder) -> str:
    summary = run.recipe.get("summary") or ""
    model, objective = run.section("model").get("preset"), run.section("objective").get("kind")
    facts = [str(fact).replace("_", " ") for fact in (model, objective) if fact]
    if run.starts:
        start, again = run.starts[-1], len(run.starts) - 1
        ranks = _count(start["ranks"], "rank") + (f" of {_count(start['threads'], 'thread')}" if start["on"] == "cpu" else "")
        began = run.starts[0]["at"][:16].replace("T", " ")
        facts += [start["device"], ranks, f"torch {start['torch']}", f"started {began} UTC"]
        facts += [f"resumed {'once' if again == 1 else f'{again} times'}"] if again else []
    said = f"<p>{_text(summary)}</p>" if summary else ""
    return f"<h1>{_text(run.name)}</h1>{said}<p><small>{_text(' · '.join(facts))}</small></p>"


def _tiles(run: RunFolder) -> str:
    done, steps = run.done, max(run.steps, run.done)
    bar = f'<div class="bar"><i style="width:{100 * done / max(steps, 1):.1f}%"></i></div>'
    tiles = [_tile("steps", f"{done:,}", f"of {steps:,}{bar}")]
    if run.records:
        first, last = run.records[0], run.records[-1]
        tiles.append(_tile("loss", _number(last["loss"]), f"first {_number(first['loss'])}"))
        spent = f"{duration(run.seconds_left)} to go" if done < steps else f"{short(last['step_seconds'])} s a step at the end"
        tiles.append(_tile("time in steps", duration(run.seconds), spent))
        if last.get("tokens_per_s"):
            tiles.append(_tile("tokens/s", short(round(last["tokens_per_s"])), f"{short(last['images_per_s'])} pictures/s"))
        else:
            tiles.append(_tile("pictures/s", short(last["images_per_s"]), ""))
        if last.get("mfu") is not None:
            tiles.append(_tile("MFU", f"{100 * last['mfu']:.0f} %", "tower counted"))
        if last.get("memory_gb"):
            tiles.append(_tile("memory", f"{last['memory_gb']:.3g} GB", "peak of a rank"))
    else:
        tiles.append(_tile("loss", "–", "no step is logged yet"))
    if run.evaluations:
        scores = run.evaluations[-1]["scores"]
        tiles.append(_tile("mean score", _percent(_mean(scores)), f"of {len(scores)}, after step {run.evaluations[-1]['step']:,}"))
    if run.trouble:
        tiles.append(_tile("troubles", f'<a class="bad" href="#trouble">{len(run.trouble)}</a>', "steps"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(name: str, value: str, note: str) -> str:
    return f'<div class="tile"><small>{name}</small><b>{value}</b><small>{note}</small></div>'


def _curves(run: RunFolder) -> str:
    if not run.records:
        return ""
    losses = run.names("losses")
    curves: list[tuple[str, tuple[str, ...]]] = [("total", ("loss",))] if len(losses) > 1 else []
    curves += [(_words(name), ("losses", name)) for name in losses]
    troubles = [entry["step"] + 1 for entry in run.trouble]
    rates = [("tokens/s", ("tokens_per_s",)), ("of pictures", ("visual_tokens_per_s",))]
    cards = [
        _card(run, "Loss", curves, "logarithmic", log=True, troubles=troubles),
        _card(run, "Gradient norm", [("norm", ("grad_norm",))], "before clipping, logarithmic", log=True, troubles=troubles),
        _card(run, "Learning rate", [("rate", ("rate",))], "of what has no factor of its own", bounds=(0.0, None), smooth=False),
        _card(run, "Tokens a second", rates, "over all ranks", bounds=(0.0, None)),
        _card(run, "Pictures a second", [("pictures/s", ("images_per_s",))], "over all ranks", bounds=(0.0, None)),
        _card(run, "MFU", [("MFU, %", ("mfu",))], "of the devices' peak, tower counted", scale=100, bounds=(0.0, None)),
        _card(run, "Memory", [("GB so far", ("memory_gb",))], "peak of the largest rank", bounds=(0.0, None)),
        _card(run, "Waiting for data", [("waiting, %", ("data_share",))], "share of a step's time", scale=100, bounds=(0.0, None)),
    ]
    return f'<h2>Curves <small>over steps</small></h2><div class="cards">{"".join(cards)}</div>'


def _card(
    run: RunFolder, title: str, wanted: Sequence[tuple[str, tuple[str, ...]]], note: str, scale: float = 1.0, **options: Any
) -> str:
    """A chart with its legend; "" where there is nothing to draw, or nothing but zeros. `wanted`: name and keys of each curve."""
    found = [(name, run.points(*keys, scale=scale)) for name, keys in wanted]
    found = [(name, points) for name, points in found if any(value for _, value in points)]
    curves = [Curve(name, points, number % COLOURS) for number, (name, points) in enumerate(found)]
    if not curves:
        return ""
    legend = "".join(
        f'<span><i class="f{curve.colour}"></i>{_text(curve.name)} <b>{short(curve.points[-1][1])}</b></span>' for curve in curves
    )
    head = f"<h3>{title} <small>{note}</small></h3>"
    return f'<section class="card">{head}{chart(curves, **options)}<div class="legend">{legend}</div></section>'


def _tasks(run: RunFolder) -> str:
    """A small chart of every task, of one row: eighteen curves over each other would say nothing."""
    cards = []
    for name in run.names("tasks"):
        points = run.points("tasks", name)
        if points:
            now = f"<b>{short(points[-1][1])}</b> <small>from {short(points[0][1])}</small>"
            cards.append(_small(name, chart([Curve(name, points)], log=True, bare=True), now))
    if not cards:
        return ""
    note = "<p><small>plain loss of a supervised token, each on a logarithmic axis of its own</small></p>"
    return f'<h2>Loss by task</h2>{note}<div class="cards small">{"".join(cards)}</div>'


def _logged(run: RunFolder) -> str:
    """Numbers of the objective beside its losses, such as the accuracy, margin and rewards of preference training."""
    cards = []
    names = run.names("logged")
    rewards = [name for name in names if name.endswith("reward")]
    for name in (name for name in names if name not in rewards):
        share = name == "accuracy"
        options: dict[str, Any] = {"bounds": (0.0, 1.0), "level": 0.5} if share else {}
        note = "dashed: by chance" if share else ""
        title = name.upper() if len(name) == 2 else _words(name).capitalize()  # KL
        cards.append(_card(run, title, [(name, ("logged", name))], note, **options))
    cards.append(_card(run, "Rewards", [(_words(name), ("logged", name)) for name in rewards], "of the two answers"))
    return f'<h2>Preferences</h2><div class="cards">{"".join(cards)}</div>' if any(cards) else ""


def _scores(run: RunFolder) -> str:
    """Scores over steps, as in figure 6 of arXiv 2308.12966, with what chance gives where that is known."""
    if not run.evaluations:
        return ""
    names = list(dict.fromkeys(name for record in run.evaluations for name in record["scores"]))
    chance = run.evaluations[-1]["chance"]
    means = [(float(record["step"]), 100 * _mean(record["scores"])) for record in run.evaluations]
    level = 100 * _mean({name: chance[name] for name in names}) if names and chance.keys() >= set(names) else None
    whole = chart([Curve("mean", means)], bounds=(0.0, None), level=level)
    seconds = [record["seconds"] for record in run.evaluations if "seconds" in record]
    note = f"<p><small>% after so many steps; dashed: chance. One evaluation takes about {duration(_middle(seconds))}.</small></p>"
    cards = []
    for name in names:
        points = [(float(record["step"]), record["scores"][name]) for record in run.evaluations if name in record["scores"]]
        by_chance = chance.get(name)
        drawn = chart([Curve(name, points, 2)], bounds=(0.0, 1.0), level=by_chance, bare=True)
        said = "" if by_chance is None else f" <small>chance {_percent(by_chance)}</small>"
        cards.append(_small(name, drawn, f"<b>{_percent(points[-1][1])}</b>{said}"))
    mean = f'<section class="card"><h3>Mean of {len(names)} scores <small>%</small></h3>{whole}</section>'
    return f'<h2>Scores</h2>{note}<div class="scores">{mean}<div class="cards small">{"".join(cards)}</div></div>'


def _small(name: str, drawn: str, said: str) -> str:
    return f'<section class="card"><h3>{_text(_words(name))}</h3>{drawn}<p>{said}</p></section>'


def _trouble(run: RunFolder) -> str:
    if not run.trouble:
        return ""
    rows = ""
    for entry in run.trouble[-MOST_TROUBLE:]:
        samples = entry.get("worst") or entry.get("samples") or []
        named = ", ".join(map(str, samples[:MOST_SAMPLES])) + (" …" if len(samples) > MOST_SAMPLES else "")
        numbers = "".join(f'<td class="n">{_number(entry.get(key))}' for key in ("loss", "grad_norm"))
        rows += f'<tr><td class="n">{entry["step"] + 1:,}<td>{_text(entry["kind"])}{numbers}<td class="said">{_text(named)}'
    note = f"the last {MOST_TROUBLE} of {len(run.trouble)}" if len(run.trouble) > MOST_TROUBLE else "marked by triangles above"
    heads = '<th class="n">Step<th>What<th class="n">Loss<th class="n">Gradient norm<th>Samples of the worst micro-batch'
    return f'<h2 id="trouble">Trouble <small>{note}</small></h2><div class="wide"><table><tr>{heads}{rows}</table></div>'


def _refused(run: RunFolder) -> str:
    counts: Mapping[str, int] = run.refused.get("counts", {})
    if not counts:
        return ""
    rows = "".join(f'<tr><td class="said">{_text(name)}<td class="n">{count:,}' for name, count in sorted(counts.items()))
    named = "".join(f"<li>{_text(line)}</li>" for line in run.refused.get("named", [])[:MOST_SAMPLES])
    table = f'<div class="wide"><table><tr><th>Source: reason<th class="n">Samples{rows}</table></div>'
    return f"<h2>Samples that were left out</h2>{table}<p><small>for example</small></p><ul>{named}</ul>"


def _trains(run: RunFolder) -> str:
    weights = run.starts[-1].get("weights") if run.starts else None
    if not weights:
        return ""
    waits = run.section("train").get("unfreeze_after") or {}
    late = "".join(f"<p><small>{_text(part)}: from step {int(step):,} on</small></p>" for part, step in waits.items())
    rows = "".join(
        f'<tr><td>{_text(_words(group))}<td class="n">{count:,}<td class="n">{f"{trained:,}" if trained else "frozen"}'
        for group, (count, trained) in weights.items()
    )
    heads = '<th>Part<th class="n">Weights<th class="n">of which train'
    return f'<h2>What trains</h2><div class="wide"><table><tr>{heads}{rows}</table></div>{late}'


def _deviations(run: RunFolder) -> str:
    lines = "".join(f"<li>{_text(line)}</li>" for line in run.recipe.get("deviations") or ())
    return f"<h2>Departs from the published recipe</h2><ul>{lines}</ul>" if lines else ""


def _recipe(run: RunFolder) -> str:
    return f"<details><summary>Recipe</summary><pre>{_text(run.recipe_text)}</pre></details>" if run.recipe_text else ""


def duration(seconds: float) -> str:
    """In the two units that say most: 3 h 12 min."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _mean(scores: Mapping[str, float]) -> float:
    return sum(scores.values()) / max(len(scores), 1)


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _number(value: Any) -> str:
    return short(value) if isinstance(value, int | float) else _text(str(value))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(text: str) -> str:
    return html.escape(text)
