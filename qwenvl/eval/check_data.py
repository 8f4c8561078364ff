"""Whether a benchmark's files lie where they must, and can be read: one line for each that does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from qwenvl.eval.benchmark import Benchmark
from qwenvl.types import ImagePart, QwenVLError

READ = 3
"""Items that are read of each split, to see that files have the form that they should."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What there is to say of one split: nothing more than its first items where all is well."""

    benchmark: str
    split: str
    problem: str = ""
    read: int = 0


def missing_files(benchmark: Benchmark, split: str, folder: Path) -> str:
    """What of a split's files does not lie in the folder, in one line; nothing where all is there."""
    missing = [pattern for pattern in benchmark.splits[split].files if not any(folder.glob(pattern))]
    return f"{benchmark.name} {split}: no {', '.join(missing)} in {folder}" if missing else ""


def check(benchmark: Benchmark, folder: Path) -> Iterator[Finding]:
    for name in benchmark.splits:
        if missing := missing_files(benchmark, name, folder):
            yield Finding(benchmark.name, name, missing)
            continue
        try:
            items = list(islice(benchmark.items(folder, name), READ))
        except QwenVLError as error:
            yield Finding(benchmark.name, name, f"{benchmark.name} {name}: {error}")
            continue
        lost = [part.image for item in items for part in item.visuals if isinstance(part, ImagePart) and _missing(part.image)]
        if not items:
            yield Finding(benchmark.name, name, f"{benchmark.name} {name}: {folder} holds no item of it; fetch its files again")
        elif lost:
            yield Finding(benchmark.name, name, f"{benchmark.name} {name}: {lost[0]}: no such picture", len(items))
        else:
            yield Finding(benchmark.name, name, read=len(items))


def _missing(image: object) -> bool:
    return isinstance(image, str | Path) and not Path(image).is_file()
