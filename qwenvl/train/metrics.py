"""What a run tells: a line of JSON for every logged step, one line on the terminal, and a picture of the loss."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qwenvl.data.loader import Refused
from qwenvl.runtime import atomic_write
from qwenvl.train.parallel import World

FILE = "metrics.jsonl"


class MetricsLog:
    """Appends to metrics.jsonl. A resumed run first drops the lines of steps it will do again."""

    def __init__(self, run: Path, first_step: int) -> None:
        self.path = run / FILE
        kept = [record for record in read_metrics(run) if record["step"] < first_step]
        self.path.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All records of a run; a last line cut off by a crash is passed over."""
    path = run / FILE
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def write_refused(run: Path, of_ranks: Sequence[Refused]) -> None:
    """Samples that were left out since the run was started or resumed, in refused.json: how many of each source and reason, and the
    first of them by name. No file where there are none."""
    refused = Refused()
    for of_rank in of_ranks:
        refused.join(of_rank)
    if refused.counts:
        with atomic_write(run / "refused.json") as temporary:
            temporary.write_text(json.dumps({"counts": refused.counts, "named": refused.named}, indent=1, ensure_ascii=False))


class Window:
    """Sums over the steps since the last report, on this rank until `sum_over` makes them global."""

    def __init__(self, losses: Sequence[str], tasks: Sequence[str]) -> None:
        self.names, self.tasks = tuple(losses), tuple(tasks)
        self.restart()

    def restart(self) -> None:
        self.started, self.cpu_started = time.perf_counter(), time.process_time()
        self.cpu_seconds = 0.0
        self.steps = 0
        # Already global when counted: they travel with the step's denominators.
        self.tokens = self.images = 0.0
        self.data_seconds = 0.0
        self.grad_norm = 0.0
        self.losses = torch.zeros(len(self.names), dtype=torch.float64)
        self.by_task = torch.zeros(len(self.tasks), 2, dtype=torch.float64)

    def add(self, losses: Mapping[str, Tensor], by_task: Tensor | None) -> None:
        """losses: this rank's share of each of the step's losses; by_task (tasks, 2): summed loss and count."""
        values = [losses[name].detach().cpu() if name in losses else torch.zeros(()) for name in self.names]
        self.losses += torch.stack(values).double()
        if by_task is not None:
            self.by_task += by_task.cpu().double()

    def sum_over(self, world: World) -> None:
        cpu = torch.tensor([time.process_time() - self.cpu_started], dtype=torch.float64)
        flat = world.sum(torch.cat([cpu, self.losses, self.by_task.flatten()]))
        self.cpu_seconds, flat = float(flat[0]), flat[1:]
        self.losses, by_task = flat[: len(self.names)], flat[len(self.names) :]
        self.by_task = by_task.view(-1, 2)

    def record(self, coefficients: Mapping[str, float]) -> dict[str, Any]:
        seconds = max(time.perf_counter() - self.started, 1e-9)
        losses = dict(zip(self.names, (self.losses / max(self.steps, 1)).tolist(), strict=True))
        by_task = zip(self.tasks, self.by_task.tolist(), strict=True)
        return {
            "loss": sum(coefficients[name] * value for name, value in losses.items()),
            "losses": losses,
            "tasks": {name: round(loss / count, 4) for name, (loss, count) in by_task if count},
            "grad_norm": self.grad_norm,
            "images": int(self.images),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "tokens_per_s": round(self.tokens / seconds, 1),
            "images_per_s": round(self.images / seconds, 2),
            "step_seconds": round(seconds / max(self.steps, 1), 4),
            "data_share": round(self.data_seconds / seconds, 3),
        }


class Progress:
    """One line that says where the run is: kept in place on a terminal (rich), printed anew elsewhere."""

    def __init__(self, name: str, steps: int, first_step: int) -> None:
        self.name, self.steps = name, steps
        self.live = None
        if sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TimeRemainingColumn

            columns = ("{task.description}", BarColumn(), "{task.completed}/{task.total}", TimeRemainingColumn())
            self.live = Progress(*columns, "{task.fields[says]}", refresh_per_second=2)
            self.task = self.live.add_task(name, total=steps, completed=first_step, says="")
            self.live.start()

    def show(self, record: Mapping[str, Any]) -> None:
        done = record["step"] + 1
        says = f"loss {record['loss']:.4f} · {record['tokens_per_s']:.0f} tokens/s · {record['images_per_s']:.1f} images/s"
        if self.live is not None:
            self.live.update(self.task, completed=done, says=says)
            return
        left = int((self.steps - done) * record["step_seconds"])
        print(f"{self.name} {done}/{self.steps} · {says} · {left // 60}:{left % 60:02d} left", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()


def draw_loss_curve(run: Path) -> Path | None:
    """loss.png beside metrics.jsonl: every named loss over steps, on a logarithmic axis. Needs matplotlib (extra `train`)."""
    records = read_metrics(run)
    if not records:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    names = sorted({name for record in records for name in record["losses"]})
    for name in names:
        points = [(record["step"], record["losses"][name]) for record in records if name in record["losses"]]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=run.name)
    axes.grid(alpha=0.3)
    axes.legend()
    path = run / "loss.png"
    partial = run / "loss.partial.png"
    figure.savefig(partial, dpi=110)
    partial.replace(path)
    return path
