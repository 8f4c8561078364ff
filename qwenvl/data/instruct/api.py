"""A client of any OpenAI-compatible address: one chat completion at a time, tried again where that can help, kept on disk.

Request and reply are those of POST {url}/chat/completions as the OpenAI API reference has them, in the fields that every server
knows: model, messages, temperature, max_tokens; choices[0].message.content and finish_reason; usage.prompt_tokens and
completion_tokens. Python's own HTTP client does for that, in threads.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from qwenvl.data.instruct.cache import Cache
from qwenvl.runtime import offline
from qwenvl.types import QwenVLError

MAX_BYTES = 16 * 2**20
"""Of a reply; a longer one is none."""
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP codes of what may be over the next time."""
HOPELESS = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405})
"""HTTP codes that every other request would get too: the run stops."""
_NO_CONNECTION = "no connection"
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second try, doubled from try to try; and the most that is waited, also where a server asks for more."""


class ApiError(QwenVLError):
    """The address, the key or the model is wrong, or the budget is spent: nothing more can be asked."""


class RequestFailed(QwenVLError):
    """One request without a usable reply. Counted, not hidden; `reason` has no number in it that would part alike ones."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said. `finished` is False where it was cut off by its limit; `kept`: read from disk, not paid for now."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finished: bool = True
    kept: bool = False


@dataclass(slots=True)
class Usage:
    """Counts of what was asked; prices in any currency per million tokens."""

    price_in: float = 0.0
    price_out: float = 0.0
    requests: int = 0
    kept: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def cost(self) -> float:
        return (self.prompt_tokens * self.price_in + self.completion_tokens * self.price_out) / 1e6

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests, "from_cache": self.kept, "retries": self.retries, "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens, "cost": round(self.cost, 6),
        }  # fmt: skip


@dataclass
class Api:
    """Asks a model at an address. Safe to be called from several threads.

    Raises ApiError at once for an address that is none, or not this machine's while QWENVL_OFFLINE is set.
    """

    url: str
    model: str
    key: str | None = None
    temperature: float = 0.7
    max_tokens: int = 1024
    timeout: float = 120.0
    tries: int = 6
    max_cost: float | None = None
    cache: Cache | None = None
    usage: Usage = field(default_factory=Usage)
    sleep: Callable[[float], object] | None = None
    """Waits between two tries; by default until `stopped` is set, at most."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set where a run ends: nothing is tried again."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        host = _host(self.url)
        if host is None:
            raise ApiError(f"{self.url}: not an address; give one like http://localhost:8000/v1")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ApiError("the key has a line break or a letter that no header can carry; set its variable to the key alone")
        if offline() and not _is_loopback(host):
            raise ApiError(f"{self.url}: QWENVL_OFFLINE is set; unset it, or serve the model on this machine")
        self.url = self.url.rstrip("/").removesuffix("/chat/completions")

    def ask(self, messages: Sequence[dict[str, Any]], options: Mapping[str, Any] | None = None) -> Reply:
        """The model's reply, from disk if it was asked the same before. `options`: fields of this request beside the common ones,
        or in their place.

        Raises RequestFailed where this request got none in all its tries, ApiError where no other would.
        """
        body = {"model": self.model, "messages": list(messages), "temperature": self.temperature, "max_tokens": self.max_tokens}
        body |= options or {}
        key = hashlib.sha256(json.dumps([self.url, body], sort_keys=True, ensure_ascii=False).encode()).hexdigest()
        found = self.cache.get(key) if self.cache else None
        if found is not None:
            with self._lock:
                self.usage.kept += 1
            return _reply(found, kept=True)
        self._check_budget()
        answer = self._send(body)
        reply = _reply(answer)
        with self._lock:
            self.usage.requests += 1
            self.usage.prompt_tokens += reply.prompt_tokens
            self.usage.completion_tokens += reply.completion_tokens
        if self.cache:
            self.cache.put(key, answer)
        return reply

    def _check_budget(self) -> None:
        if self.max_cost is not None and self.usage.cost >= self.max_cost:
            raise ApiError(f"{self.usage.cost:.4g} of a budget of {self.max_cost:g} is spent; raise --max-cost to go on")

    def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        wait, failure = FIRST_WAIT, RequestFailed("no reply")
        for attempt in range(self.tries):
            if attempt:
                with self._lock:
                    self.usage.retries += 1
                (self.sleep or self.stopped.wait)(min(wait, LONGEST_WAIT))
                if self.stopped.is_set():
                    break
                wait *= 2
            try:
                return self._post(body)
            except HTTPError as error:
                reason = f"HTTP {error.code}"
                detail = _detail(error)
                if error.code in HOPELESS:
                    raise ApiError(f"{self.url}: {reason} {detail}; check the address, the key and the model's name") from None
                failure = RequestFailed(reason, detail)
                if error.code not in PASSING:
                    raise failure from None
                wait = max(wait, _asked_wait(error))
            except (URLError, OSError, HTTPException) as error:
                failure = RequestFailed(_NO_CONNECTION, str(getattr(error, "reason", error)) or type(error).__name__)
            except ValueError as error:
                failure = RequestFailed("a reply that is not JSON", str(error))
        if failure.reason == _NO_CONNECTION and not self.usage.requests and not self.stopped.is_set():
            raise ApiError(f"{self.url}: no server has answered yet ({failure}); start it, or check the address")
        raise failure

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "qwenvl"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        content = json.dumps(body, ensure_ascii=False).encode()
        request = Request(f"{self.url}/chat/completions", content, headers, method="POST")
        with build_opener(_NoRedirect).open(request, timeout=self.timeout) as response:
            read = response.read(MAX_BYTES + 1)
        if len(read) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        answer = json.loads(read)
        if not isinstance(answer, dict) or not isinstance(_content(answer), str):
            raise RequestFailed("a reply without text")
        _content(answer).encode()  # ValueError too for half of a character, which no shard can hold
        return answer


def _host(url: str) -> str | None:
    """The host of an address of the web, None for what is no such address."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises ValueError for what is no number)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") and " " not in url else None


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _content(answer: dict[str, Any]) -> Any:
    try:
        return answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None


def _reply(answer: dict[str, Any], kept: bool = False) -> Reply:
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    sent, received = (_whole(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    finished = answer["choices"][0].get("finish_reason") != "length"
    return Reply(_content(answer), sent, received, finished, kept)


def _whole(value: Any) -> int:
    """A count as servers give it; 0 for what is none."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0


def _detail(error: HTTPError) -> str:
    """The server's own words, if it has any, on one line."""
    try:
        said = json.loads(error.read(4096))
        message = said["error"]["message"] if isinstance(said["error"], dict) else said["error"]
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        message = error.reason
    return " ".join(str(message).split())[:200]


def _asked_wait(error: HTTPError) -> float:
    """Seconds that the server asks to wait, 0 if it does not."""
    try:
        return max(float(error.headers.get("Retry-After", 0)), 0.0)
    except ValueError:  # a date
        return 0.0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
