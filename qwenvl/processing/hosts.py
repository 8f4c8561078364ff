"""Names and addresses of hosts: one normal form for a name, and which addresses are of the public internet.

A name is compared in one form (IDNA, lower case, no dot at the end). What browsers and C libraries take for an IPv4 address in
another notation (2130706433, 0x7f.1, 017700000001) is no name, and no address leads into this machine or its network because an
IPv6 address wraps it.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215: of this network alone
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, section 2.5.5.1, given up


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


def split_host(entry: str) -> tuple[str, int | None]:
    """HOST or HOST:PORT as (host, port)."""
    found = re.fullmatch(r"(.+):(\d{1,5})", entry)
    return (found[1], int(found[2])) if found and (":" not in found[1] or found[1].endswith("]")) else (entry, None)


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
