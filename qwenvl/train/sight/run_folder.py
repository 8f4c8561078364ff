"""What the folder of a run says of it, as plain data, however far the run has come."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from qwenvl.config import ConfigError
from qwenvl.models.quantised import QuantisedLinear
from qwenvl.runtime import environment
from qwenvl.train.freeze import GROUPS
from qwenvl.train.metrics import append_line, read_lines, read_metrics
from qwenvl.train.parallel import World
from qwenvl.train.sight.evaluations import read_evaluations

STARTS, TROUBLE, REFUSED, RECIPE = "starts.jsonl", "trouble.jsonl", "refused.json", "recipe.yaml"
PACE = 20
"""Logged lines whose mean pace the time that is left is reckoned with."""


@dataclass(frozen=True)
class RunFolder:
    """records: metrics.jsonl. evaluations, trouble, starts: their files. recipe: as it was resolved, {} where there is none."""

    path: Path
    recipe: dict[str, Any]
    recipe_text: str
    records: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    trouble: list[dict[str, Any]]
    refused: dict[str, Any]
    starts: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return str(self.recipe.get("name", self.path.name))

    @property
    def done(self) -> int:
        return self.records[-1]["step"] + 1 if self.records else 0

    @property
    def steps(self) -> int:
        """As many as the recipe wants."""
        return int(self.section("train").get("steps", self.done))

    @property
    def seconds(self) -> float:
        """Spent on steps, over all starts."""
        steps = [record["step"] + 1 for record in self.records]
        return sum(
            (step - before) * record["step_seconds"] for step, before, record in zip(steps, [0, *steps], self.records, strict=False)
        )

    @property
    def seconds_left(self) -> float:
        paces = [record["step_seconds"] for record in self.records[-PACE:]]
        return (self.steps - self.done) * sum(paces) / max(len(paces), 1)

    def section(self, key: str) -> dict[str, Any]:
        found = self.recipe.get(key)
        return found if isinstance(found, dict) else {}

    def points(self, *keys: str, scale: float = 1.0) -> list[tuple[float, float]]:
        """(steps done, value) of every line that has a number there."""
        found = []
        for record in self.records:
            value: Any = record
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if isinstance(value, int | float) and math.isfinite(value):
                found.append((float(record["step"] + 1), scale * value))
        return found

    def names(self, key: str) -> list[str]:
        """All names that lines have under a key, in the order of their first appearance."""
        return list(dict.fromkeys(name for record in self.records for name in record.get(key) or {}))


def read_run(run: Path) -> RunFolder:
    """Raises ConfigError for a folder without recipe.yaml and without metrics.jsonl."""
    recipe = run / RECIPE
    text = recipe.read_text(encoding="utf-8") if recipe.exists() else ""
    records = sorted(read_metrics(run), key=lambda record: record["step"])
    if not text and not records:
        raise ConfigError(f"{run}: holds no run, neither {RECIPE} nor metrics.jsonl; give the folder of one")
    data = yaml.safe_load(text) or {}
    refused = run / REFUSED
    return RunFolder(
        path=run,
        recipe=data if isinstance(data, dict) else {},
        recipe_text=text,
        records=records,
        evaluations=sorted(read_evaluations(run), key=lambda record: record["step"]),
        # A step that a resumed run did again may stand there twice.
        trouble=list({(entry["step"], entry["kind"]): entry for entry in read_lines(run / TROUBLE)}.values()),
        refused=json.loads(refused.read_text(encoding="utf-8")) if refused.exists() else {},
        starts=read_lines(run / STARTS),
    )


def note_start(run: Path, step: int, model: nn.Module, world: World) -> None:
    """Add a line to starts.jsonl: when and where a run was started or resumed, and what trains in it."""
    from importlib.metadata import version

    machine = environment()
    graphics = [device["name"] for device in machine["cuda"]] if world.device.type == "cuda" else []
    record = {
        "step": step,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": graphics[0] if graphics else machine["cpu"]["model"],
        "on": world.device.type,
        "ranks": world.size,
        "threads": machine["cpu"]["threads"],
        "torch": torch.__version__,
        "qwenvl": version("qwenvl"),
        "weights": {group: list(counts) for group, counts in count_weights(model).items()},
    }
    append_line(run / STARTS, record)


def count_weights(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Weights by group, and how many of them train now. Those that are stored in few bits count as what they stand for."""
    sizes = {name: (parameter.numel(), parameter.requires_grad) for name, parameter in model.named_parameters()}
    for name, module in model.named_modules():
        if isinstance(module, QuantisedLinear):
            sizes[f"{name}.codes"] = module.in_features * module.out_features, False
    counts = {}
    for group in GROUPS:
        inside = [size for name, size in sizes.items() if name.startswith(f"{group}.")]
        if inside:
            counts[group] = sum(size for size, _ in inside), sum(size for size, trains in inside if trains)
    return counts
