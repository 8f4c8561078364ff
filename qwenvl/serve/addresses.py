"""Which addresses media may be fetched from: a host by its name on the allow-list, and only where every address of it is public.

A name is compared in one normal form (IDNA, lower case, no dot at the end). What browsers and C libraries take for an IPv4 address
in another notation (2130706433, 0x7f.1, 017700000001) is refused before anything is asked, and so is every address that leads into
this machine or its network, also where an IPv6 address wraps it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from qwenvl.serve.errors import ApiError

LONGEST_URL = 4096
PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215: of this network alone
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, section 2.5.5.1, given up


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


def normal_host(host: str) -> str | None:
    """A domain name in lower case, in IDNA's ASCII, without the dot at its end; an IPv6 address in brackets; a dotted IPv4 address.

    None for what is none of these, other notations of IPv4 addresses among them.
    """
    host = host.lower()
    if ":" in host:
        try:
            return f"[{IPv6Address(host).compressed}]" if "%" not in host else None
        except ValueError:
            return None
    try:
        host = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    host = host.removesuffix(".")
    labels = host.split(".")
    if not host or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    # A last label that is a number makes the whole an IPv4 address to a browser (WHATWG URL, "ends in a number").
    if labels[-1].isdigit() or re.fullmatch(r"0x[0-9a-f]*", labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            return None
    return host


def check_allowed(target: Target, allowed: Sequence[str], param: str | None = None) -> None:
    """Raise ApiError (400) unless the host, at the port of its scheme or at one that the list names, is allowed."""
    for entry in allowed:
        name, _, port = entry.rpartition(":") if re.search(r":\d+$", entry) else (entry, "", "")
        same_port = target.port == int(port) if port else target.port == PORTS[target.scheme]
        if same_port and _matches(target.host, name):
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


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet, and, where it wraps another one, that one too."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv4Address):
        return _is_global(found)
    if found.scope_id is not None or found in _NAT64_LOCAL or found in _COMPATIBLE:
        return False
    if found.ipv4_mapped is not None:
        return _is_global(found.ipv4_mapped)
    if found in _NAT64:
        return _is_global(IPv4Address(int(found) & 0xFFFFFFFF))
    if found.sixtofour is not None or found.teredo is not None:
        return False  # tunnels that are no longer in use, and lead to any address
    return _is_global(found) and not found.is_site_local


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    special = (
        address.is_private, address.is_loopback, address.is_link_local, address.is_multicast, address.is_reserved,
        address.is_unspecified,
    )  # fmt: skip
    return address.is_global and not any(special)
