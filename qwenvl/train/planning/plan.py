"""What a run will cost before it starts: FLOPs, hours, bytes of a rank; and why it cannot be, where it cannot."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from typing import Any

from qwenvl.data.mixture import MixtureRecipe
from qwenvl.data.synth.dense import NUM_DENSE_CLASSES
from qwenvl.train.planning.cost import Counter, Flops, Work, reference_pass
from qwenvl.train.planning.inventory import ALWAYS, Inventory, take_inventory
from qwenvl.train.planning.memory import Memory, Ranks, pass_memory, state_memory
from qwenvl.train.planning.operations import Operation, operations
from qwenvl.train.planning.survey import Survey
from qwenvl.train.recipe import Recipe

RANK, WORKER = 0.6 * 2**30, 0.3 * 2**30
"""Bytes of a process on Linux, as measured: Python and torch; of a rank on the CPU also the kernels that oneDNN prepares."""
CONTEXT = 1.0 * 2**30
"""Bytes of a GPU that its context and the workspaces of its libraries take; an estimate."""


@dataclass(frozen=True)
class Machine:
    """bytes: what a rank may take; or, `shared`, what all of them may together. peak: FLOP/s of a rank; mfu: the share of them that
    is reached."""

    bytes: float
    shared: bool
    gpu: bool
    peak: float
    mfu: float

    def limit(self, ranks: int) -> float:
        return self.bytes / ranks if self.shared else self.bytes


@dataclass(frozen=True)
class Plan:
    recipe: Recipe
    survey: Survey
    machine: Machine
    size: int = 1

    @cached_property
    def inventory(self) -> Inventory:
        return take_inventory(self.recipe)

    @property
    def ranks(self) -> Ranks:
        parallel = self.recipe.parallel
        return Ranks(self.size, parallel.tensor, parallel.data == "fsdp", parallel.context)

    @property
    def rows_of_a_rank(self) -> int:
        return max(self.recipe.data.rows_per_step // max(self.ranks.data, 1), 1)

    @cached_property
    def micro_batches(self) -> list[Work]:
        """The rows that were looked at, as many in each as a rank computes at one time."""
        rows = min(self.recipe.train.micro_batch_rows, self.rows_of_a_rank)
        works = self.survey.works * -(-rows // len(self.survey.works))
        groups = [works[start : start + rows] for start in range(0, len(works) - rows + 1, rows)]
        return [replace(work, passes=min(work.passes, 1)) for work in (sum(group, Work()) for group in groups)]

    def operations(self, step: int = ALWAYS) -> list[Operation]:
        inventory, text = self.inventory, self.recipe.objective.kind != "dense_patches"
        trained = inventory.trained(step)
        return operations(inventory.config, trained.__contains__, inventory.adapted, text=text, dense=dense_classes(self.recipe))

    @cached_property
    def step_work(self) -> Work:
        """Of one step, of all ranks together."""
        rows, works = min(self.recipe.train.micro_batch_rows, self.rows_of_a_rank), self.micro_batches
        return sum(works, Work()).times(self.recipe.data.rows_per_step / (rows * len(works)))

    def flops(self, step: int = ALWAYS) -> Flops:
        """Of one step, of all ranks together, with what trains then."""
        reference = reference_pass(self.recipe.objective, self.inventory.config)
        return Counter(self.operations(step), reference).training(self.step_work)

    @property
    def flops_before(self) -> float:
        """Of what is done before the first step: where a reference's numbers are noted then, a forward pass over all rows."""
        objective = self.recipe.objective
        if objective.kind != "dpo" or objective.reference != "precomputed":
            return 0.0
        return Counter(self.operations()).forward(self.step_work).total * self.recipe.train.steps

    @property
    def total_flops(self) -> float:
        return self.flops_before + sum(self.flops(first).total * steps for first, steps in self.inventory.phases())

    @property
    def gpu_hours(self) -> float:
        return self.total_flops / (self.machine.peak * self.machine.mfu) / 3600

    @property
    def limit(self) -> float:
        return self.machine.limit(self.size)

    @cached_property
    def memory(self) -> Memory:
        """Of the worst micro-batch among the rows that were looked at."""
        lasting = state_memory(self.inventory, self.ranks, _objective_weights(self.recipe, self.inventory))
        found = self.operations()
        passing = [pass_memory(found, self.inventory, self.ranks, work, self.machine.gpu) for work in self.micro_batches]
        worst = max(passing, key=lambda memory: memory.total)
        runtime = CONTEXT if self.machine.gpu else RANK + WORKER * self.recipe.data.workers
        return Memory(*(one + other for one, other in zip(astuple(lasting), astuple(replace(worst, runtime=runtime)), strict=True)))

    def problem(self) -> str | None:
        """Why this run cannot be, in one line; None where it can."""
        return self._wrong_ranks() or self._too_long() or self._too_large()

    def _wrong_ranks(self) -> str | None:
        recipe, data = self.recipe, self.recipe.data
        tensor, context = recipe.parallel.tensor, recipe.parallel.context
        if self.size % (tensor * context):
            told = f"parallel.tensor {tensor}" + (f" times parallel.context {context}" if context > 1 else "")
            return f"{told}: {self.size} ranks are no multiple of it; give as many with --ranks"
        lanes = data.lane_count() if isinstance(data, MixtureRecipe) else data.rows_per_step
        if data.rows_per_step % self.ranks.data or lanes % self.ranks.data:
            of = f"data.rows_per_step {data.rows_per_step}" + (f" in {lanes} lanes" if lanes % self.ranks.data else "")
            return f"{of}: cannot be shared by {self.ranks.data} ranks; make it a multiple"
        vision, decoder = self.inventory.config.vision, self.inventory.config.decoder
        for heads in (vision.num_attention_heads, decoder.num_attention_heads, decoder.num_key_value_heads):
            if heads % tensor:
                return f"parallel.tensor {tensor}: does not divide {heads} heads of {recipe.model.preset}; choose a divisor"
        if (heads := decoder.num_key_value_heads) % (tensor * context):
            told = f"parallel.context {context}" + (f" times parallel.tensor {tensor}" if tensor > 1 else "")
            return f"{told}: does not divide {heads} key-value heads of {recipe.model.preset}; choose a divisor"
        return None

    def _too_long(self) -> str | None:
        room, context = self.recipe.data.row_tokens, self.inventory.config.decoder.max_position_embeddings
        if room <= context:
            return None
        return f"data.row_tokens {room}: the context of {self.recipe.model.preset} is {context}; --set data.row_tokens={context}"

    def _too_large(self) -> str | None:
        needed, there = self.memory.total, self.limit
        return None if needed <= there else f"a rank takes {in_gib(needed)} GiB of memory, and {in_gib(there)} are there"


def _objective_weights(recipe: Recipe, inventory: Inventory) -> int:
    """Of the dense heads: a norm, classes and boxes (objectives.DensePatches)."""
    if not dense_classes(recipe):
        return 0
    width = inventory.config.vision.hidden_size
    return 2 * width + (width + 1) * (dense_classes(recipe) + 4)


def dense_classes(recipe: Recipe) -> int:
    return NUM_DENSE_CLASSES if recipe.objective.kind == "dense_patches" or recipe.objective.dense_weight > 0 else 0


def in_gib(size: float) -> str:
    return f"{size / 2**30:,.{2 if size < 10 * 2**30 else 1}f}"


KINDS = {"vision tower": "vision_tower.", "connector": "connector.", "decoder": "decoder.", "total": ""}
BARS = 8
"""Of the histogram of tokens."""


def record(plan: Plan) -> dict[str, Any]:
    """All of it as plain data. FLOPs and bytes as they are; a row of FLOPs is that of a full step divided by its rows."""
    recipe, inventory, machine = plan.recipe, plan.inventory, plan.machine
    counts = {name: inventory.count(prefix) for name, prefix in KINDS.items()}
    rows, steps = recipe.data.rows_per_step, recipe.train.steps
    step, memory = plan.flops(), asdict(plan.memory)
    samples = plan.survey.samples / len(plan.survey.works)
    return {
        "recipe": recipe.name,
        "preset": recipe.model.preset,
        "objective": recipe.objective.kind,
        "ranks": plan.size,
        "parallel": recipe.parallel.model_dump(),
        "problem": plan.problem(),
        "parameters": {name: {"weights": weights, "train": trained} for name, (weights, trained) in counts.items()},
        "run": {
            "steps": steps, "rows_per_step": rows, "micro_batch_rows": min(recipe.train.micro_batch_rows, plan.rows_of_a_rank),
            "rows": steps * rows, "samples": round(steps * rows * samples),
            "tokens": round(steps * rows * plan.survey.mean.tokens), "pictures": round(steps * rows * _pictures(plan)),
        },
        "flops": {
            "row": {part: value / rows for part, value in asdict(step).items()},
            "sample": step.total / rows / samples,
            "step": step.total,
            "before": plan.flops_before,
            "total": plan.total_flops,
            "phases": [
                {"from_step": first, "steps": count, "step": plan.flops(first).total} for first, count in inventory.phases()
            ],
        },
        "memory": {"bytes": memory | {"total": plan.memory.total}, "limit": plan.limit, "gpu": machine.gpu},
        "data": _data(plan),
        "time": {
            "peak_tflops": machine.peak / 1e12, "mfu": machine.mfu, "gpu_hours": plan.gpu_hours,
            "hours": plan.gpu_hours / plan.size,
        },
    }  # fmt: skip


def _pictures(plan: Plan) -> float:
    return plan.survey.pictures / len(plan.survey.works)


def _data(plan: Plan) -> dict[str, Any]:
    survey, seen = plan.survey, plan.recipe.train.steps * plan.recipe.data.rows_per_step
    mean, refused = survey.mean, survey.refused
    tokens = mean.tokens or 1
    return {
        "nominal": survey.nominal or None,
        "rows": 0 if survey.nominal else len(survey.works),
        "row_tokens": plan.recipe.data.row_tokens,
        "fill": round(survey.fill, 4),
        "tokens_a_row": round(mean.tokens, 1),
        "samples_a_row": round(survey.samples / len(survey.works), 2),
        "pictures_a_row": round(_pictures(plan), 2),
        "patches_a_row": round(mean.patches, 1),
        "visual_share": round(mean.visual / tokens, 4) if mean.tokens else None,
        "supervised_share": round(mean.supervised / tokens, 4) if mean.tokens else None,
        "tokens_of_a_sample": histogram([length.tokens for length in survey.lengths]),
        "mean_tokens_of_a_sample": round(mean_of([length.tokens for length in survey.lengths]), 1),
        "longest": [length._asdict() for length in survey.longest],
        "refused": dict(refused.counts.most_common()),
        "refused_first": refused.named,
        "sources": [
            {"name": one.name, "share": round(one.share, 4), "size": one.size, "samples": round(one.a_row * seen),
             "epochs": None if one.size is None else round(one.a_row * seen / one.size, 3)}
            for one in survey.sources
        ],
    }  # fmt: skip


def mean_of(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def histogram(values: Sequence[int]) -> list[tuple[int, int, int]]:
    """(from, to, how many) for bars of one width, `to` left out."""
    if not values:
        return []
    width = -(-(max(values) + 1) // BARS)
    counts = Counts(value // width for value in values)
    return [(bar * width, (bar + 1) * width, counts[bar]) for bar in range(min(counts), max(counts) + 1)]
