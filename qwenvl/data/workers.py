"""Rows made ahead in processes of their own, so that a trainer never waits for a picture to be decoded.

A worker owns lanes, as a rank does, and makes their rows in the order in which they will be asked for. So which rows there are does
not depend on how many workers there are.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qwenvl.data.loader import Refused, Row, RowSource
from qwenvl.types import QwenVLError

AHEAD = 4
"""Rows that each worker has ready."""
PATIENCE = 5.0
"""Seconds after which a missing row makes the pool look whether its worker still lives."""


class WorkerError(QwenVLError):
    """A worker that ended, or a mistake that it met."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one of `workers` makes: the rows of its lanes, for rank `rank` of `ranks`, from step `step` on."""

    worker: int
    workers: int
    rank: int
    ranks: int
    rows_per_step: int
    lanes: int
    step: int
    states: Mapping[int, Any]

    def owns(self, number: int) -> bool:
        return number % self.lanes // self.ranks % self.workers == self.worker


class WorkerPool:
    """`workers` processes that make the rows of one rank. `make` builds the source in each of them, and has to be picklable."""

    def __init__(self, make: Callable[[], RowSource], workers: int, rank: int, ranks: int, rows_per_step: int, lanes: int) -> None:
        self.make, self.workers = make, workers
        self.rank, self.ranks, self.rows_per_step, self.lanes = rank, ranks, rows_per_step, lanes
        self._processes: list[Any] = []
        self._queues: list[Any] = []

    def row(self, number: int, states: Mapping[int, Any]) -> tuple[Row, Any, Refused]:
        """Row `number` with the state of its lane behind it and what was left out for it.

        The first call starts the workers at the step of that row; `states` is what the lanes were there. Raises what making the row
        raised, WorkerError for a dead worker.
        """
        if not self._processes:
            self._start(number // self.rows_per_step, states)
        worker = number % self.lanes // self.ranks % self.workers
        made = self._wait(worker)
        if isinstance(made, Exception):
            raise made
        found, row, state, refused = made
        if found != number:
            raise WorkerError(f"worker {worker} made row {found} where {number} was asked for; steps must be asked for in order")
        return row, state, refused

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._processes, self._queues = [], []

    def _start(self, step: int, states: Mapping[int, Any]) -> None:
        # Not by fork: torch's threads do not survive it.
        context = multiprocessing.get_context("spawn")
        for worker in range(self.workers):
            share = Share(worker, self.workers, self.rank, self.ranks, self.rows_per_step, self.lanes, step, dict(states))
            ready = context.Queue(AHEAD)
            process = context.Process(target=_work, args=(self.make, share, ready), daemon=True)
            process.start()
            self._queues.append(ready)
            self._processes.append(process)

    def _wait(self, worker: int) -> Any:
        while True:
            try:
                return self._queues[worker].get(timeout=PATIENCE)
            except queue.Empty:
                process = self._processes[worker]
                if not process.is_alive():
                    raise WorkerError(
                        f"data worker {worker} ended with code {process.exitcode}; lower data.workers if memory ran out"
                    ) from None


def _work(make: Callable[[], RowSource], share: Share, ready: Any) -> None:
    """The body of a worker: make rows for ever; a mistake is sent in a row's place."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle; its end ends the workers
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        source = make()
        lanes: dict[int, Any] = {}
        number = share.step * share.rows_per_step + share.rank
        while True:
            if share.owns(number):
                lane = number % share.lanes
                if lane not in lanes:
                    lanes[lane] = source.lane(lane, share.lanes, number // share.lanes, share.states.get(lane))
                row = lanes[lane].next()
                ready.put((number, row, lanes[lane].state, lanes[lane].refused))
            number += share.ranks
    except QwenVLError as error:
        ready.put(error)
    except Exception:  # a bug: its traceback is worth more than its name, and does not travel by itself
        ready.put(RuntimeError(f"data worker {share.worker}:\n{traceback.format_exc()}"))
