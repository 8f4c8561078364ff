"""What came out of an ablation, beside what the paper has: a table, each claim with our numbers and whether they agree, a chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.runtime import atomic_write, environment
from qwenvl.train.ablations.ablation import ENDS, Ablation, Claim
from qwenvl.train.ablations.measures import MEASURES, Outcome, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Verdict:
    """holds: None where a number is missing. numbers: ours, as they are compared."""

    claim: Claim
    holds: bool | None
    numbers: str

    @property
    def word(self) -> str:
        return {True: "yes", False: "no", None: "not measured"}[self.holds]


@dataclass(frozen=True)
class Findings:
    """rows: name -> our values, in the order of the table. outcomes: of each variant."""

    ablation: Ablation
    rows: Mapping[str, Values]
    outcomes: dict[str, Outcome]
    quick: bool

    @property
    def verdicts(self) -> list[Verdict]:
        return [judge(claim, self.rows) for claim in self.ablation.claims]

    @property
    def published(self) -> list[str]:
        """Columns of the paper."""
        return list(dict.fromkeys(column for variant in self.ablation.variants.values() for column in variant.published))


def find(ablation: Ablation, outcomes: Mapping[str, Outcome], quick: bool) -> Findings:
    """The rows of the table, from the runs of all variants."""
    if ablation.rows == "evaluations":
        (outcome,) = outcomes.values()
        points = [outcome.until(evaluation["step"]) for evaluation in outcome.evaluations]
        named = {f"step {point.evaluations[-1]['step']}": point for point in points}
    else:
        named = dict(outcomes)
    rows = {name: values_of(outcome, ablation.measures) for name, outcome in named.items()}
    return Findings(ablation, rows, dict(outcomes), quick)


def judge(claim: Claim, rows: Mapping[str, Values]) -> Verdict:
    """Whether our numbers bear a claim out: strictly, however small the difference."""
    points = list(rows.values())
    named = {**rows, **(dict(zip(ENDS, (points[0], points[1], points[-1]), strict=True)) if len(points) > 1 else {})}
    if claim.rising:
        order = list(claim.rising)
        pairs = list(pairwise(order))
    else:
        one = claim.lowest or claim.highest or ""
        order = [one, *(name for name in rows if name != one)]
        pairs = [(one, other) if claim.lowest else (other, one) for other in order[1:]]
    values = {name: named[name][claim.measure] if name in named else None for name in order}
    numbers = ", ".join(f"{name} {MEASURES[claim.measure].write(value)}" for name, value in values.items())
    compared = [(values[less], values[more]) for less, more in pairs]
    if any(value is None for value in values.values()):
        return Verdict(claim, None, numbers)
    return Verdict(claim, all(less < more for less, more in compared if less is not None and more is not None), numbers)


def table(findings: Findings) -> tuple[list[str], list[list[str]]]:
    """Titles and cells: the paper's columns first, then ours."""
    ablation = findings.ablation
    titles = ["", *(f"paper: {column}" for column in findings.published), *(MEASURES[name].title for name in ablation.measures)]
    cells = []
    for name, values in findings.rows.items():
        variant = ablation.variants.get(name)
        told = [variant.published.get(column, "–") if variant else "–" for column in findings.published]
        cells.append([name, *told, *(MEASURES[measure].write(values[measure]) for measure in ablation.measures)])
    return titles, cells


def markdown(findings: Findings) -> str:
    ablation = findings.ablation
    titles, cells = table(findings)
    lines = [f"# {ablation.name}", "", ablation.question, "", f"Source: {ablation.source}.", ""]
    if findings.quick:
        lines += ["**A quick run of a few tiny steps: its numbers say nothing.**", ""]
    lines += [_row(titles), _row(["---", *["---:"] * (len(titles) - 1)]), *map(_row, cells), ""]
    lines += [_row(["the paper shows", "ours", "the same here"]), _row(["---"] * 3)]
    lines += [_row([verdict.claim.says, verdict.numbers, verdict.word]) for verdict in findings.verdicts]
    lines += ["", "One seed each. How this differs from the paper's:", "", *(f"- {one}" for one in ablation.deviations)]
    return "\n".join([*lines, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def record(findings: Findings) -> dict[str, Any]:
    ablation = findings.ablation
    verdicts = findings.verdicts
    return {
        "name": ablation.name,
        "source": ablation.source,
        "quick": findings.quick,
        "machine": environment()["cpu"],
        "steps": {name: outcome.steps for name, outcome in findings.outcomes.items()},
        "rows": findings.rows,
        "published": {name: variant.published for name, variant in ablation.variants.items()},
        "claims": [
            {"says": one.claim.says, "measure": one.claim.measure, "numbers": one.numbers, "holds": one.holds} for one in verdicts
        ],
        "deviations": list(ablation.deviations),
    }


def write_report(findings: Findings, folder: Path) -> None:
    """table.md, table.json and curve.png, which needs matplotlib (extra `train`)."""
    for name, content in (
        ("table.md", markdown(findings)),
        ("table.json", json.dumps(record(findings), indent=1, ensure_ascii=False) + "\n"),
    ):
        with atomic_write(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    draw(findings, folder / "curve.png")


def draw(findings: Findings, path: Path) -> None:
    """Left the loss of every variant over its steps; right what the ablation wants shown, as bars or over steps."""
    from matplotlib.figure import Figure

    ablation = findings.ablation
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, outcome in findings.outcomes.items():
        points = [(record["step"] + 1, record["losses"]["next_token"]) for record in outcome.records]
        if points:
            left.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
    left.set(xlabel="step", ylabel="loss of a token", title=ablation.name + (" (quick: says nothing)" if findings.quick else ""))
    left.grid(alpha=0.3)
    if left.lines:
        left.legend(fontsize="small")
    (_over_steps if ablation.rows == "evaluations" else _bars)(right, findings)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _over_steps(axes: Axes, findings: Findings) -> None:
    steps = [int(name.split()[-1]) for name in findings.rows]
    for measure in findings.ablation.chart:
        values = [row[measure] for row in findings.rows.values()]
        axes.plot(steps, [float("nan") if value is None else value for value in values], marker="o", label=MEASURES[measure].title)
    axes.set(xlabel="step", ylabel="score", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _bars(axes: Axes, findings: Findings) -> None:
    measures, names = findings.ablation.chart, list(findings.rows)
    width = 0.8 / len(measures)
    for index, measure in enumerate(measures):
        places = [place + (index - (len(measures) - 1) / 2) * width for place in range(len(names))]
        values = [findings.rows[name][measure] for name in names]
        bars = axes.bar(places, [value or 0.0 for value in values], width * 0.95, label=MEASURES[measure].title)
        axes.bar_label(bars, [MEASURES[measure].write(value) for value in values], fontsize="x-small")
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.legend(fontsize="small")
    axes.margins(y=0.15)
