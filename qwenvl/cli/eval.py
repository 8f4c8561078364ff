"""`qwenvl eval run|score|answers`: measure a model, score saved predictions again, show answers drawn at random."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from qwenvl.cli.options import Device, Flag, OutFolder, parse
from qwenvl.cli.progress import progress

SUMMARY = "Measure a model on a task, score saved answers again, show answers drawn at random."
EXAMPLES = """
qwenvl eval run scenes --model qwen-vl-nano --limit 500 --json
qwenvl eval score runs/eval/FOLDER
qwenvl eval answers --count 40 --out answers.md
qwenvl eval run --help
"""


@dataclass(frozen=True)
class Run:
    """Ask a model the questions of a task, save its answers, score them.

    Interrupted, it loses one batch: the same command goes on from there.
    """

    task: tyro.conf.Positional[Literal["scenes"]]
    """What to measure: scenes are drawn pictures with known contents, made on the spot."""
    model: str = "qwen-vl-nano"
    """A built-in model's name, a folder, or a hub id."""
    limit: int = 500
    """How many scenes of each kind."""
    seed: int = 1
    """Which held-out scenes: none of them is ever trained on."""
    batch: int = 64
    """Questions answered at a time."""
    out: OutFolder = None
    """Folder for answers and scores; by default one named after the model, its weights, the limit and the seed, under runs/eval."""
    json: Flag = False
    """Print JSON instead of a table."""
    device: Device = None
    """By default CUDA where there is one."""


@dataclass(frozen=True)
class Score:
    """Score the answers saved by an earlier run again. No model is needed."""

    folder: tyro.conf.Positional[Path]
    """The folder of that run."""
    json: Flag = False
    """Print JSON instead of a table."""
    markdown: Flag = False
    """Print a section for a Markdown page instead."""


@dataclass(frozen=True)
class Answers:
    """Write a page that shows a model's answers to questions drawn at random, right and wrong ones alike."""

    model: str = "qwen-vl-nano"
    """A built-in model's name, a folder, or a hub id."""
    count: int = 40
    """How many answers."""
    seed: int = 0
    """Which scenes and questions."""
    scenes: int = 100
    """Scenes of each kind whose questions the answers are drawn from."""
    out: Path = Path("docs/nano_answers.md")
    """The Markdown page; its pictures go to one PNG in images/ beside it."""
    device: Device = None
    """By default CUDA where there is one."""


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Score, tyro.conf.subcommand("score")]
    | Annotated[Answers, tyro.conf.subcommand("answers")]
)


def main(arguments: list[str]) -> int:
    command: Run | Score | Answers = parse(Command, arguments, "qwenvl eval", SUMMARY, EXAMPLES)
    if isinstance(command, Run):
        return run(command)
    if isinstance(command, Score):
        return score(command)
    return answers(command)


def run(options: Run) -> int:
    from qwenvl.eval.asking import ModelAnswerer
    from qwenvl.eval.runner import open_run, predict
    from qwenvl.eval.tasks import scenes
    from qwenvl.inference.model import load

    answerer = ModelAnswerer(load(options.model, device=options.device))
    with progress("drawing scenes", scenes.scene_count(options.limit, answerer)) as advance:
        questions = scenes.questions(options.limit, options.seed, answerer, advance)
    settings = {**describe(options.model), **scenes.settings(questions, options.limit, options.seed, answerer)}
    folder = options.out or default_folder(settings, options.seed)
    open_run(folder, settings)
    try:
        with progress("asking", len(questions)) as advance:
            predict(questions, answerer, folder, options.batch, advance)
    except KeyboardInterrupt:
        print(f"qwenvl: the answers so far are in {folder}; the same command goes on from there", file=sys.stderr)
        raise
    return show(folder, options.json)


def score(options: Score) -> int:
    return show(options.folder, options.json, options.markdown)


def answers(options: Answers) -> int:
    from qwenvl.eval.answers import draw_questions, page_heading, write_page
    from qwenvl.eval.asking import ModelAnswerer
    from qwenvl.eval.runner import ask
    from qwenvl.eval.scorers.scenes import make_scorer
    from qwenvl.eval.tasks import scenes
    from qwenvl.inference.model import load

    answerer = ModelAnswerer(load(options.model, device=options.device))
    asked = draw_questions(scenes.main_questions(options.scenes, options.seed, answerer), options.count, options.seed)
    predictions = ask(asked, answerer, batch=options.count)
    settings = {**describe(options.model), **scenes.settings(asked, options.scenes, options.seed, answerer)}
    chosen = f"--count {options.count} --seed {options.seed} --scenes {options.scenes}"
    command = f"qwenvl eval answers --model {settings['model']} {chosen}"
    pictures = [question.sample.images[0].image for question in asked]
    sheet = write_page(options.out, predictions, pictures, make_scorer(settings), page_heading(settings, command))
    print(f"{options.out} and {sheet}")
    return 0


def describe(model: str) -> dict[str, Any]:
    """What was measured: the model by its name as given, and by what its files hold."""
    from qwenvl.eval.runner import fingerprint, versions
    from qwenvl.weights.hub import resolve

    name = Path(model).resolve().name if Path(model).is_dir() else model
    return {"model": name, "fingerprint": fingerprint(resolve(model)), "versions": versions("qwenvl", "torch", "numpy", "pillow")}


def default_folder(settings: Mapping[str, Any], seed: int) -> Path:
    name = settings["model"].replace("/", "-")
    return Path("runs/eval") / f"{settings['task']}-{name}-{settings['fingerprint']['weights'][:8]}-n{settings['n']}-seed{seed}"


def show(folder: Path, as_json: bool, as_markdown: bool = False) -> int:
    """Score what the folder holds, save scores.json there, and print it."""
    from qwenvl.eval.runner import score_run
    from qwenvl.eval.scorers.scenes import make_scorer

    result = score_run(folder, make_scorer)
    answered, wanted = result["answered"], result["questions"]
    if answered < wanted:
        print(f"qwenvl: {answered} of {wanted} questions are answered; the scores are of those", file=sys.stderr)
    if as_json:
        print(json.dumps(result, ensure_ascii=False, indent=1))
        return 0
    if as_markdown:
        from qwenvl.eval.report import markdown

        print(markdown(result))
        return 0
    from rich.console import Console

    from qwenvl.eval.report import table

    Console().print(table(result))
    print(f"answers and scores: {folder}")
    return 0
