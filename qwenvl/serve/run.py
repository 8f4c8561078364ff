"""The server as a process: a socket of its own, clients that are slow from the first byte, and an end that loses no answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from qwenvl.serve.errors import ApiError
from qwenvl.serve.server import create_app
from qwenvl.serve.settings import ServerSettings
from qwenvl.types import QwenVLError

log = logging.getLogger("qwenvl.serve")
CONNECTIONS = 2000
OTHER_FILES = 200
"""Files beside connections that a server has open, pictures that are decoded among them."""
QUIET = 10.0
"""Seconds between two lines about connections that wait."""
FLUSH = 5.0
"""Seconds for what has been answered to reach its clients, when the server stops."""


def bind(host: str, port: int) -> socket.socket:
    """A socket at this address; 0 is any free port. Raises QwenVLError, one line."""
    if port > 65535:
        raise QwenVLError(f"--port {port}: give a number from 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise QwenVLError(f"--host {host}: no such name or address on this machine; give 127.0.0.1, or 0.0.0.0 for all") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()  # the port is ours from here on; another server's bind fails
    except OSError as error:
        listener.close()
        raise QwenVLError(f"{host}:{port}: {(error.strerror or 'cannot be used').lower()}; give another --port or --host") from None
    return listener


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(engines: Mapping[str, Any], settings: ServerSettings, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called once requests are answered. At the first signal new requests are turned away
    and those under way are finished, within `grace_seconds`; at the second it stops at once."""
    app = create_app(engines, settings)
    _allow_connections()
    asyncio.run(_serve(Server(_config(app, settings)), app, engines, settings, listener, ready))


@contextlib.contextmanager
def in_background(engines: Mapping[str, Any], settings: ServerSettings | None = None) -> Generator[str, None, None]:
    """A server on a free port of the loopback address, in a thread of this process; yields its address."""
    settings = settings or ServerSettings()
    with bind("127.0.0.1", 0) as listener:
        server = Server(_config(create_app(engines, settings), settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield address_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def _config(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app, http=protocol(settings), ws="none", lifespan="on", log_config=None, access_log=False, proxy_headers=False,
        server_header=False, limit_concurrency=CONNECTIONS, timeout_keep_alive=30, timeout_graceful_shutdown=int(FLUSH),
    )  # fmt: skip


def _allow_connections() -> None:
    """As many open files as the system lets us have; a shell often gives fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _complainer(listener: socket.socket) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """What the loop calls for errors of nobody's. Where no file can be opened any more, asyncio reports every connection that
    waits, thousands a second: that is one line here."""
    last = -QUIET

    def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last
        if "out of system resource" in str(context.get("message")):
            if time.monotonic() - last >= QUIET:
                last = time.monotonic()
                log.warning("too many open files: connections wait until others end; raise the limit with ulimit -n")
        # Else it tries the socket again, which is closed by now.
        elif listener.fileno() >= 0 or not isinstance(context.get("exception"), ValueError):
            loop.default_exception_handler(context)

    return complain


def _is_told(record: logging.LogRecord) -> bool:
    """Not that an answer was cut off: this happens to those that are under way when the server is stopped at once. Of the lifespan
    uvicorn has the traceback as text."""
    cut_off = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and not record.getMessage().rstrip().endswith("CancelledError")


async def _serve(
    server: Server,
    app: FastAPI,
    engines: Mapping[str, Any],
    settings: ServerSettings,
    listener: socket.socket,
    ready: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_complainer(listener))
    logging.getLogger("uvicorn.error").addFilter(_is_told)
    running = asyncio.ensure_future(server.serve(sockets=[listener]))
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        if stopping:
            server.should_exit = server.force_exit = True
        else:
            stopping.append(loop.create_task(_drain(server, app, engines, settings.grace_seconds)))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        while not server.started and not running.done():
            await asyncio.sleep(0.01)
        try:
            if server.started:
                ready()
        except BaseException:  # nobody is told where it serves: it ends in order
            server.should_exit = True
            await running
            raise
        await running
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # it ends already, and in order: one more signal must not make a kill of that
        for task in stopping:
            task.cancel()


async def _drain(server: Server, app: FastAPI, engines: Mapping[str, Any], grace: float) -> None:
    """Turn new requests away, let the engines finish what they can in time, then stop."""
    app.state.draining.set()
    log.info("stopping: new requests are turned away, those under way have %g s; Ctrl-C once more stops at once", grace)
    ended = await asyncio.gather(*(asyncio.to_thread(engine.drain, grace) for engine in engines.values()))
    for engine, in_time in zip(engines.values(), ended):
        if not in_time:
            await asyncio.to_thread(engine.close)  # what is not finished is told so
    server.should_exit = True


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are ours: uvicorn would end the process by the signal, not with 0."""
        yield


def protocol(settings: ServerSettings) -> type[asyncio.Protocol]:
    """uvicorn's HTTP/1.1, which gives a client for ever to send its first line and to take its answer: not here. And what is no
    HTTP gets our errors."""

    class Guarded(H11Protocol):
        _patience: asyncio.TimerHandle | None = None
        _taking: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            self._taken()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch()

        def resume_writing(self) -> None:
            self._taken()
            super().resume_writing()

        def _watch(self) -> None:
            """While more is written than the socket takes: see that some of it is taken in `send_seconds`. What waits then in the
            buffer is not waited for, as closing would."""
            left = self.transport.get_write_buffer_size()

            def look() -> None:
                if self.transport.get_write_buffer_size() < left:
                    self._watch()
                else:
                    self.transport.abort()

            self._taking = self.loop.call_later(settings.send_seconds, look)

        def _taken(self) -> None:
            if self._taking is not None:
                self._taking.cancel()
                self._taking = None

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:
                self._stop_waiting()
            elif self._patience is None and (self.cycle is None or self.cycle.response_complete):
                self._wait_for_head()  # the head of another request on a connection that is kept

        def _wait_for_head(self) -> None:
            self._patience = self.loop.call_later(settings.idle_seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

        def _give_up(self) -> None:
            if not self.transport.is_closing():
                self._say(
                    ApiError(408, "the request did not come in time; send it faster", code="slow_request"), b"Request Timeout"
                )

        def send_400_response(self, msg: str) -> None:
            self._say(ApiError(400, "this is no HTTP request that can be read", code="invalid_http"), b"Bad Request")

        def _say(self, error: ApiError, reason: bytes) -> None:
            body = json.dumps(error.body).encode()
            head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (error.status, reason, len(body)) + body)
            self.transport.close()

    return Guarded
