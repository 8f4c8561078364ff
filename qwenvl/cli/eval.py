"""`qwenvl eval`: measure models, score saved answers again, report, compare; show answers drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from qwenvl.cli.eval_report import Check, Draw, Explain, Report, Tasks, check, draw, explain, report, tasks
from qwenvl.cli.eval_run import Run, describe, run
from qwenvl.cli.eval_score import Score, score
from qwenvl.cli.options import Device, parse

SUMMARY = "Measure models on benchmarks, score saved answers again, report and compare, show answers drawn at random."
EXAMPLES = """
qwenvl eval run scenes --model qwen-vl-nano --limit 500 --json
qwenvl eval run vqav2 refcoco --model Qwen/Qwen-VL --data data/eval --dry-run
qwenvl eval score runs/eval/FOLDER
qwenvl eval report runs/eval --out report.html
qwenvl eval explain runs/eval/A runs/eval/B
qwenvl eval check vqav2
qwenvl eval tasks
qwenvl eval draw data/eval
qwenvl eval answers --count 40 --out answers.md
qwenvl eval run --help
"""


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
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Explain, tyro.conf.subcommand("explain")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Tasks, tyro.conf.subcommand("tasks")]
    | Annotated[Draw, tyro.conf.subcommand("draw")]
    | Annotated[Answers, tyro.conf.subcommand("answers")]
)
DOERS: dict[type, Callable[[Any], int]] = {Score: score, Report: report, Explain: explain, Check: check, Tasks: tasks, Draw: draw}


def main(arguments: list[str]) -> int:
    command: Any = parse(Command, arguments, "qwenvl eval", SUMMARY, EXAMPLES)
    if isinstance(command, Run):
        return run(command, arguments)
    return answers(command) if isinstance(command, Answers) else DOERS[type(command)](command)


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
