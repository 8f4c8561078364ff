"""A dataset's files -> Parquet shards of Samples, with what was refused counted and named."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from qwenvl.data.adapters.adapter import Adapter
from qwenvl.data.adapters.frames import Box, FrameError, Verdict, judge
from qwenvl.data.record import RecordError, check_text
from qwenvl.data.shards import ROWS_PER_SHARD, ShardWriter
from qwenvl.data.sources import BadSample, Record
from qwenvl.processing.image import ImageError, open_image, picture_size
from qwenvl.runtime import atomic_write
from qwenvl.types import QwenVLError, Sample

Judge = Callable[[Sample], tuple[Sample, str | None]]

CENSUS = 1000
"""Records at the beginning whose boxes are judged together before anything is written."""
SHOWN = 20
"""Refused samples that the report repeats; the others are in bad.jsonl alone."""


@dataclass(slots=True)
class Choice:
    """What of a dataset is wanted: a split ("all" for all; what has none always is), tasks (none: all), and how many Samples."""

    split: str = "train"
    tasks: tuple[str, ...] = ()
    limit: int | None = None

    def refuses(self, sample: Sample) -> str | None:
        """The split or the task that is not wanted, None for a sample that is."""
        split: str | None = sample.extra.get("split")
        if self.split != "all" and split not in (None, self.split):
            return split
        return sample.task if self.tasks and sample.task not in self.tasks else None


@dataclass(slots=True)
class Report:
    """Counts of a conversion; `bad` are (id, reason) of what was refused, a record or one of its Samples."""

    records: int = 0
    samples: Counter[str] = field(default_factory=Counter)
    not_wanted: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[str, str]] = field(default_factory=list)
    frames: Verdict | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "samples": sum(self.samples.values()),
            "by_task": dict(sorted(self.samples.items())),
            "not_wanted": dict(sorted(self.not_wanted.items())),
            "bad": len(self.bad),
            "first_bad": [{"id": id, "reason": reason} for id, reason in self.bad[:SHOWN]],
            "boxes": None if self.frames is None else str(self.frames),
        }


def convert(
    adapter: Adapter,
    folder: Path,
    out: Path,
    choice: Choice | None = None,
    *,
    embed: bool = True,
    verify: bool = False,
    trust_boxes: bool = False,
    judge_sample: Judge | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    progress: Callable[[int], None] = lambda samples: None,
) -> Report:
    """Write the Samples of a folder to part-*.parquet in `out`, what was refused to bad.jsonl, and report.json.

    `embed` stores pictures, otherwise their paths; `verify` decodes every picture whole, otherwise its header is read.
    `judge_sample` may add to a Sample, and says why it is refused.
    Raises FrameError where the boxes look as if they were in another frame, unless `trust_boxes`; SourceError for files that
    cannot be read; ShardError for shards that are there already.
    """
    records = adapter.read(folder)
    first = list(islice(records, CENSUS)) if adapter.boxes else []  # kept in memory, pictures and all
    choice, report = choice or Choice(), Report(frames=census(adapter, first))
    if report.frames is not None and report.frames.likelier is not None and not trust_boxes:
        raise FrameError(f"{folder}: {report.frames}; correct the files, or give --trust-boxes if they are right")
    with ShardWriter(out, rows_per_shard, embed) as writer:
        for sample in wanted(adapter, chain(first, records), folder, choice, report, verify, judge_sample):
            writer.add(sample)
            progress(sum(report.samples.values()))
    with atomic_write(out / "bad.jsonl") as temporary:
        lines = (json.dumps({"id": id, "reason": reason}, ensure_ascii=False) + "\n" for id, reason in report.bad)
        temporary.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")  # a name may be what is bad
    with atomic_write(out / "report.json") as temporary:
        about = {"adapter": adapter.name, "folder": str(folder), "source": adapter.source, "split": choice.split}
        content = json.dumps(about | report.as_json(), ensure_ascii=False, indent=1) + "\n"
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
    return report


def wanted(
    adapter: Adapter, records: Iterator[Record], folder: Path, choice: Choice, report: Report, verify: bool = False,
    judge_sample: Judge | None = None,
) -> Iterator[Sample]:  # fmt: skip
    """The good Samples that are wanted, counted in `report` with the others."""
    for number, record in enumerate(records):
        report.records += 1
        try:
            made = adapter.samples(record, folder, number)
        except QwenVLError as error:
            report.bad.append(_named(error, f"{adapter.name} record {number}"))
            continue
        for sample in made:
            if (name := choice.refuses(sample)) is not None:
                report.not_wanted[name] += 1
                continue
            reason = _error(sample, verify)
            if reason is None and judge_sample is not None:
                sample, reason = _judged(sample, judge_sample)
            if reason is not None:
                report.bad.append((sample.id, reason))
            else:
                report.samples[sample.task] += 1
                yield sample
                if choice.limit is not None and sum(report.samples.values()) >= choice.limit:
                    return


def census(adapter: Adapter, records: list[Record]) -> Verdict | None:
    """What the boxes of these records show together; None for a schema without boxes, or too few of them."""
    if adapter.boxes is None or adapter.convention is None:
        return None
    boxes: list[Box] = []
    for record in records:
        with suppress(KeyError, IndexError, TypeError, ValueError, AttributeError):  # refused, with its name, when it is converted
            boxes += adapter.boxes(record)
    return judge(boxes, adapter.convention)


def _named(error: QwenVLError, record: str) -> tuple[str, str]:
    if isinstance(error, BadSample):
        return error.sample_id, error.reason
    id, colon, reason = str(error).partition(": ")
    return (id, reason) if colon else (record, str(error))


def _judged(sample: Sample, judge_sample: Judge) -> tuple[Sample, str | None]:
    try:
        return judge_sample(sample)
    except ImageError as error:
        return sample, str(error)


def _error(sample: Sample, verify: bool) -> str | None:
    """Why a Sample cannot be stored, None for one that can."""
    try:
        check_text(sample)
        for part in sample.images:
            open_image(part.image) if verify else picture_size(part.image)
    except ImageError as error:
        return str(error)
    except RecordError as error:
        return str(error).partition(": ")[2]
    return None
