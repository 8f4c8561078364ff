"""Processes that convert units, watched from outside: one that crashes or does not come back is replaced, and its file left out."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from qwenvl.data.documents.convert import ConvertError, Job, Outcome, Reader, Unit, convert_unit, reader
from qwenvl.types import QwenVLError

PATIENCE = 120.0
"""Seconds that a page may take. A file that takes longer is left out."""
CRASHED, STUCK = "the reader crashed on it", "the reader did not come back from it"


@dataclass(slots=True)
class _Task:
    """A unit, and the files of it that have taken a process with them, with the reason."""

    unit: Unit
    skip: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Worker:
    process: Any
    connection: Connection
    task: _Task | None = None
    file: str = ""
    heard: float = 0.0


def convert_all(
    units: Sequence[Unit],
    job: Job,
    out: Path,
    workers: int,
    done: Callable[[Outcome], None],
    make_reader: Reader = reader,
    patience: float = PATIENCE,
) -> None:
    """Convert all units with so many processes; `done` is told what has become of each. Every end of this call ends them too.

    What is no file's fault ends the run: ConvertError, or OSError (a full disk), where one line tells it; RuntimeError with the
    traceback of the process for a bug.
    """
    pool = _Pool(job, out, make_reader, patience)
    waiting = deque(_Task(unit) for unit in units)
    try:
        pool.run(waiting, min(workers, len(units)), done)
    finally:
        pool.close()


class _Pool:
    def __init__(self, job: Job, out: Path, make_reader: Reader, patience: float) -> None:
        self.arguments = (job, out, make_reader)
        self.patience = patience
        self.workers: list[_Worker] = []

    def run(self, waiting: deque[_Task], count: int, done: Callable[[Outcome], None]) -> None:
        self.workers = [self.start() for _ in range(count)]
        while waiting or any(worker.task for worker in self.workers):
            for worker in self.workers:
                if worker.task is None and waiting:
                    self.give(worker, waiting.popleft())
            busy = {worker.connection: worker for worker in self.workers if worker.task}
            for connection in wait(list(busy), timeout=1.0):
                worker = busy[connection]  # type: ignore[index]
                if (lost := self.listen(worker, done)) is not None:
                    waiting.appendleft(lost)
            for worker in busy.values():
                if worker.task and time.monotonic() - worker.heard > self.patience:
                    waiting.appendleft(self.replace(worker, STUCK))

    def listen(self, worker: _Worker, done: Callable[[Outcome], None]) -> _Task | None:
        """Take what a process says. Returns its task, to be given again, if it has died."""
        try:
            kind, said = worker.connection.recv()
        except (EOFError, OSError):
            return self.replace(worker, CRASHED)
        worker.heard = time.monotonic()
        if kind == "file":
            worker.file = said
        elif kind == "done":
            worker.task = None
            done(said)
        elif isinstance(said, OSError):
            raise said
        else:
            raise ConvertError(said) if kind == "error" else RuntimeError(said)
        return None

    def replace(self, worker: _Worker, reason: str) -> _Task:
        """A new process in place of one that is of no use. What it was reading is not read again."""
        task = worker.task
        assert task is not None
        _end(worker)
        if not worker.file:
            raise ConvertError("a process ended before it read a file; run again with --workers 1 and look at its messages")
        task.skip[worker.file] = reason
        self.workers[self.workers.index(worker)] = self.start()
        return task

    def start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self.arguments), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def give(self, worker: _Worker, task: _Task) -> None:
        worker.task, worker.file, worker.heard = task, "", time.monotonic()
        with suppress(OSError):  # one that has died in between is noticed by `listen`
            worker.connection.send(task)

    def close(self) -> None:
        for worker in self.workers:
            _end(worker)


def _end(worker: _Worker) -> None:
    worker.process.terminate()
    worker.process.join(5)
    worker.process.kill()
    worker.connection.close()


def _work(connection: Connection, job: Job, out: Path, make_reader: Reader) -> None:
    """What a process does: units, one after the other, until nobody asks any more.

    It has a session of its own: Ctrl-C is the parent's to answer, and must not reach a browser that is at work.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    roots: dict[str, Path] = {}
    try:
        with make_reader(job, roots) as pages:
            while True:
                task: _Task = connection.recv()
                roots.update({source.name: source.root for source in task.unit.sources})
                outcome = convert_unit(task.unit, job, out, pages, task.skip, lambda name: connection.send(("file", name)))
                connection.send(("done", outcome))
    except (EOFError, ConnectionError):
        return  # the parent is gone
    except QwenVLError as error:
        connection.send(("error", str(error)))
    except OSError as error:  # a full disk, say: no file's fault
        connection.send(("error", OSError(error.errno, error.strerror, error.filename)))
    except Exception:  # a bug: its traceback is worth more than its name, and does not travel by itself
        connection.send(("bug", f"a process that converts documents:\n{traceback.format_exc()}"))
