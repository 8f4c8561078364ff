"""`qwenvl train RECIPE`: train by a recipe, or resume a run."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from qwenvl.cli.options import Flag, parse

if TYPE_CHECKING:
    from qwenvl.train.parallel import World
    from qwenvl.train.recipe import Recipe
    from qwenvl.train.trainer import Trainer


SUMMARY = "Train by a recipe. Ctrl-C saves and ends; --resume continues the very same run."
EXAMPLES = """
qwenvl train recipes/nano/shipped/0_tower.yaml
qwenvl train recipes/nano/shipped/0_tower.yaml --set train.steps=100 --set train.threads=2
qwenvl train recipes/nano/shipped/0_tower.yaml --resume
"""


@dataclass
class TrainOptions:
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE.yaml")]
    """YAML file, such as recipes/nano/shipped/0_tower.yaml."""
    set: Annotated[list[str], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")]
    """Change one key of the recipe: --set train.steps=100. May be given again."""
    resume: Flag = False
    """Continue the run in the recipe's folder from its newest checkpoint."""
    processes: int = 1
    """Processes on this machine that share the work of every step."""
    tensorboard: Flag = False
    """Write the run's numbers for TensorBoard too, to its folder `tensorboard`."""


def main(arguments: list[str]) -> int:
    options: TrainOptions = parse(TrainOptions, arguments, "qwenvl train", SUMMARY, EXAMPLES)
    from qwenvl.train.recipe import load_recipe
    from qwenvl.types import QwenVLError

    if options.processes < 1:
        raise QwenVLError(f"--processes {options.processes}: give 1 or more")
    recipe = load_recipe(options.recipe, options.set)
    if options.processes > 1 and "WORLD_SIZE" not in os.environ:
        from qwenvl.train.parallel import start_ranks

        return start_ranks(options.processes, ["train", *arguments])
    return run(recipe, options.resume, options.tensorboard)


def run(recipe: Recipe, resume: bool, tensorboard: bool = False) -> int:
    """Train on this rank; 0 when the last step is done, 130 when interrupted."""
    import torch

    from qwenvl.cli.train_eval import evaluation_of
    from qwenvl.train.build import build_trainer, export
    from qwenvl.train.checkpoint import restarted
    from qwenvl.train.parallel import bound_caches, joined
    from qwenvl.train.sight.watch import watchers_of

    bound_caches()
    torch.set_num_threads(recipe.train.threads)
    with joined(recipe.parallel) as world:
        trainer, processor = build_trainer(recipe, world)
        watchers = watchers_of(recipe, evaluation_of(recipe, processor, world), tensorboard)
        with closing(trainer):
            trainer.start(resume or restarted(trainer.run))
            _show_what_trains(trainer)
            outcome = trainer.fit(watchers)
            if left_out := trainer.stream.refused.counts.total():
                _say(world, f"{left_out} samples were refused; which and why is in {trainer.run / 'refused.json'}")
            if outcome == "interrupted":
                _say(world, f"saved at step {trainer.step} of {recipe.train.steps}; continue with --resume")
                return 130
            folder = export(trainer, processor)
        _say(world, f"{recipe.name}: {trainer.step} steps done, model in {folder}")
        return 0


def _show_what_trains(trainer: Trainer) -> None:
    """A table of what is frozen, and of what the learning rate is multiplied with where it is not."""
    from rich.console import Console
    from rich.table import Table

    from qwenvl.train.freeze import freeze_table
    from qwenvl.train.optim import scales_by_group

    if not trainer.world.leads:
        return
    table = Table("part", "weights", "that train", f"rate {trainer.recipe.optim.lr:g}", box=None, pad_edge=False)
    names = [name for name, _ in trainer.named]
    scales = scales_by_group(names, trainer.recipe.optim, trainer.model.config.vision.num_hidden_layers)
    for row in freeze_table(trainer.model, names, scales):
        table.add_row(*row)
    Console(stderr=True).print(table)


def _say(world: World, line: str) -> None:
    if world.leads:
        print(f"qwenvl: {line}", file=sys.stderr)
