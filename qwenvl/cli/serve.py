"""`qwenvl serve`: OpenAI's API and a page over one or more models, on this machine."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qwenvl.cli.answer import DEFAULT_MODEL
from qwenvl.cli.options import Device, DType, Flag, FromOne, FromZero, Quantize, SomeOf, UsageError, parse
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    from qwenvl.inference.model import QwenVL
    from qwenvl.serve.settings import ServerSettings

SUMMARY = """\
Serve models: OpenAI's API under /v1, and a page where one asks about pictures.

Without --api-key whoever reaches the address may ask. Pictures and clips come with a request,
as data URLs; --allow-media names hosts that they may be fetched from. SIGTERM lets answers end.\
"""
EXAMPLES = """
qwenvl serve --open
qwenvl serve --model qwen-vl-nano-chat qwen2-vl-nano --port 9000
qwenvl serve --model Qwen/Qwen2.5-VL-3B-Instruct --adapter signs=runs/signs/adapter
qwenvl serve --host 0.0.0.0 --api-key "$KEY" --allow-media images.example.org
curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"messages": [{"role": "user", "content": "Hello"}]}'
"""
LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True)
class Serve:
    model: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME|FOLDER|HUB_ID…")] = (DEFAULT_MODEL,)
    """Models to serve, each under the name that is given here; the first is the default one."""
    adapter: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FOLDER…", help_behavior_hint="")] = ()
    """LoRA adapters of the first model, each served under its name."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 is every one of this machine."""
    port: FromZero = 8000
    """0 takes one that is free."""
    api_key: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY…", help_behavior_hint="")] = ()
    """Keys that open the API; by default those in the environment's QWENVL_API_KEY, separated by commas, or none."""
    allow_media: Annotated[tuple[str, ...], tyro.conf.arg(metavar="HOST…", help_behavior_hint="")] = ()
    """Hosts that pictures and clips may be fetched from: example.org, *.example.org, example.org:8443."""
    allow_name: Annotated[tuple[str, ...], tyro.conf.arg(metavar="HOST…", help_behavior_hint="")] = ()
    """Other names by which a server at the loopback address may be called, behind a proxy for example."""
    max_running: FromOne = 64
    """Answers that are written together."""
    max_queued: FromZero = 256
    """Requests that wait beside them; more are turned away with 429."""
    max_seconds: FromOne = 600
    """For one request, from arrival to its last token."""
    grace: FromZero = 30
    """Seconds for answers under way when the server is told to stop."""
    threads: SomeOf = None
    """Threads that decode pictures; by default one for every core but one, four at most."""
    device: Device = None
    """A GPU is used where there is one."""
    dtype: DType = None
    """By default bfloat16 on a GPU, and on the CPU what the file holds."""
    quantize: Quantize = None
    """How the decoders' weights are kept in memory: int8 and int4 are smaller, and quicker for few answers at a time."""
    cuda_graphs: Flag = False
    """Have decode steps replayed as CUDA graphs, on a GPU. Not run by us yet: no GPU was at hand."""
    open: Flag = False
    """Open the page in a browser."""


def main(arguments: list[str]) -> int:
    given: Serve = parse(Serve, arguments, "qwenvl serve", SUMMARY, EXAMPLES)
    adapters = read_adapters(given.adapter, given.model)

    from qwenvl.inference.engine import Engine
    from qwenvl.inference.requests import EngineLimits
    from qwenvl.runtime import free_memory
    from qwenvl.serve.run import address_of, bind, serve

    settings = settings_of(given)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("qwenvl.serve").setLevel(logging.INFO)
    with ExitStack() as stack:
        listener = stack.enter_context(bind(given.host, given.port))  # before the models: a port that is taken is known at once
        models, engines = load_models(given, adapters), {}
        free = free_memory(next(iter(models.values())).device)
        limits = EngineLimits(running=given.max_running, queued=given.max_queued, cache_bytes=free // 4).shared(len(models))
        for name, model in models.items():
            engines[name] = Engine(model, limits, cuda_graphs=given.cuda_graphs)
            stack.callback(engines[name].close)
        address = address_of(listener)
        if settings.hosts is None and not settings.api_keys:
            print(f"qwenvl: whoever reaches {given.host} may ask; --api-key asks for a key", file=sys.stderr, flush=True)

        def ready() -> None:
            print(f"{', '.join(engines)}: serving at {address}", flush=True)
            if given.open:
                import webbrowser

                webbrowser.open(address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]"))

        serve(engines, settings, listener, ready)
    print("stopped", flush=True)
    return 0


def settings_of(given: Serve) -> ServerSettings:
    """Raises QwenVLError for a key or a host that cannot be one."""
    from qwenvl.runtime import usable_cores
    from qwenvl.serve.settings import LOOPBACK_NAMES, MediaLimits, ServerSettings

    keys = given.api_key or tuple(key.strip() for key in os.environ.get("QWENVL_API_KEY", "").split(",") if key.strip())
    loopback = given.host.lower().startswith(LOOPBACK)
    names = (*LOOPBACK_NAMES, given.host.lower(), *(name.lower() for name in given.allow_name))
    return ServerSettings(
        api_keys=keys,
        hosts=names if loopback else None,
        media=MediaLimits(hosts=given.allow_media),
        encoders=given.threads or min(max(usable_cores() - 1, 1), 4),
        waiting=given.max_queued + given.max_running,
        request_seconds=float(given.max_seconds),
        grace_seconds=float(given.grace),
    )


def read_adapters(given: Sequence[str], models: Sequence[str]) -> dict[str, Path]:
    """NAME=FOLDER -> folder by name. Raises UsageError."""
    adapters: dict[str, Path] = {}
    for entry in given:
        name, equals, folder = entry.partition("=")
        if not equals or not name or not folder:
            raise UsageError(f"--adapter {entry}: write NAME=FOLDER")
        if name in adapters or name in models:
            raise UsageError(f"--adapter {name}: there is a model of this name already; give another")
        if not Path(folder).is_dir():
            raise QwenVLError(f"--adapter {name}: {folder} is no folder; give the one that training wrote")
        adapters[name] = Path(folder)
    if not models:
        raise UsageError("--model: no name; give one, or leave --model out")
    if len(set(models)) < len(models):
        raise UsageError("--model: a model is named twice")
    return adapters


def load_models(given: Serve, adapters: dict[str, Path]) -> dict[str, QwenVL]:
    """The models, then the first one with each adapter, on the same weights."""
    from qwenvl.inference.model import load

    loaded: dict[str, QwenVL] = {}
    for name in given.model:
        print(f"loading {name} …", file=sys.stderr, flush=True)
        loaded[name] = load(name, device=given.device, dtype=given.dtype, quantize=given.quantize)
        loaded[name].need_processor()
    for name, folder in adapters.items():
        print(f"loading {name} …", file=sys.stderr, flush=True)
        loaded[name] = loaded[given.model[0]].with_adapter(folder, name)
    return loaded
