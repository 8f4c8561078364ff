"""`qwenvl ablate NAME`: train the variants of an ablation, measure them, and print the paper's trend beside ours."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qwenvl.cli.options import Flag, FromOne, OutFolder, SomeOf, parse

if TYPE_CHECKING:
    from qwenvl.train.ablations.ablation import Ablation
    from qwenvl.train.ablations.measures import Outcome
    from qwenvl.train.ablations.table import Findings
    from qwenvl.train.recipe import Recipe

SUMMARY = """Train the variants of an ablation at nano scale, with one seed and budget, and print the paper's trend beside ours.

Without a name: list the ablations. Ctrl-C saves and ends; the same command goes on from there, and trains nothing twice."""
EXAMPLES = """
qwenvl ablate
qwenvl ablate queries
qwenvl ablate window --processes 2
qwenvl ablate queries --quick --out runs/try/queries
"""
ROWS, QUICK_ROWS = 64, 2
"""Rows of each kind that kept-out losses are means over."""


@dataclass
class AblateOptions:
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME|FILE.yaml", help_behavior_hint="")] = ""
    """One of recipes/ablations, or a file of your own."""
    steps: SomeOf = None
    """Steps of every variant, in place of those of the file."""
    quick: Flag = False
    """Two steps of two rows each: to see that it works. The numbers say nothing."""
    out: OutFolder = None
    """Where runs, table.md, table.json and curve.png go; by default runs/ablations/NAME."""
    processes: FromOne = 1
    """Processes on this machine that share the work of every step."""


def main(arguments: list[str]) -> int:
    options: AblateOptions = parse(AblateOptions, arguments, "qwenvl ablate", SUMMARY, EXAMPLES)
    from qwenvl.train.ablations.ablation import Budget, find_ablation, load_ablation, write_recipes

    if not options.name:
        return list_ablations()
    ablation = load_ablation(find_ablation(options.name))
    import matplotlib  # noqa: F401  (the chart at the end needs it: told before hours of training)

    folder = options.out or Path("runs/ablations") / (f"{ablation.name}-quick" if options.quick else ablation.name)
    recipes = write_recipes(ablation, folder, Budget(steps=options.steps, quick=options.quick))
    for number, (name, recipe) in enumerate(recipes.items(), start=1):
        print(f"qwenvl: {ablation.name}, {number} of {len(recipes)}: {name}", file=sys.stderr)
        code = train(recipe, folder / "recipes" / f"{name}.yaml", options.processes)
        if code:
            if code == 130:
                print("qwenvl: the same command goes on from there", file=sys.stderr)
            return code
    return report(ablation, folder, recipes, options.quick)


def list_ablations() -> int:
    from qwenvl.train.ablations.ablation import FOLDER, find_ablation, load_ablation

    files = sorted(FOLDER.glob("*.yaml"))
    if not files:
        find_ablation("")
    for path in files:
        ablation = load_ablation(path)
        print(f"{path.stem:<14} {ablation.question} About {ablation.minutes:.0f} minutes on two idle cores.")
    return 0


def train(recipe: Recipe, path: Path, processes: int) -> int:
    """Train a variant, or go on with it, unless it is done; the exit code of `qwenvl train`."""
    from qwenvl.cli.train import run
    from qwenvl.train.ablations.ablation import progress_of
    from qwenvl.train.parallel import start_ranks

    progress = progress_of(recipe)
    if progress == "done":
        return 0
    if processes == 1:
        return run(recipe, progress == "begun")
    return start_ranks(processes, ["train", str(path), *(["--resume"] if progress == "begun" else [])])


def report(ablation: Ablation, folder: Path, recipes: Mapping[str, Recipe], quick: bool) -> int:
    """Measure what is not measured yet, write the table and the chart, and print the table."""
    from qwenvl.cli.progress import counted, progress
    from qwenvl.train.ablations.held_out import mean_losses
    from qwenvl.train.ablations.measures import losses_for, read_outcome
    from qwenvl.train.ablations.table import find, write_report

    names, rows = losses_for(ablation.measures), QUICK_ROWS if quick else ROWS
    outcomes: dict[str, Outcome] = {}
    with progress("measuring", len(recipes)) as advance:
        for name, recipe in counted(recipes.items(), advance):
            outcomes[name] = read_outcome(Path(recipe.run), mean_losses(recipe, names, rows) if names else {})
    findings = find(ablation, outcomes, quick)
    write_report(findings, folder)
    show(findings)
    print(f"table, numbers and chart: {folder}/table.md, table.json, curve.png")
    return 0


def show(findings: Findings) -> None:
    from rich.console import Console
    from rich.table import Table

    from qwenvl.train.ablations.table import table

    ablation, console = findings.ablation, Console()
    console.print(f"{ablation.question}\n{ablation.source}\n", highlight=False)
    if findings.quick:
        console.print("a quick run: its numbers say nothing\n")
    titles, cells = table(findings)
    values, claims = Table(box=None, pad_edge=False), Table(box=None, pad_edge=False)
    values.add_column(titles[0], no_wrap=True)
    for title in titles[1:]:
        values.add_column(title, justify="right", overflow="fold")
    for title in ("the paper shows", "ours", "the same here"):
        claims.add_column(title)
    for row in cells:
        values.add_row(*row)
    for verdict in findings.verdicts:
        claims.add_row(verdict.claim.says, verdict.numbers, verdict.word)
    console.print(values)
    console.print()
    console.print(claims)
    console.print("\none seed each; how this differs from the paper's:")
    for deviation in ablation.deviations:
        console.print(f"- {deviation}", highlight=False)
