"""`qwenvl data pdf` and `qwenvl data html`: documents as pages with their text in boxes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from qwenvl.cli.options import Number, Text, Whole

if TYPE_CHECKING:
    from qwenvl.data.documents.convert import Job

EXAMPLES = """
qwenvl data pdf manual.pdf papers/ --out pages
qwenvl data pdf papers/ --out pages --tasks ocr_quad document_parsing --samples-per-page 2 --workers 8
qwenvl data html site/ --out pages --width 800
qwenvl data pdf papers/ --out pages --set rules.characters.maximum=3000 --set rules.latin_extended=null
"""

FILES_PER_SHARD = {"pdf": 1, "html": 32}

Inputs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE|FOLDER", help_behavior_hint="")]
Out = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(required)")]
Tasks = Annotated[tuple[Literal["ocr_quad", "ocr_spotting", "ocr", "document_parsing"], ...], tyro.conf.arg(metavar="TASK…")]
Changes = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE", help_behavior_hint="")]


@dataclass(frozen=True)
class Documents:
    """What both kinds of documents are asked."""

    inputs: Inputs = ()
    """Files, and folders of them."""
    out: Out = None
    """Where shards, report.html and report.json go."""
    tasks: Tasks = ("ocr_quad", "ocr_spotting", "ocr", "document_parsing")
    """What is asked about a page: its lines with places, as Qwen-VL and as Qwen2.5-VL write them; its text; QwenVL HTML."""
    samples_per_page: int = 1
    """How many of the tasks each page gets, in turn. Every one of them stores the picture."""
    workers: Whole = None
    """Processes; by default one for each core."""
    files_per_shard: Whole = None
    """By default 1 of PDF and 32 of HTML."""
    set: Changes = ()
    """Change a setting or a rule: --set rules.characters.minimum=100, --set rules.private_use=null. May be given again."""


@dataclass(frozen=True)
class Pdf(Documents):
    """Render the pages of PDF files, with their lines of text and their layout, drop unfit ones by rule, and write shards.

    Damaged and encrypted files are named and counted, and never end a run. After Ctrl-C the same command goes on.
    """

    dpi: Number = None
    """Pixels of an inch; by default 144."""


@dataclass(frozen=True)
class Html(Documents):
    """Draw web pages in headless Chromium, with their lines of text and their layout, drop unfit ones by rule, and write shards.

    Scripts do not run and the network is not reached. A page is cut where it is longer than --height, between lines.
    """

    width: Whole = None
    """Of the browser's view, in CSS pixels; by default 1000."""
    height: Whole = None
    """Of a page at most; by default 1414."""
    root: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """The folder that pictures and style sheets may come from; by default the folder given, or the file's own."""
    chromium: Text = None
    """The browser to run; by default /usr/bin/chromium."""


def pdf(options: Pdf) -> int:
    return convert(options, "pdf", {"dpi": options.dpi})


def html(options: Html) -> int:
    return convert(options, "html", {"width": options.width, "height": options.height, "chromium": options.chromium}, options.root)


def convert(options: Documents, kind: Literal["pdf", "html"], spec: dict[str, Any], root: Path | None = None) -> int:
    from qwenvl.cli.options import UsageError
    from qwenvl.cli.progress import progress
    from qwenvl.data.documents.convert import check_folder, find_sources, plan
    from qwenvl.data.documents.pool import convert_all
    from qwenvl.data.documents.report import write_report
    from qwenvl.runtime import usable_cores

    if not options.inputs:
        raise UsageError("nothing to read: give files or folders")
    if options.out is None:
        raise UsageError("--out: give the folder to write into")
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers {options.workers}: give 1 or more")
    job = read_job(options, kind, spec)
    sources = find_sources(options.inputs, kind, root)
    check_folder(options.out, job)
    units, total = plan(sources, job, options.out)
    try:
        with progress(f"{len(sources)} files", sum(len(unit.sources) for unit in units)) as advance:

            def done(outcome: Any) -> None:
                total.add(outcome)
                advance(len(outcome.files))

            convert_all(units, job, options.out, options.workers or usable_cores(), done)
    except KeyboardInterrupt:
        print(f"qwenvl: what is done so far is in {options.out}; the same command goes on from there", file=sys.stderr)
        raise
    show(write_report(options.out, job, total))
    print(f"{options.out / 'report.html'}: drops by rule, and pages with their boxes")
    return 0


def read_job(options: Documents, kind: str, spec: dict[str, Any]) -> Job:
    """What the options describe. Raises ConfigError for a setting that does not exist or does not fit."""
    from qwenvl.config import apply_override, validate
    from qwenvl.data.documents.convert import Job
    from qwenvl.data.documents.page_rules import HTML_RULES, PDF_RULES

    rules = PDF_RULES if kind == "pdf" else HTML_RULES
    data: dict[str, Any] = {
        "kind": kind, kind: {name: value for name, value in spec.items() if value is not None},
        "rules": rules.model_dump(mode="json"), "tasks": list(options.tasks),
        "samples_per_page": options.samples_per_page, "files_per_shard": options.files_per_shard or FILES_PER_SHARD[kind],
    }  # fmt: skip
    for change in options.set:
        apply_override(data, change)
    return validate(data, Job, "options")


def show(data: dict[str, Any]) -> None:
    """The counts on stdout; on stderr what could not be read."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", box=None, show_header=False)
    table.add_column(justify="right")
    for line in data["damaged_files"]:
        print(f"qwenvl: {line}", file=sys.stderr)
    rows = [("files", data["files"]), ("pages", data["pages"])]
    rows += [(f"  {name.replace('_', ' ')}", -count) for name, count in data["dropped"].items()]
    for name, count in (*rows, ("kept", data["kept"]), ("samples", data["samples"])):
        table.add_row(name, f"{count:,}")
    Console().print(table)
