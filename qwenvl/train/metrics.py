"""What a run tells: a line of JSON for every logged step, one line on the terminal, and a picture of the loss."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qwenvl.data.loader import Refused
from qwenvl.runtime import atomic_write
from qwenvl.train.parallel import World

FILE = "metrics.jsonl"


class LineLog:
    """A file of JSON, one record a line. A run that is resumed first drops the lines of steps that it will do again: those that
    `keeps` says no to."""

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        self.records = [record for record in read_lines(path) if self.keeps(record, first_step)]
        if path.exists():
            with atomic_write(path) as temporary:
                temporary.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")

    def keeps(self, record: Mapping[str, Any], first_step: int) -> bool:
        """`step` of a record is that of the last step that it tells of, from 0."""
        return bool(record["step"] < first_step)

    def write(self, record: Mapping[str, Any]) -> None:
        append_line(self.path, record)


class MetricsLog(LineLog):
    """metrics.jsonl of a run."""

    def __init__(self, run: Path, first_step: int) -> None:
        super().__init__(run / FILE, first_step)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All records of such a file, none where there is no file; a last line cut off by a crash is passed over."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def read_metrics(run: Path) -> list[dict[str, Any]]:
    return read_lines(run / FILE)


def write_refused(run: Path, refused: Refused) -> None:
    """Samples that were left out since the run was started, in refused.json: how many of each source and reason, and the first of
    them by name. No file where there are none."""
    if refused.counts:
        with atomic_write(run / "refused.json") as temporary:
            temporary.write_text(json.dumps({"counts": refused.counts, "named": refused.named}, indent=1, ensure_ascii=False))


COUNTED = ("steps", "tokens", "images", "visual_tokens", "flops", "data_seconds", "grad_norm")
SUMMED = ("losses", "logged", "by_task")
"""What of a window all ranks have alike, and what each has its share of."""


class Window:
    """Sums over the steps since the last report, on this rank until `sum_over` makes them global.

    losses, tasks, logged: the names of what is added up. `logged` are further numbers of an objective, shares of the step's count
    like the losses, so that their mean over steps is that of the run.
    """

    def __init__(self, losses: Sequence[str], tasks: Sequence[str], logged: Sequence[str] = ()) -> None:
        self.names, self.tasks, self.logged_names = tuple(losses), tuple(tasks), tuple(logged)
        self.restart()

    def restart(self, kept: Mapping[str, Any] | None = None, world: World | None = None) -> None:
        """Begin anew, or where the window was whose `state` was kept, on whichever ranks."""
        self.started, self.cpu_started = time.perf_counter(), time.process_time()
        self.cpu_seconds = 0.0
        self.steps = 0
        # Already global when counted: they travel with the step's denominators.
        self.tokens = self.images = self.visual_tokens = self.flops = 0.0
        self.data_seconds = 0.0
        self.grad_norm = 0.0
        self.losses = torch.zeros(len(self.names), dtype=torch.float64)
        self.logged = torch.zeros(len(self.logged_names), dtype=torch.float64)
        self.by_task = torch.zeros(len(self.tasks), 2, dtype=torch.float64)
        self.ranks, self.on_gpu, self.memory_gb = 1, False, 0.0
        if kept is not None and world is not None:
            for name in COUNTED:
                setattr(self, name, kept[name])
            self.started -= kept["seconds"]
            if world.leads:  # with the shares of all ranks; `sum` divides by as much
                for name in SUMMED:
                    setattr(self, name, kept[name] * world.tensor)
                self.cpu_started -= kept["cpu_seconds"]

    def state(self, world: World) -> dict[str, Any]:
        """What `restart` of a resumed run takes. All ranks must call this."""
        cpu = torch.tensor([time.process_time() - self.cpu_started], dtype=torch.float64)
        parts = [cpu, *(getattr(self, name).flatten().cpu() for name in SUMMED)]
        summed = world.sum(torch.cat(parts)).split([len(part) for part in parts])
        # Copies: pieces of one tensor would be saved as all of it.
        kept = {name: total.view_as(getattr(self, name)).clone() for name, total in zip(SUMMED, summed[1:], strict=True)}
        seconds = {"seconds": time.perf_counter() - self.started, "cpu_seconds": float(summed[0]) * world.tensor}
        return {**kept, **seconds, **{name: getattr(self, name) for name in COUNTED}}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside belongs to no step: looking at a run must not make it seem slower."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.started += time.perf_counter() - wall
            self.cpu_started += time.process_time() - cpu

    def add(self, losses: Mapping[str, Tensor], by_task: Tensor | None, logged: Mapping[str, Tensor] | None = None) -> None:
        """losses and logged: this rank's share of each of the step's numbers; by_task (tasks, 2): summed loss and count."""
        # Sums stay where the model computes, so that a GPU is waited for once a report and not in every micro-batch.
        self.losses = _added(self.losses, self.names, losses)
        self.logged = _added(self.logged, self.logged_names, logged or {})
        if by_task is not None:
            self.by_task = self.by_task.to(by_task.device) + by_task.double()

    def sum_over(self, world: World) -> None:
        # Every rank has a place of its own for its memory: the greatest of them is wanted, not the sum.
        memory = torch.zeros(world.size, dtype=torch.float64)
        memory[world.rank] = peak_memory_gb(world.device) * world.tensor  # `sum` divides by as much
        cpu = torch.tensor([time.process_time() - self.cpu_started], dtype=torch.float64)
        parts = [cpu, memory, self.losses.cpu(), self.logged.cpu(), self.by_task.flatten().cpu()]
        summed = world.sum(torch.cat(parts)).split([len(part) for part in parts])
        self.cpu_seconds, self.memory_gb = float(summed[0]) * world.tensor, float(summed[1].max())
        self.losses, self.logged, self.by_task = summed[2], summed[3], summed[4].view(-1, 2)
        self.ranks, self.on_gpu = world.size, world.device.type != "cpu"

    def record(self, coefficients: Mapping[str, float], peak_flops: float | None = None) -> dict[str, Any]:
        """What is logged. peak_flops: what one device can do in a second, None where that is not known; `mfu` is then None, and on
        the CPU left out."""
        seconds = max(time.perf_counter() - self.started, 1e-9)
        losses = _means(self.names, self.losses, self.steps)
        by_task = zip(self.tasks, self.by_task.tolist(), strict=True)
        mfu = None if peak_flops is None else round(self.flops / seconds / (self.ranks * peak_flops), 4)
        return {
            "loss": sum(coefficients[name] * value for name, value in losses.items()),
            "losses": losses,
            "tasks": {name: round(loss / count, 4) for name, (loss, count) in by_task if count},
            "logged": _means(self.logged_names, self.logged, self.steps),
            "grad_norm": self.grad_norm,
            "images": int(self.images),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "tokens_per_s": round(self.tokens / seconds, 1),
            "visual_tokens_per_s": round(self.visual_tokens / seconds, 1),
            "images_per_s": round(self.images / seconds, 2),
            "step_seconds": round(seconds / max(self.steps, 1), 4),
            "data_share": round(self.data_seconds / seconds, 3),
            "memory_gb": round(self.memory_gb, 3),
        } | ({"mfu": mfu} if self.on_gpu else {})


def _added(sums: Tensor, names: Sequence[str], values: Mapping[str, Tensor]) -> Tensor:
    """Raises KeyError for a name that nobody has announced: other ranks would not know of it."""
    if unknown := values.keys() - set(names):
        raise KeyError(f"{', '.join(sorted(unknown))}: not among the window's names, {', '.join(names)}")
    if not values:
        return sums
    device = next(iter(values.values())).device
    new = [values[name].detach() if name in values else torch.zeros((), device=device) for name in names]
    return sums.to(device) + torch.stack(new).double()


def _means(names: Sequence[str], sums: Tensor, steps: int) -> dict[str, float]:
    return dict(zip(names, (sums / max(steps, 1)).tolist(), strict=True))


def peak_memory_gb(device: torch.device) -> float:
    """The most that this process has held so far, in 10^9 bytes: on a GPU what torch allocated there, else all of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere (getrusage(2))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


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
        if record.get("mfu") is not None:
            says += f" · MFU {100 * record['mfu']:.0f} %"
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
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    names = sorted({name for record in records for name in record["losses"]})
    for name in names:
        points = [(record["step"], record["losses"][name]) for record in records if name in record["losses"]]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=run.name)
    # Numbers as plain text: matplotlib takes a second to set its own, which are formulas.
    axes.yaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
    axes.grid(alpha=0.3)
    axes.legend()
    path = run / "loss.png"
    partial = run / "loss.partial.png"
    figure.savefig(partial, dpi=110)
    partial.replace(path)
    return path
