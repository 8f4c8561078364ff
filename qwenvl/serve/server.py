"""The application: routes of OpenAI's API and of the page, over the engines that it is given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qwenvl.serve import metrics, openapi
from qwenvl.serve.chat import ChatWriter, CompletionWriter, Writer, chat_answer, completion_answer, events
from qwenvl.serve.desk import Desk, Following, unless_left
from qwenvl.serve.errors import ApiError
from qwenvl.serve.fetch import Fetcher
from qwenvl.serve.guard import Guard
from qwenvl.serve.pages import Pages
from qwenvl.serve.prepare import prepare_chat, prepare_completion, prepare_count
from qwenvl.serve.schema import ChatRequest, CompletionRequest, Drawing, TokenizeRequest
from qwenvl.serve.settings import ServerSettings
from qwenvl.serve.stream import EventStream
from qwenvl.types import QwenVLError


def create_app(
    engines: Mapping[str, Any],
    settings: ServerSettings | None = None,
    *,
    fetcher: Fetcher | None = None,
    pages: Pages | None = None,
) -> FastAPI:
    """The server of these engines by name; the first answers requests that name none.

    They are neither started nor closed here. `app.state.draining` (an asyncio.Event) turns new requests away once it is set.
    Raises QwenVLError where there is no engine.
    """
    if not engines:
        raise QwenVLError("nothing to serve: give at least one model")
    settings = settings or ServerSettings()
    desk = Desk(engines, settings, fetcher)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(title="qwenvl", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.state.draining = asyncio.Event()
    app.state.desk = desk
    _add_answers(app, desk)
    _add_facts(app, desk)
    _add_pages(app, pages or Pages())
    app.add_exception_handler(HTTPException, _http_error)
    paths = [getattr(route, "path", "") for route in app.routes]
    app.add_middleware(Guard, settings=settings, metrics=desk.metrics, paths=paths, draining=app.state.draining)
    app.openapi = openapi.description(app)  # type: ignore[method-assign]
    return app


def _add_answers(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/chat/completions", **openapi.asking("ChatRequest", "ChatCompletion", streams=True))
    async def chat_completions(request: Request) -> Response:
        """Answer a conversation."""
        arrived = time.monotonic()
        served, asked, wanted = await desk.take(request, ChatRequest, prepare_chat)
        following = desk.ask(served, wanted, arrived)
        del wanted  # the patches of its pictures: the engine has them, and lets them go when it has seen them
        if asked.stream:
            return await _streamed(request, asked, following, desk, lambda: ChatWriter(served, asked, following))
        return JSONResponse(await unless_left(request, chat_answer(served, asked, following)))

    @app.post("/v1/completions", **openapi.asking("CompletionRequest", "Completion", streams=True))
    async def completions(request: Request) -> Response:
        """Continue a text."""
        arrived = time.monotonic()
        served, asked, wanted = await desk.take(request, CompletionRequest, prepare_completion)
        following = desk.ask(served, wanted, arrived)
        del wanted  # the patches of its pictures: the engine has them, and lets them go when it has seen them
        if asked.stream:
            return await _streamed(request, asked, following, desk, lambda: CompletionWriter(served, asked, following))
        return JSONResponse(await unless_left(request, completion_answer(served, asked, following)))

    @app.post("/tokenize", **openapi.asking("TokenizeRequest", "Tokenized"))
    async def tokenize(request: Request) -> Response:
        """The tokens that a prompt is, pictures included."""
        served, _, prompt = await desk.take(request, TokenizeRequest, prepare_count)
        ids = prompt.input_ids.tolist()
        count = {"count": len(ids), "tokens": ids, "image_tokens": len(prompt.visual_slots), "max_model_len": served.context}
        return JSONResponse(count)


async def _streamed(
    request: Request, asked: Drawing, following: Following, desk: Desk, writer_of: Callable[[], Writer]
) -> EventStream:
    """A stream that has its first token, or none for so long that the client should hear that it is waited for."""
    batches = following.batches(desk.settings.keep_alive_seconds)
    first = await unless_left(request, anext(batches))
    writer = writer_of()

    def ended() -> None:
        following.answering.cancel()
        if following.replies:
            desk.metrics.count(following.model, writer.chunks.used())

    return EventStream(events(writer, following, first, batches), ended)


def _add_facts(app: FastAPI, desk: Desk) -> None:
    @app.get("/v1/models", **openapi.telling("ModelList"))
    async def models() -> Response:
        """The models that are served."""
        return JSONResponse({"object": "list", "data": [served.as_json() for served in desk.models.served.values()]})

    @app.get("/v1/models/{name:path}", **openapi.telling("Model", 404))
    async def model(name: str) -> Response:
        """One of them."""
        return JSONResponse(desk.models.find(name).as_json())

    @app.get("/health", **openapi.telling("Health", 503))
    async def health() -> Response:
        """Whether requests are taken; needs no key."""
        if app.state.draining.is_set():
            return JSONResponse({"status": "draining"}, status_code=503)
        return JSONResponse({"status": "ok", "models": list(desk.models.served)})

    @app.get("/metrics", **openapi.telling("Metrics"))
    async def counts() -> Response:
        """Counts for Prometheus."""
        return Response(desk.metrics.text(), media_type=metrics.CONTENT_TYPE)


def _add_pages(app: FastAPI, pages: Pages) -> None:
    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return pages.answer("index.html", request)

    @app.get("/assets/{name:path}", include_in_schema=False)
    async def asset(name: str, request: Request) -> Response:
        return pages.answer(name, request)


async def _http_error(_: Request, error: Exception) -> Response:
    """Of the router: an unknown path, a method that it does not take."""
    assert isinstance(error, HTTPException)
    what = {404: "there is nothing at this address; the API is under /v1", 405: "this address does not take that method"}
    told = ApiError(
        error.status_code, what.get(error.status_code, str(error.detail)), code="not_found" if error.status_code == 404 else None
    )
    return JSONResponse(told.body, status_code=told.status, headers=error.headers)
