"""What a run has done: counts as in the paper's Table 2, drops rule by rule, and examples of each to look at.

report.json has the numbers, report.html the same with pictures. Both depend on the outcome alone: no time, no machine.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qwenvl.data.clean.config import BROKEN, NOT_FETCHED, PRESETS, Dataset, Duplicates, RuleSet
from qwenvl.data.clean.inputs import Pair, pairs
from qwenvl.data.clean.page import Example, page, thumbnail
from qwenvl.data.clean.state import ROW_BITS, Run, Shard
from qwenvl.data.shards import arrow
from qwenvl.runtime import atomic_write

KEPT, MENDED = "kept", "kept, text cleaned"
"""Two more kinds of examples: rows that stay as they were, and rows that stay with another text."""
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
SCORES_WANTED = 1_000_000
"""The quantiles are of at least so many scores, if there are, from shards drawn by chance."""
COLUMNS = ["place", "verdict", "failed", "reason", "changed", "text", "language", "score"]


@dataclass
class Tally:
    """What is counted over the shards of one dataset."""

    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Kind -> chosen rows of the tables of verdicts, with `better` where a double stayed instead."""

    @property
    def kept(self) -> int:
        return self.languages.total()

    @property
    def rows(self) -> int:
        return self.kept + self.dropped.total()


def write_report(run: Run) -> dict[str, Any]:
    """Write report.json and report.html and return what the first holds."""
    tallies = {dataset.name: _tally(run, dataset) for dataset in run.config.datasets}
    summary = [_summary(run, dataset, tallies[dataset.name]) for dataset in run.config.datasets]
    examples = _examples(run, tallies)
    data: dict[str, Any] = {"total": _total(summary), "datasets": summary}
    for name, text in (
        ("report.json", json.dumps(data, indent=1, ensure_ascii=False) + "\n"),
        ("report.html", page(data, examples)),
    ):
        with atomic_write(run.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return data


def _tally(run: Run, dataset: Dataset) -> Tally:
    """Count, and choose examples: rows drawn by chance, from the first shards that have any in an order drawn by chance."""
    tally = Tally()
    for shard in sorted(run.of(dataset), key=lambda shard: _draw(shard.number)):
        with arrow().parquet.ParquetFile(run.verdicts(shard)) as file:
            rows = file.read(columns=COLUMNS).to_pylist()
            if damage := (file.schema_arrow.metadata or {}).get(b"damage", b"").decode():
                tally.damaged.append(damage)
        if sum(map(len, tally.scores)) < SCORES_WANTED:
            tally.scores.append(np.array([row["score"] for row in rows if row["score"] is not None], dtype=np.float32))
        _count(rows, run.doubles(shard), tally, run.config.examples)
    tally.damaged.sort()
    return tally


def _count(rows: Sequence[dict[str, Any]], doubles: Mapping[int, tuple[str, int]], tally: Tally, wanted: int) -> None:
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["place"] in doubles:
            row["verdict"], row["better"] = doubles[row["place"]]
            row["failed"] = [row["verdict"]]
        if row["verdict"]:
            tally.dropped[row["verdict"]] += 1
            tally.failed.update(row["failed"])
        else:
            tally.languages[row["language"]] += 1
            tally.changed.update(row["changed"])
        kinds[row["verdict"] or (MENDED if row["changed"] else KEPT)].append(row)
    for kind, found in kinds.items():
        missing = wanted - len(tally.examples[kind])
        if missing > 0:
            tally.examples[kind] += sorted(found, key=lambda row: _draw(row["place"]))[:missing]


def _draw(number: int) -> bytes:
    """An order by chance that is the same in every run."""
    return hashlib.sha256(str(number).encode()).digest()


def _summary(run: Run, dataset: Dataset, tally: Tally) -> dict[str, Any]:
    rules, preset = dataset.ruleset(), PRESETS[dataset.preset]
    unfetched = tally.dropped[NOT_FETCHED]
    original = tally.rows - unfetched
    names = rules.names + [rule.name for rule in run.config.across]
    scores = np.concatenate(tally.scores) if tally.scores else np.zeros(0)
    return {
        "dataset": dataset.name,
        "preset": dataset.preset,
        "languages": dict(sorted(tally.languages.items())),
        "files": len(run.of(dataset)),
        "rows": tally.rows,
        "not_fetched": unfetched,
        "original": original,
        "cleaned": tally.kept,
        "remaining_percent": percent(tally.kept, original),
        "paper_remaining_percent": preset.remaining,
        "rules": [
            {
                "rule": name,
                "setting": _setting(rules, run.config.across, name),
                "dropped": tally.dropped[name],
                "failed": tally.failed[name],
            }
            for name in names
        ],
        "text_cleaned": dict(sorted(tally.changed.items())),
        "score_quantiles": {f"{q:g}": round(float(np.quantile(scores, q)), 4) for q in QUANTILES} if len(scores) else {},
        "damaged_files": tally.damaged,
    }


def _total(summary: Sequence[dict[str, Any]]) -> dict[str, Any]:
    total = {key: sum(row[key] for row in summary) for key in ("files", "rows", "not_fetched", "original", "cleaned")}
    return total | {"remaining_percent": percent(total["cleaned"], total["original"])}


def percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None


def _setting(rules: RuleSet, across: Sequence[Duplicates], name: str) -> str:
    """The numbers and choices of a rule, in words for the report."""
    if name == BROKEN:
        return "cannot be decoded"
    rule = next((rule for rule in (*rules.duplicates, *across) if rule.name == name), None) or getattr(rules, name)
    if not isinstance(rule, Duplicates):
        values = rule.model_dump(mode="json").items()
        return ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in values if isinstance(value, int | float)) or "any"
    image = {None: "", "exact": "same image", "near": f"image within {rule.max_distance} bits"}[rule.image]
    text = {None: "", "exact": "same text", "near": f"texts alike by {rule.min_similarity:g}"}[rule.text]
    return ", ".join(filter(None, (image, text, f"keep the {rule.keep}")))


def _examples(run: Run, tallies: Mapping[str, Tally]) -> dict[str, dict[str, list[Example]]]:
    """Dataset -> kind -> what the page shows, after reading the chosen rows once more."""
    wanted = [row for tally in tallies.values() for rows in tally.examples.values() for row in rows]
    places = {row["place"] for row in wanted} | {row["better"] for row in wanted if "better" in row}
    read = {place: pair for shard in run.shards for place, pair in _read(shard, places)}
    return {
        name: {kind: [_example(run, row, read) for row in rows] for kind, rows in tally.examples.items()}
        for name, tally in tallies.items()
    }


def _read(shard: Shard, places: set[int]) -> list[tuple[int, Pair]]:
    """The rows of a shard that are wanted, from one reading of it, up to the last of them."""
    first = shard.number << ROW_BITS
    rows = {place - first for place in places if place >> ROW_BITS == shard.number}
    if not rows:
        return []
    found = []
    for pair in pairs(shard.file, shard.dataset):
        if pair.row in rows:
            found.append((first | pair.row, pair))
        if pair.row == max(rows):
            break
    return found


def _example(run: Run, row: dict[str, Any], read: Mapping[int, Pair]) -> Example:
    pair = read[row["place"]]
    double = read.get(row.get("better", -1))
    shown = pair.image is not None and row["verdict"] != NOT_FETCHED
    return Example(
        where=f"{run.shards[row['place'] >> ROW_BITS].file.name} {pair.key}",
        raw=pair.text,
        clean=row["text"] if not row["verdict"] else None,
        reason=row["reason"],
        picture=thumbnail(pair) if shown else None,
        double=(double.text, thumbnail(double)) if double else None,
    )
