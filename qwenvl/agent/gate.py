"""The one way from the browser to the network: a proxy on this machine that opens connections to the site and to nothing else.

A browser can be told which requests to make, but not all of them ask: redirects, sockets, beacons, workers, what it fetches
ahead. All of them go through its proxy. So what is refused here does not leave, whatever a page comes up with.
Names are resolved once: one that later points to a machine in the local network is not believed.
"""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from types import TracebackType
from urllib.parse import urlsplit

from qwenvl.agent.site import AgentError, Origin, Site
from qwenvl.processing.hosts import is_public

HEAD = 64 * 1024
"""Bytes of a request's first lines at most."""
SECONDS = 20.0
"""To connect, and to begin a request."""
CHUNK = 65536


class Gate:
    """`with Gate(site) as gate:` listens on `gate.address`. `refused` collects the hosts that were asked for and are not the
    site's, in order, each once."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.refused: dict[str, None] = {}
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.gate = self
        self._own_is_public = bool(site.host) and is_public(self.resolve(site.host))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Gate:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def resolve(self, host: str) -> str:
        """The address of a host, the same in the whole run. Raises AgentError where it has none."""
        with self._lock:
            if host not in self._known:
                try:
                    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                except (OSError, UnicodeError) as error:
                    raise AgentError(f"{host}: no address is known for it ({error}); check the name and the connection") from None
                self._known[host] = str(found[0][4][0])
            return self._known[host]

    def connect(self, origin: Origin) -> socket.socket | None:
        """A connection to a permitted host; None, and nothing is sent, for any other."""
        host, port = origin
        if origin not in self.site.origins:
            self.refused[f"{host}:{port}"] = None
            return None
        try:
            address = self.resolve(host)
            if self._own_is_public and not is_public(address):  # a name of the site's that points into the local network
                self.refused[f"{host}:{port} ({address})"] = None
                return None
            return socket.create_connection((address, port), SECONDS)
        except (AgentError, OSError):
            return None


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    gate: Gate


class _Handler(socketserver.BaseRequestHandler):
    """One connection of the browser's: a request in absolute form, or CONNECT and a tunnel."""

    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.request.settimeout(SECONDS)
            head, rest = self._read_head()
            line, _, headers = head.partition(b"\r\n")
            method, target, version = line.decode("latin-1").split(" ", 2)
            tunnel = method == "CONNECT"
            parts = urlsplit(f"//{target}" if tunnel else target)
            host = (parts.hostname or "").rstrip(".")
            upstream = self.server.gate.connect((host, parts.port or 80))
            if upstream is None:
                self.request.sendall(_refusal(tunnel))
                return
            with upstream:
                if tunnel:
                    self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    upstream.sendall(rest)
                else:
                    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                    begin = f"{method} {path} {version}\r\nConnection: close\r\n".encode("latin-1")
                    upstream.sendall(begin + _own_headers(headers) + b"\r\n\r\n" + rest)
                _relay(self.request, upstream)

    def _read_head(self) -> tuple[bytes, bytes]:
        read = b""
        while b"\r\n\r\n" not in read:
            part = self.request.recv(CHUNK)
            if not part or len(read) > HEAD:
                raise ValueError("no request")
            read += part
        head, _, rest = read.partition(b"\r\n\r\n")
        return head, rest


def _own_headers(headers: bytes) -> bytes:
    """Without those that are between the browser and its proxy: every connection carries one request."""
    hop = (b"connection:", b"proxy-connection:", b"proxy-authorization:", b"keep-alive:")
    return b"\r\n".join(line for line in headers.split(b"\r\n") if not line.lower().startswith(hop))


def _refusal(tunnel: bool) -> bytes:
    """204 leaves a page as it is, where an error would take its place; a tunnel can only fail."""
    status = "403 Forbidden" if tunnel else "204 No Content"
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _relay(browser: socket.socket, upstream: socket.socket) -> None:
    """Bytes both ways until one side ends, or nothing has come for five minutes."""
    ends = {browser: upstream, upstream: browser}
    browser.settimeout(None)
    upstream.settimeout(None)
    open_ends = set(ends)
    while upstream in open_ends:
        ready, _, _ = select.select(list(open_ends), [], [], 300)
        if not ready:
            return
        for end in ready:
            part = end.recv(CHUNK)
            if part:
                ends[end].sendall(part)
            else:  # the other may still have something to say
                open_ends.discard(end)
                with contextlib.suppress(OSError):
                    ends[end].shutdown(socket.SHUT_WR)
