"""The training loop: the only one. A stage is a recipe, an objective is an object, data is a stream of rows.

Loss of a step: sums over all ranks and micro-batches, divided by counts over the same, so that neither the number of ranks nor
of micro-batches changes what is learnt.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import IO, TYPE_CHECKING, Any, Literal

import torch

from qwenvl.config import ConfigError, to_yaml
from qwenvl.data.loader import RowStream
from qwenvl.data.synth.dense import NUM_DENSE_CLASSES
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.runtime import peak_flops
from qwenvl.train.checkpoint import CheckpointError, check_fingerprint, list_checkpoints, load_parts, lock_run
from qwenvl.train.context import own_labels
from qwenvl.train.engine import Engine, has_whole
from qwenvl.train.freeze import apply_freezing
from qwenvl.train.metrics import LineLog, Window
from qwenvl.train.objectives import Objective
from qwenvl.train.optim import MovingAverage, build_optimiser, named_trainables, rate_at, set_rate
from qwenvl.train.parallel import World, give_back_memory
from qwenvl.train.planning.cost import Counter, reference_pass, work_of_batch
from qwenvl.train.preference import Preference
from qwenvl.train.recipe import Recipe, changed_keys
from qwenvl.train.remembering import remember, remembered
from qwenvl.train.split_adamw import SplitAdamW
from qwenvl.train.state import RunState
from qwenvl.train.trouble import FILE as TROUBLE
from qwenvl.train.trouble import Seen, Watch
from qwenvl.types import Batch

if TYPE_CHECKING:
    from qwenvl.train.sight.watch import Watcher

Outcome = Literal["finished", "interrupted"]
FINGERPRINT = ("vocabulary", "markup", "scenes")
"""What a checkpoint belongs to; a resumed run must have the same."""


class Trainer:
    """One run of one recipe, on one of the ranks. `start`, then `fit`, which leaves a checkpoint when it is done or interrupted.

    What is there from `start` on: optimiser, engine, state; before it the model is that of the configuration, on the CPU or, on
    ranks that will have a part of it, without memory.
    """

    optimiser: torch.optim.Optimizer
    engine: Engine
    state: RunState

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
        self.window = Window(list(objective.coefficients), stream.tasks, list(objective.logged))
        self.watch = Watch(self.run, world, recipe.train.spike, recipe.train.not_finite == "stop")
        self.average: MovingAverage | None = None
        self.peak_flops = peak_flops(world.device)
        self.step = self.refused = 0
        self.saved = -1
        """Step of the newest checkpoint."""
        self.stopping = self.stop_wished = False
        self.window_kept: Mapping[str, Any] | None = None
        """Of a run that is resumed: the window of steps that were not reported before its checkpoint."""
        self._lock: IO[str] | None = None

    def start(self, resume: bool) -> None:
        """Take the weights that the recipe starts from, or everything from the run's newest checkpoint; then cut, freeze and adapt
        the model as the recipe says."""
        recipe, saved = self.recipe, None
        self.stream.check_shared(self.world.data_size)
        self.engine = Engine(recipe, self.world)
        if resume:
            saved = self.engine.keeper.read_plain(self.run)
            self._check(saved)
        elif list_checkpoints(self.run):
            raise CheckpointError(f"{self.run}: already holds a run; add --resume, or choose another folder with --set run=FOLDER")
        copies = isinstance(self.objective, Preference) and recipe.objective.reference == "copy"
        # A checkpoint holds neither the weights under adapters nor those that rewards are measured from.
        fresh = saved is None or recipe.lora is not None
        if (fresh or copies) and has_whole(recipe, self.world):
            load_parts(self.model, self.objective.dense_heads, recipe.init_from, self.fingerprint)
        if isinstance(self.objective, Preference) and copies:
            self.objective.keep_reference(self.model, self.world.device)
        self.model = self.engine.prepare(self.model, self.objective, fresh)
        self._count_what_trains()
        self.named = named_trainables(self.model, self.objective, recipe.train.unfreeze_after)
        if not self.named:
            raise ConfigError("train.frozen: nothing is left to train; leave something out of it")
        self.optimiser = build_optimiser(self.named, recipe.optim, self.model.config.vision.num_hidden_layers)
        split = self.optimiser if isinstance(self.optimiser, SplitAdamW) else None
        if split is not None and saved is None:
            for name, parameter in self.named:
                if name in self.engine.low:
                    split.begin_with(parameter, self.engine.low.pop(name))
        self.gradients = self.engine.gradients(parameter for _, parameter in self.named)
        if recipe.optim.ema is not None:
            self.average = MovingAverage(self.named, recipe.optim.ema, split)
        self.state = RunState(self.model, self.objective, self.optimiser, self.named, self.average)
        if isinstance(self.objective, Preference) and recipe.objective.reference == "precomputed":
            self.objective.precompute(self.model, self.stream, recipe, self.world, resume)
        if saved is not None:
            with torch.no_grad():
                self.engine.keeper.restore(self.state)
            remember(self, saved)
            self.saved = self.step
        if self.world.leads:
            # After what may be refused, so that a mistake leaves no folder behind.
            self._lock = lock_run(self.run)
        self.world.wait()
        if self.world.leads:
            LineLog(self.run / TROUBLE, self.step)  # a resumed run does the steps after its checkpoint again
            (self.run / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")

    def fit(self, watchers: Sequence[Watcher] = ()) -> Outcome:
        self.model.train()
        outcome: Outcome | Literal["failed"] = "failed"
        begun: list[Watcher] = []
        try:
            with _stop_on_signal(self._request_stop):
                for watcher in watchers:
                    watcher.begin(self)
                    begun.append(watcher)
                self._run_steps(watchers)
                if self.saved != self.step:
                    self.save()
                self.engine.keeper.finish()
            outcome = "finished" if self.step >= self.recipe.train.steps else "interrupted"
        finally:
            for watcher in begun:
                watcher.end(outcome)
        self.world.wait()
        return outcome

    def _run_steps(self, watchers: Sequence[Watcher]) -> None:
        settings = self.recipe.train
        # Loading, noting a reference's numbers and the first evaluation are no step's time.
        self.window.restart(self.window_kept, self.world)
        while self.step < settings.steps and not self.stopping:
            self._do_step()
            self.step += 1
            self.engine.keeper.poll()
            if self.step % settings.log_every == 0 or self.step == settings.steps:
                record = self._report()
                for watcher in watchers:
                    watcher.report(record)
            if self.step % settings.checkpoint_every == 0 and self.step < settings.steps:
                self.save()
                give_back_memory()
            for watcher in watchers:
                watcher.step_done(self.step)

    def close(self) -> None:
        """End the workers that make rows, and let others have the run's folder."""
        self.stream.close()
        if self._lock is not None:
            self._lock.close()

    def save(self) -> None:
        """Write a checkpoint from which this very run continues, on any number of ranks. Raises CheckpointError where it cannot be
        written."""
        self.engine.keeper.save(self.run, remembered(self), self.state, self.recipe.train.keep_checkpoints)
        self.saved = self.step

    def _check(self, saved: Mapping[str, Any]) -> None:
        """Raises CheckpointError for a checkpoint that this recipe cannot go on from."""
        check_fingerprint(saved["fingerprint"], self.fingerprint, str(self.run), FINGERPRINT)
        changed = changed_keys(saved["recipe"], self.recipe.model_dump(mode="json"))
        if changed:
            raise CheckpointError(f"{self.run}: cannot resume with another {', '.join(changed)}; start a new run for that")

    def _count_what_trains(self) -> None:
        """Make the counter of a step's FLOPs, which depend on what wants a gradient now."""
        config, objective = self.model.config, self.recipe.objective
        dense = NUM_DENSE_CLASSES + 4 if self.objective.dense_heads is not None else 0
        text, beside = objective.kind != "dense_patches", reference_pass(objective, config)
        self.counter = Counter.of(self.model, config, text=text, dense=dense, beside=beside)

    def _do_step(self) -> None:
        settings = self.recipe.train
        if settings.unfreeze_after and apply_freezing(self.model, self.step, settings.frozen, settings.unfreeze_after):
            self._count_what_trains()
        # Dropout draws from this: the same for a step, wherever the run was begun or resumed.
        torch.manual_seed(((self.recipe.seed << 40) + (self.step << 16) + self.world.data_rank) % (1 << 63))
        before = perf_counter()
        batches = self.stream.batches(self.step, self.world.data_rank, self.world.data_size, settings.micro_batch_rows)
        self.window.data_seconds += perf_counter() - before
        whole = batches
        if self.world.context > 1:
            batches = [own_labels(batch, self.world) for batch in whole]
        counts = self._global_counts(batches, whole)
        self.gradients.clear()
        seen, told = zip(*(self._backward(batch, counts) for batch in batches), strict=True)
        self.gradients.sum_over(self.world)
        norm = self.gradients.clip(self.recipe.optim.clip)
        # Loss and norm are the same on every rank, so all of them refuse a step or none does.
        if self.watch.check(self.step, seen, norm):
            set_rate(self.optimiser, rate_at(self.step, settings.steps, self.recipe.optim))
            self.optimiser.step()
            if self.average is not None:
                self.average.update()
            for tell in told:
                tell()
            self.window.steps += 1
        else:
            self.refused += 1
        self.window.grad_norm = norm

    def _global_counts(self, batches: list[Batch], whole: list[Batch]) -> dict[str, float]:
        """What each loss of the step is divided by, from the batches as this rank learns from them; `whole`: as they were read.

        A wish to stop travels along, so that all ranks end after the same step.
        """
        local = [self.objective.counts(batch) for batch in batches]
        values = [sum(counts[name] for counts in local) for name in self.objective.coefficients]
        tokens, images = sum(len(batch.input_ids) for batch in batches), sum(len(batch.grids) for batch in batches)
        visual = sum(len(batch.visual_slots) for batch in batches)
        flops = 0.0
        if self.peak_flops is not None:
            flops = sum(self.counter.training(work_of_batch(self.model.config, batch)).total for batch in whole)
        packed = torch.tensor([*values, tokens, images, visual, flops, float(self.stop_wished)], dtype=torch.float64)
        *summed, tokens, images, visual, flops, stopping = self.world.sum(packed).tolist()
        self.stopping = stopping > 0
        # Losses are counted by pieces of rows, what follows by rows, which every rank of a context has whole.
        self.window.tokens += tokens / self.world.context
        self.window.images += images / self.world.context
        self.window.visual_tokens += visual / self.world.context
        self.window.flops += flops / self.world.context
        return dict(zip(self.objective.coefficients, summed, strict=True))

    def _backward(self, batch: Batch, counts: Mapping[str, float]) -> tuple[Seen, Callable[[], None]]:
        """Add the gradients of this micro-batch's share of the step's loss. What is returned second writes it into the window."""
        bf16 = self.recipe.train.precision == "bf16"
        with torch.autocast(self.world.device.type, torch.bfloat16) if bf16 else nullcontext():
            terms = self.objective(self.model, batch.to(self.world.device))
        # A count of zero belongs to a sum of zero terms.
        losses = {name: value / (counts[name] or 1.0) for name, value in terms.sums.items()}
        total = torch.stack([self.objective.coefficients[name] * value for name, value in losses.items()]).sum()
        total.backward()
        first = counts[next(iter(self.objective.coefficients))] or 1.0
        logged = {name: value / first for name, value in terms.logged.items()}
        told = partial(self.window.add, {name: value.detach() for name, value in losses.items()}, terms.by_task, logged)
        return Seen(total.detach(), batch.sample_ids), told

    def _report(self) -> dict[str, Any]:
        """The record of the steps since the last one; its numbers are global."""
        self.window.sum_over(self.world)
        record = {
            "step": self.step - 1,
            "rate": rate_at(self.step - 1, self.recipe.train.steps, self.recipe.optim),
            "refused": self.refused,
            **self.window.record(self.objective.coefficients, self.peak_flops),
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
