"""An engine that says what a test tells it to, with a real model's tokenizer and renderer; a server around engines; a watch on
what a process opens and whom it calls.
"""

from __future__ import annotations

import asyncio
import base64
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from PIL import Image

from qwenvl.inference.model import QwenVL
from qwenvl.inference.reply import Reply, Usage
from qwenvl.inference.requests import Cancelled, Draining, EngineStats
from qwenvl.inference.session import Piece
from qwenvl.inference.text_stream import TextStream
from qwenvl.processing.grid import frame_size
from qwenvl.serve.run import Server, bind, protocol
from qwenvl.serve.server import create_app
from qwenvl.serve.settings import ServerSettings
from qwenvl.types import Encoded


@dataclass
class Submitted:
    """A request as the engine got it."""

    prompt: Encoded
    options: Any
    deadline: float | None
    constraint: Any
    logprobs: int | None
    cancelled: bool = False
    finished: bool = False


@dataclass
class ScriptedEngine:
    """`answer` is what it says to every prompt, or a function of the request. `delay`: seconds before each token; `refuse`: raised
    by submit; `fail_after`: (tokens, error) that ends an answer."""

    model: QwenVL
    answer: str | Callable[[Submitted], str] = "Yes."
    delay: float = 0.0
    refuse: Exception | None = None
    fail_after: tuple[int, Exception] | None = None
    finish_reason: str = "stop"
    submitted: list[Submitted] = field(default_factory=list)
    draining: bool = False
    running: int = 0

    def submit(
        self, prompt: Encoded, options: Any = None, *, deadline: float | None = None, constraint: Any = None,
        logprobs: int | None = None, deliver: Callable[[Any], None] | None = None,
    ) -> _Ticket:  # fmt: skip
        if self.refuse is not None:
            raise self.refuse
        if self.draining:
            raise Draining("the server is shutting down; ask another one")
        request = Submitted(prompt, options, deadline, constraint, logprobs)
        self.submitted.append(request)
        ticket = _Ticket(request)
        assert deliver is not None
        self.running += 1
        threading.Thread(target=self._say, args=(request, ticket, deliver), daemon=True).start()
        return ticket

    def reset(self) -> None:
        """As it was made, for the next test."""
        fresh = ScriptedEngine(self.model)
        for name in ("answer", "delay", "refuse", "fail_after", "finish_reason", "submitted", "draining"):
            setattr(self, name, getattr(fresh, name))

    def _say(self, request: Submitted, ticket: _Ticket, deliver: Callable[[Any], None]) -> None:
        try:
            ticket.began = time.monotonic()
            tokenizer = self.model.need_processor().tokenizer
            text = self.answer if isinstance(self.answer, str) else self.answer(request)
            ids = tokenizer.encode(text)
            stream = TextStream(tokenizer.id_to_bytes, request.options.stop)
            said = []
            for number, token in enumerate(ids):
                time.sleep(self.delay)
                if request.cancelled:
                    return deliver(Cancelled("the request was cancelled"))
                if self.fail_after is not None and number == self.fail_after[0]:
                    return deliver(self.fail_after[1])
                chosen = () if request.logprobs is None else (-0.5, tuple((token, -0.5) for _ in range(request.logprobs)))
                said.append(token)
                deliver(Piece(stream.push(token) + (stream.finish() if number == len(ids) - 1 else ""), token, *chosen))
                if stream.stopped:
                    break
            request.finished = True
            deliver(self._reply(request.prompt, stream.text.strip(), said))
        finally:
            self.running -= 1

    def _reply(self, prompt: Encoded, text: str, said: list[int]) -> Reply:
        frames = [frame_size(grid, self.model.config.vision.patch_size) for grid in prompt.grids.tolist()]
        usage = Usage(len(prompt), len(said), len(prompt.visual_slots))
        return Reply.read(text, self.model.markup, frames, prompt.image_sizes, usage, self.finish_reason, said)  # type: ignore[arg-type]

    def stats(self) -> EngineStats:
        return EngineStats(running=self.running, prefix={"hits": 1, "misses": 2, "bytes": 3})

    def drain(self, timeout: float) -> bool:
        self.draining = True
        end = time.monotonic() + timeout
        while self.running and time.monotonic() < end:
            time.sleep(0.01)
        return not self.running

    def close(self) -> None:
        self.draining = True


class _Ticket:
    def __init__(self, request: Submitted) -> None:
        self.request = request
        self.began: float | None = None

    def cancel(self) -> None:
        self.request.cancelled = True


@dataclass
class Live:
    """A server on a port of the loopback address."""

    url: str
    port: int
    app: Any
    server: Any


@contextmanager
def live(engines: dict[str, Any], settings: ServerSettings | None = None, **more: Any) -> Iterator[Live]:
    """A real one in a thread, with the protocol that `qwenvl serve` uses."""
    settings = settings or ServerSettings()
    app = create_app(engines, settings, **more)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = uvicorn.Config(app, http=protocol(settings), ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield Live(f"http://127.0.0.1:{port}", port, app, server)
    finally:
        server.should_exit = True
        thread.join(10)


def picture(width: int = 64, height: int = 48, kind: str = "PNG", colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, kind)
    return out.getvalue()


def data_url(content: bytes | None = None, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(picture() if content is None else content).decode()}"


def ask(*parts: Any, **fields: Any) -> dict[str, Any]:
    """A chat request of one user's message: texts, or parts as they are."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"messages": [{"role": "user", "content": content}], **fields}


def image(url: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url() if url is None else url, **fields}}


class Watch:
    """Files that were opened and hosts that were called or looked up while a test ran, from Python's own audit events."""

    opened: list[str]
    called: list[str]
    on = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            self.opened.append(arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("utf-8", "replace"))
        elif event in ("socket.connect", "socket.sendto"):
            self.called.append(str(arguments[1]))
        elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
            self.called.append(str(arguments[0]))

    @property
    def outside(self) -> list[str]:
        """Calls that leave the loopback address."""
        return [address for address in self.called if "127.0.0.1" not in address and "/" not in address]


WATCH = Watch()
sys.addaudithook(WATCH)  # for ever: Python has no way to take one away


@contextmanager
def watched() -> Iterator[Watch]:
    WATCH.opened, WATCH.called, WATCH.on = [], [], True
    try:
        yield WATCH
    finally:
        WATCH.on = False
