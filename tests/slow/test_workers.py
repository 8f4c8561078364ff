"""Rows made ahead in other processes are the rows that would have been made here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from qwenvl.data.loader import RowStream
from qwenvl.data.packed_rows import PackedRows, PackRules, StreamError
from qwenvl.data.stream import SampleStream
from qwenvl.data.workers import WorkerPool
from tests.fast.test_packed_rows import Captions, packed, processor, rows_of


def make_packed() -> PackedRows:
    return packed(bad=5)


def make_broken() -> PackedRows:
    return PackedRows(SampleStream([Captions(bad=1)], [1], 0), processor(), PackRules("raw", 400, pool=4))


@pytest.fixture
def pools() -> Iterator[list[WorkerPool]]:
    opened: list[WorkerPool] = []
    yield opened
    for pool in opened:
        pool.close()


def test_workers_change_nothing(pools: list[WorkerPool]) -> None:
    whole = rows_of(RowStream(make_packed(), 4), range(3))
    pools.append(WorkerPool(make_packed, workers=2, rank=0, ranks=1, rows_per_step=4, lanes=4))
    stream = RowStream(make_packed(), 4, pool=pools[-1])
    assert rows_of(stream, range(3)) == whole
    plain = RowStream(make_packed(), 4)
    rows_of(plain, range(3))
    assert stream.states() == plain.states()
    assert stream.refused.counts == plain.refused.counts


def test_what_a_worker_meets_is_raised_here(pools: list[WorkerPool]) -> None:
    pools.append(WorkerPool(make_broken, workers=1, rank=0, ranks=1, rows_per_step=1, lanes=1))
    with pytest.raises(StreamError, match="1000 samples in a row"):
        RowStream(make_broken(), 1, pool=pools[-1]).batches(0, 0, 1, 1)
    pools.append(WorkerPool(partial(int, "x"), workers=1, rank=0, ranks=1, rows_per_step=1, lanes=1))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"data worker 0:[\s\S]*invalid literal for int"):
        RowStream(make_broken(), 1, pool=pools[-1]).batches(0, 0, 1, 1)
