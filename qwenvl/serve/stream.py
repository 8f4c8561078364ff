"""Server-sent events: one event for every token, without serialising again what does not change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

DONE = b"data: [DONE]\n\n"
ALIVE = b": alive\n\n"

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""ASCII only: some clients take U+2028 and U+0085 for the end of a line."""


def event(data: MutableMapping[str, Any]) -> bytes:
    return b"data: " + _encode(data).encode("ascii") + b"\n\n"


class TokenEvents:
    """Events that differ in a token's text alone; `empty` is the chunk with `mark` in the place of the text."""

    MARK = "\0text\0"

    def __init__(self, empty: MutableMapping[str, Any]) -> None:
        self._before, self._after = event(empty).split(_encode(self.MARK).encode("ascii"))

    def of(self, text: str) -> bytes:
        return self._before + _encode(text).encode("ascii") + self._after


class EventStream(Response):
    """Sends what a generator yields as it comes. Where the client leaves the generator is closed. `ended` is called in any case."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], ended: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            await self._events.aclose()
            self._ended()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for content in self._events:
            await send({"type": "http.response.body", "body": content, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
