"""`python -m benchmarks.load`: many clients at a server for a while, with pictures large and small, questions long and short,
pictures that come again, and clients that leave in the middle. Prints answers, tokens per second, times to the first token and
between tokens, and how the server's memory grew; exits 1 where a request failed or one waited out of all proportion.

    python -m benchmarks.load --clients 64 --seconds 120                       # starts `qwenvl serve` itself
    python -m benchmarks.load --address http://127.0.0.1:8000 --seconds 30     # one that runs already

The wall clock decides here, since waiting is what is measured: run it on a machine that does nothing else. Clients and server
share it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

SAMPLES = Path(__file__).resolve().parents[1] / "qwenvl" / "assets" / "samples"
QUESTIONS = (
    "Where is the donut? Give its box.", "Describe the picture.", "How many things are there?", "图里有什么？",
    "What is in the middle, and what colour is the background? " * 4,
)  # fmt: skip
SIZES = ((64, 64), (224, 224), (640, 480), (1280, 960))
LEAVES = 0.05
"""Share of requests whose client hangs up after the first token."""
UNFAIR = 20.0
"""The slowest first token may take so many times the median: what waits in a queue takes long, what starves takes for ever."""


@dataclass
class Outcomes:
    first_tokens: list[float] = field(default_factory=list)
    between_tokens: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    tokens: int = 0
    left: int = 0
    turned_away: int = 0
    errors: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    """MiB of the server, every second."""

    def as_json(self, seconds: float) -> dict[str, Any]:
        def spread(values: Sequence[float]) -> dict[str, float]:
            ordered = sorted(values) or [0.0]
            return {f"p{share}": round(ordered[min(len(ordered) * share // 100, len(ordered) - 1)], 4) for share in (50, 90, 99)}

        warm = self.memory[len(self.memory) // 3 :]
        half = len(warm) // 2
        return {
            "seconds": round(seconds, 1), "answers": len(self.whole), "answers_per_second": round(len(self.whole) / seconds, 2),
            "tokens_per_second": round(self.tokens / seconds, 1), "first_token_s": spread(self.first_tokens),
            "between_tokens_s": spread(self.between_tokens), "whole_s": spread(self.whole), "clients_that_left": self.left,
            "turned_away": self.turned_away, "errors": len(self.errors), "first_errors": self.errors[:3],
            "memory_mib": round(max(self.memory, default=0.0), 1),
            "memory_growth_mib": round(statistics.mean(warm[half:]) - statistics.mean(warm[:half]), 1) if half else 0.0,
        }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description="Many clients at a server for a while.")
    parser.add_argument("--address", help="of a server that runs; without it one is started, of --model")
    parser.add_argument("--model", default="qwen-vl-nano-chat")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with server(options.address, options.model) as (address, process):
        outcomes, seconds = asyncio.run(load(address, process, options))
    found = outcomes.as_json(seconds)
    print(json.dumps({"clients": options.clients, "model": options.model, **found}, indent=1))
    first = found["first_token_s"]
    return int(bool(outcomes.errors) or not outcomes.whole or first["p99"] > UNFAIR * max(first["p50"], 0.05))


@contextmanager
def server(address: str | None, model: str) -> Iterator[tuple[str, int | None]]:
    """Its address, and its process where it is started here."""
    if address is not None:
        yield address.rstrip("/"), None
        return
    command = [sys.executable, "-m", "qwenvl", "serve", "--model", model, "--port", "0", "--max-queued", "256"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "serving at " not in line:
            raise SystemExit(f"the server did not start: {line.strip() or 'no output'}")
        yield line.rsplit("serving at ", 1)[1].strip(), process.pid
    finally:
        process.terminate()
        process.wait(60)


async def load(address: str, process: int | None, options: argparse.Namespace) -> tuple[Outcomes, float]:
    outcomes, began = Outcomes(), time.monotonic()
    limits = httpx.Limits(max_connections=options.clients + 4, max_keepalive_connections=options.clients)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as http:
        watching = asyncio.ensure_future(watch(process, outcomes))
        ends = began + options.seconds
        await asyncio.gather(*(client(http, number, ends, options, outcomes) for number in range(options.clients)))
        watching.cancel()
    return outcomes, time.monotonic() - began


async def watch(process: int | None, outcomes: Outcomes) -> None:
    while process is not None:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        outcomes.memory.append(pages * 4096 / 2**20)
        await asyncio.sleep(1)


async def client(http: httpx.AsyncClient, number: int, ends: float, options: argparse.Namespace, outcomes: Outcomes) -> None:
    draw = random.Random(options.seed * 1000 + number)
    while time.monotonic() < ends:
        content = [{"type": "image_url", "image_url": {"url": picture(draw)}} for _ in range(draw.choice((0, 1, 1, 1, 2)))]
        body = {
            "messages": [{"role": "user", "content": [*content, {"type": "text", "text": draw.choice(QUESTIONS)}]}],
            "max_tokens": options.max_tokens, "stream": True,
        }  # fmt: skip
        try:
            await ask(http, body, draw.random() < LEAVES, outcomes)
        except (httpx.HTTPError, ValueError, AssertionError) as error:
            outcomes.errors.append(f"{type(error).__name__}: {error}")


async def ask(http: httpx.AsyncClient, body: dict[str, Any], leaves: bool, outcomes: Outcomes) -> None:
    asked = last = time.monotonic()
    finished, first = False, True
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code == 429:
            outcomes.turned_away += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))
            return
        if answer.status_code != 200:
            raise ValueError(f"{answer.status_code} {(await answer.aread())[:200]!r}")
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            assert "error" not in chunk, chunk["error"]["message"]
            now = time.monotonic()
            if first:
                outcomes.first_tokens.append(now - asked)
                if leaves:
                    outcomes.left += 1
                    return
            else:
                outcomes.between_tokens.append(now - last)
            first, last = False, now
            outcomes.tokens += 1
            finished = finished or any(choice.get("finish_reason") for choice in chunk["choices"])
    assert finished, "a stream ended without a reason"
    outcomes.whole.append(time.monotonic() - asked)


def picture(draw: random.Random) -> str:
    """A data URL: half of the time a sample that others send too, else noise of some size."""
    if draw.random() < 0.5:
        content = (SAMPLES / f"scene-{draw.randint(1, 9)}.png").read_bytes()
        return "data:image/png;base64," + base64.b64encode(content).decode()
    width, height = draw.choice(SIZES)
    noise = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((width, height)).save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    sys.exit(main())
