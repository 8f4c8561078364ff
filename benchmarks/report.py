"""What a run found, written down: JSON, a table in Markdown, and a picture of bars for every row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.harness import Goal, Probe, Result, best_of
from qwenvl.runtime import atomic_write

BAR, LABEL, LINE = 340, 300, 22
"""Pixels: the longest bar, room for names, height of a line."""
OURS, PEER, FLOOR = "#6d4aff", "#b9bcc6", "#e0672f"


@dataclass
class Row:
    """A row of the suite: what was measured of it, or why it was not."""

    number: str
    title: str
    results: list[Result] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0
    """Of wall time."""
    cpu_seconds: float = 0.0

    @property
    def goals(self) -> list[Goal]:
        return [goal for result in self.results for goal in result.goals()]

    def as_dict(self, probe: Probe) -> dict[str, Any]:
        return {
            "row": self.number, "title": self.title, "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 1), "error": self.error,
            "results": [result.as_dict(probe) for result in self.results],
        }  # fmt: skip


@dataclass
class Report:
    """A whole run, ready to be written down."""

    command: str
    commit: str
    environment: dict[str, Any]
    core: int | None
    rounds: int
    probe_before: dict[str, float]
    probe_after: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    note: str = ""
    load_before: tuple[float, ...] = ()
    """Average numbers of processes that ran, over 1, 5 and 15 minutes."""

    @property
    def probe(self) -> dict[str, float]:
        return best_of(self.probe_before, self.probe_after)

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "rows": [row.as_dict(self.probe) for row in self.rows]}

    def write(self, folder: Path) -> None:
        pictures = {row.number: bars(row, self.probe) for row in self.rows if row.results}
        for name, text in (
            ("report.json", json.dumps(self.as_dict(), indent=1)),
            ("report.md", self.markdown()),
            *((f"{number}.svg", picture) for number, picture in pictures.items()),
        ):
            with atomic_write(folder / name) as path:
                path.write_text(text, encoding="utf-8")

    def markdown(self) -> str:
        parts = [self._head(), self.note, goal_table(self.rows)]
        for row in self.rows:
            parts.append(f"## {row.number} {row.title}")
            if row.error:
                parts.append(f"Not measured: {row.error}")
            if row.results:
                parts += [f"![{row.number}]({row.number}.svg)", table(row.results, self.probe), figures(row.results)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        cpu = self.environment["cpu"]
        load = f"; {self.load_before[0]:.1f} processes ran beside it" if self.load_before else ""
        wall, used = (sum(getattr(row, name) for row in self.rows) for name in ("seconds", "cpu_seconds"))
        return (
            f"`{self.command}` at commit {self.commit}; {cpu['model']} ({' '.join(cpu['flags'])}), one thread on core {self.core}, "
            f"CPU time, medians of up to {self.rounds} interleaved rounds, {wall:.0f} s in all, {used:.0f} s of them on a core"
            f"{load}; torch {self.environment['torch']}, transformers {self.environment['transformers']}, "
            f"llama.cpp: {self.environment['llama.cpp']}.\n\n"
            f"The machine before and after: {self.probe_before} and {self.probe_after}."
        )


def goal_table(rows: Sequence[Row]) -> str:
    """Every goal with what was measured."""
    lines = ["| row | case | what | measured | goal | |", "|---|---|---|---|---|---|"]
    for row in rows:
        for goal in row.goals:
            mark = "reached" if goal.reached else f"{goal.share:.0%} of it"
            lines.append(f"| {row.number} | {goal.case} | {goal.what} | {goal.value:.3g} {goal.unit} | {goal.wanted} | {mark} |")
        if row.error:
            lines.append(f"| {row.number} | {row.title} | not measured | | | |")
    return "\n".join(lines) if len(lines) > 2 else ""


def table(results: Sequence[Result], probe: Probe) -> str:
    """The results as a Markdown table, one line for every peer. floor: the share of it in what ours took."""
    lines = ["| case | ours | floor | peer | peer's | times ours | outputs differ by |", "|---|---|---|---|---|---|---|"]
    for result in results:
        for pair in result.pairs:
            difference = "—" if result.difference is None else f"{result.difference:.0e}" if result.difference else "0"
            mine, theirs = (f"{result.medians[name]:.4g} {result.quantity}/{result.unit}" for name in (pair.ours, pair.peer))
            low = result.floor(pair.ours, probe)
            floor = "—" if low is None else f"{low:.3g} ({low / result.medians[pair.ours]:.0%})"
            ours = mine if pair.ours == "qwenvl" else f"{pair.ours}: {mine}"
            lines.append(
                f"| {result.name} | {ours} | {floor} | {pair.peer} | {theirs} | {result.ratio(pair):.2f}x | {difference} |"
            )
    return "\n".join(lines)


def figures(results: Sequence[Result]) -> str:
    """What else is worth telling, as a Markdown list; empty where there is nothing."""
    told = [(result.name, ", ".join(f"{name} {value:.4g}" for name, value in result.figures.items())) for result in results]
    return "\n".join(f"- {name}: {line}" for name, line in told if line)


def bars(row: Row, probe: Probe) -> str:
    """An SVG: for each case a bar for every variant, shorter is better, and a stroke where the floor is."""
    parts, y = [], 26
    parts.append(f'<text x="8" y="17" font-weight="bold">{escape(f"{row.number} {row.title}")}</text>')
    for result in row.results:
        parts.append(f'<text x="8" y="{y + 15}" font-style="italic">{escape(result.name)}</text>')
        y += LINE
        ours = {pair.ours for pair in result.pairs}
        longest = max(result.medians.values()) or 1.0
        for name, value in result.medians.items():
            length = max(value / longest * BAR, 1.0)
            text = escape(f"{value:.4g} {result.quantity}/{result.unit}")
            parts.append(f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
            colour = OURS if name in ours else PEER
            parts.append(f'<rect x="{LABEL}" y="{y + 3}" width="{length:.1f}" height="15" fill="{colour}"/>')
            parts.append(f'<text x="{LABEL + length + 6:.1f}" y="{y + 15}">{text}</text>')
            low = result.floor(name, probe)
            if low is not None:
                place = LABEL + low / longest * BAR
                parts.append(f'<line x1="{place:.1f}" y1="{y}" x2="{place:.1f}" y2="{y + 21}" stroke="{FLOOR}" stroke-width="2"/>')
            y += LINE
        y += 8
    width = LABEL + BAR + 170
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" font-size="13">'
    return "\n".join([head, f'<rect width="{width}" height="{y}" fill="white"/>', *parts, "</svg>", ""])
