"""Which addresses media may be fetched from: a host by its name on the allow-list, and only where every address of it is public.

Names are compared in their normal form (`processing.hosts`); what has none is refused before anything is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from qwenvl.processing.hosts import normal_host, split_host
from qwenvl.serve.errors import ApiError

LONGEST_URL = 4096
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a fetch goes: `path` is sent as it stands, with the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        return self.host if self.port == PORTS[self.scheme] else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def read_url(url: str, param: str | None = None) -> Target:
    """An http(s) address in its normal form. Raises ApiError (400) for anything that two readers could understand differently."""

    def refuse(why: str) -> ApiError:
        return ApiError(400, f"the address of the media {why}", param=param, code="invalid_media_url")

    if len(url) > LONGEST_URL:
        raise refuse(f"is longer than {LONGEST_URL} characters; send the media as a data URL")
    # Before it is split: Python, like browsers, leaves line breaks and tabs out of a URL without a word.
    if any(mark <= " " or mark in "\\\x7f" for mark in url):
        raise refuse("has blanks, line breaks or backslashes in it; write them as %XX")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise refuse(f"cannot be read ({error})") from None
    if parts.scheme not in PORTS:
        raise refuse("must be a data URL, or http(s) to a host that the server allows")
    if "@" in parts.netloc:
        raise refuse("carries a user name; leave it out")
    host = normal_host(parts.hostname or "")
    if host is None:
        raise refuse("names no host that can be looked up; write its domain name")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii():
        raise refuse("has letters in its path that no URL has; write them as %XX")
    return Target(parts.scheme, host, PORTS[parts.scheme] if port is None else port, path)


def check_allowed(target: Target, allowed: Sequence[str], param: str | None = None) -> None:
    """Raise ApiError (400) unless the host, at the port of its scheme or at one that the list names, is allowed."""
    for entry in allowed:
        name, port = split_host(entry)
        if target.port == (PORTS[target.scheme] if port is None else port) and _matches(target.host, name):
            return
    if not allowed:
        raise ApiError(
            400, "media is not fetched from the network here; send it as a data URL", param=param, code="media_host_refused"
        )
    raise ApiError(400, "media is not fetched from that host; send it as a data URL", param=param, code="media_host_refused")


def _matches(host: str, name: str) -> bool:
    if name.startswith("*."):
        return host.endswith(f".{normal_host(name[2:])}")
    return host == normal_host(name.strip("[]"))
