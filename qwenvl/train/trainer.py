"""The training loop: the only one. A stage is a recipe, an objective is an object, data is a stream of rows.

Loss of a step: sums over all ranks and micro-batches, divided by counts over the same, so that neither the number of ranks nor
of micro-batches changes what is learnt.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch

from qwenvl.config import to_yaml
from qwenvl.data.loader import RowStream
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.checkpoint import (
    CheckpointError,
    check_fingerprint,
    latest,
    list_checkpoints,
    load_parts,
    lock_run,
    save_checkpoint,
)
from qwenvl.train.freeze import apply_freezing
from qwenvl.train.metrics import MetricsLog, Progress, Window, draw_loss_curve, write_refused
from qwenvl.train.objectives import Objective
from qwenvl.train.optim import build_optimiser, named_trainables, rate_at, set_rate
from qwenvl.train.parallel import GradientBuffer, World, give_back_memory
from qwenvl.train.recipe import Recipe, changed_keys
from qwenvl.types import Batch

Outcome = Literal["finished", "interrupted"]
FINGERPRINT = ("vocabulary", "markup", "scenes")
"""What a checkpoint belongs to; a resumed run must have the same."""


class Trainer:
    """One run of one recipe, on one of the ranks. `start`, then `fit`, which leaves a checkpoint however it ends."""

    def __init__(
        self,
        recipe: Recipe,
        model: VisionLanguageModel,
        objective: Objective,
        stream: RowStream,
        fingerprint: Mapping[str, str],
        world: World,
    ) -> None:
        self.recipe, self.model, self.objective = recipe, model, objective
        self.stream, self.fingerprint, self.world = stream, dict(fingerprint), world
        self.run = Path(recipe.run)
        model.to(world.device)
        objective.to(world.device)
        named = named_trainables(model, objective)
        self.optimiser = build_optimiser(named, recipe.optim, model.config.vision.num_hidden_layers)
        self.gradients = GradientBuffer(parameter for _, parameter in named)
        self.window = Window(list(objective.coefficients), stream.tasks)
        self.step = 0
        self.refused = 0
        self.stopping = self.stop_wished = False

    def start(self, resume: bool) -> None:
        """Take the weights that the recipe starts from, or everything from the run's newest checkpoint."""
        if resume:
            self._restore(latest(self.run))
        elif list_checkpoints(self.run):
            raise CheckpointError(f"{self.run}: already holds a run; add --resume, or choose another folder with --set run=FOLDER")
        else:
            load_parts(self.model, self.objective.dense_heads, self.recipe.init_from, self.fingerprint)
        if self.world.leads:
            # After what may be refused, so that a mistake leaves no folder behind.
            self._lock = lock_run(self.run)
        self.world.wait()
        if self.world.leads:
            (self.run / "recipe.yaml").write_text(to_yaml(self.recipe), encoding="utf-8")

    def fit(self) -> Outcome:
        settings = self.recipe.train
        log = MetricsLog(self.run, self.step) if self.world.leads else None
        progress = Progress(self.recipe.name, settings.steps, self.step) if self.world.leads else None
        self.model.train()
        with _stop_on_signal(self._request_stop):
            while self.step < settings.steps and not self.stopping:
                self._do_step()
                self.step += 1
                if self.step % settings.log_every == 0 or self.step == settings.steps:
                    record = self._report()
                    if log and progress:
                        log.write(record)
                        progress.show(record)
                if self.step % settings.checkpoint_every == 0 and self.step < settings.steps:
                    self.save()
                    give_back_memory()
                if log and self.step % settings.curve_every == 0:
                    draw_loss_curve(self.run)
            self.save()
        if progress:
            progress.close()
            draw_loss_curve(self.run)
        self.world.wait()
        return "finished" if self.step >= settings.steps else "interrupted"

    def save(self) -> None:
        """Write a checkpoint from which this very run continues, on any number of ranks. Only the first rank writes."""
        lanes, refused = self.world.gather(self.stream.states()), self.world.gather(self.stream.refused)
        if not self.world.leads:
            return
        write_refused(self.run, refused)
        state = {
            "step": self.step,
            "refused": self.refused,
            "lanes": {lane: state for states in lanes for lane, state in states.items()},
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "fingerprint": self.fingerprint,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        save_checkpoint(self.run, state, self.recipe.train.keep_checkpoints)

    def _restore(self, state: dict[str, Any]) -> None:
        check_fingerprint(state["fingerprint"], self.fingerprint, str(self.run), FINGERPRINT)
        changed = changed_keys(state["recipe"], self.recipe.model_dump(mode="json"))
        if changed:
            raise CheckpointError(f"{self.run}: cannot resume with another {', '.join(changed)}; start a new run for that")
        self.model.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.refused = state["step"], state["refused"]
        self.stream.seek(self.step, state.get("lanes"))

    def _do_step(self) -> None:
        settings = self.recipe.train
        apply_freezing(self.model, self.step, settings.frozen, settings.unfreeze_after)
        before = time.perf_counter()
        batches = self.stream.batches(self.step, self.world.rank, self.world.size, settings.micro_batch_rows)
        self.window.data_seconds += time.perf_counter() - before
        counts = self._global_counts(batches)
        self.gradients.clear()
        for batch in batches:
            self._backward(batch, counts)
        self.gradients.sum_over(self.world)
        norm = self.gradients.clip(self.recipe.optim.clip)
        # The norm is the same on every rank, so all of them refuse a step or none does.
        if norm < float("inf"):
            set_rate(self.optimiser, rate_at(self.step, settings.steps, self.recipe.optim))
            self.optimiser.step()
        else:
            self.refused += 1
        self.window.steps += 1
        self.window.grad_norm = norm

    def _global_counts(self, batches: list[Batch]) -> dict[str, float]:
        """What each loss of the step is divided by. A wish to stop travels along, so that all ranks end after the same step."""
        local = [self.objective.counts(batch) for batch in batches]
        values = [sum(counts[name] for counts in local) for name in self.objective.coefficients]
        tokens, images = sum(len(batch.input_ids) for batch in batches), sum(len(batch.grids) for batch in batches)
        packed = torch.tensor([*values, tokens, images, float(self.stop_wished)], dtype=torch.float64)
        *summed, tokens, images, stopping = self.world.sum(packed).tolist()
        self.stopping = stopping > 0
        self.window.tokens += tokens
        self.window.images += images
        return dict(zip(self.objective.coefficients, summed, strict=True))

    def _backward(self, batch: Batch, counts: Mapping[str, float]) -> None:
        """Add the gradients of this micro-batch's share of the step's loss."""
        bf16 = self.recipe.train.precision == "bf16"
        with torch.autocast(self.gradients.flat.device.type, torch.bfloat16) if bf16 else nullcontext():
            terms = self.objective(self.model, batch.to(self.world.device))
        # A count of zero belongs to a sum of zero terms.
        losses = {name: value / (counts[name] or 1.0) for name, value in terms.sums.items()}
        total = torch.stack([self.objective.coefficients[name] * value for name, value in losses.items()]).sum()
        total.backward()
        self.window.add(losses, terms.by_task)

    def _report(self) -> dict[str, Any]:
        """The record of the steps since the last one; its numbers are global."""
        self.window.sum_over(self.world)
        record = {
            "step": self.step - 1,
            "rate": rate_at(self.step - 1, self.recipe.train.steps, self.recipe.optim),
            "refused": self.refused,
            **self.window.record(self.objective.coefficients),
        }
        self.window.restart()
        return record

    def _request_stop(self) -> None:
        # Acted on only after all ranks have heard of it, in _global_counts.
        self.stop_wished = True


@contextmanager
def _stop_on_signal(request: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask for an orderly end; a second one ends at once."""

    def handle(number: int, frame: object) -> None:
        request()
        signal.signal(number, signal.SIG_DFL)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
