"""What a run may reach: the page's own site, and what the user named beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from qwenvl.processing.hosts import normal_host
from qwenvl.types import QwenVLError

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
INNER = ("about", "data", "blob", "javascript")
"""Schemes of what a page makes itself: nothing is fetched for them."""

OWN_MACHINE = r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])([:/]|$)"

Origin = tuple[str, int]  # host and port


class AgentError(QwenVLError):
    """A run that cannot start or go on: one line for the user."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run starts, and all (host, port) that it may speak to; `folder` holds the files of a start that is a file."""

    start: str
    origins: frozenset[Origin]
    folder: Path | None = None

    @classmethod
    def of(cls, start: str, allow: Sequence[str] = ()) -> Site:
        """start: http://, https:// or file://; without a scheme https, on this machine http. allow: HOST (its ports 80 and 443) or
        HOST:PORT.

        Raises AgentError for what is no address.
        """
        if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:(?!\d)", start):
            start = f"{'http' if re.match(OWN_MACHINE, start) else 'https'}://{start}"
        parts = _split(start)
        if parts.scheme == "file":
            return cls._of_file(parts)
        origin = _origin(parts)
        if parts.scheme not in ("http", "https") or origin is None:
            raise AgentError(f"{start}: not the address of a page; give one like https://example.com/page")
        if parts.username or parts.password:
            raise AgentError("the address holds a name or password, which logs would show; give it without")
        return cls(start, frozenset({origin, *(one for host in allow for one in _allowed(host))}))

    @classmethod
    def _of_file(cls, parts: SplitResult) -> Site:
        """A page on disk may use the files of its own folder, and no network."""
        path = Path(unquote(parts.path)).resolve()
        if parts.netloc not in ("", "localhost") or not path.is_file():
            raise AgentError(f"{path}: no such file; give a page, as in file:///folder/page.html")
        return cls(path.as_uri(), frozenset(), path.parent)

    @property
    def host(self) -> str:
        """The host of the start; empty for a file."""
        return _split(self.start).hostname or ""

    def permits(self, url: str) -> bool:
        """Whether a page of this site may be given what is at `url`."""
        try:
            parts = _split(url)
        except AgentError:
            return False
        if parts.scheme == "file":
            path = Path(unquote(parts.path)).resolve()
            return self.folder is not None and not parts.netloc and path.is_relative_to(self.folder) and path.is_file()
        return parts.scheme in INNER or _origin(parts) in self.origins

    @property
    def outside(self) -> re.Pattern[str]:
        """The addresses of all that might not be permitted, for a browser to ask about: `permits` decides."""
        own = []
        for host, port in self.origins:
            name = f"[{host}]" if ":" in host else host
            own += [f"{scheme}://{name}" for scheme in ("http", "https") if PORTS[scheme] == port]
            own += [f"{scheme}://{name}:{port}" for scheme in ("http", "https")]
        return re.compile("^(?!(" + "|".join(map(re.escape, own)) + ")([/?#]|$))") if own else re.compile("^")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises ValueError for what is no number)
    except ValueError:
        raise AgentError(f"{url}: not an address; give one like https://example.com/page") from None
    return parts


def _origin(parts: SplitResult) -> Origin | None:
    host, port = normal_host(parts.hostname or ""), parts.port or PORTS.get(parts.scheme)
    if host is None or port is None or parts.scheme not in PORTS:
        return None
    return host.strip("[]"), port


def _allowed(host: str) -> list[Origin]:
    origin = None if "/" in host else _origin(_split(f"http://{host}"))
    if origin is None:
        raise AgentError(f"--allow {host}: give a host, as in --allow example.com or --allow example.com:8080")
    return [origin] if _split(f"http://{host}").port else [(origin[0], 80), (origin[0], 443)]
