"""`qwenvl plan RECIPE`: what a training run will cost before it starts; or why it cannot be, and what would fit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qwenvl.cli.options import Flag, FromOne, Number, UsageError, parse
from qwenvl.runtime import free_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from qwenvl.train.planning.plan import Machine


SUMMARY = "Say what a training run will cost before it starts: FLOPs, hours, memory of a rank, and what its data looks like."
EXAMPLES = """
qwenvl plan recipes/nano/qwen_vl/2_multitask.yaml
qwenvl plan recipes/nano/qwen_vl/3_sft.yaml --set model.preset=qwen-vl-7b --set model.image_size=448 --memory 139
qwenvl plan recipe.yaml --ranks 64 --memory 80 --set parallel.data=fsdp --json
"""


@dataclass
class PlanOptions:
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE.yaml")]
    """The recipe, as `qwenvl train` takes it."""
    set: Annotated[list[str], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")]
    """Change one key of the recipe: --set train.steps=100. May be given again."""
    ranks: FromOne = 1
    """Processes that train together."""
    memory: Annotated[Number, tyro.conf.arg(metavar="GIB")] = None
    """Memory of the GPU that a rank has. If not given: that of this machine's; without one, what is free here, shared by ranks."""
    mfu: float = 0.4
    """Share of the peak that training reaches (model FLOPs utilisation)."""
    peak: Annotated[float, tyro.conf.arg(metavar="TFLOPS")] = 989.0
    """Of one rank, in 10^12 FLOP/s. 989 is dense bfloat16 of an H100 or H200 SXM by NVIDIA's data sheets."""
    rows: FromOne = 32
    """Rows of the data to look at."""
    json: Flag = False
    """Print all of it as JSON instead of a table."""


def main(arguments: list[str]) -> int:
    options: PlanOptions = parse(PlanOptions, arguments, "qwenvl plan", SUMMARY, EXAMPLES)
    for name, value in (("memory", options.memory), ("mfu", options.mfu), ("peak", options.peak)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name} {value:g}: give a number above 0")
    from qwenvl.train.planning.plan import Plan, in_gib, record
    from qwenvl.train.planning.proposals import proposals
    from qwenvl.train.planning.survey import survey
    from qwenvl.train.recipe import Recipe, load_recipe
    from qwenvl.types import QwenVLError

    def load(more: Sequence[str] = ()) -> Recipe:
        return load_recipe(options.recipe, [*options.set, *more])

    recipe = load()
    if options.ranks % recipe.parallel.tensor:
        tensor = recipe.parallel.tensor
        raise QwenVLError(f"parallel.tensor {tensor}: {options.ranks} ranks are no multiple of it; give as many with --ranks")
    plan = Plan(recipe, survey(recipe, options.rows), _machine(options), options.ranks)
    found, problem = record(plan), plan.problem()
    fits = [] if problem is None or plan.memory.total <= plan.limit else proposals(plan, load)
    found["fits"] = [
        {"add": one.command(plan.size), "settings": one.settings, "ranks": one.ranks, "bytes": one.bytes} for one in fits
    ]
    print(json.dumps(found, indent=1, ensure_ascii=False)) if options.json else show(found)
    if problem is None:
        return 0
    advice = f"; this fits, with {in_gib(fits[0].bytes)} GiB: {fits[0].command(plan.size)}" if fits else ""
    raise QwenVLError(f"{options.recipe}: {problem}{advice}")


def _machine(options: PlanOptions) -> Machine:
    """With --memory a GPU that has so much; otherwise this machine."""
    import torch

    from qwenvl.train.planning.plan import Machine

    peak = options.peak * 1e12
    if options.memory is not None:
        return Machine(options.memory * 2**30, False, True, peak, options.mfu)
    if torch.cuda.is_available():
        return Machine(torch.cuda.get_device_properties(0).total_memory, False, True, peak, options.mfu)
    return Machine(free_memory(), True, False, peak, options.mfu)


def show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    run, ranks = found["run"], _many(found["ranks"], "rank")
    steps = f"{run['steps']:,} steps of {_many(run['rows_per_step'], 'row')} on {ranks}"
    console.print(f"[bold]{found['recipe']}[/bold]: {found['preset']}, {steps}, {run['micro_batch_rows']} at a time\n")
    console.print(_parts(found))
    console.print()
    for line in _data(found["data"]):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(_memory(found["memory"]))
    console.print()
    for line in _time(found):
        console.print(line, soft_wrap=True)
    for fit in found["fits"]:
        console.print(f"fits ({_gib(fit['bytes'])} GiB): [green]{escape(fit['add'])}[/green]", soft_wrap=True)


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(headings[0])
    for heading in headings[1:]:
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    return table


FLOPS_OF = {"vision tower": ("tower",), "connector": ("connector",), "decoder": ("decoder", "head")}


def _parts(found: dict[str, Any]) -> Table:
    table, flops = _table("part", "weights", "that train", "FLOPs a row", ""), found["flops"]["row"]
    total = sum(flops.values())
    for part, count in found["parameters"].items():
        value = sum(flops[piece] for piece in FLOPS_OF.get(part, flops))
        trained = _short(count["train"]) if count["train"] else "frozen"
        table.add_row(part, _short(count["weights"]), trained, _short(value), "" if part == "total" else _bar(value / total))
    return table


def _data(data: dict[str, Any]) -> list[str]:
    """What the rows are like, in a few lines."""
    from rich.markup import escape

    if data["nominal"]:
        why = f"[yellow]no rows to look at: {escape(data['nominal'])}[/yellow]"
        lines = [why, "rows are taken as full, and half of each as pictures:"]
    else:
        lines = [f"the first {data['rows']} rows:"]
    room = f"{data['tokens_a_row']:,.0f} tokens" + (f", {_percent(data['fill'])} of the room" if not data["nominal"] else "")
    shares = {"visual": data["visual_share"], "supervised": data["supervised_share"]}
    said = ", ".join(f"{_percent(share)} {name}" for name, share in shares.items() if share is not None)
    a_row = f"{data['samples_a_row']:g} samples and {data['pictures_a_row']:g} pictures a row"
    lines.append(f"{room}{', ' + said if said else ''}; {a_row}" if data["tokens_a_row"] else a_row)
    most = max((count for *_, count in data["tokens_of_a_sample"]), default=1)
    for low, high, count in data["tokens_of_a_sample"]:
        label = "tokens of a sample" if low == data["tokens_of_a_sample"][0][0] else ""
        lines.append(f"  {label:<18}{low:>7,} – {high - 1:<7,}{count:>6,}  {_bar(count / most)}")
    if data["longest"]:
        lines.append("longest: " + "; ".join(f"{escape(one['name'] or 'no id')} {one['tokens']:,}" for one in data["longest"][:3]))
    if data["refused"]:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in data["refused"].items())
        lines.append(f"[yellow]refused: {counts}; the first: {escape(data['refused_first'][0])}[/yellow]")
    for one in data["sources"]:
        seen = "" if one["epochs"] is None else f", {one['epochs']:,.2f} epochs of {one['size']:,}"
        lines.append(f"source {escape(one['name'])}: {_percent(one['share'])}, {one['samples']:,} samples{seen}")
    return lines


def _memory(memory: dict[str, Any]) -> Table:
    table, kinds = _table("memory of a rank", "GiB", ""), dict(memory["bytes"])
    total = kinds.pop("total")
    for kind, size in kinds.items():
        if size:
            table.add_row(LABELS[kind], _gib(size), _bar(size / total))
    over = total > memory["limit"]
    where = "a GPU" if memory["gpu"] else "this machine, for each rank"
    table.add_row("total", _gib(total), f"[{'red' if over else 'green'}]of {_gib(memory['limit'])} on {where}[/]")
    return table


LABELS = {
    "weights": "weights", "gradients": "gradients", "optimiser": "optimiser", "average": "moving average",
    "reference": "reference copy", "copies": "weights to compute with", "activations": "activations", "logits": "logits",
    "passing": "what comes and goes", "runtime": "Python, torch, context",
}  # fmt: skip


def _time(found: dict[str, Any]) -> list[str]:
    run, flops, time = found["run"], found["flops"], found["time"]
    ranks = _many(found["ranks"], "rank")
    seen = f"{run['samples']:,} samples, {_short(run['tokens'])} tokens, {_short(run['pictures'])} pictures"
    return [
        f"in all: {seen}",
        f"FLOPs: {_short(flops['sample'])} a sample, {_short(flops['step'])} a step, {_short(flops['total'])} in all",
        f"time: {_hours(time['gpu_hours'])} of a GPU at {_percent(time['mfu'])} of {time['peak_tflops']:g} TFLOP/s, "
        f"[bold]{_hours(time['hours'])}[/bold] on {ranks}",
    ]


SCALES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def _short(value: float) -> str:
    """Three digits and a prefix: 9.66 G."""
    for scale, letter in SCALES:
        if value >= scale:
            shown = value / scale
            return f"{shown:.{2 if shown < 10 else 1 if shown < 100 else 0}f} {letter}"
    return f"{value:.0f}"


def _gib(size: float) -> str:
    from qwenvl.train.planning.plan import in_gib

    return in_gib(size)


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.1f} s"
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{hours:,.1f} h" if hours < 1000 else f"{hours / 24:,.0f} days"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + "s" * (count != 1)


def _bar(share: float, width: int = 24) -> str:
    """Of `width` characters for 1, to an eighth of one."""
    eighths = round(8 * width * min(max(share, 0.0), 1.0))
    return "█" * (eighths // 8) + ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
