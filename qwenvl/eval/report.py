"""Scores as a summary in JSON, as a table for a terminal, and as one for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qwenvl.eval.task import Score, Scores

if TYPE_CHECKING:
    from rich.table import Table

Chance = Mapping[str, Mapping[str, Mapping[str, float]]]

FOR_SCORERS = ("lexicon", "markup")
"""Parts of run.json that only a scorer reads."""

MAIN = "main"
"""The condition whose scores stand for the model; the others are reported apart."""


def summary(run: Mapping[str, Any], scores: Scores, chance: Chance) -> dict[str, Any]:
    """{model, n, seeds, scores: {task: {language: share}}, chance: {task: share}, held_out: {condition: …}, details, …run}.

    `chance` gives the higher of the two languages. `details` has every score with its count and interval, by condition.
    """
    return {
        **{key: value for key, value in run.items() if key not in FOR_SCORERS},
        "scores": _values(scores.get(MAIN, {})),
        "chance": {measure: round(max(chance[MAIN][measure].values()), 4) for measure in scores.get(MAIN, {})},
        "held_out": {condition: _values(measures) for condition, measures in scores.items() if condition != MAIN},
        "details": {condition: _details(measures, chance[condition]) for condition, measures in scores.items()},
    }


def table(result: Mapping[str, Any]) -> Table:
    """The summary for a terminal: percent with the 95 % interval, chance, and how many questions, by condition and task."""
    from rich.table import Table

    languages = sorted({language for tasks in result["details"].values() for task in tasks.values() for language in task})
    grid = Table(title=f"{result['model']} on {result['task']}, {result['n']} scenes; % with 95 % interval")
    grid.add_column("")
    for language in languages:
        grid.add_column(language, justify="right")
    grid.add_column("chance", justify="right")
    grid.add_column("questions", justify="right")
    for condition in sorted(result["details"], key=lambda name: (name != MAIN, name)):
        grid.add_section()
        if condition != MAIN:
            grid.add_row(f"[bold]held out: {condition}[/bold]")
        for measure, by_language in result["details"][condition].items():
            grid.add_row(
                measure,
                *(_cell(by_language.get(language)) for language in languages),
                f"{100 * max(score['chance'] for score in by_language.values()):.0f}",
                " / ".join(str(by_language[language]["n"]) for language in languages if language in by_language),
            )
    return grid


def markdown(result: Mapping[str, Any]) -> str:
    """The summary for a page: what was measured, then one Markdown table a condition, with the same columns as `table`."""
    seeds = ", ".join(map(str, result["seeds"]))
    weights, decoding = result["fingerprint"]["weights"], result["decoding"]
    lines = [f"## {result['model']}", "", f"{result['n']} scenes, seed {seeds}, weights `{weights}`, {decoding} decoding.", ""]
    languages = sorted({language for tasks in result["details"].values() for task in tasks.values() for language in task})
    for condition in sorted(result["details"], key=lambda name: (name != MAIN, name)):
        if condition != MAIN:
            lines += [f"### Held out: {condition}", ""]
        lines += [f"| score | {' | '.join(languages)} | chance | questions |", f"|---|{'---:|' * (len(languages) + 2)}"]
        for measure, scores in result["details"][condition].items():
            cells = [_plain_cell(scores.get(language)) for language in languages]
            counts = " / ".join(str(scores[language]["n"]) for language in languages if language in scores)
            chance = 100 * max(score["chance"] for score in scores.values())
            lines.append(f"| `{measure}` | {' | '.join(cells)} | {chance:.0f} | {counts} |")
        lines.append("")
    return "\n".join(lines)


def _values(measures: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, float]]:
    return {
        measure: {language: round(score.value, 4) for language, score in by_language.items()}
        for measure, by_language in measures.items()
    }


def _details(measures: Mapping[str, Mapping[str, Score]], chance: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    return {
        measure: {language: {**score.to_json(), "chance": chance[measure][language]} for language, score in by_language.items()}
        for measure, by_language in measures.items()
    }


def _cell(score: Mapping[str, Any] | None) -> str:
    value, _, interval = _plain_cell(score).partition(" ")
    return f"{value} [dim]{interval}[/dim]" if interval else value


def _plain_cell(score: Mapping[str, Any] | None) -> str:
    return "" if score is None else f"{100 * score['value']:.1f} ({100 * score['low']:.0f}–{100 * score['high']:.0f})"
