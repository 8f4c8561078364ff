"""The stream of training rows: the same for any number of ranks and workers, and resumed where it stopped.

Row r of a run is row r // L of lane r % L, of L lanes that know nothing of each other. Step s takes rows s * B to s * B + B - 1;
rank k of n takes every n-th of them from the k-th on, so a lane belongs to one rank, and there to one worker. The state of the
stream is the number of the next step and, for sources that need one, a state per lane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qwenvl.config import ConfigError
from qwenvl.processing.collate import collate
from qwenvl.types import Batch, Encoded, QwenVLError

if TYPE_CHECKING:
    import torch

    from qwenvl.data.workers import WorkerPool

SCENES_PER_ROW = 64
"""Scene numbers set aside for each row, so that no two rows ever show the same scene."""

NAMED = 100
"""Refused samples that are kept by name; more are only counted."""


@dataclass(slots=True)
class Row:
    """Documents that belong together, and arrays that run along their patches (P, ...) for an objective beyond next-token."""

    documents: list[Encoded]
    targets: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(slots=True)
class Refused:
    """Samples that were left out: how many for each source and kind of reason, and the first of them with the whole reason."""

    counts: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)

    def add(self, source: str, error: QwenVLError) -> None:
        self.counts[f"{source}: {type(error).__name__}"] += 1
        self.named = [*self.named, f"{source}: {error}"][:NAMED]

    def join(self, other: Refused) -> None:
        self.counts += other.counts
        self.named = [*self.named, *other.named][:NAMED]


class Lane(Protocol):
    """The rows of one lane, one after the other. `state`: plain data from which another one goes on behind the last row given,
    or None where the number of that row says all. `refused`: samples left out since the last row but one."""

    @property
    def state(self) -> Any: ...

    @property
    def refused(self) -> Refused: ...

    def next(self) -> Row: ...


class RowSource(Protocol):
    """Where rows come from. `tasks` names what `Encoded.task` may say ("a+b" for branches of several tasks)."""

    @property
    def tasks(self) -> tuple[str, ...]: ...

    def lane(self, lane: int, lanes: int, start: int, state: Any) -> Lane:
        """Lane `lane` of `lanes`, from its row `start` on; `state` is what it was there, None for a source that needs none."""
        ...


class NumberedSource(Protocol):
    """Rows that depend on (seed, epoch, index) alone."""

    @property
    def tasks(self) -> tuple[str, ...]: ...

    def row(self, seed: int, epoch: int, index: int) -> Row: ...


@dataclass(frozen=True, slots=True)
class NumberedRows:
    """RowSource of rows that are made from their number."""

    source: NumberedSource
    seed: int
    epoch: int = 0

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.source.tasks

    def lane(self, lane: int, lanes: int, start: int, state: Any) -> NumberedLane:
        return NumberedLane(self, lane + start * lanes, lanes)


@dataclass(slots=True)
class NumberedLane:
    rows: NumberedRows
    index: int
    lanes: int
    state: None = None
    refused: Refused = field(default_factory=Refused)

    def next(self) -> Row:
        row = self.rows.source.row(self.rows.seed, self.rows.epoch, self.index)
        self.index += self.lanes
        return row


class RowStream:
    """Batches of a run's steps. `pool` makes rows ahead in other processes; without it they are made when they are asked for."""

    def __init__(self, source: RowSource, rows_per_step: int, lanes: int | None = None, pool: WorkerPool | None = None) -> None:
        self.source, self.rows_per_step, self.lanes = source, rows_per_step, lanes or rows_per_step
        self.pool = pool
        self.refused = Refused()
        if self.rows_per_step % self.lanes and self.lanes % self.rows_per_step:
            raise ConfigError(f"data.lanes {self.lanes}: must divide data.rows_per_step {rows_per_step}, or be a multiple of it")
        self.seek(0)

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.source.tasks

    def seek(self, step: int, states: Mapping[int, Any] | None = None) -> None:
        """Go on at `step`, with what `states` said of the lanes there."""
        self.step, self._states, self._of = step, dict(states or {}), (0, 0)
        self._open: dict[int, Lane] = {}
        if self.pool is not None:
            self.pool.close()  # what it has made ahead is of other steps; the next row that is asked for starts it again

    def states(self) -> dict[int, Any]:
        """What `seek` needs of the lanes of this rank, beside the step; empty for a source that needs nothing."""
        return {lane: state for lane, state in self._states.items() if state is not None}

    def batches(self, step: int, rank: int, size: int, micro_rows: int) -> list[Batch]:
        """This rank's share of a step, as micro-batches of at most `micro_rows` rows. Steps are asked for in order.

        Raises ConfigError if the ranks cannot share the rows evenly, and what a row's making raises.
        """
        self.check_shared(size)
        if step != self.step or self._of not in ((0, 0), (rank, size)):
            self.seek(step)
        self._of = (rank, size)
        numbers = range(step * self.rows_per_step + rank, (step + 1) * self.rows_per_step, size)
        rows = [self._row(number) for number in numbers]
        self.step += 1
        return [self._batch(rows[start : start + micro_rows]) for start in range(0, len(rows), micro_rows)]

    def check_shared(self, size: int) -> None:
        """Raises ConfigError if so many ranks cannot share the rows evenly."""
        if self.rows_per_step % size or self.lanes % size:
            of = f"data.rows_per_step {self.rows_per_step}" + (f" in {self.lanes} lanes" if self.lanes % size else "")
            raise ConfigError(f"{of}: cannot be shared by {size} processes; make it a multiple")

    def close(self) -> None:
        """End the workers."""
        if self.pool is not None:
            self.pool.close()

    def _row(self, number: int) -> Row:
        lane = number % self.lanes
        if self.pool is not None:
            row, self._states[lane], refused = self.pool.row(number, self._states)
            self.refused.join(refused)
            return row
        if lane not in self._open:
            self._open[lane] = self.source.lane(lane, self.lanes, number // self.lanes, self._states.get(lane))
        reader = self._open[lane]
        row = reader.next()
        self._states[lane] = reader.state
        self.refused.join(reader.refused)
        return row

    def _batch(self, rows: Sequence[Row]) -> Batch:
        documents = [document for row in rows for document in row.documents]
        batch = collate(documents)
        batch.extra |= _targets(rows)
        if self.tasks:
            batch.extra["task_ids"] = self._task_ids(documents)
        return batch

    def _task_ids(self, documents: Sequence[Encoded]) -> torch.Tensor:
        """(T,) int64: the index in `tasks` of every token's task; -1 where there is none, as on a shared prefix.

        A label stands one place before its token, but never across a branch, so label and token have one task.
        """
        import torch

        number = {task: index for index, task in enumerate(self.tasks)}
        pieces = []
        for document in documents:
            names = document.task.split("+")
            of_branch = np.array([-1, *(number.get(name, -1) for name in names)])
            whole = document.branch_ids is None
            pieces.append(np.full(len(document), of_branch[1]) if whole else of_branch[document.branch_ids])
        return torch.from_numpy(np.concatenate(pieces))


def row_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one row."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch, index))))


def _targets(rows: Sequence[Row]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.concatenate([row.targets[name] for row in rows])) for name in rows[0].targets}
