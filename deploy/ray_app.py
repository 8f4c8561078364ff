"""The server as a Ray Serve application: several replicas of it behind one address, on one machine or on a cluster.

    pip install 'qwenvl[serve]' 'ray[serve]'
    serve run deploy.ray_app:app model=qwen-vl-nano-chat replicas=2

Every replica is the whole server, with an engine, a batch and caches of its own. A request goes to a replica with few under way.
What replicas do not share: beginnings of prompts and pictures seen before, and the counts of /metrics, which are one replica's.
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from ray import serve


class Settings(BaseModel):
    """What stands behind `serve run deploy.ray_app:app`, as name=value."""

    model_config = ConfigDict(extra="forbid")

    model: str = "qwen-vl-nano-chat"
    """A built-in model, a folder that every machine has, or a hub id."""
    replicas: int = Field(1, ge=1)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    """Of each replica."""
    running: int = Field(64, ge=1)
    queued: int = Field(256, ge=0)
    """Answers that one replica writes together, and requests that wait beside them; more are turned away with 429."""
    dtype: str | None = None


def app(settings: Settings) -> serve.Application:
    """Keys that open the API are those of the environment's QWENVL_API_KEY, separated by commas, where this is called."""
    keys = tuple(key.strip() for key in os.environ.get("QWENVL_API_KEY", "").split(",") if key.strip())

    def replica() -> FastAPI:
        """Runs in the replica's own process: loads the model and begins its engine."""
        from qwenvl.inference.engine import Engine
        from qwenvl.inference.model import load
        from qwenvl.inference.requests import EngineLimits
        from qwenvl.serve.server import create_app
        from qwenvl.serve.settings import ServerSettings

        model = load(settings.model, device="cuda" if settings.gpus else "cpu", dtype=settings.dtype)
        model.need_processor()
        engine = Engine(model, EngineLimits(running=settings.running, queued=settings.queued))
        server = create_app({settings.model: engine}, ServerSettings(api_keys=keys, hosts=None))

        @server.middleware("http")
        async def say_who(request: Request, call_next) -> Response:  # type: ignore[no-untyped-def]
            answer: Response = await call_next(request)
            answer.headers["x-replica"] = str(os.getpid())
            return answer

        return server

    deployment = serve.deployment(
        name="qwenvl",
        num_replicas=settings.replicas,
        # Requests that wait here would wait in the engine's queue all the same, which answers 429 when it is full.
        max_ongoing_requests=settings.running + settings.queued,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
    )
    return deployment(serve.ingress(replica)()).bind()
