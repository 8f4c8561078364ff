"""From an engine's thread to the event loop: several answers of one request, their events in batches, in the order they came."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qwenvl.inference.reply import Reply
from qwenvl.inference.sampling import Constraint, GenerationOptions
from qwenvl.types import Encoded, QwenVLError


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer that is wanted."""

    prompt: Encoded
    options: GenerationOptions
    constraint: Constraint | None = None
    logprobs: int | None = None


class Happened(NamedTuple):
    """An event of answer `number`, at a time of time.monotonic()."""

    number: int
    when: float
    event: Any


class Answering:
    """The answers of one request. `batches` yields what happens until each has its Reply; `cancel` frees the engine of them."""

    def __init__(self, engine: Any, asked: Sequence[Asked], deadline: float) -> None:
        """Submit them all; made on the event loop. deadline: seconds from now. Raises what `Engine.submit` does; then none runs."""
        self._loop = asyncio.get_running_loop()
        self._events: deque[Happened] = deque()
        self._arrived = asyncio.Event()
        self._told = False
        self.submitted = time.monotonic()
        self.tickets: list[Any] = []
        try:
            for index, one in enumerate(asked):
                ticket = engine.submit(
                    one.prompt, one.options, deadline=deadline, constraint=one.constraint, logprobs=one.logprobs,
                    deliver=self._deliverer(index),
                )  # fmt: skip
                self.tickets.append(ticket)
        except BaseException:
            self.cancel()
            raise

    def _deliverer(self, index: int) -> Callable[[Any], None]:
        """What the engine calls, on its own thread. The loop is woken once for all events that come before it gets to them."""

        def deliver(event: Any) -> None:
            self._events.append(Happened(index, time.monotonic(), event))
            if not self._told:
                self._told = True
                try:
                    self._loop.call_soon_threadsafe(self._wake)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    self._told = False

        return deliver

    def _wake(self) -> None:
        self._told = False
        self._arrived.set()

    @property
    def began(self) -> float:
        """When the engine began with the first of them, as time.monotonic() gives it."""
        began = [ticket.began for ticket in self.tickets if getattr(ticket, "began", None) is not None]
        return min(began, default=self.submitted)

    async def batches(self, patience: float | None = None) -> AsyncIterator[list[Happened]]:
        """Lists of what happened, until all answers have ended; an empty one where nothing did for `patience` seconds.

        Raises the QwenVLError that ends one of them; the others are then cancelled.
        """
        left = len(self.tickets)
        try:
            while left:
                try:
                    async with asyncio.timeout(patience):
                        await self._arrived.wait()
                except TimeoutError:
                    yield []
                    continue
                self._arrived.clear()
                batch: list[Happened] = []
                while self._events:
                    happened = self._events.popleft()
                    if isinstance(happened.event, BaseException):
                        if batch:
                            yield batch
                        raise Ended(happened.event)
                    left -= isinstance(happened.event, Reply)
                    batch.append(happened)
                if batch:
                    yield batch
        finally:
            if left:
                self.cancel()

    def cancel(self) -> None:
        for ticket in self.tickets:
            ticket.cancel()


class Ended(QwenVLError):
    """The engine ended an answer before it was finished; `cause` says why."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause
