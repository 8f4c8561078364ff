"""What every route of the API does: take a request in, within limits, prepare it in the pool, follow its answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from qwenvl.inference.reply import Reply
from qwenvl.inference.requests import DeadlineError, Draining
from qwenvl.inference.session import Piece
from qwenvl.serve.answering import Answering, Asked, Ended, Happened
from qwenvl.serve.answers import Times
from qwenvl.serve.body import Held, parse, read_body
from qwenvl.serve.conversation import Medium, check_text, media_of
from qwenvl.serve.errors import ApiError, ClientGone, as_api_error, busy
from qwenvl.serve.fetch import Fetcher
from qwenvl.serve.metrics import Metrics
from qwenvl.serve.models import Models, Served
from qwenvl.serve.schema import ChatRequest, CompletionRequest, TokenizeRequest
from qwenvl.serve.settings import MediaLimits, ServerSettings
from qwenvl.types import QwenVLError

Result = TypeVar("Result")
Form = TypeVar("Form", ChatRequest, CompletionRequest, TokenizeRequest)
Prepare = Callable[[Served, Form, Sequence[Medium], MediaLimits], Result]

SMALL = 1 << 16
"""Bytes of a body that is parsed at once; a larger one would hold up the others' streams."""
FETCHES = 8  # at a time, of one request


class Desk:
    def __init__(self, engines: Mapping[str, Any], settings: ServerSettings, fetcher: Fetcher | None = None) -> None:
        self.models = Models(engines)
        self.settings = settings
        self.metrics = Metrics(engines)
        self.fetcher = fetcher or Fetcher(settings.media)
        self._held = Held(settings.bodies_bytes)
        self._pool: ThreadPoolExecutor | None = None
        self._free = asyncio.Semaphore(settings.encoders)
        self._waiting = 0

    async def take(self, request: Request, form: type[Form], prepare: Prepare[Form, Result]) -> tuple[Served, Form, Result]:
        """Read a request and prepare it. Raises ApiError or another QwenVLError, one line; ClientGone."""
        with self._held.share() as take:
            body = await read_body(request.receive, request.headers, self.settings, take)
            work = self._prepare(body, form, prepare, take)
            del body
            return await unless_left(request, work, self.settings.request_seconds)

    async def _prepare(
        self, body: bytearray, form: type[Form], prepare: Prepare[Form, Result], take: Callable[[int], None]
    ) -> tuple[Served, Form, Result]:
        if len(body) <= SMALL:
            asked = parse(form, body, self.settings)
        else:
            asked = await self._in_pool(parse, form, body, self.settings)
        body.clear()
        served = self.models.find(asked.model)
        check_text(asked, served.context)
        media = media_of(asked, self.settings.media)
        await self._fetch([medium for medium in media if not medium.is_data], take)
        return served, asked, await self._in_pool(prepare, served, asked, media, self.settings.media)

    async def _fetch(self, media: Sequence[Medium], take: Callable[[int], None]) -> None:
        free = asyncio.Semaphore(FETCHES)

        async def one(medium: Medium) -> None:
            async with free:
                most = medium.most_bytes(self.settings.media)
                medium.content = await self.fetcher.fetch(medium.asked.url, most, medium.param)
                take(len(medium.content))

        tasks = [asyncio.ensure_future(one(medium)) for medium in media]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _in_pool(self, function: Callable[..., Result], *arguments: Any) -> Result:
        if self._waiting >= self.settings.waiting + self.settings.encoders:
            raise busy(f"{self._waiting} requests are being read already; try again soon", 1)
        self._waiting += 1
        try:
            # Here and not in the pool's own queue, which holds on to bodies whose clients have left until a thread gets to them.
            await self._free.acquire()
            self._pool = self._pool or ThreadPoolExecutor(self.settings.encoders, "encode")
            work = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
            work.add_done_callback(self._freed)
            return await asyncio.shield(work)  # a thread cannot be stopped: its place is free when it has ended
        finally:
            self._waiting -= 1

    def _freed(self, work: asyncio.Future[Any]) -> None:
        self._free.release()
        if not work.cancelled():
            work.exception()  # seen: nobody else asks for that of a client who has left

    def ask(self, served: Served, asked: Sequence[Asked], arrived: float) -> Following:
        """Have the engine answer. Raises what `Engine.submit` does."""
        left = self.settings.request_seconds - (time.monotonic() - arrived)
        if left <= 0:
            raise ApiError(504, "the request took too long to read", code="deadline_exceeded")
        return Following(served.name, Answering(served.engine, asked, left), self.metrics, Times(arrived))

    def close(self) -> None:
        """Let its threads go; they are made again should another request come."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


@dataclass(slots=True)
class Following:
    """The answers to a request as they come; what happens is measured on the way."""

    model: str
    answering: Answering
    metrics: Metrics
    times: Times
    replies: dict[int, Reply] = field(default_factory=dict)
    pieces: dict[int, list[Piece]] = field(default_factory=dict)
    _last: dict[int, float] = field(default_factory=dict)

    async def batches(self, patience: float | None = None) -> AsyncGenerator[list[Happened]]:
        """As `Answering.batches`; an error that ends an answer is raised as the ApiError that it means."""
        batches = self.answering.batches(patience)
        try:
            async for batch in batches:
                for happened in batch:
                    self._saw(happened)
                yield batch
        except Ended as error:
            raise told(error.cause) from error.cause
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    async def all(self) -> list[Reply]:
        """Every reply, in order, once all are there."""
        async for _ in self.batches():
            pass
        return [self.replies[index] for index in sorted(self.replies)]

    def _saw(self, happened: Happened) -> None:
        index, when, event = happened
        if isinstance(event, Reply):
            self.replies[index] = event
            self.times.began, self.times.ended = self.answering.began, when
            self.metrics.whole.labels(self.model).observe(when - self.times.arrived)
            return
        self.pieces.setdefault(index, []).append(event)
        if self.times.first is None:
            self.times.first = when
            self.metrics.first_token.labels(self.model).observe(when - self.times.arrived)
        if index in self._last:
            self.metrics.between_tokens.labels(self.model).observe(when - self._last[index])
        self._last[index] = when


def told(error: BaseException) -> ApiError:
    """What ended an answer that was taken. What is wrong with the request itself is a ValueError too; the rest is the server's."""
    if isinstance(error, DeadlineError | Draining | ValueError) or not isinstance(error, QwenVLError):
        return as_api_error(error)
    return ApiError(500, str(error), code="internal_error")


async def unless_left(request: Request, work: Coroutine[Any, Any, Result], seconds: float | None = None) -> Result:
    """The result of work that is given up when the client leaves. Raises ClientGone then, ApiError (504) after `seconds`."""
    working: asyncio.Task[Result] = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request.receive))
    tasks: set[asyncio.Future[Any]] = {working, leaving}
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if leaving.done():
            raise ClientGone
        raise ApiError(504, "the request took too long to read", code="deadline_exceeded")
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task


async def _left(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
