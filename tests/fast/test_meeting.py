"""Ranks that are started again meet each other, not what dead ones left; and one that ends because of another says so in a line."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from qwenvl.cli.main import main
from qwenvl.train.meeting import MeetingError, RankLost, another_ended, own_part, says_first

SIZE = 3


def start(store: dist.Store, order: list[int]) -> list[dist.Store]:
    """All ranks of one start, in threads, the first of `order` first; the part of the store that each of them has."""
    with ThreadPoolExecutor(SIZE) as pool:
        futures = {rank: pool.submit(own_part, store, rank, SIZE, timedelta(seconds=20)) for rank in order}
        return [futures[rank].result(30) for rank in range(SIZE)]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_each_start_has_a_part_of_its_own_in_a_store_that_outlives_them(order: list[int]) -> None:
    store = dist.HashStore()
    for number in range(4):
        parts = start(store, order)
        assert not any(part.check(["address"]) for part in parts), "what an earlier start wrote is not seen"
        parts[1].set("address", str(number))
        assert [part.get("address") for part in parts] == [str(number).encode()] * SIZE


def test_a_rank_that_died_while_it_asked_keeps_nobody_from_meeting() -> None:
    store = dist.HashStore()
    store.set("asks/1", "a question that nobody waits for")
    parts = start(store, [0, 2, 1])
    parts[0].set("a", "b")
    assert parts[1].get("a") == b"b"


def test_ranks_that_do_not_come_are_named() -> None:
    soon = timedelta(seconds=0.2)
    with pytest.raises(MeetingError, match="rank 1 and 1 more"):
        own_part(dist.HashStore(), 0, SIZE, soon)
    with pytest.raises(MeetingError, match="no word from the first rank"):
        own_part(dist.HashStore(), 1, SIZE, soon)


def test_one_rank_says_what_all_have_met() -> None:
    store = dist.HashStore()
    assert [says_first(store, "a full disk") for _ in range(3)] == [True, False, False]
    assert says_first(store, "something else") and says_first(None, "a full disk")


def test_the_first_rank_stays_until_the_others_have_asked() -> None:
    """It may have the store; but it does not wait for ever for one that met something else."""
    store = dist.HashStore()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(says_first, store, "a full disk", 0, 3, 30.0)
        said = [says_first(store, "a full disk", 1, 3)]
        time.sleep(0.1)
        assert not first.done(), "one has not asked yet"
        said += [says_first(store, "a full disk", 2, 3), first.result(timeout=10)]
    assert sum(said) == 1
    begun = time.monotonic()
    assert says_first(store, "something else", 0, 3, 0.1) and time.monotonic() - begun < 5


def test_what_a_lost_connection_says_is_one_line() -> None:
    told = "[/__w/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:46227: Connection reset by peer. Advice\nand more"
    assert another_ended(RuntimeError(told)) and another_ended(dist.DistNetworkError("Broken pipe"))
    assert not another_ended(RuntimeError("shapes differ")) and not another_ended(ValueError("gloo/transport/"))
    said = str(RankLost(RuntimeError(told)))
    assert said == "ended, because another rank did (Read error [127.0.0.1]:46227: Connection reset by peer)"


def test_a_rank_names_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["train", "nowhere.yaml"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("qwenvl: rank 1: ")
