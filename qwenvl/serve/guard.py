"""What stands before every request: is the server going on, was it called by its own name, is the key right. And after it: headers
that keep a browser safe, an error in OpenAI's shape for whatever went wrong, a count.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Collection, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenvl.serve.errors import ApiError, ClientGone, as_api_error
from qwenvl.serve.metrics import Metrics
from qwenvl.serve.settings import ServerSettings

log = logging.getLogger("qwenvl.serve")

SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
OPEN = ("/", "/health", "/openapi.json")
"""Without a key: the page, which asks for one, and what a load balancer reads. So is everything under /assets/."""
LINGER = 3.0
"""Seconds in which a refused body is read and forgotten: a client that is still sending would not see why it was refused."""


class Guard:
    """ASGI middleware, inside of which all routes lie."""

    def __init__(
        self, app: ASGIApp, *, settings: ServerSettings, metrics: Metrics, paths: Collection[str], draining: asyncio.Event
    ) -> None:
        self.app = app
        self._settings = settings
        self._metrics = metrics
        self._paths = frozenset(paths)
        self._draining = draining
        self._keys = [key.encode() for key in settings.api_keys]
        self._safe = [(name.lower().encode(), value.encode()) for name, value in SAFE_HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        passing = _Passing(receive, send, self._safe)
        self._metrics.under_way.inc()
        try:
            self._check(scope)
            await self.app(scope, passing.receive, passing.send)
        except ClientGone:
            passing.status = passing.status or 499
        except Exception as error:
            told = as_api_error(error)
            if told.status == 500:
                log.exception("%s %s failed", scope["method"], scope["path"])
            if passing.status is not None:
                raise  # too late to say it; the connection is closed
            await passing.refuse(told, unread=_has_body(scope) and not passing.read_all)
        finally:
            self._metrics.under_way.dec()
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(path, str(passing.status or 499)).inc()

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        if self._settings.hosts is not None and _host(headers.get("host", "")) not in self._settings.hosts:
            raise ApiError(403, "this server answers to its own name only; call it by that, or allow another", code="unknown_host")
        if self._draining.is_set() and path not in ("/health", "/metrics"):
            raise ApiError(503, "the server is shutting down; ask another one", code="shutting_down", headers={"Retry-After": "5"})
        if self._keys and path not in OPEN and not path.startswith("/assets/"):
            self._check_key(headers.get("authorization", ""))

    def _check_key(self, given: str) -> None:
        """In a time that does not tell how much of a key was right."""
        scheme, _, key = given.partition(" ")
        found = [hmac.compare_digest(key.strip().encode("latin-1"), known) for known in self._keys]
        if scheme.lower() != "bearer" or not any(found):
            message = "a wrong API key" if given else "no API key; send Authorization: Bearer KEY"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


class _Passing:
    """A request's two ends: what has been sent of the answer, and whether the body was read to its end."""

    def __init__(self, receive: Receive, send: Send, safe: list[tuple[bytes, bytes]]) -> None:
        self._receive, self._send, self._safe = receive, send, safe
        self.status: int | None = None
        self.read_all = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.read_all = self.read_all or message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name for name, _ in message.get("headers", [])}
            added = [pair for pair in self._safe if pair[0] not in present]
            if b"cache-control" not in present:
                added.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await self._send(message)

    async def refuse(self, error: ApiError, unread: bool) -> None:
        """Send an error. Where the client may still be sending its body, the connection is closed, once it could read why."""
        body = json.dumps(error.body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **error.headers}
        if unread:
            headers["Connection"] = "close"
        coded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": coded})
        await self.send({"type": "http.response.body", "body": body, "more_body": unread})
        if not unread:
            return
        try:
            async with asyncio.timeout(LINGER):
                while not self.read_all:
                    await self.receive()
        except TimeoutError:
            pass  # it had the time to read the answer
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _host(header: str) -> str:
    """A Host header without its port, in lower case."""
    name = header.strip().lower()
    return name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.partition(":")[0]


def _has_body(scope: Scope) -> bool:
    headers: Mapping[Any, Any] = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
