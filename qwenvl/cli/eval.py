"""`qwenvl eval run|score|answers`: measure a model, score saved predictions again, show answers drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    out: Path | None = None
    """Folder for answers and scores; by default one named after the model, its weights, the limit and the seed, under runs/eval."""
    json: bool = False
    """Print JSON instead of a table."""
    device: str | None = None
    """cpu, cuda or cuda:N; by default CUDA where there is one."""


@dataclass(frozen=True)
class Score:
    """Score the answers saved by an earlier run again. No model is needed."""

    folder: tyro.conf.Positional[Path]
    """The folder of that run."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Answers:
    """Write a page that shows a model's answers to questions drawn at random, right and wrong ones alike."""

    model: str = "qwen-vl-nano"
    """A built-in model's name, a folder, or a hub id."""
    count: int = 40
    """How many answers."""
    seed: int = 0
    """Which questions."""
    out: Path = Path("docs/nano_answers.md")
    """The Markdown page; its pictures go to one PNG in images/ beside it."""
    device: str | None = None
    """cpu, cuda or cuda:N; by default CUDA where there is one."""


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Score, tyro.conf.subcommand("score")]
    | Annotated[Answers, tyro.conf.subcommand("answers")]
)


def main(arguments: list[str]) -> int:
    command: Run | Score | Answers = tyro.cli(Command, args=arguments, prog="qwenvl eval", description=__doc__)  # type: ignore[arg-type]
    if isinstance(command, Run):
        return run(command)
    if isinstance(command, Score):
        return score(command)
    return answers(command)
