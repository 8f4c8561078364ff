"""The folder of a cleaning run: which files it consists of, and whether a run that was begun there may go on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenvl.data.clean.config import CleanConfig, Dataset, Duplicates
from qwenvl.data.clean.inputs import InputError, shard_files
from qwenvl.data.shards import arrow
from qwenvl.runtime import atomic_write, make_folder
from qwenvl.types import QwenVLError

ROW_BITS, SHARD_BITS = 23, 20
"""A row's place is shard << ROW_BITS | row: one whole number whose order is that of the files and of the rows in them."""

RULES_VERSION = 2
"""Raised by every change of this package that changes an outcome: a run begun with another version does not go on."""

_LEFT_BEHIND = re.compile(r"^\..+\.\d+\.[0-9a-f]{8}\.\w+$")
"""Temporary names of runtime.atomic_write, which a killed process leaves."""


class CleanError(QwenVLError, ValueError):
    """A run that cannot begin or go on."""


@dataclass(frozen=True)
class Shard:
    """One input file. Shards are numbered over all datasets, in the order of the config and of the files."""

    number: int
    file: Path
    dataset: Dataset
    out: Path
    """What becomes of it: `<dataset>/part-<number within the dataset>.parquet`."""


@dataclass(frozen=True)
class Run:
    config: CleanConfig
    folder: Path
    shards: tuple[Shard, ...]

    def verdicts(self, shard: Shard) -> Path:
        return self.folder / "state" / "verdicts" / f"{shard.number:06d}.parquet"

    def duplicates(self, dataset: Dataset | None, rule: Duplicates) -> Path:
        """Rows that one rule drops; `dataset` None: a rule across datasets."""
        name = f"{dataset.name}-{rule.name}" if dataset else f"-{rule.name}"  # no dataset's name begins with a dash
        return self.folder / "state" / "duplicates" / f"{name}.parquet"

    def duplicate_files(self, dataset: Dataset) -> dict[str, Path]:
        """Rule -> the file of rows that it drops, of all rules that concern a dataset, in the order of the rules."""
        within = {rule.name: self.duplicates(dataset, rule) for rule in dataset.ruleset().duplicates}
        return within | {rule.name: self.duplicates(None, rule) for rule in self.config.across}

    def doubles(self, shard: Shard) -> dict[int, tuple[str, int]]:
        """Place -> the rule that has dropped the row as a double, and the place of a better one, for the rows of one shard."""
        first, end = shard.number << ROW_BITS, (shard.number + 1) << ROW_BITS
        found: dict[int, tuple[str, int]] = {}
        for name, file in self.duplicate_files(shard.dataset).items():
            table = arrow().parquet.read_table(file, filters=[("place", ">=", first), ("place", "<", end)])
            found |= {row["place"]: (name, row["better"]) for row in table.to_pylist()}
        return found

    def of(self, dataset: Dataset) -> list[Shard]:
        return [shard for shard in self.shards if shard.dataset is dataset]


def list_shards(config: CleanConfig, folder: Path) -> tuple[Shard, ...]:
    """Raises InputError where files are missing, or there are too many."""
    found: list[Shard] = []
    for dataset in config.datasets:
        for number, file in enumerate(shard_files(dataset)):
            found.append(Shard(len(found), file, dataset, folder / dataset.name / f"part-{number:05d}.parquet"))
    if len(found) >> SHARD_BITS:
        raise InputError(f"{len(found)} files: at most {1 << SHARD_BITS} in one run; split it")
    return tuple(found)


@contextmanager
def open_run(config: CleanConfig, folder: Path) -> Iterator[Run]:
    """A new run in the folder, or the one that was begun there with the same settings and inputs.

    Raises CleanError where the folder holds a run of other settings or inputs, or another process works in it.
    """
    run = Run(config, folder, list_shards(config, folder))
    settings = folder / "state" / "run.json"
    described = _described(run)
    if not settings.exists() and folder.exists() and {path.name for path in folder.iterdir()} - {"state"}:
        raise CleanError(f"{folder}: not empty, and not of a cleaning run; give another folder")
    make_folder(settings.parent)
    with _only_one(settings.with_name("lock"), folder):
        # Asked under the lock: another process may have begun a run just now.
        # A run that has judged no file yet, since its settings did not do, holds nothing that could be mixed up.
        judged = any(settings.parent.glob("verdicts/*.parquet"))
        begun = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() and judged else described
        if difference := _first_difference(begun, described):
            raise CleanError(f"{folder}: holds a run with another {difference}; give another folder, or delete this one")
        for path in [*folder.rglob(".*")]:
            if _LEFT_BEHIND.match(path.name):
                path.unlink(missing_ok=True)
        with atomic_write(settings) as temporary:
            temporary.write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        yield run


def _described(run: Run) -> dict[str, Any]:
    """What the outcome depends on. Files count as the same by name, size and time of change."""
    stats = ((shard.file, shard.file.stat()) for shard in run.shards)
    files = {str(file): [stat.st_size, stat.st_mtime_ns] for file, stat in stats}
    datasets = {
        dataset.name: dataset.model_dump(mode="json", exclude={"rules", "preset"})
        | {"rules": dataset.ruleset().model_dump(mode="json")}
        for dataset in run.config.datasets
    }
    settings = run.config.model_dump(mode="json", exclude={"datasets"})
    return {"version": RULES_VERSION, "settings": settings, "datasets": datasets, "files": files}


def _first_difference(one: Any, other: Any, name: str = "") -> str:
    """The dotted key at which two plain values differ first; empty where they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            if found := _first_difference(one.get(key), other.get(key), f"{name}.{key}" if name else key):
                return found
        return ""
    return "" if one == other else name


@contextmanager
def _only_one(lock: Path, folder: Path) -> Iterator[None]:
    """Keep a second process out of the folder. The lock goes with its process, however that ends."""
    import fcntl

    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CleanError(f"{folder}: another run is at work in it; wait for it, or give another folder") from None
        except OSError:
            pass  # a file system without locks
        yield
