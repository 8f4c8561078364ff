"""What makes a run fit whose ranks have too little memory, tried by the arithmetic of `plan`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qwenvl.train.planning.plan import Plan
from qwenvl.train.recipe import Recipe
from qwenvl.types import QwenVLError

MOST_RANKS = 1024
"""No more are proposed."""


@dataclass(frozen=True)
class Proposal:
    """Settings with which a run fits, on so many ranks."""

    settings: tuple[str, ...]
    ranks: int
    bytes: float

    def command(self, ranks: int) -> str:
        """What to add to the command line."""
        sets = [f"--set {one!r}" if "{" in one or "[" in one else f"--set {one}" for one in self.settings]
        return " ".join(([f"--ranks {self.ranks}"] if self.ranks != ranks else []) + sets)


def proposals(plan: Plan, load: Callable[[Sequence[str]], Recipe]) -> list[Proposal]:
    """What makes a run fit that is too large: on as many ranks and training the same; on the least number of ranks that share it;
    with adapters alone. The first that does of each kind, by the arithmetic of Plan. load: the recipe with further settings."""
    found = (_first(plan, load, kind(plan)) for kind in (_on_these_ranks, _on_more_ranks, _with_adapters))
    return [proposal for proposal in found if proposal is not None]


Settings = tuple[tuple[str, ...], int]


def _first(plan: Plan, load: Callable[[Sequence[str]], Recipe], tries: Iterator[Settings]) -> Proposal | None:
    for settings, ranks in tries:
        try:
            tried = Plan(load(settings), plan.survey, plan.machine, ranks)
            if tried.problem() is None:
                return Proposal(settings, ranks, tried.memory.total)
        except QwenVLError:
            continue  # what contradicts the rest of the recipe
    return None


def _on_these_ranks(plan: Plan) -> Iterator[Settings]:
    """From what costs nothing but time to what costs more of it."""
    again, halves, less = _again(plan), _halves(plan), _fewer_rows(plan)
    chosen = [again, halves, *((rows,) for rows in less), (*again, *halves), *((*again, *halves, rows) for rows in less)]
    yield from ((settings, plan.size) for settings in chosen if settings)


def _on_more_ranks(plan: Plan) -> Iterator[Settings]:
    if plan.machine.shared:
        return  # there is no more memory for more of them
    rows, together = plan.recipe.data.rows_per_step, plan.recipe.parallel.tensor * plan.recipe.parallel.context
    cut = () if plan.ranks.fsdp else ("parallel.data=fsdp",)
    again, least = _again(plan), _fewer_rows(plan)[-1:]
    for data in (number for number in range(1, MOST_RANKS + 1) if rows % number == 0):
        if data * together > plan.size:
            for settings in dict.fromkeys([cut, (*cut, *again), (*cut, *again, *least)]):
                yield settings, data * together


def _with_adapters(plan: Plan) -> Iterator[Settings]:
    train = plan.recipe.train
    new: tuple[str, ...] = ()
    if plan.recipe.lora is None:
        new = ("train.frozen=[]",) * bool(train.frozen) + ("train.unfreeze_after={}",) * bool(train.unfreeze_after) + ("lora={}",)
    bases = [new] if new else []
    for base in (*bases, *((*new, f"lora.base={base}") for base in ("int8", "nf4"))):
        more = (*_again(plan), *_halves(plan))
        for settings in dict.fromkeys([base, (*base, *_again(plan)), (*base, *more), (*base, *more, *_fewer_rows(plan)[-1:])]):
            yield settings, plan.size


def _again(plan: Plan) -> tuple[str, ...]:
    return () if plan.recipe.train.activation_checkpointing else ("train.activation_checkpointing=true",)


def _halves(plan: Plan) -> tuple[str, ...]:
    whole = plan.recipe.optim.masters == "whole" and plan.recipe.train.precision == "bf16"
    return ("optim.masters=split",) if whole else ()


def _fewer_rows(plan: Plan) -> list[str]:
    """Settings of ever fewer rows at one time, by halves."""
    rows, found = min(plan.recipe.train.micro_batch_rows, plan.rows_of_a_rank), []
    while rows > 1:
        rows //= 2
        found.append(f"train.micro_batch_rows={rows}")
    return found
