"""`qwenvl data adapters|convert`: which public datasets are read, and one of them as shards of Samples."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qwenvl.cli.options import Flag, SomeOf

if TYPE_CHECKING:
    from qwenvl.data.adapters.convert import Judge

EXAMPLES = """
qwenvl data adapters
qwenvl data convert chartqa "ChartQA Dataset" shards/chartqa
qwenvl data convert refcoco data/refcoco shards/refcoco --tasks referring --split train
qwenvl data convert mmc4 data/mmc4 shards/mmc4 --thresholds documents.yaml --scorer clip:models/clip-vit-base-patch32
"""


WEB = ("obelics", "mmc4")
"""Documents of text and pictures, which have scores."""


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
    limit: SomeOf = None
    """Stop after so many Samples."""
    paths: Flag = False
    """Store the paths of pictures instead of the pictures."""
    verify: Flag = False
    """Decode every picture whole; otherwise only its size is read."""
    trust_boxes: Flag = False
    """Convert although the boxes look as if they were written in another frame."""
    thresholds: Annotated[Path | None, tyro.conf.arg(metavar="FILE.yaml", help_behavior_hint="")] = None
    """What web documents need at least of each score; without it they are scored and none is refused."""
    scorer: Annotated[str | None, tyro.conf.arg(metavar="clip:FOLDER|open_clip:FOLDER", help_behavior_hint="")] = None
    """Measures how well the pictures and texts of web documents fit, in place of what the dataset says."""


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
    if (options.thresholds or options.scorer) and adapter.name not in WEB:
        raise AdapterError(f"--thresholds, --scorer: for web documents alone ({', '.join(WEB)}), not {adapter.name}")
    choice = Choice(options.split, options.tasks, options.limit)
    with Console(stderr=True).status(f"reading {options.folder}") as status:
        report = convert_folder(
            adapter, options.folder, options.out, choice, embed=not options.paths, verify=options.verify,
            trust_boxes=options.trust_boxes, judge_sample=_judge(options), progress=lambda count: status.update(f"{count} samples"),
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
    if not report.samples:
        why = "nothing is of that --split and --tasks; give others" if report.not_wanted else "all records were refused"
        print(f"qwenvl: {options.folder}: {why if report.records else 'no records there'}", file=sys.stderr)
    return 0 if report.samples else 1


def _judge(options: Convert) -> Judge | None:
    """What scores documents, and refuses those below the thresholds, if there are any."""
    if options.thresholds is None and options.scorer is None:
        return None
    from qwenvl.config import load_yaml
    from qwenvl.data.clean.scorers import scorer_factory
    from qwenvl.data.document_scores import DocumentJudge, DocumentThresholds

    thresholds = load_yaml(options.thresholds, DocumentThresholds) if options.thresholds else DocumentThresholds()
    judge = DocumentJudge(thresholds, scorer_factory(options.scorer)() if options.scorer else None)
    return judge if options.thresholds else lambda sample: (judge(sample)[0], None)
