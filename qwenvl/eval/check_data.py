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


def check(benchmark: Benchmark, folder: Path) -> Iterator[Finding]:
    for name, split in benchmark.splits.items():
        missing = [pattern for pattern in split.files if not any(folder.glob(pattern))]
        if missing:
            yield Finding(benchmark.name, name, f"no {', '.join(missing)} in {folder}")
            continue
        try:
            items = list(islice(benchmark.read(folder, name), READ))
        except QwenVLError as error:
            yield Finding(benchmark.name, name, str(error))
            continue
        lost = [part.image for item in items for part in item.visuals if isinstance(part, ImagePart) and _missing(part.image)]
        if not items:
            yield Finding(benchmark.name, name, f"{folder}: its files hold no item of {name}; fetch them again")
        elif lost:
            yield Finding(benchmark.name, name, f"{lost[0]}: no such picture", len(items))
        else:
            yield Finding(benchmark.name, name, read=len(items))


def _missing(image: object) -> bool:
    return isinstance(image, str | Path) and not Path(image).is_file()
