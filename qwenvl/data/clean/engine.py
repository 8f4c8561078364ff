"""daft, set up for a run: in this process, or on a Ray cluster."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from qwenvl.data.clean.state import CleanError
from qwenvl.runtime import usable_cores
from qwenvl.types import QwenVLError

Work = Callable[[int], None]

MOST_PARTITIONS = 10_000
"""Parts that a Ray cluster is given the work in."""


@dataclass(frozen=True)
class Engine:
    """What a run is computed on. The outcome does not depend on it."""

    runner: Literal["native", "ray"] = "native"
    address: str | None = None
    """Of a Ray cluster (`auto`, HOST:PORT, ray://HOST:PORT); None starts one on this machine."""
    workers: int | None = None
    """Processes that read shards; None: one for each core of this machine, or of the cluster."""
    gpus: float = 0
    """GPUs for each worker, for a scorer. 0.5: two workers share one."""


@contextmanager
def started(engine: Engine) -> Iterator[None]:
    """daft with the engine's runner. Nothing is reported to anyone.

    Raises CleanError where a package is missing, no cluster answers, or this process has used the other runner before.
    """
    os.environ.update(DAFT_ANALYTICS_ENABLED="0", DO_NOT_TRACK="true", DAFT_PROGRESS_BAR="0", RAY_USAGE_STATS_ENABLED="0")
    try:
        import daft
    except ImportError:
        raise CleanError("cleaning needs daft: pip install 'qwenvl[data]'") from None
    _heed_interrupts()
    _let_threads_end()
    if engine.runner == "native" and engine.address is not None:
        raise CleanError(f"address {engine.address!r}: is of a Ray cluster; add --runner ray")
    shut_down = _connect(engine) if engine.runner == "ray" else lambda: None
    try:
        try:
            daft.set_runner_ray() if engine.runner == "ray" else daft.set_runner_native()
        except daft.exceptions.DaftCoreException:  # a process has one runner, once and for all
            if daft.get_or_infer_runner_type() != engine.runner:
                raise CleanError(f"runner {engine.runner}: this process has used another; start a new one") from None
        yield
    finally:
        shut_down()


def _heed_interrupts() -> None:
    """daft stops at SIGINT even in a process that was started to ignore it, as a shell's background jobs are, and gives what it has
    so far as if that were all. With Python's handler there is a KeyboardInterrupt instead."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.cache
def _let_threads_end() -> None:
    """daft 0.7 hands over its last result before its threads have let go of Python. Where Python ends in that moment, right after
    an error, say, it aborts: exit code 134 in five of fourteen runs. So the end of the process waits for them."""
    atexit.register(time.sleep, 0.2)


def _connect(engine: Engine) -> Callable[[], None]:
    """Join the Ray cluster, or start one on this machine; return what leaves it."""
    try:
        import ray
    except ImportError:
        raise CleanError("runner ray: needs ray; pip install 'qwenvl[ray]'") from None
    dashboard = None if engine.address else False
    try:
        ray.init(engine.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=dashboard)
    except Exception as error:  # Ray raises a bare Exception where a node does not start in time
        reason = " ".join(str(error).split())[:160]
        wanted = f"address {engine.address!r}: no Ray cluster answers" if engine.address else "Ray does not start on this machine"
        raise CleanError(f"{wanted} ({reason}); check it with `ray status`") from error
    return ray.shutdown


def worker_count(engine: Engine) -> int:
    if engine.workers is not None:
        return engine.workers
    if engine.runner == "native":
        return usable_cores()
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def on_workers(make: Callable[[], Work], numbers: Sequence[int], engine: Engine) -> Iterator[int]:
    """Call `make()(number)` for every number, in as many processes as the engine has; yield each number as it is done.

    `make` is called once in each process and must be picklable. A QwenVLError or OSError of the work is raised here as a
    CleanError of one line; any other is a bug and comes as daft's RuntimeError with its traceback. CleanError too where daft
    ends early.
    """
    if not numbers:
        return
    import daft
    from daft import DataType, Series

    count = min(worker_count(engine), len(numbers))
    where: dict[str, Any] = {"use_process": True} if engine.runner == "native" else {"cpus": 1.0}

    @daft.cls(max_concurrency=count, gpus=engine.gpus, **where)
    class Worker:
        def __init__(self) -> None:
            self.work: Work | None = None

        @daft.method.batch(return_dtype=DataType.string(), batch_size=1)
        def run(self, shards: Series) -> list[str]:
            complaints = []
            for number in shards.to_pylist():
                try:
                    self.work = self.work or make()  # here, so that what it complains of is one line too
                    self.work(number)
                    complaints.append("")
                except QwenVLError as error:
                    complaints.append(str(error))
                except OSError as error:  # a full disk, say
                    complaints.append(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            return complaints

    worker: Any = Worker()
    todo = daft.from_pydict({"number": list(numbers)})
    if engine.runner == "ray":  # a partition goes to one node, and reports when it is done
        todo = todo.into_partitions(min(len(numbers), MOST_PARTITIONS))
    left = set(numbers)
    done: Any = todo.with_column("complaint", worker.run(daft.col("number")))
    with closing(done.iter_rows()) as rows:
        for row in rows:
            if row["complaint"]:
                raise CleanError(row["complaint"])
            left.discard(row["number"])
            yield row["number"]
    if left:
        raise CleanError(f"stopped with {len(left)} of {len(numbers)} files to do; the same command goes on from there")
