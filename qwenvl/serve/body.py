"""A request's body: read within limits of size and time, checked before it is parsed, parsed into a strict model."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from qwenvl.serve.errors import ApiError, ClientGone, busy
from qwenvl.serve.settings import ServerSettings

Form = TypeVar("Form", bound=BaseModel)
Receive = Callable[[], Awaitable[Any]]

_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(","): 0}
_NO_STRUCTURE = bytes(set(range(256)) - set(_STEPS))
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # possessive: a long string is never tried twice
_SHOWN = 40  # characters of a wrong value in a message
_WORDS = {
    "extra_forbidden": "is no field of this request; leave it out",
    "missing": "is missing",
    "dict_type": "should be an object",
    "model_type": "should be an object",
    "model_attributes_type": "should be an object",
    "list_type": "should be a list",
    "union_tag_not_found": "{discriminator} is missing",
    "union_tag_invalid": "{discriminator} should be one of {expected_tags}, not '{tag:.40}'",
}
_WHOLE = ("extra_forbidden", "missing", "union_tag_not_found", "union_tag_invalid", "value_error", "too_short", "too_long")
"""Problems whose words say all there is; to others the value is added."""


class Held:
    """Bytes of bodies that are in memory, over all requests."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes so many bytes more, all given back at the end of the block. It raises ApiError (429)."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.bytes + count > self.limit:
                raise busy("other requests fill the memory for bodies; come again", 1)
            taken += count
            self.bytes += count

        try:
            yield take
        finally:
            self.bytes -= taken


async def read_body(
    receive: Receive, headers: Mapping[str, str], settings: ServerSettings, take: Callable[[int], None]
) -> bytearray:
    """The whole body. Raises ApiError: 413 as soon as it is known to be too large, 408 where it comes too slowly, 415 where it is
    no plain JSON, 429 where others fill the memory; ClientGone where it never ends."""
    check_type(headers)
    check_announced(headers.get("content-length"), settings.body_bytes)
    body, end = bytearray(), time.monotonic() + settings.body_seconds
    while True:
        patience = min(settings.idle_seconds, end - time.monotonic())
        try:
            async with asyncio.timeout(patience):
                message = await receive()
        except TimeoutError:
            raise ApiError(
                408, f"the body did not come in time ({len(body)} bytes did); send it faster", code="slow_body"
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        if len(body) + len(piece) > settings.body_bytes:
            raise too_large(settings.body_bytes)
        take(len(piece))
        body += piece
        if not message.get("more_body", False):
            return body


def check_type(headers: Mapping[str, str]) -> None:
    """A page of another site can post a form or plain text here without asking; JSON it cannot. Raises ApiError (415)."""
    kind, _, parameters = headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise ApiError(415, "the body must be JSON; send it with Content-Type: application/json", code="unsupported_media_type")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8"):
        raise ApiError(415, "the body must be UTF-8; leave the charset out", code="unsupported_media_type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(415, "a compressed body is not read; send it as it is", code="unsupported_media_type")


def check_announced(length: str | None, limit: int) -> None:
    if length is not None and length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise too_large(limit)


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes; send smaller or fewer pictures", code="request_too_large")


def parse(form: type[Form], body: bytes | bytearray, settings: ServerSettings) -> Form:
    """The request that a body is. Raises ApiError (400), one line that names the first field that is wrong."""
    check_structure(body, settings.json_depth, settings.json_values)
    try:
        data = from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise ApiError(400, f"the body is no valid JSON: {error}", code="invalid_json") from None
    if not isinstance(data, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    try:
        return form.model_validate(data)
    except ValidationError as error:
        raise refusal(error, data) from None


def check_structure(body: bytes | bytearray, depth: int, values: int) -> None:
    """Refuse JSON that would cost a parser far more memory than it is long: deep nesting, very many values.

    Strings are skipped at the speed of a search for the quote that ends them, so that a picture in one costs next to nothing.
    Raises ApiError (400).
    """
    at, level, seen = 0, 0, 0
    while True:
        quote = body.find(b'"', at)
        marks = body[at : len(body) if quote < 0 else quote].translate(None, _NO_STRUCTURE)
        seen += len(marks)
        for mark in marks[:values]:
            level += _STEPS[mark]
            if level > depth:
                raise ApiError(400, f"the JSON is nested more than {depth} deep; flatten it", code="invalid_json")
        if seen > values:
            raise ApiError(400, f"the JSON has more than {values} values; send fewer", code="invalid_json")
        if quote < 0:
            return
        at = _after_string(body, quote)
        seen += 1


def _after_string(body: bytes | bytearray, quote: int) -> int:
    """Index after a string that begins at `quote`; the body's end where none closes it."""
    end = body.find(b'"', quote + 1)
    if end < 0:
        return len(body)
    if body[end - 1] != 0x5C:  # no backslash: the common case, and the one with a picture in it
        return end + 1
    whole = _STRING.match(body, quote)
    return whole.end() if whole else len(body)


def refusal(error: ValidationError, data: Any) -> ApiError:
    """One line about the first thing that is wrong, with its place; how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    places = [path_of(problem["loc"], data, problem["type"] == "missing") for problem in problems]
    more = f" (and {len(set(places)) - 1} more)" if len(set(places)) > 1 else ""
    what = _said(first)
    place = places[0]
    if not place:  # of the request as a whole: it names the field that it speaks of first
        named = re.match(r"(\w+)", what)
        param = named[1] if named and named[1] in data else None
        return ApiError(400, what + more, param=param, code="invalid_value")
    return ApiError(400, f"{place}: {what}{more}", param=place, code="invalid_value")


def _said(problem: Any) -> str:
    """pydantic's problem in words for people who have never heard of pydantic."""
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ").replace(" after validation", "")
    if kind in _WORDS:
        message = _WORDS[kind].format(**context)
    plain = isinstance(value, int | float | bool) or (isinstance(value, str) and len(value) <= _SHOWN)
    return message[:1].lower() + message[1:] + (f", not {value!r}" if plain and kind not in _WHOLE else "")


def path_of(location: tuple[int | str, ...], data: Any, missing: bool = False) -> str:
    """pydantic's location as a path in the data: `messages[0].content`. It also says which form of a union was tried; those steps
    are left out. missing: the last step is a key that the data should have."""
    path = ""
    for step in _followed(location, data, missing):
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path if len(path) <= 2 * _SHOWN else f"{path[: 2 * _SHOWN]}..."


def _followed(location: tuple[int | str, ...], here: Any, missing: bool) -> list[int | str]:
    """The steps of a location that are keys and indices of the data. A form of a union may be called like a key (`text`): of all
    readings it is the one that reaches the last step, and then the one with most steps."""
    if not location:
        return []
    step, rest = location[0], location[1:]
    if isinstance(step, int):
        inside = here[step] if isinstance(here, list) and step < len(here) else None
        return [step, *_followed(rest, inside, missing)]
    readings = [_followed(rest, here, missing)]
    if isinstance(here, dict) and (step in here or (missing and not rest)):
        readings.append([step, *_followed(rest, here.get(step), missing)])
    return max(readings, key=lambda steps: (steps[-1:] == [location[-1]], len(steps)))
