"""R15: fetching from allowed hosts. The address that was checked is the one that is called; limits on bytes, seconds, redirects."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from qwenvl.families import get_family
from qwenvl.processing.hosts import is_public, normal_host
from qwenvl.serve.addresses import Target, check_allowed, read_url
from qwenvl.serve.conversation import Medium, open_media
from qwenvl.serve.errors import ApiError
from qwenvl.serve.fetch import Fetcher
from qwenvl.serve.media import MediaBudget, decode_data_url
from qwenvl.serve.parts import ImageUrl
from qwenvl.serve.settings import MediaLimits
from qwenvl.types import ImagePart
from tests.scripted_engine import data_url, picture

LIMITS = MediaLimits(hosts=("images.example", "*.cdn.example", "müller.example", "odd.example:8443"), fetch_seconds=0.5)
PUBLIC = "93.184.216.34"


class Hosts:
    """The network of these tests: what each name resolves to, one answer a time, and what each address sends."""

    def __init__(self, *answers: bytes | Sequence[bytes], addresses: Sequence[Sequence[str]] = ((PUBLIC,),)) -> None:
        self.answers = list(answers)
        self.addresses = list(addresses)
        self.called: list[tuple[str, str]] = []
        self.asked: list[bytes] = []

    async def resolve(self, host: str, port: int) -> list[str]:
        return list(self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0])

    async def connect(self, address: str, target: Target) -> Any:
        self.called.append((address, str(target)))
        reader = asyncio.StreamReader()
        answer = self.answers.pop(0)
        if isinstance(answer, bytes):
            reader.feed_data(answer)
            reader.feed_eof()
        else:  # in pieces, and then nothing more, for ever
            for piece in answer:
                reader.feed_data(piece)
        return reader, _Writer(self.asked)

    def fetch(self, url: str, most: int = 10_000, limits: MediaLimits = LIMITS) -> bytes:
        return asyncio.run(Fetcher(limits, self.resolve, self.connect).fetch(url, most, "here"))


class _Writer:
    """Takes what is written."""

    def __init__(self, asked: list[bytes]) -> None:
        self.asked = asked
        self.transport = self

    def write(self, content: bytes) -> None:
        self.asked.append(content)

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass

    abort = close


def ok(content: bytes, *headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *(headers or (f"Content-Length: {len(content)}",)), "", ""]).encode() + content


def moved(place: str, code: int = 302) -> bytes:
    return f"HTTP/1.1 {code} Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()


def refusal(hosts: Hosts, url: str = "http://images.example/a.png", **more: Any) -> str:
    with pytest.raises(ApiError) as error:
        hosts.fetch(url, **more)
    assert error.value.status == 400 and error.value.param == "here"
    assert PUBLIC not in str(error.value)
    return str(error.value)


def test_an_allowed_host_is_asked_at_the_address_that_was_checked() -> None:
    hosts = Hosts(ok(b"picture"), addresses=[[PUBLIC], ["127.0.0.1"]])  # rebinding: the second answer leads inside
    assert hosts.fetch("http://Images.Example./a.png?b=c#d") == b"picture"
    assert hosts.called == [(PUBLIC, "http://images.example/a.png?b=c")]
    head = b"".join(hosts.asked)
    assert head.startswith(b"GET /a.png?b=c HTTP/1.1\r\nHost: images.example\r\n") and b"cookie" not in head.lower()
    assert hosts.addresses == [["127.0.0.1"]], "it was looked up once"


def test_chunked_content_is_read() -> None:
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert Hosts(ok(body, "Transfer-Encoding: chunked")).fetch("https://a.cdn.example/x") == b"abcde"
    assert Hosts(ok(b"until the end", "Connection: close")).fetch("https://a.cdn.example/x") == b"until the end"


@pytest.mark.parametrize(
    "place", ["/b.png", "b.png", "http://images.example/b.png", "//images.example/b.png", "https://images.example/b.png"]
)
def test_a_redirect_on_the_same_host_is_followed_and_checked_again(place: str) -> None:
    assert Hosts(moved(place), ok(b"x")).fetch("http://images.example/a.png") == b"x"
    again = Hosts(moved(place), ok(b"x"), addresses=[[PUBLIC], ["10.0.0.1"]])
    assert "public internet" in refusal(again)
    assert len(again.called) == 1


@pytest.mark.parametrize(
    "place",
    ["http://a.cdn.example/", "http://127.0.0.1/", "//127.0.0.1/", "file:///etc/passwd", "http://images.example:22/",
    "http://images.example@evil/",
     "gopher://images.example/", "data:image/png;base64,AAAA", "http://[::1]/", "\\\\evil\\x", "http://images.example.evil/"],
)  # fmt: skip
def test_a_redirect_elsewhere_is_not_followed(place: str) -> None:
    hosts = Hosts(moved(place), ok(b"x"))
    refusal(hosts)
    assert len(hosts.called) == 1


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    hosts = Hosts(moved("http://images.example/b.png"), ok(b"x"))
    assert "another host" in refusal(hosts, "https://images.example/a.png")


def test_redirects_end() -> None:
    hosts = Hosts(*[moved(f"/{number}") for number in range(10)])
    assert "more than 3 redirects" in refusal(hosts)
    assert len(hosts.called) == 4


BAD_ANSWERS: list[tuple[str, bytes | list[bytes], str]] = [
    ("too large, and it says so", ok(b"x" * 100, "Content-Length: 10001"), "larger than 10000"),
    ("too large, in chunks", ok(b"2800\r\n" + b"x" * 0x2800 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), "larger than 10000"),
    ("too large, without a length", ok(b"x" * 10_001, "Connection: close"), "larger than 10000"),
    ("too large and endless", [ok(b"x" * 20_000, "Connection: close")], "larger than 10000"),
    ("shorter than it says", ok(b"x", "Content-Length: 100"), "connection failed"),
    ("a length that is none", ok(b"x", "Content-Length: many"), "connection failed"),
    ("two lengths", ok(b"x", "Content-Length: 1", "Content-Length: 2"), "connection failed"),
    ("not found", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
    ("partial", b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx", "answered 206"),
    ("compressed", ok(b"x", "Content-Length: 1", "Content-Encoding: gzip"), "compressed"),
    ("moved nowhere", b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "answered 302"),
    ("no HTTP", b"SSH-2.0-OpenSSH_9\r\n", "connection failed"),
    ("endless head", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "connection failed"),
    ("nothing", b"", "connection failed"),
    ("silence", [b""], "longer than 0.5 s"),
    ("a slow head", [b"HTTP/1.1 200 OK\r\n"], "longer than 0.5 s"),
    ("a slow body", [ok(b"x", "Content-Length: 100")], "longer than 0.5 s"),
]


@pytest.mark.parametrize(("answer", "word"), [case[1:] for case in BAD_ANSWERS], ids=[case[0] for case in BAD_ANSWERS])
def test_answers_that_are_not_taken(answer: bytes | list[bytes], word: str) -> None:
    assert word in refusal(Hosts(answer))


def test_a_resolver_that_hangs_or_fails_is_given_up() -> None:
    class Hanging(Hosts):
        async def resolve(self, host: str, port: int) -> list[str]:
            await asyncio.sleep(60)
            return []

    class Failing(Hosts):
        async def resolve(self, host: str, port: int) -> list[str]:
            raise OSError("no such name")

    assert "longer than" in refusal(Hanging())
    assert "connection failed" in refusal(Failing())


ALLOWED = [
    ("http://images.example/", True), ("https://images.example/", True), ("http://images.example:80/", True),
    ("http://images.example:8080/", False),
    ("http://a.cdn.example/", True), ("http://a.b.cdn.example/", True), ("http://cdn.example/", False),
    ("http://acdn.example/", False),
    ("http://xn--mller-kva.example/", True), ("http://MÜLLER.example/", True), ("https://odd.example:8443/", True),
    ("https://odd.example/", False),
    ("http://other.example/", False),
]  # fmt: skip


@pytest.mark.parametrize(("url", "allowed"), ALLOWED)
def test_the_allow_list(url: str, allowed: bool) -> None:
    target = read_url(url)
    if allowed:
        check_allowed(target, LIMITS.hosts)
    else:
        with pytest.raises(ApiError, match="not fetched from that host"):
            check_allowed(target, LIMITS.hosts)
    with pytest.raises(ApiError, match="not fetched from the network"):
        check_allowed(target, ())


@pytest.mark.parametrize(
    ("host", "normal"),
    [("Example.COM.", "example.com"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("0:0::1", "[::1]"), ("127.1", None),
    ("0x7f.1", None),
     ("1.2.3.0x4", None), ("256.1.1.1", None), ("1", None), ("a b", None), ("", None), (".", None), ("a..b", None),
     ("fe80::1%eth0", None), ("é.example", "xn--9ca.example"), ("a.1", None)],
)  # fmt: skip
def test_hosts_have_one_normal_form(host: str, normal: str | None) -> None:
    assert normal_host(host) == normal


@given(st.integers(0, 2**32 - 1))
def test_an_address_is_as_public_as_what_it_wraps(number: int) -> None:
    import ipaddress

    plain = ipaddress.IPv4Address(number)
    public = is_public(str(plain))
    assert public <= (plain.is_global and not plain.is_multicast)
    for wrapped in (0xFFFF_0000_0000 + number, (0x64FF9B << 96) + number):
        assert is_public(str(ipaddress.IPv6Address(wrapped))) == public
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) + (number << 80))))


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused_in_one_line(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}/a", f"https://images.example{text}"):
        try:
            target = read_url(url)
        except ApiError as error:
            assert "\n" not in str(error.body["error"]["message"])
        else:
            assert normal_host(target.host.strip("[]")) == target.host
            assert str(read_url(str(target))) == str(target), "a normal form stays as it is"


@given(st.binary(min_size=1, max_size=100))
def test_a_data_url_gives_its_bytes(content: bytes) -> None:
    assert decode_data_url(data_url(content), 100, "x") == content
    if len(content) > 50:
        with pytest.raises(ApiError, match="more than 40 bytes"):
            decode_data_url(data_url(content), 40, "x")


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Notes every time that PIL decodes pixels."""
    seen: list[str] = []
    load: Callable[..., Any] = ImageFile.ImageFile.load

    def noting(self: Image.Image) -> Any:
        seen.append(f"{self.size}")
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", noting)
    yield seen


def test_a_request_keeps_no_picture_in_base64() -> None:
    """It lives as long as its answer."""
    asked = ImageUrl(url=data_url(LARGE))
    (opened,) = open_media([Medium("x", asked)], get_family("qwen2_vl"), LIMITS)
    assert asked.url == "" and isinstance(opened, ImagePart) and opened.image.size == (101, 100)


LARGE, FITTING = picture(101, 100), picture(100, 100)


def test_nothing_is_decoded_above_the_limits(decoding: list[str]) -> None:
    budget = MediaBudget(MediaLimits(picture_pixels=10_000, total_pixels=15_000))
    with pytest.raises(ApiError, match="101x100 is more than 10000 pixels"):
        budget.picture(LARGE, "x")
    budget.picture(FITTING, "x")
    with pytest.raises(ApiError, match="together have more than 15000"):
        budget.picture(FITTING, "x")
    assert not decoding
    Image.open(io.BytesIO(FITTING)).convert("L")
    assert decoding, "the note-taker works"
