"""A picture or clip from an allowed host: every address checked, the connection made to the very address that was checked.

One request per connection, no cookies, no compression, a limit on seconds and bytes. A redirect is followed on the same host only,
and everything is checked again for it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

import h11

from qwenvl.processing.hosts import is_public
from qwenvl.serve.addresses import Target, check_allowed, read_url
from qwenvl.serve.errors import ApiError
from qwenvl.serve.settings import MediaLimits

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The IP addresses of a host name."""
Connect = Callable[[str, Target], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""A connection to an IP address, with TLS for the target's host where its scheme asks for it."""

PIECE = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)


class Fetcher:
    """Fetches media. `resolve` and `connect` are all it has to do with the network."""

    def __init__(self, limits: MediaLimits, resolve: Resolve | None = None, connect: Connect | None = None) -> None:
        self.limits = limits
        self._resolve = resolve or look_up
        self._connect = connect or connect_to

    async def fetch(self, url: str, most: int, param: str | None = None) -> bytes:
        """At most `most` bytes from an address. Raises ApiError (400), one line, which tells nothing of this server's network."""

        def failed(why: str) -> ApiError:
            return ApiError(400, f"the media could not be fetched: {why}", param=param, code="media_fetch_failed")

        target = read_url(url, param)
        check_allowed(target, self.limits.hosts, param)
        try:
            async with asyncio.timeout(self.limits.fetch_seconds):
                for _ in range(self.limits.redirects + 1):
                    found = await self._get(target, most, failed)
                    if isinstance(found, bytes):
                        return found
                    target = self._redirected(target, found, param, failed)
        except TimeoutError:
            raise failed(f"it took longer than {self.limits.fetch_seconds:g} s") from None
        except (OSError, h11.ProtocolError, asyncio.IncompleteReadError) as error:
            reason = "the certificate is not valid" if isinstance(error, ssl.SSLCertVerificationError) else "the connection failed"
            raise failed(reason) from error
        raise failed(f"more than {self.limits.redirects} redirects")

    def _redirected(self, target: Target, place: str, param: str | None, failed: Callable[[str], ApiError]) -> Target:
        """Where a redirect leads: on the same host, and not from https back to http."""
        there = read_url(urljoin(str(target), place), param)
        if there.host != target.host or (target.scheme == "https" and there.scheme != "https"):
            raise failed("it redirects to another host")
        check_allowed(there, self.limits.hosts, param)
        return there

    async def _get(self, target: Target, most: int, failed: Callable[[str], ApiError]) -> bytes | str:
        """The content, or where it has moved to."""
        literal = target.host.strip("[]")
        addresses = [literal] if _is_address(literal) else await self._resolve(target.host, target.port)
        if not addresses:
            raise failed("the host has no address")
        # One bad address among good ones is how names are made to lead inside.
        if not all(map(is_public, addresses)):
            raise failed("the host is not on the public internet")
        reader, writer = await self._connect(addresses[0], target)
        try:
            return await _exchange(reader, writer, target, most, failed)
        finally:
            writer.close()
            with suppress(OSError):
                writer.transport.abort()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target, most: int, failed: Callable[[str], ApiError]
) -> bytes | str:
    """One GET over an open connection."""
    talk = h11.Connection(h11.CLIENT)
    headers = [("Host", target.authority), ("User-Agent", "qwenvl"), ("Accept", "image/*, video/*"),
               ("Accept-Encoding", "identity"), ("Connection", "close")]  # fmt: skip
    writer.write(talk.send(h11.Request(method="GET", target=target.path, headers=headers)) or b"")
    writer.write(talk.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    content = bytearray()
    while True:
        event = talk.next_event()
        if event is h11.NEED_DATA:
            talk.receive_data(await reader.read(PIECE))
        elif isinstance(event, h11.Response):
            told = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
            if event.status_code in REDIRECTS and "location" in told:
                return told["location"]
            if event.status_code != 200:
                raise failed(f"the host answered {event.status_code}")
            if told.get("content-encoding", "identity").lower() != "identity":
                raise failed("the host sent it compressed")
            if int(told.get("content-length", "0")) > most:
                raise failed(f"it is larger than {most} bytes")
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > most:
                raise failed(f"it is larger than {most} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(content)
        elif not isinstance(event, h11.InformationalResponse):
            raise failed("the connection failed")


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, from the system's resolver."""
    found: list[Any] = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(entry[4][0] for entry in found))


async def connect_to(address: str, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the address, not to the name: between the check and now the name may have been pointed elsewhere."""
    if target.scheme == "http":
        return await asyncio.open_connection(address, target.port)
    name = target.host.strip("[]")  # as certificates have an IPv6 address
    return await asyncio.open_connection(address, target.port, ssl=ssl.create_default_context(), server_hostname=name)
