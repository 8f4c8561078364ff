"""Who looks on while a run goes on: the console and the files, evaluations, the report. None of them changes what is learnt."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.metrics import MetricsLog, Progress, Window, draw_loss_curve
from qwenvl.train.optim import MovingAverage
from qwenvl.train.parallel import World
from qwenvl.train.recipe import Recipe
from qwenvl.train.sight.evaluations import Evaluation, EvaluationLog

Tell = Callable[[Mapping[str, Any]], None]
"""Is told of a record."""
Evaluate = Callable[[VisionLanguageModel, int], Evaluation]
"""(model, steps done) -> what it can do. Called on every rank at once; what it returns counts on the leading one."""


class Watched(Protocol):
    """What a watcher may know of a trainer. `step`: how many steps are done."""

    run: Path
    recipe: Recipe
    model: VisionLanguageModel
    world: World
    window: Window
    average: MovingAverage | None
    step: int


class Watcher(Protocol):
    """Called on every rank, in the order of the list; whether this one leads, a watcher asks by itself."""

    def begin(self, trainer: Watched) -> None:
        """Before the first step, of a run that is resumed too."""

    def report(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl. Its numbers are those of all ranks."""

    def step_done(self, step: int) -> None:
        """After every step; `step` of them are done."""

    def end(self, outcome: str) -> None:
        """After the last step, or after the one that an interrupt waited for; the checkpoint is saved."""


NO_PICTURE = "qwenvl: matplotlib is not installed, so no loss.png; report.html has the curves; pip install 'qwenvl[train]' for both"


class ConsoleAndFiles:
    """metrics.jsonl, a line on the terminal, and loss.png now and then; where matplotlib is missing, a line that says so."""

    def begin(self, trainer: Watched) -> None:
        self.trainer = trainer
        self.log: MetricsLog | None = None
        self.draws = find_spec("matplotlib") is not None
        if trainer.world.leads:
            if not self.draws:
                print(NO_PICTURE, file=sys.stderr, flush=True)
            self.log = MetricsLog(trainer.run, trainer.step)
            self.progress = Progress(trainer.recipe.name, trainer.recipe.train.steps, trainer.step)

    def report(self, record: Mapping[str, Any]) -> None:
        if self.log:
            self.log.write(record)
            self.progress.show(record)

    def step_done(self, step: int) -> None:
        if self.log and self.draws and step % self.trainer.recipe.train.curve_every == 0:
            with self.trainer.window.paused():
                draw_loss_curve(self.trainer.run)

    def end(self, outcome: str) -> None:
        if self.log:
            self.progress.close()
            if self.draws:
                draw_loss_curve(self.trainer.run)


class ReportWatcher:
    """report.html, as often as the picture of the loss, and after every evaluation that it is told of."""

    def begin(self, trainer: Watched) -> None:
        from qwenvl.train.sight.report import write_report
        from qwenvl.train.sight.run_folder import note_start

        self.trainer = trainer
        self.write: Callable[[Path], Path] | None = None
        if trainer.world.leads:
            self.write = write_report
            note_start(trainer.run, trainer.step, trainer.model, trainer.world)

    def report(self, record: Mapping[str, Any]) -> None:
        """Nothing: the page is written from the files."""

    def step_done(self, step: int) -> None:
        if step % self.trainer.recipe.train.curve_every == 0:
            self.refresh()

    def evaluated(self, record: Mapping[str, Any]) -> None:
        self.refresh()

    def end(self, outcome: str) -> None:
        self.refresh()

    def refresh(self) -> None:
        if self.write:
            with self.trainer.window.paused():
                self.write(self.trainer.run)


class EvaluationWatcher:
    """Evaluates the model every so many steps, before the first one and after the last one too, and keeps what comes out.

    With a moving average it is the average that is evaluated, as that is what will be exported. `tell` is told of every record of
    evaluations.jsonl that is written.
    """

    def __init__(self, every: int, evaluate: Evaluate, tell: Sequence[Tell] = ()) -> None:
        self.every, self.evaluate, self.tell = every, evaluate, tell

    def begin(self, trainer: Watched) -> None:
        self.trainer = trainer
        self.log = EvaluationLog(trainer.run, trainer.step) if trainer.world.leads else None
        # The leading rank has the file; all must agree on whether the evaluation of this step has been made.
        self.last: int = trainer.world.gather(self._last_kept())[0]
        # A checkpoint is saved before the evaluation of its step: a run that ended in between makes it now.
        self.step_done(trainer.step)

    def report(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def step_done(self, step: int) -> None:
        if step % self.every == 0:
            self._evaluate(step)

    def end(self, outcome: str) -> None:
        if outcome == "finished":
            self._evaluate(self.trainer.step)

    def _last_kept(self) -> int:
        return max((record["step"] for record in self.log.records), default=-1) if self.log else -1

    def _evaluate(self, step: int) -> None:
        if step == self.last:
            return
        self.last = step
        trainer = self.trainer
        with trainer.window.paused():
            started = time.perf_counter()
            with trainer.average.in_place() if trainer.average else nullcontext(), undisturbed(trainer.model):
                evaluation = self.evaluate(trainer.model, step)
            if self.log is None:
                return
            record = self.log.add(step, time.perf_counter() - started, evaluation)
            print(f"{trainer.recipe.name} {step}/{trainer.recipe.train.steps} · {in_words(record)}", file=sys.stderr, flush=True)
            for tell in self.tell:
                tell(record)


def watchers_of(recipe: Recipe, evaluate: Evaluate | None, tensorboard: bool = False) -> list[Watcher]:
    """All that look on in a run. `evaluate`: what recipe.evaluate asks for, None where it asks for nothing.

    Raises QwenVLError where TensorBoard is wanted and not installed.
    """
    from qwenvl.train.sight.tensorboard import TensorBoardWatcher

    report = ReportWatcher()
    watchers: list[Watcher] = [ConsoleAndFiles()]
    tell: list[Tell] = [report.evaluated]
    if tensorboard:
        board = TensorBoardWatcher()
        watchers.append(board)
        tell.append(board.evaluated)
    # Those that are told of evaluations begin before the first one.
    watchers.append(report)
    if recipe.evaluate is not None and evaluate is not None:
        watchers.append(EvaluationWatcher(recipe.evaluate.every, evaluate, tell))
    return watchers


def in_words(record: Mapping[str, Any]) -> str:
    """The mean of an evaluation's scores, and how many of them are above chance."""
    scores, chance = record["scores"], record["chance"]
    if not scores:
        return "evaluated; no scores"
    known = [name for name in scores if name in chance]
    above = sum(scores[name] > chance[name] for name in known)
    said = f"evaluated in {record['seconds']:.0f} s; mean of {len(scores)} scores {100 * sum(scores.values()) / len(scores):.1f} %"
    return said + (f", {above} of {len(known)} above chance" if known else "")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Within it the model is in evaluation mode and without gradients; afterwards every module is in the mode that it was in, and
    all random numbers go on where they were."""
    modes = [(module, module.training) for module in model.modules()]
    of_fsdp = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for cut in of_fsdp:
        # What FSDP2 brings weights together in, it keeps from the first time on. Made while decoding, in torch's inference mode, it
        # could not be trained with ("Inplace update to inference tensor").
        cut.unshard()
        cut.reshard()
    device = next(model.parameters()).device
    of_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for cut in of_fsdp:
            cut.reshard()  # as after a step: the root keeps its weights whole otherwise
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
        if of_gpu is not None:
            torch.cuda.set_rng_state(of_gpu, device)
