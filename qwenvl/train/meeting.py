"""How ranks meet, start after start, and which of their errors are only those of another rank that ended."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from uuid import uuid4

import torch.distributed as dist

from qwenvl.types import QwenVLError

PATIENCE = timedelta(minutes=10)
"""How long ranks wait for each other before the first step."""

LINGER = 2.0
"""Seconds that the first rank waits for the others to meet the same mistake."""


class MeetingError(QwenVLError):
    """Ranks that did not come."""


class RankLost(QwenVLError):
    """This rank's end, where it is only that of another one, which says why or was killed."""

    def __init__(self, error: BaseException) -> None:
        # gloo's texts begin with a place in its source and go on with advice.
        told = re.sub(r"^\[[^]]*\] *", "", str(error)).partition("\n")[0].partition(". ")[0]
        super().__init__(f"ended, because another rank did ({told})")


def meet(backend: str) -> dist.Store:
    """dist.init_process_group from the environment, safe from what earlier starts of these ranks left. Returns the ranks' store."""
    store, rank, size = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
    own = own_part(store, rank, size)
    own.set_timeout(dist.default_pg_timeout)
    dist.init_process_group(backend, store=own, rank=rank, world_size=size)
    return own


def own_part(store: dist.Store, rank: int, size: int, patience: timedelta = PATIENCE) -> dist.Store:
    """A part of the store that is this start's alone; every rank must call this. Raises MeetingError.

    torchrun's agent keeps one store over all its restarts, and ranks write into it under the same names each time
    (github.com/pytorch/pytorch/issues/135712): whoever is first finds where a rank that is dead had listened, and is refused there.
    The number of the restart is no name for a part, as every node's agent counts its own. So the first rank makes a name, and
    answers whoever asks under a name that it has made itself; what an earlier start left, nobody asks for.
    """
    name = uuid4().hex
    if rank:
        store.set(f"asks/{rank}", name)
        try:
            store.wait([f"answer/{name}"], patience)
        except dist.DistError as error:
            raise MeetingError(f"no word from the first rank in {patience}; see what it says") from error
        name = store.get(f"answer/{name}").decode()
        store.set(f"{name}/here/{rank}", "")
        return dist.PrefixStore(name, store)
    missing, deadline = list(range(1, size)), time.monotonic() + patience.total_seconds()
    while missing:
        if time.monotonic() > deadline:
            raise MeetingError(f"not there after {patience}: rank {missing[0]} and {len(missing) - 1} more; see what they say")
        for other in missing:
            # Perhaps the question of an earlier start: answered too, until the rank itself has said that it is here.
            if store.check([f"asks/{other}"]):
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", name)
        time.sleep(0.02)
        missing = [other for other in missing if not store.check([f"{name}/here/{other}"])]
    return dist.PrefixStore(name, store)


def says_first(store: dist.Store | None, text: str, rank: int = 0, size: int = 1, linger: float = LINGER) -> bool:
    """Whether no other rank has said this. A store that is gone, with the rank that had it, keeps nobody from speaking; so the
    first rank, which may have it, stays until the others have asked, `linger` seconds at most."""
    if store is None:
        return True
    mine = uuid4().hex
    try:
        first = bool(store.compare_set(f"said/{text}", "", mine) == mine.encode())
        asked, deadline = store.add(f"asked/{text}", 1), time.monotonic() + linger
        while rank == 0 and asked < size and time.monotonic() < deadline:
            time.sleep(0.02)
            asked = store.add(f"asked/{text}", 0)
        return first
    except RuntimeError:
        return True


def another_ended(error: BaseException) -> bool:
    """Whether this is what a rank sees when another one has gone in the middle of talking to it."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport/" in str(error).lower())
