"""A small server that speaks the API and gives written answers: the page is tested against it without an engine.

`python -m tests.page_server` serves it on port 8001, to look at.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

REPOSITORY = Path(__file__).resolve().parent.parent
WEB = REPOSITORY / "qwenvl" / "serve" / "web"
SAMPLES = REPOSITORY / "qwenvl" / "assets" / "samples"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:"
)


def facts(family: str, context: int, style: str = "chat", video: bool = True) -> dict[str, Any]:
    known = {"family": family, "context": context, "style": style, "native_resolution": video, "video": video}
    return {**known, "grounding": True, "tools": False}


MODELS = {
    "qwen-vl-nano-chat": facts("qwen_vl", 2048, video=False),
    "qwen2-vl-nano-chat": facts("qwen2_vl", 4096),
    "qwen2.5-vl-nano": facts("qwen2_5_vl", 4096),
    "qwen-vl-nano": facts("qwen_vl", 2048, style="raw", video=False),
}


@dataclass
class Reply:
    """What a request is answered with: pieces of text, or an error. pause: seconds before each piece."""

    pieces: tuple[str, ...] = ()
    readable: str | None = None
    regions: tuple[dict[str, Any], ...] = ()
    spans: tuple[dict[str, Any], ...] = ()
    finish_reason: str = "stop"
    pause: float = 0.0
    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """The connection ends without a last chunk."""


def box(label: str, *pixels: float, image: int = 0) -> dict[str, Any]:
    return {"label": label, "kind": "box", "pixels": list(pixels), "image": image}


DONUT = Reply(
    ("<ref>the donut</ref>", "<box>(036,", "155),(384,432)</box>"), "the donut", (box("the donut", 12.1, 52.1, 129.0, 145.2),)
)


@dataclass
class Script:
    """What the server answers and what it was asked. `reply(body, number)`: the reply to the request of that number."""

    reply: Callable[[dict[str, Any], int], Reply] = lambda body, number: DONUT
    key: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    at_work: int = 0
    most_at_work: int = 0
    left: int = 0
    """Answers that the page did not wait for."""
    url: str = ""


def create_app(script: Script) -> FastAPI:
    app = FastAPI()

    def file(path: Path, root: Path) -> Response:
        found = path.resolve()
        if not found.is_relative_to(root) or not found.is_file():
            return Response(status_code=404)
        return FileResponse(found, headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"})

    def refused(request: Request) -> Response | None:
        if script.key and request.headers.get("authorization") != f"Bearer {script.key}":
            return failure(401, "this server wants an API key: send it as Authorization: Bearer KEY", {})
        return None

    def failure(status: int, message: str, headers: dict[str, str]) -> Response:
        return JSONResponse({"error": {"message": message, "type": "error", "param": None, "code": None}}, status, headers)

    @app.get("/")
    def page() -> Response:
        return file(WEB / "index.html", WEB)

    @app.get("/assets/samples/{name}")
    def sample(name: str) -> Response:
        return file(SAMPLES / name, SAMPLES)

    @app.get("/assets/{path:path}")
    def asset(path: str) -> Response:
        return file(WEB / path, WEB)

    @app.get("/v1/models")
    def models(request: Request) -> Response:
        head = {"object": "model", "created": 0, "owned_by": "qwenvl"}
        data = [{"id": name, **head, "qwenvl": known} for name, known in MODELS.items()]
        return refused(request) or JSONResponse({"object": "list", "data": data})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        no = refused(request)
        if no:
            return no
        reply = script.reply(body, len(script.bodies))
        script.bodies.append(body)
        if reply.error:
            return failure(reply.status, reply.error, reply.headers)
        return StreamingResponse(stream(script, body, reply), media_type="text/event-stream")

    return app


async def stream(script: Script, body: dict[str, Any], reply: Reply) -> AsyncIterator[str]:
    """The chunks of an answer. The last one carries what belongs to the whole of it."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": body.get("model")}
    began = time.monotonic()
    first = 0.0
    script.at_work += 1
    script.most_at_work = max(script.most_at_work, script.at_work)
    try:
        yield f"data: {json.dumps({**head, 'choices': [{'index': 0, 'delta': {'role': 'assistant', 'content': ''}}]})}\n\n"
        for piece in reply.pieces:
            await asyncio.sleep(reply.pause)
            first = first or time.monotonic()
            yield f"data: {json.dumps({**head, 'choices': [{'index': 0, 'delta': {'content': piece}}]})}\n\n"
        if reply.cut:
            return
        readable = "".join(reply.pieces) if reply.readable is None else reply.readable
        end = {"index": 0, "delta": {}, "finish_reason": reply.finish_reason, "regions": list(reply.regions), "readable": readable}
        end |= {"spans": list(reply.spans)} if reply.spans else {}
        times = {"queued_ms": 0.2, "first_token_ms": 1000 * (first - began), "total_ms": 1000 * (time.monotonic() - began)}
        yield f"data: {json.dumps({**head, 'choices': [end], 'timings': times})}\n\n"
        usage = {
            "prompt_tokens": 61, "completion_tokens": 24, "total_tokens": 85,
            "prompt_tokens_details": {"image_tokens": 36, "cached_tokens": 12},
        }  # fmt: skip
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"
    except (asyncio.CancelledError, GeneratorExit):
        script.left += 1
        raise
    finally:
        script.at_work -= 1


@contextmanager
def serve(script: Script, port: int = 0) -> Iterator[Script]:
    """The server on a free port of the loopback address, in a thread."""
    server = uvicorn.Server(uvicorn.Config(create_app(script), host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive(), "the server of the page's tests does not start"
        time.sleep(0.01)
    script.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(10)


SCENE = "On a dark background there are a donut, a panda, the text HL2BU and a hamburger."
THINGS = (
    box("a donut", 12, 52, 129, 145), box("a panda", 189, 55, 306, 160),
    {"label": "the text HL2BU", "kind": "quad", "image": 0, "pixels": [[34, 200], [247, 222], [241, 277], [27, 255]]},
    box("a hamburger", 258, 213, 318, 276),
)  # fmt: skip
SEEN = Reply(tuple(re.findall(r"\S+\s?", SCENE)), SCENE, THINGS, pause=0.03)


def main() -> None:
    with serve(Script(lambda body, number: (SEEN, DONUT)[number % 2]), port=8001) as script:
        print(script.url)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
