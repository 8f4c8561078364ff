"""`qwenvl data adapters|convert`: which public datasets are read, and one of them as shards of Samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from qwenvl.cli.options import Flag, Whole

EXAMPLES = """
qwenvl data adapters
qwenvl data convert chartqa "ChartQA Dataset" shards/chartqa
qwenvl data convert refcoco data/refcoco shards/refcoco --tasks referring --split train
"""


@dataclass(frozen=True)
class Adapters:
    """List the public datasets that `qwenvl data convert` reads: their files, tasks, and where each schema was read."""

    markdown: Flag = False
    """Print the table of the documentation."""


@dataclass(frozen=True)
class Convert:
    """Read a public dataset as it is distributed, and write Parquet shards of Samples, with a report of what was refused."""

    adapter: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER")]
    """Its name in `qwenvl data adapters`."""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the files were unpacked or downloaded to."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder for part-*.parquet, report.json and bad.jsonl."""
    split: str = "train"
    """train, val, test, or all. What has no split is always taken."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK…", help_behavior_hint="")] = ()
    """These tasks alone, of those that the adapter makes."""
    limit: Whole = None
    """Stop after so many Samples."""
    paths: Flag = False
    """Store the paths of pictures instead of the pictures."""
    verify: Flag = False
    """Decode every picture whole; otherwise only its size is read."""
    trust_boxes: Flag = False
    """Convert although the boxes look as if they were written in another frame."""


def list_adapters(options: Adapters) -> int:
    from qwenvl.data.adapters.registry import ADAPTERS, markdown

    if options.markdown:
        print(markdown(), end="")
        return 0
    width = max(map(len, ADAPTERS))
    for adapter in ADAPTERS.values():
        print(f"{adapter.name:<{width}}  {adapter.description}: {', '.join(adapter.tasks)}")
        print(f"{'':<{width}}  {adapter.files}")
    return 0


def convert(options: Convert) -> int:
    from rich.console import Console

    from qwenvl.data.adapters.convert import Choice
    from qwenvl.data.adapters.convert import convert as convert_folder
    from qwenvl.data.adapters.registry import AdapterError, adapter_named

    adapter = adapter_named(options.adapter)
    if unknown := set(options.tasks) - set(adapter.tasks):
        raise AdapterError(f"--tasks {' '.join(sorted(unknown))}: {adapter.name} makes {', '.join(adapter.tasks)}")
    choice = Choice(options.split, options.tasks, options.limit)
    with Console(stderr=True).status(f"reading {options.folder}") as status:
        report = convert_folder(
            adapter, options.folder, options.out, choice, embed=not options.paths, verify=options.verify,
            trust_boxes=options.trust_boxes, progress=lambda count: status.update(f"{count} samples"),
        )  # fmt: skip
    tasks = ", ".join(f"{task} {count}" for task, count in sorted(report.samples.items()))
    print(f"{options.out}: {sum(report.samples.values())} samples ({tasks or 'none'}) of {report.records} records")
    if report.not_wanted:
        print("not wanted: " + ", ".join(f"{name} {count}" for name, count in sorted(report.not_wanted.items())))
    if report.frames is not None:
        print(f"boxes: {report.frames}")
    if report.bad:
        id, reason = report.bad[0]
        print(f"refused: {len(report.bad)}, named in {options.out / 'bad.jsonl'}; the first: {id}: {reason}")
    return 0 if report.samples else 1
