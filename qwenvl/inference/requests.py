"""What goes into an engine and what comes out of it: a request's ticket, its events and errors, limits and counts."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from qwenvl.inference.features import Look
from qwenvl.inference.reply import Reply
from qwenvl.inference.session import Draft, Piece
from qwenvl.types import Encoded, QwenVLError

Event = Piece | Reply | QwenVLError
"""What a request yields: pieces, and at last a reply or the error that ended it."""


class Overloaded(QwenVLError):
    """So many requests wait already that this one is not taken. It may be tried again after `retry_after` seconds."""

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"{waiting} requests wait already; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class Draining(QwenVLError):
    """The engine is being shut down and takes no further requests."""


class Cancelled(QwenVLError):
    """Nobody waits for this answer any more."""


class DeadlineError(QwenVLError):
    """The answer was not finished in the time that it was given."""


class RequestError(QwenVLError):
    """This request failed, and no other."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What an engine may use.

    running: sequences decoded together; queued: requests that wait beside them; queued_bytes: pictures of those that wait, where
    there is more than one; cache_bytes: keys and values of all that run (None: a quarter of the free memory when the engine
    starts); prefill_chunk: tokens of a prompt read between two steps; prefix_bytes and feature_bytes: what is kept of beginnings
    of prompts and of pictures for those that come after.
    """

    running: int = 64
    queued: int = 256
    queued_bytes: int = 2 * 2**30
    cache_bytes: int | None = None
    prefill_chunk: int = 512
    prefix_bytes: int = 512 * 2**20
    feature_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        for name in ("running", "prefill_chunk"):
            if getattr(self, name) < 1:
                raise QwenVLError(f"{name}={getattr(self, name)}: must be 1 or more")
        for name in ("queued", "queued_bytes", "prefix_bytes", "feature_bytes"):
            if getattr(self, name) < 0:
                raise QwenVLError(f"{name}={getattr(self, name)}: must be 0 or more")

    def shared(self, engines: int) -> EngineLimits:
        """Those of each of so many engines of one process, whose memory they share."""
        cache = None if self.cache_bytes is None else self.cache_bytes // engines
        prefix, feature = self.prefix_bytes // engines, self.feature_bytes // engines
        queued = self.queued_bytes // engines
        return replace(self, cache_bytes=cache, prefix_bytes=prefix, feature_bytes=feature, queued_bytes=queued)


@dataclass(slots=True)
class EngineStats:
    """Counts since the engine began, and what holds now. Prefix and feature counts: hits, misses and bytes kept."""

    running: int = 0
    queued: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    tokens_in: int = 0
    image_tokens: int = 0
    cached_tokens: int = 0
    tokens_out: int = 0
    steps: int = 0
    cache_bytes: int = 0
    prefix: dict[str, int] = field(default_factory=dict)
    feature: dict[str, int] = field(default_factory=dict)


class Ticket:
    """A request that was taken. Iterating yields its pieces and at last its Reply, or raises the QwenVLError that ended it."""

    def __init__(self, prompt: Encoded, draft: Draft, deadline: float | None, deliver: Callable[[Event], None] | None) -> None:
        self.prompt = prompt
        self.draft = draft
        self.deadline = deadline
        self.cancelled = False
        self.cached_tokens = 0
        self.looks: list[Look] = []
        self.began: float | None = None
        """When its prompt was begun, as time.monotonic() gives it; None while it waits."""
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.deliver = deliver or self._events.put

    @property
    def needs(self) -> int:
        """Slots of the cache that it may come to fill."""
        return len(self.prompt) + self.draft.limit

    def cancel(self) -> None:
        """Stop as soon as the step in progress is done. May be called from any thread, and more than once."""
        self.cancelled = True

    def __iter__(self) -> Iterator[Piece | Reply]:
        while True:
            event = self._events.get()
            if isinstance(event, QwenVLError):
                raise event
            yield event
            if isinstance(event, Reply):
                return
