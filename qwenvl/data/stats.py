"""What a set of Samples costs and looks like in numbers: tokens, visual tokens, sizes, tasks; as JSON and as one picture."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qwenvl.data.packed_rows import PackedRows
from qwenvl.processing.encode import Processor
from qwenvl.processing.image import picture_size
from qwenvl.processing.measure import measure
from qwenvl.types import ImagePart, QwenVLError, Sample, Style

WORST = 10
"""Samples that are named because they are longest."""
PERCENTILES = (1, 25, 50, 75, 99)


@dataclass
class Stats:
    """Lists have an entry for each sample, `sizes` (width, height) for each picture."""

    tokens: list[int] = field(default_factory=list)
    visual: list[int] = field(default_factory=list)
    patches: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    tasks: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    first_refusal: str = ""
    ids: list[str] = field(default_factory=list)

    def add(self, sample: Sample | QwenVLError, processor: Processor, style: Style) -> None:
        """Measure a sample; one that cannot be encoded is counted by the kind of its reason."""
        try:
            if isinstance(sample, QwenVLError):
                raise sample
            size = measure(processor, sample, style)
        except QwenVLError as error:
            self.refused[type(error).__name__] += 1
            self.first_refusal = self.first_refusal or str(error)
            return
        self.tokens.append(size.tokens)
        self.visual.append(size.visual)
        self.patches.append(size.patches)
        self.sizes += [picture_size(part.image) for part in sample.visuals if isinstance(part, ImagePart)]
        self.tasks[sample.task or "none"] += 1
        self.languages[sample.language or "none"] += 1
        self.sources[sample.source or "none"] += 1
        self.ids.append(sample.id)

    def record(self) -> dict[str, Any]:
        """Plain data: counts, percentiles, and the longest samples by name."""
        longest = sorted(zip(self.tokens, self.visual, self.ids, strict=True), reverse=True)[:WORST]
        return {
            "samples": len(self.tokens),
            "refused": dict(self.refused),
            "tokens": _summary(self.tokens),
            "visual_tokens": _summary(self.visual),
            "patches": _summary(self.patches),
            "picture_pixels": _summary([width * height for width, height in self.sizes]),
            "tasks": dict(self.tasks.most_common()),
            "languages": dict(self.languages.most_common()),
            "sources": dict(self.sources.most_common()),
            "longest": [{"id": name, "tokens": tokens, "visual_tokens": visual} for tokens, visual, name in longest],
        }

    def draw(self, path: Path, title: str) -> None:
        """One PNG: tokens, visual tokens, sizes of pictures, samples per task. Needs matplotlib (extra `train`)."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 7), layout="constrained")
        figure.suptitle(f"{title}: {len(self.tokens):,} samples, {sum(self.tokens):,} tokens")
        (tokens, visual), (sizes, tasks) = figure.subplots(2, 2)
        for axes, values, name in ((tokens, self.tokens, "tokens"), (visual, self.visual, "visual tokens")):
            axes.hist(values, bins=40, color="#4472a8")
            axes.set(xlabel=f"{name} of a sample", ylabel="samples")
        if self.sizes:
            width, height = zip(*self.sizes, strict=True)
            sizes.scatter(width, height, s=6, alpha=0.3, color="#b00020")
        sizes.set(xlabel="width of a picture", ylabel="height", aspect="equal")
        names, counts = zip(*self.tasks.most_common(16)[::-1], strict=True) if self.tasks else ((), ())
        tasks.barh(names, counts, color="#4472a8")
        tasks.set(xlabel="samples")
        figure.savefig(path, dpi=100, format="png")


def gather(samples: Iterable[Sample | QwenVLError], processor: Processor, style: Style) -> Stats:
    stats = Stats()
    for sample in samples:
        stats.add(sample, processor, style)
    return stats


def loading(rows: PackedRows, count: int) -> dict[str, Any]:
    """`count` rows, made as a worker of a trainer makes them, pictures decoded and resized: how full, and how many in a second of
    its core."""
    lane = rows.lane(0, 1, 0, None)
    lane.next()  # fills the pool, and reads what is read once
    before, start = lane.read - len(lane.pool), time.process_time()
    tokens = [sum(map(len, lane.next().documents)) for _ in range(count)]
    seconds, samples = time.process_time() - start, lane.read - len(lane.pool) - before
    return {
        "rows": count,
        "full": round(sum(tokens) / (count * rows.rules.tokens), 4),
        "samples_per_cpu_second": round(samples / seconds, 1),
        "tokens_per_cpu_second": round(sum(tokens) / seconds),
    }


def _summary(values: list[int]) -> dict[str, float]:
    if not values:
        return {"sum": 0}
    found = zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
    marks = {f"p{mark}": round(float(value), 1) for mark, value in found}
    return {"sum": sum(values), "mean": round(float(np.mean(values)), 1), "min": min(values), **marks, "max": max(values)}
