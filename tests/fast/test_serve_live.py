"""Clients on a real port that are slow, large, silent or rude; and the server's own words for what is no HTTP."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from qwenvl.inference.model import QwenVL, load
from qwenvl.serve.desk import Desk
from qwenvl.serve.settings import ServerSettings
from tests.scripted_engine import Live, ScriptedEngine, Submitted, ask, data_url, image, live, picture

CHAT = "/v1/chat/completions"
SETTINGS = ServerSettings(idle_seconds=0.4, body_seconds=1.5, send_seconds=0.5, body_bytes=8_000_000, keep_alive_seconds=0.2)


@pytest.fixture(scope="module")
def model() -> QwenVL:
    return load("qwen-vl-nano-chat")


@pytest.fixture
def engine(model: QwenVL) -> ScriptedEngine:
    return ScriptedEngine(model)


@pytest.fixture
def server(engine: ScriptedEngine) -> Iterator[Live]:
    with live({"nano": engine}, SETTINGS) as running:
        yield running


@contextmanager
def raw(server: Live) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        yield connection


def one(connection: socket.socket, got: bytes = b"") -> bytes:
    """One answer, whole, of a connection that may stay open."""
    while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < int(
        got.lower().partition(b"content-length: ")[2].split()[0]
    ):
        piece = connection.recv(65536)
        if not piece:
            return got
        got += piece
    return got


def head(length: int | None = None, *more: str) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\r\n".join([f"POST {CHAT} HTTP/1.1", "Host: localhost", "Content-Type: application/json", size, *more, "", ""]).encode()


def error_of(answer: bytes) -> tuple[int, dict[str, Any]]:
    start, _, body = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(body)["error"]


def alive(server: Live) -> bool:
    return httpx.post(server.url + CHAT, json=ask("x"), timeout=5).status_code == 200


SLOW: list[tuple[str, list[bytes], float]] = [
    ("says nothing", [], 0.4),
    ("half a request line", [b"POST /v1"], 0.4),
    ("half a head", [head(10)[:-4]], 0.4),
    ("no body", [head(10)], 0.4),
    ("half a body", [head(10), b'{"a"'], 0.4),
    ("half a chunk", [head(None), b"10\r\n{"], 0.4),
]


@pytest.mark.parametrize(("pieces", "after"), [case[1:] for case in SLOW], ids=[case[0] for case in SLOW])
def test_a_client_that_stops_sending_is_told_and_left(server: Live, pieces: list[bytes], after: float) -> None:
    with raw(server) as connection:
        began = time.monotonic()
        for piece in pieces:
            connection.sendall(piece)
        got = one(connection)
        assert after - 0.05 <= time.monotonic() - began < after + 1.0
        status, error = error_of(got)
        assert status == 408 and "\n" not in error["message"]
    assert alive(server)


def test_a_body_that_comes_drop_by_drop_is_given_up(server: Live, engine: ScriptedEngine) -> None:
    with raw(server) as connection:
        connection.sendall(head(10_000))
        began = time.monotonic()
        connection.settimeout(0.15)
        got = b""
        while not got and time.monotonic() - began < 4:
            connection.sendall(b" ")
            try:
                got = connection.recv(65536)
            except TimeoutError:
                continue
        assert 1.4 < time.monotonic() - began < 3
        connection.settimeout(5)
        assert error_of(one(connection, got))[0] == 408
    assert not engine.submitted


def test_heads_drop_by_drop_are_given_up(server: Live) -> None:
    with raw(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        connection.settimeout(0.1)
        began, got = time.monotonic(), b""
        while not got and time.monotonic() - began < 3:
            connection.sendall(b"X-A: b\r\n")
            try:
                got = connection.recv(65536)
            except TimeoutError:
                continue
        assert error_of(got)[0] == 408 and time.monotonic() - began < 1.5


def test_fifty_silent_clients_keep_nobody_out(server: Live) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    try:
        for connection in silent:
            connection.sendall(head(1000))
        assert alive(server)
    finally:
        for connection in silent:
            connection.close()


def test_a_connection_is_used_again(server: Live) -> None:
    with httpx.Client(base_url=server.url) as client:
        for pause in (0, 0.1, 0.1):
            time.sleep(pause)
            assert client.get("/health").status_code == 200


def test_a_hundred_megabytes_are_refused_before_they_are_read(server: Live) -> None:
    """By what the head announces, and by what comes where it announces nothing; memory stays flat, and the client can read why."""

    def pieces() -> Iterator[bytes]:
        yield b'{"model": "'
        for _ in range(100):
            yield b"a" * 1_000_000

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    streamed = httpx.post(server.url + CHAT, content=pieces(), headers={"Content-Type": "application/json"}, timeout=20)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    announced = httpx.post(server.url + CHAT, content=b"x" * 100_000_000, headers={"Content-Type": "application/json"}, timeout=20)
    for answer in (announced, streamed):
        assert answer.status_code == 413 and "larger than 8000000 bytes" in answer.json()["error"]["message"]
    assert time.monotonic() - began < 15
    assert grown < 40_000, f"{grown} KB"
    with raw(server) as connection:
        connection.sendall(head(100_000_000))
        assert error_of(one(connection))[0] == 413
    with raw(server) as connection:
        connection.sendall(head(100_000_000, "Expect: 100-continue"))
        got = one(connection)
        assert got.startswith(b"HTTP/1.1 413"), "asked first, it is told before it sends"
    assert alive(server)


def test_a_length_that_lies_does_no_harm(server: Live) -> None:
    body = json.dumps(ask("x")).encode()
    with raw(server) as connection:
        connection.sendall(head(len(body) - 5) + body)
        assert b"HTTP/1.1 400" in one(connection)
    with raw(server) as connection:
        connection.sendall(head(len(body), "Content-Length: 3") + body)
        status, error = error_of(one(connection))
        assert status == 400 and error["code"] == "invalid_http"
    assert alive(server)


NO_HTTP = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "smuggling": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": head(None) + b"zz\r\n{}\r\n",
    "line feeds in a header": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    "a long head": b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "a long path": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_gets_one_line(server: Live, name: str) -> None:
    with raw(server) as connection:
        try:
            connection.sendall(NO_HTTP[name])
            got = one(connection)
        except ConnectionError:
            got = b""
        assert not got or (error_of(got)[0] == 400 and "\n" not in error_of(got)[1]["message"])
    assert alive(server)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_reads_nothing_is_cut_off(server: Live, engine: ScriptedEngine, stream: bool) -> None:

    def let_go(request: Submitted) -> bool:
        return request.cancelled if stream else request.finished

    engine.answer = "word " * (1900 if stream else 500)
    body = json.dumps(ask("x", stream=stream, logprobs=True, top_logprobs=20, n=8)).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(head(len(body)) + body)
        end = time.monotonic() + 20
        while time.monotonic() < end and not (engine.submitted and all(let_go(request) for request in engine.submitted)):
            time.sleep(0.02)
        assert len(engine.submitted) == 8 and all(let_go(request) for request in engine.submitted)
        while server.server.server_state.connections and time.monotonic() < end:
            time.sleep(0.02)
        assert not server.server.server_state.connections, "its connection is not kept"
    assert alive(server)


def test_a_client_that_leaves_while_its_picture_is_read_asks_nothing(server: Live, engine: ScriptedEngine) -> None:
    body = json.dumps(ask(image(data_url(picture(1500, 1500))), "x")).encode()
    with raw(server) as connection:
        connection.sendall(head(len(body)) + body[: len(body) // 2])
    assert alive(server)
    assert len(engine.submitted) == 1, "half a request is none"
    engine.answer, engine.delay = lambda request: "word " * 500 if len(request.prompt.visual_slots) else "Yes.", 0.01
    with raw(server) as connection:
        connection.sendall(head(len(body)) + body)
    assert alive(server)
    # It may have been read before the client was seen to leave; then what it asked for was let go.
    end = time.monotonic() + 5
    while engine.running and time.monotonic() < end:
        time.sleep(0.02)
    assert sum(request.finished for request in engine.submitted) == 2 and engine.running == 0


def test_what_waits_to_be_read_is_let_go_with_its_client(model: QwenVL) -> None:
    class Body(bytearray):
        """One that can be watched."""

    async def run() -> tuple[int, int]:
        desk, go = Desk({"nano": ScriptedEngine(model)}, ServerSettings(encoders=1)), threading.Event()
        first = asyncio.ensure_future(desk._in_pool(go.wait, 20))
        bodies = [Body(100) for _ in range(20)]
        watched = [weakref.ref(body) for body in bodies]
        tasks = [asyncio.ensure_future(desk._in_pool(len, body)) for body in bodies]
        await asyncio.sleep(0.05)
        for task in (first, *tasks):  # the thread of the first one goes on all the same
            task.cancel()
        await asyncio.wait([first, *tasks])
        late = asyncio.ensure_future(desk._in_pool(len, b"late"))
        tasks.clear()
        bodies.clear()
        del task
        await asyncio.sleep(0.05)
        held = sum(body() is not None for body in watched)
        go.set()
        return held, await late

    assert asyncio.run(run()) == (0, 4)


def test_too_many_that_wait_to_be_read_are_told_to_come_again(model: QwenVL) -> None:
    engine = ScriptedEngine(model)
    body = ask(image(data_url(picture(1600, 1600, "JPEG"), "image/jpeg")), "x")
    with live({"nano": engine}, ServerSettings(encoders=1, waiting=1)) as running:
        got: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: got.append(httpx.post(running.url + CHAT, json=body, timeout=30))) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        codes = sorted(answer.status_code for answer in got)
        assert set(codes) == {200, 429}, codes
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in got if answer.status_code == 429)
        assert alive(running)


def test_bodies_share_a_memory(model: QwenVL) -> None:
    with live({"nano": ScriptedEngine(model)}, ServerSettings(bodies_bytes=300_000)) as running:
        large = ask("x", metadata={"a": "b" * 200_000})
        with raw(running) as holding:
            holding.sendall(head(200_000) + b" " * 190_000)
            time.sleep(0.2)
            refused = httpx.post(running.url + CHAT, json=large)
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        for _ in range(50):
            if (status := httpx.post(running.url + CHAT, json=large).status_code) == 200:
                break
            time.sleep(0.05)
        assert status == 200, "what the other one held is free again"


def test_a_request_has_a_deadline(model: QwenVL) -> None:
    engine = ScriptedEngine(model)
    with live({"nano": engine}, ServerSettings(request_seconds=30)) as running:
        assert alive(running)
        assert 29 < (engine.submitted[0].deadline or 0) <= 30


def test_draining_turns_new_requests_away_and_ends_old_ones(model: QwenVL) -> None:
    engine = ScriptedEngine(model, "word " * 60, delay=0.01)
    with live({"nano": engine}) as running, httpx.stream("POST", running.url + CHAT, json=ask("x", stream=True)) as answer:
        lines = answer.iter_lines()
        next(lines)
        running.app.state.draining.set()
        refused = httpx.post(running.url + CHAT, json=ask("x"))
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
        health = httpx.get(running.url + "/health")
        assert health.status_code == 503 and health.json() == {"status": "draining"}
        assert [line for line in lines if line][-1] == "data: [DONE]"
