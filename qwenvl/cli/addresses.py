"""A model behind an OpenAI-compatible address, as options name it: http://HOST:PORT/v1#MODEL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from qwenvl.cli.options import UsageError

if TYPE_CHECKING:
    from qwenvl.data.instruct.api import Api

KEY_ENV = "OPENAI_API_KEY"
"""The environment variable that holds the key. It may be unset for a server without keys."""


def is_address(model: str) -> bool:
    return model.startswith(("http://", "https://"))


def api_at(address: str, replies: Path | None = None, price_in: float = 0.0, price_out: float = 0.0) -> Api:
    """A client of the model after the address's `#`. replies: the folder in which its answers are kept. Raises UsageError."""
    from qwenvl.data.instruct.api import Api, Usage
    from qwenvl.data.instruct.cache import Cache

    url, _, model = address.partition("#")
    if not model or not is_address(url):
        raise UsageError(f"{address}: give address and model, as in http://localhost:8000/v1#MODEL")
    cache = Cache(replies) if replies else None
    return Api(url, model, os.environ.get(KEY_ENV), cache=cache, usage=Usage(price_in, price_out))


def spent(api: Api) -> str:
    """What was asked of it and what that cost, for the end of a command."""
    usage = api.usage
    cost = f", cost {usage.cost:.4g}" if usage.cost else ""
    tokens = f"{usage.prompt_tokens:,} tokens sent and {usage.completion_tokens:,} received{cost}"
    return f"{usage.requests} requests ({usage.retries} retries), {usage.kept} replies from disk; {tokens}"
