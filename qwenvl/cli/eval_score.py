"""What `qwenvl eval score` does, and how scores are shown after a run. No model is needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import tyro

from qwenvl.cli.addresses import api_at, spent
from qwenvl.cli.options import Flag, FromOne, Text
from qwenvl.cli.progress import progress

if TYPE_CHECKING:
    from rich.table import Table

    from qwenvl.eval.runs import ScoredRun


@dataclass(frozen=True)
class Score:
    """Score the answers saved by earlier runs again. No model is needed.

    Where a benchmark withholds its answers, the file for its server is written instead.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """The folders of these runs."""
    json: Flag = False
    """Print JSON instead of a table: an object, or of several runs a list."""
    markdown: Flag = False
    """Print a section for a Markdown page instead."""
    judge: Text = None
    """Let the model at this address (http://HOST:PORT/v1#MODEL) judge the answers first, of a benchmark that has a judge. Its
    replies are kept, so that the same is asked once; its key is read from OPENAI_API_KEY."""
    concurrency: FromOne = 8
    """Requests to the judge at work at the same time."""
    price_in: float = 0.0
    """Per million tokens sent to the judge, for the cost in judge.json."""
    price_out: float = 0.0
    """Per million tokens received."""


def score(options: Score) -> int:
    from qwenvl.eval.task import EvaluationError

    if not options.folders:
        raise EvaluationError("give the folder of a run: qwenvl eval score runs/eval/FOLDER")
    if options.judge is not None:
        for folder in options.folders:
            ask_judge(folder, options)
    show(options.folders, options.json, options.markdown)
    return 0


def ask_judge(folder: Path, options: Score) -> None:
    """Save the judge's verdicts in the folder. Raises EvaluationError for a benchmark without a judge."""
    from qwenvl.eval.judge import judge, save_verdicts
    from qwenvl.eval.runner import read_predictions, read_run
    from qwenvl.eval.task import EvaluationError
    from qwenvl.eval.tasks import SCENES, benchmark_named

    task, predictions = read_run(folder)["task"], read_predictions(folder)
    rubric = None if task == SCENES else benchmark_named(task).judge
    if rubric is None:
        raise EvaluationError(f"{folder}: {task} is scored by rules, without a judge; leave --judge out")
    api = api_at(options.judge or "", folder / "replies", options.price_in, options.price_out)
    try:
        with progress(f"asking {api.model}", len(predictions)) as advance:
            verdicts = judge(predictions, rubric, api, options.concurrency, advance)
    finally:
        print(f"qwenvl: {spent(api)}", file=sys.stderr)
    about = save_verdicts(folder, verdicts, rubric, api)
    if about["failed"]:
        told = ", ".join(f"{reason} {count}" for reason, count in about["failed"].items())
        print(f"qwenvl: {sum(about['failed'].values())} of {about['rounds']} verdicts failed: {told}", file=sys.stderr)


def show(folders: Sequence[Path], as_json: bool, as_markdown: bool = False) -> None:
    """Score what the folders hold, save scores.json in each, and print the scores; of several benchmarks in one table."""
    found = [_scored(folder) for folder in folders]
    runs = [run for run in found if not isinstance(run, dict)]
    for run in runs:
        _hand_in(run, sys.stderr if as_json else sys.stdout)
    if as_json:
        told = [result if isinstance(result, dict) else result.to_json() for result in found]
        print(json.dumps(told[0] if len(told) == 1 else told, ensure_ascii=False, indent=1))
        return
    runs = [run for run in runs if run.scores]
    if as_markdown:
        from qwenvl.eval.page import markdown
        from qwenvl.eval.report import markdown as scenes_markdown

        print("".join(scenes_markdown(result) for result in found if isinstance(result, dict)), end="")
        print(markdown(runs) if runs else "", end="")
        return
    from rich.console import Console

    from qwenvl.eval.report import table

    tables = [table(result) for result in found if isinstance(result, dict)]
    tables += [_table(runs[0])] if len(runs) == 1 else [_joint_table(runs)] if runs else []
    for grid in tables:
        Console().print(grid)
    print("answers and scores: " + "\n".join(map(str, folders)))


def _scored(folder: Path) -> ScoredRun | dict[str, Any]:
    """What is known of a run; what its numbers lack is said on stderr. Of scenes their summary."""
    from qwenvl.eval.runner import read_run, score_run
    from qwenvl.eval.runs import score_folder
    from qwenvl.eval.scorers.scenes import make_scorer
    from qwenvl.eval.tasks import SCENES

    if read_run(folder)["task"] == SCENES:
        result = score_run(folder, make_scorer)
        _say_if_unfinished(folder, result["answered"], result["questions"])
        return result
    scored = score_folder(folder)
    _say_if_unfinished(folder, len(scored.predictions), scored.run["questions"])
    if scored.failed:
        failed = f"{scored.failed} questions got no answer and earned nothing; the same `eval run` asks them again"
        print(f"qwenvl: {folder}: {failed}", file=sys.stderr)
    if left := sum("verdict" not in one.truth for one in scored.predictions) if scored.benchmark.judge is not None else 0:
        again = f"qwenvl eval score {folder} --judge http://HOST:PORT/v1#MODEL"
        print(f"qwenvl: nobody judged {left} of these answers yet; let a model do so: {again}", file=sys.stderr)
    return scored


def _say_if_unfinished(folder: Path, answered: int, wanted: int) -> None:
    if answered < wanted:
        print(f"qwenvl: {folder}: {answered} of {wanted} questions are answered; the scores are of those", file=sys.stderr)


def _hand_in(run: ScoredRun, told: TextIO) -> None:
    """Where answers are withheld, write the files that the benchmark's server takes."""
    from qwenvl.eval.runs import write_submission

    if not run.scores:
        for path in write_submission(run):
            part = f"; it has {run.run['questions']} questions alone" if run.run["limit"] is not None else ""
            print(f"{run.benchmark.name} {run.run['split']}: answers are withheld; hand in {path}{part}", file=told)


def _table(run: ScoredRun) -> Table:
    """All measures of one run."""
    from rich.table import Table

    from qwenvl.eval.page import bounds_of, value_of

    benchmark = run.benchmark
    drawn = ", drawn scenes" if run.run.get("drawn") else ""
    grid = Table(title=f"{run.called} on {benchmark.title}, {run.run['split']}{drawn}")
    for name in ("", "ours", "95 %", "published", "questions"):
        grid.add_column(name, justify="left" if not name else "right")
    for measure, score in run.scores.items():
        main = measure == benchmark.measure
        published = f"{run.published:g}" if main and run.published is not None else ""
        scale = benchmark.scale if main else 100.0
        cells = (value_of(score, scale), bounds_of(score, scale), published, str(score.n))
        grid.add_row(measure, *cells, style="bold" if main else None)
    return grid


def _joint_table(runs: Sequence[ScoredRun]) -> Table:
    """The main measure of each run."""
    from rich.table import Table

    from qwenvl.eval.page import bounds_of, value_of

    grid = Table()
    for name in ("benchmark", "model", "measure", "ours (95 %)", "published"):
        grid.add_column(name, justify="right" if name in ("ours (95 %)", "published") else "left")
    for run in runs:
        benchmark, score = run.benchmark, run.main
        ours = "" if score is None else f"{value_of(score, benchmark.scale)} ({bounds_of(score, benchmark.scale)})"
        published = "" if run.published is None else f"{run.published:g}"
        grid.add_row(f"{run.name} {run.run['split']}", run.called, benchmark.measure, ours, published)
    return grid
