"""The stream of training rows: a pure function of (seed, epoch, index), the same for any number of ranks.

Step s of a run takes rows s * B to s * B + B - 1 of the stream; ranks and micro-batches only divide them. So the state of the
stream is the number of the next step, and a resumed run reads on where it stopped, on other ranks too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qwenvl.config import ConfigError
from qwenvl.processing.collate import collate
from qwenvl.types import Batch, Encoded

if TYPE_CHECKING:
    import torch

SCENES_PER_ROW = 64
"""Scene numbers set aside for each row, so that no two rows ever show the same scene."""


@dataclass(slots=True)
class Row:
    """Documents that belong together, and arrays that run along their patches (P, ...) for an objective beyond next-token."""

    documents: list[Encoded]
    targets: dict[str, np.ndarray] = field(default_factory=dict)


class RowSource(Protocol):
    """Where rows come from. `tasks` names what `Encoded.task` may say ("a+b" for branches of several tasks)."""

    tasks: tuple[str, ...]

    def row(self, seed: int, epoch: int, index: int) -> Row: ...


@dataclass(frozen=True, slots=True)
class RowStream:
    source: RowSource
    seed: int
    rows_per_step: int
    epoch: int = 0

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.source.tasks

    def batches(self, step: int, rank: int, size: int, micro_rows: int) -> list[Batch]:
        """This rank's share of a step, as micro-batches of at most `micro_rows` rows.

        Raises ConfigError if the ranks cannot share the rows evenly.
        """
        share, rest = divmod(self.rows_per_step, size)
        if rest:
            raise ConfigError(f"data.rows_per_step {self.rows_per_step}: cannot be shared by {size} processes; make it a multiple")
        first = step * self.rows_per_step + rank * share
        rows = [self.source.row(self.seed, self.epoch, first + offset) for offset in range(share)]
        return [self._batch(rows[start : start + micro_rows]) for start in range(0, share, micro_rows)]

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
