"""What may be reached: the site itself and what was allowed; and a proxy that lets nothing else through."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenvl.agent import gate as gates
from qwenvl.agent.gate import Gate
from qwenvl.agent.site import AgentError, Site
from qwenvl.processing.hosts import is_public
from tests.agent_site import Place, served


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Place, Place]]:
    with served() as both:
        yield both


SITE = Site.of("https://example.com/start", ["cdn.example.net", "127.0.0.1:8080"])


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://example.com/", True),
        ("https://EXAMPLE.com:443/a?b#c", True),
        ("https://example.com./", True),
        ("wss://example.com/socket", True),
        ("http://cdn.example.net/a.js", True),
        ("https://cdn.example.net/a.js", True),
        ("http://127.0.0.1:8080/", True),
        ("about:blank", True),
        ("data:text/plain,hi", True),
        ("blob:https://example.com/1-2", True),
        ("http://example.com/", False),  # another port
        ("https://example.com:8443/", False),
        ("https://www.example.com/", False),
        ("https://example.com.evil.net/", False),
        ("https://evil.net/?https://example.com/", False),
        ("https://example.com@evil.net/", False),
        ("https://user@example.com/", True),
        ("http://127.0.0.1:8081/", False),
        ("http://localhost:8080/", False),
        ("file:///etc/passwd", False),
        ("ftp://example.com/", False),
        ("chrome://settings", False),
        ("https://example.com:99999/", False),
        ("https://[bad/", False),
        ("", False),
    ],
)
def test_only_the_site_itself_is_permitted(url: str, own: bool) -> None:
    assert SITE.permits(url) is own
    if not own and url:
        assert SITE.outside.search(url), "the browser asks about every address that is not permitted"


def test_the_browser_need_not_ask_about_the_site_itself() -> None:
    assert not SITE.outside.search("https://example.com/a") and not SITE.outside.search("http://127.0.0.1:8080/")
    assert SITE.outside.search("https://example.com.evil.net/") and SITE.outside.search("https://example.com:4430/")


def test_a_file_may_use_its_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    for path in (folder / "a b.html", folder / "b.png", tmp_path / "secret"):
        path.write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret")
    site = Site.of((folder / "a b.html").as_uri())
    assert site.permits(site.start) and site.permits((folder / "b.png").as_uri())
    assert not site.permits((tmp_path / "secret").as_uri()) and not site.permits((folder / "link").as_uri())
    assert not site.permits(f"file://{folder}/../secret") and not site.permits("http://127.0.0.1/")
    assert not site.permits(f"file://host{folder}/b.png")
    assert site.outside.search("http://127.0.0.1/") and site.outside.search(site.start)


@pytest.mark.parametrize(
    "start", ["ftp://example.com", "http://", "javascript:alert(1)", "http://a b/", "http://example.com:port/", "file:///no/such/page"]
)
def test_what_is_no_page_is_refused(start: str) -> None:
    with pytest.raises(AgentError):
        Site.of(start)


def test_names_in_an_address_are_refused() -> None:
    with pytest.raises(AgentError, match="without") as error:
        Site.of("https://ann:secret@example.com/")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("host", ["https://example.com", "example.com/path", "", ":80", "a b"])
def test_a_host_is_allowed_by_its_name(host: str) -> None:
    with pytest.raises(AgentError, match=r"allow|address"):
        Site.of("https://example.com/", [host])


def test_without_a_scheme_it_is_https() -> None:
    assert Site.of("example.com/a").start == "https://example.com/a"
    assert Site.of("localhost:8080").start == "http://localhost:8080"
    assert Site.of("127.0.0.1/a").start == "http://127.0.0.1/a"
    assert Site.of("localhost.net").start == "https://localhost.net"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("169.254.169.254", False), ("192.168.1.1", False), ("100.64.0.1", False), ("::1", False), ("fe80::1%eth0", False),
        ("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("::7f00:1", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("name", False),
    ],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def ask(gate: Gate, request: str) -> bytes:
    with socket.create_connection(("127.0.0.1", int(gate.address.rpartition(":")[2])), 5) as one:
        one.sendall(request.encode())
        answer = b""
        while part := one.recv(65536):
            answer += part
        return answer


def test_the_gate_opens_to_the_site_and_to_nothing_else(places: tuple[Place, Place]) -> None:
    site, other = places
    other.seen.clear()
    with Gate(Site.of(site.address)) as gate:
        headers = f"Host: {site.address[7:]}\r\nProxy-Connection: keep-alive"
        answer = ask(gate, f"GET {site.address}/thanks.html?a=1 HTTP/1.1\r\n{headers}\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200") and b"Thank you" in answer and site.seen[-1] == "GET /thanks.html?a=1"
        posted = ask(gate, f"POST {site.address}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        assert posted.startswith(b"HTTP/1.1 404") and site.seen[-1] == "POST /x"
        assert ask(gate, f"GET {other.address}/ HTTP/1.1\r\nHost: {site.address[7:]}\r\n\r\n").startswith(b"HTTP/1.1 204")
        assert ask(gate, f"CONNECT {other.address[7:]} HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 403")
        assert ask(gate, f"GET http://localhost:{site.port}/ HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 204")
        tunnel = ask(gate, f"CONNECT {site.address[7:]} HTTP/1.1\r\n\r\nGET /thanks.html HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert tunnel.startswith(b"HTTP/1.1 200 Conn") and b"Thank you" in tunnel
        for nonsense in ("\r\n\r\n", "GET\r\n\r\n", "CONNECT x:y HTTP/1.1\r\n\r\n", "GET http://[ HTTP/1.1\r\n\r\n"):
            assert ask(gate, nonsense) in (b"", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert list(gate.refused)[:2] == [other.address[7:], f"localhost:{site.port}"]
    assert other.seen == []


def test_a_public_site_does_not_lead_into_the_local_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is allowed, and points to a private address; a name that changes what it points to."""
    known = {"public.test": ["93.184.215.14", "127.0.0.1"], "inner.test": ["127.0.0.1"], "home.test": ["192.168.1.5"]}
    opened: list[tuple[str, int]] = []

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (known[host].pop(0), 0))]

    def connect(address: tuple[str, int], *_: object) -> None:
        opened.append(address)
        raise OSError

    monkeypatch.setattr(gates.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(gates.socket, "create_connection", connect)
    gate = Gate(Site.of("http://public.test/", ["inner.test"]))
    for host in ("public.test", "inner.test", "public.test"):
        assert gate.connect((host, 80)) is None
    assert opened == [("93.184.215.14", 80)] * 2
    home = Gate(Site.of("http://home.test/"))  # where the user begins in the local network, it is the site
    home.connect(("home.test", 80))
    assert opened[-1] == ("192.168.1.5", 80)
    for one in (gate, home):
        one._server.server_close()


def test_a_name_without_an_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("unknown")

    monkeypatch.setattr(gates.socket, "getaddrinfo", fail)
    with pytest.raises(AgentError, match="no address is known"):
        Gate(Site.of("http://nowhere.test/"))
