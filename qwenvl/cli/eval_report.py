"""What `qwenvl eval report`, `explain`, `check` and `tasks` do. None of them needs a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qwenvl.cli.eval_run import ROOT
from qwenvl.cli.options import FromOne, FromZero, Text
from qwenvl.cli.progress import progress

if TYPE_CHECKING:
    from qwenvl.eval.page import Reported
    from qwenvl.eval.runs import ScoredRun


@dataclass(frozen=True)
class Report:
    """Write a page about runs: our numbers beside the published ones, a radar chart, histograms, samples with boxes."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, or one that holds some."""
    out: Path = Path("runs/eval/report.html")
    """The page; a Markdown table and JSON go beside it."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Where the benchmarks' files are, for the pictures of the samples; by default where the runs found them."""


@dataclass(frozen=True)
class Explain:
    """Say what differs between two runs of one benchmark, and on which questions."""

    first: tyro.conf.Positional[Path]
    """The folder of one run."""
    second: tyro.conf.Positional[Path]
    """The folder of the other."""
    count: int = 10
    """How many questions to show."""


@dataclass(frozen=True)
class Check:
    """Say whether the files of benchmarks lie where they must and can be read: one line for each split."""

    tasks: tyro.conf.Positional[tuple[str, ...]] = ()
    """Benchmarks; by default all."""
    data: Path = ROOT
    """The folder in which each benchmark has one of its own."""


@dataclass(frozen=True)
class Tasks:
    """List the benchmarks, or tell all about one: splits, wordings and their sources, where its files are got."""

    name: tyro.conf.Positional[Text] = None
    """A benchmark."""


@dataclass(frozen=True)
class Draw:
    """Draw scenes and write them in the very files of VQAv2, RefCOCO, TextVQA and Flickr30K, to try things without downloads.

    Numbers on them say something of a nano model, and nothing of these benchmarks.
    """

    data: tyro.conf.Positional[Path] = ROOT
    """The folder in which each gets one of its own name."""
    count: FromOne = 100
    """Scenes of each kind to be asked about; as many others are for examples."""
    seed: FromZero = 1
    """Which scenes."""


def draw(options: Draw) -> int:
    from qwenvl.eval.drawn import NAMES, write_drawn
    from qwenvl.eval.task import EvaluationError

    for name in NAMES:
        if (options.data / name).exists():
            raise EvaluationError(f"{options.data / name} is there already; give another folder")
    with progress("drawing scenes", 4 * options.count) as advance:
        write_drawn(options.data, options.count, options.seed, advance)
    print(f"qwenvl eval run {' '.join(NAMES)} --data {options.data}")
    return 0


def report(options: Report) -> int:
    from qwenvl.eval.compare_runs import paired
    from qwenvl.eval.page import Compared, markdown, write_page
    from qwenvl.eval.runner import RUN, write_json
    from qwenvl.eval.task import EvaluationError
    from qwenvl.runtime import atomic_write

    folders = [path for folder in options.folders for path in (sorted(one.parent for one in folder.glob(f"*/{RUN}")) or [folder])]
    if not folders:
        raise EvaluationError("give the folder of a run, or one that holds some: qwenvl eval report runs/eval")
    runs = sorted(_scored(folders), key=lambda run: (run.name, run.run["split"], run.run["model"], run.run["shots"]["count"]))
    if not runs:
        raise EvaluationError("no run of a benchmark among these; runs of scenes are shown by `qwenvl eval score`")
    with progress("drawing samples", len(runs)) as advance:
        reported = []
        for run in runs:
            reported.append(with_pictures(run, options.data))
            advance(1)
    differences: list[Compared] = []
    for index, first in enumerate(runs):
        for second in runs[index + 1 :]:
            if (first.run["task"], first.run["split"]) == (second.run["task"], second.run["split"]):
                try:
                    differences.append((first, second, paired(first, second)))
                except EvaluationError as error:
                    print(f"qwenvl: {error}", file=sys.stderr)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.out) as temporary:
        temporary.write_text(write_page(reported, differences), encoding="utf-8")
    options.out.with_suffix(".md").write_text(markdown(runs), encoding="utf-8")
    write_json(options.out.with_suffix(".json"), {"runs": [run.to_json() for run in runs]})
    print(f"{options.out}, and beside it {options.out.stem}.md and {options.out.stem}.json")
    return 0


def _scored(folders: Sequence[Path]) -> Iterator[ScoredRun]:
    """The runs of benchmarks among them. Of several, one that cannot be scored is left out, and told."""
    from qwenvl.eval.runner import read_run
    from qwenvl.eval.runs import score_folder
    from qwenvl.eval.task import EvaluationError
    from qwenvl.eval.tasks import SCENES

    for folder in folders:
        try:
            if read_run(folder)["task"] != SCENES:
                yield score_folder(folder)
        except EvaluationError as error:
            if len(folders) == 1:
                raise
            print(f"qwenvl: left out: {error}", file=sys.stderr)


def with_pictures(run: ScoredRun, data: Path | None) -> Reported:
    """The run with the pictures of its questions, where their files are still at hand."""
    from qwenvl.eval.page import Reported, shown_of
    from qwenvl.processing.image import open_image
    from qwenvl.types import ImagePart, QwenVLError

    folder = data / run.run["task"] if data is not None else Path(run.run["folder"])
    wanted = {prediction.id for prediction in shown_of(run)}
    pictures: dict[str, Any] = {}
    try:
        for item in run.benchmark.items(folder, run.run["split"]):
            name = f"{run.run['split']}/{item.id}"
            first = next((part for part in item.visuals if isinstance(part, ImagePart)), None)
            if name in wanted and first is not None:
                pictures[name] = open_image(first.image)
            if len(pictures) == len(wanted):
                break
    except QwenVLError as error:
        print(f"qwenvl: no pictures for {run.folder}: {error}", file=sys.stderr)
    return Reported(run, pictures)


def explain(options: Explain) -> int:
    from qwenvl.eval.compare_runs import changed_answers, paired, what_differs
    from qwenvl.eval.runs import score_folder
    from qwenvl.eval.task import EvaluationError

    first, second = score_folder(options.first), score_folder(options.second)
    rows = changed_answers(first, second)
    print("what was asked, and of whom:")
    for name, one, other in what_differs(first.run, second.run):
        print(f"  {name}: {one} | {other}")
    try:
        found = paired(first, second)
        told = f"{found.first:.4f} | {found.second:.4f}, difference {found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        print(f"{found.measure} over {found.n} shared questions: {told}, p {found.p:.3f}")
    except EvaluationError as error:
        print(error)
    print(f"{len(rows)} questions with other points:")
    for one, other, ours, theirs in rows[: options.count]:
        print(f"  {one.id}: {one.question!r}")
        print(f"    {ours:g}: {one.reply!r}\n    {theirs:g}: {other.reply!r}\n    true: {one.reference!r}")
    return 0


def check(options: Check) -> int:
    from qwenvl.eval.check_data import check as findings
    from qwenvl.eval.tasks import NAMES, benchmark_named

    code = 0
    for name in options.tasks or NAMES:
        benchmark, wrong = benchmark_named(name), 0
        for found in findings(benchmark, options.data / name):
            wrong += bool(found.problem)
            print(found.problem or f"{found.benchmark} {found.split}: ready")
        if wrong:
            print(f"  where to get {name}: {benchmark.get}")
            code = 1
    return code


def tasks(options: Tasks) -> int:
    from qwenvl.eval.tasks import NAMES, benchmark_named

    if options.name is None:
        for name in NAMES:
            benchmark = benchmark_named(name)
            print(f"{name:18} {benchmark.title}: {', '.join(benchmark.splits)}; {benchmark.measure}")
        return 0
    benchmark = benchmark_named(options.name)
    print(f"{benchmark.title}\n\nfiles: {benchmark.get}\nrule: {benchmark.source}\nmeasure: {benchmark.measure}")
    for name, split in benchmark.splits.items():
        print(f"split {name}: {', '.join(split.files)}" + ("" if split.answers else " (answers are withheld)"))
    for version, prompt in benchmark.prompts.items():
        print(f"prompt {version} ({prompt.style}; {prompt.source}):\n  " + prompt.text.replace("\n", "\n  "))
    return 0
