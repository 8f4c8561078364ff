"""Many conversations at once: requests join and leave between the steps of one batch, and what they share is read once.

A worker thread owns the model. Between two steps of the running batch it reads a bounded piece of the prompts that wait, and looks
at the pictures that this piece needs, so that a long one holds nobody up for longer than a piece takes. Requests begin in the
order in which they came, so that none waits for ever; each is told how it ended, whatever happens.
Under greedy decoding in float32 every answer is what it would be alone, token for token.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from qwenvl.inference.features import Look, TensorCache, looks_of, visual_tokens
from qwenvl.inference.graphs import StepGraphs
from qwenvl.inference.model import QwenVL
from qwenvl.inference.prefixes import BLOCK, Prefixes, block_names
from qwenvl.inference.reply import Reply
from qwenvl.inference.requests import (
    Cancelled,
    DeadlineError,
    Draining,
    EngineLimits,
    EngineStats,
    Event,
    Overloaded,
    RequestError,
    Ticket,
)
from qwenvl.inference.sampling import Constraint, GenerationOptions
from qwenvl.inference.session import Session, split_prompt
from qwenvl.runtime import free_memory
from qwenvl.types import Encoded, QwenVLError

log = logging.getLogger("qwenvl.engine")


@dataclass(slots=True)
class _Reading:
    """A prompt being read: its own one-row session, and what is left of it. prompt: with the patches of its pictures; looks: those
    not looked at yet, of the first of which `skip` tokens are not wanted; visual: tokens of the others that are left."""

    ticket: Ticket
    session: Session
    pieces: deque[Encoded]
    prompt: Encoded
    looks: deque[Look]
    skip: int
    visual: Tensor


class Engine:
    """A model that answers many at once. `submit` from any thread; `close`, or `drain` and then close, at the end.

    cuda_graphs: have decode steps on a GPU replayed as graphs. Raises QwenVLError where there is no GPU for that.
    """

    def __init__(self, model: QwenVL, limits: EngineLimits | None = None, *, cuda_graphs: bool = False) -> None:
        self.model = model
        self._graphs = StepGraphs.of(model.model) if cuda_graphs else None
        if cuda_graphs and self._graphs is None:
            raise QwenVLError(f"{model.name} is on {model.device}: CUDA graphs need a GPU; leave --cuda-graphs out")
        self.limits = limits = limits or EngineLimits()
        self.cache_bytes = limits.cache_bytes if limits.cache_bytes is not None else free_memory(model.device) // 4
        self._slots = self.cache_bytes // self._bytes(1, 1)
        self._prefixes = Prefixes(limits.prefix_bytes)
        self._features = TensorCache(limits.feature_bytes)
        self._session = Session(model.model, graphs=self._graphs)
        self._waiting: deque[Ticket] = deque()
        self._reading: _Reading | None = None
        self._running: list[Ticket] = []
        """Row by row of the session."""
        self._stats = EngineStats()
        self._changed = threading.Condition()
        self._resting = True
        """All that were taken have been told how they ended."""
        self._draining = self._closed = False
        self._seconds_each = 1.0
        """A moving average of how long a request ran, for `retry_after`."""
        self._thread = threading.Thread(target=self._work, name=f"engine {model.name}", daemon=True)
        self._thread.start()

    def submit(
        self, prompt: Encoded, options: GenerationOptions | None = None, *, deadline: float | None = None,
        constraint: Constraint | None = None, logprobs: int | None = None, deliver: Callable[[Event], None] | None = None,
    ) -> Ticket:  # fmt: skip
        """Have a prompt answered. deadline: seconds from now, after which the answer is not wanted any more; constraint: what the
        answer must look like; logprobs: how many likely tokens are told beside each; deliver: called on the engine's thread with
        every event, instead of iterating the ticket; it must not block.

        Raises Overloaded, Draining, ContextError for a prompt that leaves no room for an answer, QwenVLError for one that this
        engine has no memory for.
        """
        draft = self.model.draft(prompt, options or GenerationOptions(), constraint, logprobs)
        ticket = Ticket(prompt, draft, None if deadline is None else time.monotonic() + deadline, deliver)
        if (wanted := self._bytes(1, ticket.needs)) > self.cache_bytes:
            room = self._slots - len(prompt)
            advice = f"set max_tokens to {room} or less" if room > 0 else "shorten the prompt, or give the server more memory"
            raise QwenVLError(
                f"the prompt of {len(prompt)} tokens and an answer of up to {draft.limit} need {wanted / 2**20:.0f} MB of keys and "
                f"values, but there are {self.cache_bytes / 2**20:.0f} MB; {advice}"
            )
        with self._changed:
            if self._draining or self._closed:
                raise Draining("the server is shutting down; ask another one")
            waiting = len(self._waiting)
            places = self.limits.queued + max(self.limits.running - len(self._running) - (self._reading is not None), 0)
            if waiting >= places or (waiting and self._waiting_bytes(ticket) > self.limits.queued_bytes):
                raise Overloaded(waiting, min(max(self._seconds_each * waiting / self.limits.running, 1.0), 60.0))
            self._waiting.append(ticket)
            self._resting = False
            self._changed.notify_all()
        return ticket

    def stats(self) -> EngineStats:
        """A snapshot."""
        cache = self._session.cache
        return replace(
            self._stats,
            running=len(self._running) + (self._reading is not None),
            queued=len(self._waiting),
            cache_bytes=sum(held.nbytes for held in (*cache.keys, *cache.values)),
            prefix=self._prefixes.blocks.counts(),
            feature=self._features.counts(),
        )

    def drain(self, timeout: float) -> bool:
        """Take no further requests and wait for those that were taken; whether they all ended in time."""
        with self._changed:
            self._draining = True
            return self._changed.wait_for(lambda: self._resting, timeout)

    def close(self) -> None:
        """Stop. Requests that are not finished end with Draining."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _waiting_bytes(self, more: Ticket) -> int:
        """Bytes of the pictures of all that wait, with one more: those of several answers to one prompt count once."""
        return sum({id(one.prompt.patches): one.prompt.patches.nbytes for one in (*self._waiting, more)}.values())

    # All below runs on the worker's thread.

    def _work(self) -> None:
        try:
            while self._wait():
                try:
                    with torch.inference_mode():
                        self._turn()
                except BaseException as error:  # not only Exception: what panics in a library in Rust is none
                    self._start_over(error)
        finally:
            with self._changed:
                self._closed = True
            for ticket in self._all():
                _tell(ticket, Draining("the server is shutting down; ask another one"))
            with self._changed:
                self._resting = True
                self._changed.notify_all()

    def _wait(self) -> bool:
        """Until there is something to do; False at the end."""
        with self._changed:
            if not self._all():
                self._resting = True
                self._changed.notify_all()  # for drain()
            self._changed.wait_for(lambda: self._closed or not self._resting)
            return not self._closed

    def _turn(self) -> None:
        """A piece of the prompts that wait, and a step of those that run."""
        self._drop()
        left = self.limits.prefill_chunk
        while left > 0 and (self._reading or self._admit()):
            left -= self._read()
        self._step()

    def _start_over(self, error: BaseException) -> None:
        """After an error outside of any one request: those that were begun are told, those that wait begin with a new session."""
        log.error("a step of the engine failed; what was running is given up", exc_info=error)
        begun = [ticket for ticket in self._all() if ticket not in self._waiting]
        self._running, self._reading = [], None
        for ticket in begun:
            self._stats.failed += 1
            _tell(ticket, _as_told(error))
        self._session = Session(self.model.model, graphs=self._graphs)

    def _all(self) -> list[Ticket]:
        reading = [self._reading.ticket] if self._reading else []
        with self._changed:
            return [*self._running, *reading, *self._waiting]

    def _drop(self) -> None:
        """End what nobody waits for, and what is late."""
        now = time.monotonic()
        for ticket in self._all():
            if ticket.cancelled:
                self._stats.cancelled += 1
                self._end(ticket, Cancelled("the request was cancelled"))
            elif ticket.deadline is not None and now > ticket.deadline:
                self._stats.failed += 1
                done = f"{len(ticket.draft.tokens)} tokens were written" if ticket.began else "it was still waiting"
                self._end(ticket, DeadlineError(f"the answer was not finished in time; {done}"))

    def _admit(self) -> bool:
        """Begin with the first that waits, if there is one and it finds room; whether it did."""
        if not self._waiting or len(self._running) >= self.limits.running:
            return False
        ticket = self._waiting[0]
        longest = max([ticket.needs, *(other.needs for other in self._running)])
        if self._running and self._bytes(len(self._running) + 1, longest) > self.cache_bytes:
            return False
        with self._changed:
            self._waiting.popleft()
        ticket.began = time.monotonic()
        try:
            self._reading = self._begin(ticket)
        except BaseException as error:  # whatever a request does to the model, the others go on
            self._fail(ticket, error)
        return True

    def _begin(self, ticket: Ticket) -> _Reading:
        """Find what is known already of a prompt, and what is left to read of it."""
        prompt, model = ticket.prompt, self.model.model
        looks = ticket.looks = looks_of(model, prompt)
        session = Session(model, [prompt])
        names = block_names(prompt.input_ids, prompt.position_ids, prompt.visual_slots, looks, session.alphas[0])
        # The last token is always read, for what follows it.
        start = self._prefixes.fill(session.cache, 0, names[: (len(prompt) - 1) // BLOCK])
        seen = int(np.searchsorted(prompt.visual_slots, start))
        fresh = deque(look for look in looks if look.tokens.stop > seen)
        ticket.cached_tokens = start
        skip = seen - fresh[0].tokens.start if fresh else 0
        pieces = deque(split_prompt(prompt, self.limits.prefill_chunk, start))
        ticket.prompt = prompt.with_(patches=prompt.patches[:0].copy())  # once read; they are the most of what a request holds
        return _Reading(ticket, session, pieces, prompt, fresh, skip, visual_tokens(model, prompt, (), self._features))

    def _visual(self, reading: _Reading, count: int) -> Tensor | None:
        """The next `count` visual tokens; pictures are looked at when a piece first needs them."""
        if not count:
            return None
        wanted, looks = count + reading.skip - len(reading.visual), []
        while wanted > 0:
            looks.append(look := reading.looks.popleft())
            wanted -= look.tokens.stop - look.tokens.start
        made = visual_tokens(self.model.model, reading.prompt, looks, self._features)
        whole, reading.skip = torch.cat([reading.visual, made[reading.skip :]]), 0
        reading.visual = whole[count:]
        return whole[:count]

    def _read(self) -> int:
        """Read one piece of the prompt that is being read, if one is; after the last, its sequence joins those that run. The tokens
        read."""
        if (reading := self._reading) is None:
            return 0
        ticket, session = reading.ticket, reading.session
        piece = reading.pieces.popleft()
        try:
            logits = session.feed([piece], self._visual(reading, len(piece.visual_slots)))
            if reading.pieces:
                return len(piece)
            self._keep(ticket, session, 0)
            self._session.join(session, self._slots)
        except BaseException as error:
            self._fail(ticket, error)
            return len(piece)
        self._reading = None
        self._running.append(ticket)
        self._stats.tokens_in += len(ticket.prompt)
        self._stats.image_tokens += len(ticket.prompt.visual_slots)
        self._stats.cached_tokens += ticket.cached_tokens
        self._choose(len(self._running) - 1, logits[0])
        return len(piece)

    def _step(self) -> None:
        """One more token of every running sequence."""
        while self._running:
            try:
                self._session.cache.reserve(len(self._running), max(self._session.cache.lengths) + 1, self._slots)
                logits = self._session.step([ticket.draft.tokens[-1] for ticket in self._running])
                break
            except BaseException as error:  # out of memory, most likely: without the one that came last the others may go on
                self._fail(self._running[-1], error)
        else:
            return
        self._stats.steps += 1
        for row in reversed(range(len(self._running))):
            self._choose(row, logits[row])

    def _choose(self, row: int, logits: Tensor) -> None:
        """Take a sequence's next token; let it go where that was its last."""
        ticket = self._running[row]
        try:
            piece = ticket.draft.choose(logits)
            self._stats.tokens_out += 1
            ticket.deliver(piece)
            if ticket.draft.finish_reason is None:
                return
            reply = self.model.reply(ticket.prompt, ticket.draft, ticket.cached_tokens)
        except BaseException as error:
            self._fail(ticket, error)
            return
        self._keep(ticket, self._session, row)  # for the conversation's next turn
        self._stats.finished += 1
        seconds = time.monotonic() - (ticket.began or 0.0)
        self._seconds_each += 0.1 * (seconds - self._seconds_each)
        self._end(ticket, reply)

    def _keep(self, ticket: Ticket, session: Session, row: int) -> None:
        """Keep what a row holds for those that begin like it. Where there is no memory for that, they read it again."""
        with contextlib.suppress(MemoryError, RuntimeError):  # torch's OutOfMemoryError is a RuntimeError
            self._prefixes.take(session.cache, row, self._names(ticket, session.alphas[row]))

    def _names(self, ticket: Ticket, alpha: float) -> list[bytes]:
        """Names of the blocks of a prompt and what was answered to it."""
        prompt, said = ticket.prompt, np.array(ticket.draft.tokens, dtype=np.int64)
        follow = np.broadcast_to(int(prompt.position_ids.max()) + 1 + np.arange(len(said)), (3, len(said)))
        ids, positions = np.concatenate([prompt.input_ids, said]), np.concatenate([prompt.position_ids, follow], axis=1)
        return block_names(ids, positions, prompt.visual_slots, ticket.looks, alpha)

    def _fail(self, ticket: Ticket, error: BaseException) -> None:
        self._stats.failed += 1
        self._end(ticket, _as_told(error), spoiled=True)

    def _end(self, ticket: Ticket, event: Reply | QwenVLError, spoiled: bool = False) -> None:
        """Let a request go, wherever it is, and tell how it ended."""
        if ticket in self._running:
            row = self._running.index(ticket)
            self._session.leave(row, spoiled)
            self._running[row] = self._running[-1]
            self._running.pop()
        elif self._reading and self._reading.ticket is ticket:
            self._reading = None
        else:
            with self._changed:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
        _tell(ticket, event)

    def _bytes(self, rows: int, slots: int) -> int:
        """Bytes of the keys and values of so many rows."""
        config = self.model.config.decoder
        per_slot = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * self.model.dtype.itemsize
        return rows * slots * per_slot


def _tell(ticket: Ticket, event: Reply | QwenVLError) -> None:
    """How a request ended. Where whoever listened is gone, nobody is left to tell."""
    with contextlib.suppress(BaseException):
        ticket.deliver(event)


def _as_told(error: BaseException) -> QwenVLError:
    if isinstance(error, QwenVLError):
        return error
    return RequestError(f"the request failed: {' '.join(str(error).split()) or type(error).__name__}")
