"""Requests that mean no good. Each gets the right status and one clear line, nothing is read or called, the server goes on.

Every request runs under a watch on opened files and called hosts: no packet may leave the loopback address.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from qwenvl.inference.model import QwenVL, load
from qwenvl.serve.fetch import Fetcher
from qwenvl.serve.server import create_app
from qwenvl.serve.settings import MediaLimits, ServerSettings
from tests.scripted_engine import ScriptedEngine, Watch, ask, data_url, image, picture, watched

CHAT = "/v1/chat/completions"
LIMITS = MediaLimits(
    hosts=("images.example", "*.cdn.example", "127.0.0.1", "localhost", "10.0.0.8", "[::1]", "169.254.169.254"),
    count=8, picture_bytes=200_000, picture_pixels=1_000_000, total_pixels=1_500_000, clip_bytes=300_000, clip_seconds=5,
    frame_pixels=100_000,
)  # fmt: skip
SETTINGS = ServerSettings(hosts=None, media=LIMITS, body_bytes=1_000_000, json_values=10_000, json_depth=32)
SECRET = f"secret-{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def native_model() -> QwenVL:
    model = load("qwen2.5-vl-nano")
    model.style = "chat"
    return model


@pytest.fixture(scope="module")
def engine(native_model: QwenVL) -> ScriptedEngine:
    return ScriptedEngine(native_model)


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that no request may reach."""
    path = tmp_path_factory.mktemp("secrets") / f"{SECRET}.png"
    path.write_bytes(picture())
    return path


@pytest.fixture(scope="module")
def http(engine: ScriptedEngine) -> Iterator[TestClient]:
    async def resolve(host: str, port: int) -> list[str]:
        return ADDRESSES[host.partition(".")[0]]

    async def connect(address: str, target: Any) -> Any:
        raise AssertionError(f"connects to {address}")

    with TestClient(create_app({"nano": engine}, SETTINGS, fetcher=Fetcher(LIMITS, resolve, connect))) as client:
        yield client


@pytest.fixture(autouse=True)
def watch() -> Iterator[Watch]:
    with watched() as seen:
        yield seen
    assert not seen.outside, "no packet leaves the loopback address"
    assert not [name for name in seen.opened if SECRET in name], "no path of a request is opened"


def refused(http: TestClient, status: int, answer: Any, word: str = "") -> dict[str, Any]:
    """The error, after everything that holds for all of them: status, shape, one line, no secrets; and the server answers still."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and isinstance(error["type"], str)
    message = error["message"]
    assert message and "\n" not in message and len(message) <= 500 and "Traceback" not in message
    assert "/work" not in message and "site-packages" not in message
    assert word in message, message
    assert http.get("/health").json()["status"] == "ok"
    return error


def chat(http: TestClient, body: Any) -> Any:
    return http.post(CHAT, json=body)


# Bodies that are no request.

BODIES: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, "JSON"),
    ("blank", b"  \n ", 400, "JSON"),
    ("text", b"hello", 400, "JSON"),
    ("half", b'{"messages": [', 400, "JSON"),
    ("two", b"{} {}", 400, "JSON"),
    ("single quotes", b"{'a': 1}", 400, "JSON"),
    ("trailing comma", b'{"a": 1,}', 400, "JSON"),
    ("comment", b'{"a": 1 /* x */}', 400, "JSON"),
    ("list", b"[]", 400, "JSON object"),
    ("null", b"null", 400, "JSON object"),
    ("number", b"1", 400, "JSON object"),
    ("string", b'"x"', 400, "JSON object"),
    ("nan", b'{"temperature": NaN}', 400, "JSON"),
    ("infinity", b'{"temperature": Infinity}', 400, "JSON"),
    ("large number", b'{"temperature": 1e999, "messages": [{"role": "user", "content": "x"}]}', 400, "temperature"),
    ("many digits", b'{"seed": ' + b"9" * 5000 + b"}", 400, "JSON"),
    ("digits", b'{"seed": ' + b"9" * 100 + b', "messages": [{"role": "user", "content": "x"}]}', 400, "seed"),
    ("not utf-8", b'{"model": "\xff\xfe"}', 400, "JSON"),
    ("utf-16", '{"model": "x"}'.encode("utf-16"), 400, "JSON"),
    ("bom", b"\xef\xbb\xbf{}", 400, ""),
    ("lone surrogate", b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400, "JSON"),
    ("control character", b'{"model": "\x01"}', 400, "JSON"),
    ("bad escape", b'{"model": "\\x41"}', 400, "JSON"),
    ("deep lists", b"[" * 100_000, 400, "nested"),
    ("deep objects", b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400, "nested"),
    ("deep in a field", b'{"metadata": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}", 400, "nested"),
    ("deep, hidden behind a quote", b'{"a": "\\"", "b": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "nested"),
    ("deep, hidden behind backslashes", b'{"a": "\\\\", "b": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "nested"),
    ("many values", b'{"messages": [' + b"0," * 20_000 + b"0]}", 400, "values"),
    ("many keys", b"{" + b",".join(b'"%d":0' % number for number in range(20_000)) + b"}", 400, "values"),
    ("many empty lists", b"[" + b"[]," * 20_000 + b"[]]", 400, "values"),
    ("unclosed string", b'{"model": "' + b"a" * 100_000, 400, "JSON"),
    ("unclosed string of escapes", b'{"model": "' + b'\\"' * 100_000, 400, "JSON"),
    ("blanks", b" " * 900_000, 400, "JSON"),
    ("too large", b'{"model": "' + b"a" * 1_000_000 + b'"}', 413, "larger than"),
]


@pytest.mark.parametrize(("body", "status", "word"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_bodies_that_are_no_request(http: TestClient, body: bytes, status: int, word: str) -> None:
    refused(http, status, http.post(CHAT, content=body, headers={"Content-Type": "application/json"}), word)


TYPES: list[tuple[str, dict[str, str], bytes | None]] = [
    ("none", {}, None),
    ("text", {"Content-Type": "text/plain"}, None),
    ("form", {"Content-Type": "application/x-www-form-urlencoded"}, None),
    ("multipart", {"Content-Type": "multipart/form-data; boundary=x"}, None),
    ("nearly", {"Content-Type": "application/jsonp"}, None),
    ("charset", {"Content-Type": "application/json; charset=utf-16"}, None),
    ("gzip", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, zlib.compress(b"{}")),
    ("brotli", {"Content-Type": "application/json", "Content-Encoding": "br"}, b"x"),
]


@pytest.mark.parametrize(("headers", "body"), [case[1:] for case in TYPES], ids=[case[0] for case in TYPES])
def test_what_a_page_of_another_site_could_post_is_refused(http: TestClient, headers: dict[str, str], body: bytes | None) -> None:
    refused(http, 415, http.post(CHAT, content=body or json.dumps(ask("x")).encode(), headers=headers))


# Fields that are wrong. Each case: changes to a good request, and what the message names.

USER = {"role": "user", "content": "x"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"model": 1}, "model"), ({"model": ""}, "model"), ({"model": "x" * 300}, "model"), ({"model": ["nano"]}, "model"),
    ({"messages": None}, "messages"), ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": [1]}, "messages[0]"), ({"messages": [[]]}, "messages[0]"), ({"messages": [{}]}, "messages[0]"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"), ({"messages": [{"content": "x"}]}, "messages[0]"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0]"),
    ({"messages": [{"role": 3, "content": "x"}]}, "messages[0]"),
    ({"messages": [USER] * 1001}, "messages"), ({"messages": [{**USER, "content": ""}]}, "messages[0]"),
    ({"messages": [{**USER, "content": " \n"}]}, "messages[0]"), ({"messages": [{**USER, "content": None}]}, "messages[0].content"),
    ({"messages": [{**USER, "content": 5}]}, "messages[0].content"),
    ({"messages": [{**USER, "content": {}}]}, "messages[0].content"),
    ({"messages": [{**USER, "content": []}]}, "messages[0].content"),
    ({"messages": [{**USER, "content": [1]}]}, "messages[0].content[0]"),
    ({"messages": [{**USER, "content": ["x"]}]}, "messages[0].content[0]"),
    ({"messages": [{**USER, "content": [{}]}]}, "messages[0].content[0]"),
    ({"messages": [{**USER, "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{**USER, "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
    ({"messages": [{**USER, "content": [{"type": "text", "text": "x", "more": 1}]}]}, "messages[0].content[0].more"),
    ({"messages": [{**USER, "content": [{"type": "input_image", "image_url": "x"}]}]}, "messages[0].content[0]"),
    ({"messages": [{**USER, "content": [{"type": "image", "image": "/etc/passwd"}]}]}, "messages[0].content[0]"),
    ({"messages": [{**USER, "content": [{"type": "video", "video": "/etc"}]}]}, "messages[0].content[0]"),
    ({"messages": [{**USER, "content": [{"type": "input_audio", "input_audio": {}}]}]}, "messages[0].content[0]"),
    ({"messages": [{**USER, "content": [{"type": "file", "file": {"file_id": "x"}}]}]}, "messages[0].content[0]"),
    ({"messages": [{**USER, "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages[0].content[0].image_url"),
    ({"messages": [{**USER, "content": [{"type": "text", "text": "x"}] * 300}]}, "messages[0].content"),
    ({"messages": [{**USER, "extra": 1}]}, "messages[0].extra"),
    ({"messages": [USER, {"role": "system", "content": "x"}]}, "messages[1]"),
    ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "assistant"),
    ({"messages": [{"role": "assistant"}, USER]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0]"),
    ({"messages": [{"role": "system", "content": [image()]}, USER]}, "messages[0].content[0]"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}, USER]},
    "messages[0]"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}]}, USER]},
    "arguments"),
    ({"temperature": "0"}, "temperature"), ({"temperature": -0.1}, "temperature"), ({"temperature": 2.1}, "temperature"),
    ({"temperature": True}, "temperature"), ({"temperature": [1]}, "temperature"), ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": 1.5}, "top_k"), ({"top_k": -2}, "top_k"), ({"n": 0}, "n"), ({"n": 9}, "n"), ({"n": "2"}, "n"), ({"n": 2.0}, "n"),
    ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 10**12}, "max_tokens"),
    ({"max_tokens": "10"}, "max_tokens"), ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"), ({"stop": ["a"] * 5}, "stop"), ({"stop": ""}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stop": "x" * 300}, "stop"), ({"stop": {}}, "stop"), ({"seed": 1.5}, "seed"), ({"seed": 2**63}, "seed"),
    ({"seed": "1"}, "seed"),
    ({"presence_penalty": 3}, "presence_penalty"), ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"), ({"repetition_penalty": 11}, "repetition_penalty"),
    ({"stream": "yes"}, "stream"), ({"stream": 1}, "stream"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"), ({"logprobs": 3}, "logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"), ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}}, "name"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"minimum": 1e999}}}}, ""),
    ({"response_format": {"type": "json_object"}, "grammar": "boxes"}, "one form"), ({"grammar": "lark"}, "grammar"),
    ({"tools": {}}, "tools"), ({"tools": [{"type": "code"}]}, "tools[0]"), ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"), ({"tools": [TOOL, TOOL]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tools": [{**TOOL, "function": {"name": f"f{number}"}} for number in range(129)]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "any"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]}, "tool_choice"),
    ({"logit_bias": {"1": 5}}, "logit_bias"), ({"audio": {"voice": "x"}}, "audio"), ({"modalities": ["audio"]}, "modalities"),
    ({"functions": [{"name": "f"}]}, "functions"), ({"function_call": "auto"}, "function_call"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"web_search_options": {}}, "web_search_options"), ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"temprature": 1}, "temprature"), ({"__class__": {}}, "__class__"), ({"lora_path": "/etc/passwd"}, "lora_path"),
    ({"chat_template": "{{ ''.__class__ }}"}, "chat_template"), ({"x" * 5000: 1}, "xxx"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "word"), BAD_FIELDS, ids=lambda value: str(value)[:50])
def test_fields_that_are_wrong(http: TestClient, changes: dict[str, Any], word: str) -> None:
    content = json.dumps({**ask("x"), **changes}).replace("Infinity", "1e999").encode()
    error = refused(http, 400, http.post(CHAT, content=content, headers={"Content-Type": "application/json"}), word)
    assert word not in error["message"] or error["param"] is None or word in error["param"] or "." not in word


@pytest.mark.parametrize(
    "body",
    [ask("a" * 900_000), ask(*["ab " * 1000] * 100), {"prompt": "a" * 900_000},
     ask("x", tools=[{**TOOL, "function": {"name": "f", "description": "a" * 900_000}}])],
    ids=["one text", "many texts", "prompt", "tools"],
)  # fmt: skip
def test_a_text_beyond_all_contexts_costs_no_time(http: TestClient, body: dict[str, Any]) -> None:
    began = time.monotonic()
    refused(http, 400, http.post(CHAT if "messages" in body else "/v1/completions", json=body), "characters of text")
    assert time.monotonic() - began < 1
    error = refused(http, 400, chat(http, ask("dog " * 3000)), "context of 2048")
    assert error["code"] == "context_length_exceeded" and " tokens do not fit in the context of 2048" in error["message"]


HARMLESS = {
    "user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "parallel_tool_calls": True, "logit_bias": {},
    "modalities": ["text"], "safety_identifier": "x", "audio": None, "temperature": None, "stop": None, "n": None, "tools": None,
    "prompt_cache_key": "x", "reasoning_effort": "none",
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_fields_that_do_no_harm_are_taken(http: TestClient, name: str) -> None:
    assert chat(http, ask("x", **{name: HARMLESS[name]})).status_code == 200


# Pictures and clips.


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG file that says it is so large, whatever comes in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HH", width, height)
        + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0"
        + struct.pack("<HH", width, height)
        + b"\0\x02\x02D\x01\0;"
    )


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def encoded(kind: str, width: int = 8, height: int = 8) -> bytes:
    return picture(width, height, kind)


good = base64.b64encode(picture()).decode()
PICTURES: list[tuple[str, str, str]] = [
    ("no comma", "data:image/png;base64", "data URL"),
    ("no payload", "data:image/png;base64,", "empty"),
    ("not base64", "data:image/png;base64,!!!!", "base64"),
    (
        "padding lost",
        f"data:image/png;base64,{good.rstrip('=')}" if good.endswith("=") else f"data:image/png;base64,{good[:-1]}",
        "base64",
    ),
    ("padding in the middle", f"data:image/png;base64,{good[:4]}=={good[4:]}", "base64"),
    ("line breaks", f"data:image/png;base64,{good[:8]}\n{good[8:]}", "base64"),
    ("blanks", f"data:image/png;base64,{good[:8]} {good[8:]}", "base64"),
    ("letters beyond ASCII", f"data:image/png;base64,{good[:8]}é{good[8:]}", "base64"),
    ("the URL alphabet", "data:image/png;base64,-_-_", "base64"),
    ("percent", f"data:image/png,{'%89PNG'}", "data URL"),
    ("text", "data:text/html;base64,PGI+", "data URL"),
    ("long header", f"data:image/png;{'x' * 300};base64,{good}", "data URL"),
    ("another scheme in front", f"x-data:image/png;base64,{good}", "data URL"),
    ("zero bytes", data_url(b"\0" * 100), "not a picture"),
    ("text as picture", data_url(b"hello, I am no picture"), "not a picture"),
    (
        "svg",
        data_url(b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "image/svg+xml"),
        "not a picture",
    ),
    ("postscript", data_url(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"), "not a picture"),
    ("pdf", data_url(b"%PDF-1.4\n1 0 obj\n"), "not a picture"),
    ("tiff", data_url(encoded("TIFF"), "image/tiff"), "not a picture"),
    ("ico", data_url(encoded("ICO", 16, 16), "image/x-icon"), "not a picture"),
    ("ppm", data_url(encoded("PPM"), "image/x-portable-pixmap"), "not a picture"),
    ("tga", data_url(encoded("TGA"), "image/x-tga"), "not a picture"),
    ("zip", data_url(b"PK\x03\x04" + b"\0" * 60), "not a picture"),
    ("png bomb", data_url(png(60_000, 60_000)), "pixels"),
    ("png of a large claim", data_url(png(1001, 1000)), "pixels"),
    ("png of the largest claim", data_url(png(2**31 - 1, 2**31 - 1)), "pixels"),
    ("png of no size", data_url(png(0, 10)), ""),
    ("png, empty", data_url(png(10, 10)), "damaged"),
    ("png, cut", data_url(picture(300, 300)[:200]), "damaged"),
    ("jpeg, cut", data_url(encoded("JPEG", 300, 300)[:300]), ""),
    ("webp, cut", data_url(encoded("WEBP", 300, 300)[:40]), ""),
    ("gif, cut", data_url(encoded("GIF", 300, 300)[:20]), ""),
    ("gif bomb", data_url(gif(65_535, 65_535)), "pixels"),
    ("bmp bomb", data_url(bmp(100_000, 100_000)), "pixels"),
    ("bmp upside down", data_url(bmp(100_000, -100_000)), "pixels"),
    ("too many bytes", data_url(b"\x89PNG\r\n\x1a\n" + b"\0" * 250_000), "bytes"),
    ("long and thin", data_url(picture(3000, 2)), "times the other"),
    ("a clip as picture", data_url(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4"), "not a picture"),
]


@pytest.mark.parametrize(("url", "word"), [case[1:] for case in PICTURES], ids=[case[0] for case in PICTURES])
def test_r15_pictures_that_are_none(http: TestClient, url: str, word: str) -> None:
    error = refused(http, 400, chat(http, ask(image(url), "?")), word)
    assert len(url) < 400 or url[300:] not in error["message"]


def test_an_icc_profile_or_text_that_swells_is_no_danger(http: TestClient) -> None:
    """zTXt and iCCP chunks of PNG are compressed: 20 KB could be 20 MB."""
    content = picture()
    for kind, prefix in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        body = prefix + zlib.compress(b"\0" * 20_000_000)
        chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        answer = chat(http, ask(image(data_url(content[:33] + chunk + content[33:])), "?"))
        assert answer.status_code in (200, 400), answer.text


PART_CASES: list[tuple[list[Any], str]] = [
    ([image(min_pixels=0)], "min_pixels"), ([image(max_pixels=-5)], "max_pixels"), ([image(max_pixels=2**40)], "max_pixels"),
    ([image(max_pixels=1.5)], "max_pixels"), ([image(min_pixels=10_000, max_pixels=100)], "min_pixels"),
    ([image(detail="huge")], "detail"),
    ([image(path="/etc/passwd")], "path"), ([image(min_pixels=2**31)], "do not fit in the context"),
    ([image(data_url(picture(900, 900)))] * 2, "together"), ([image()] * 9, "at most 8"),
    ([{"type": "video_url", "video_url": {"url": data_url(picture(), "video/mp4")}}], "video"),
    ([{"type": "video_url", "video_url": {"url": data_url(b"#EXTM3U\nfile:///etc/passwd\n", "video/mp4")}}], "not a video"),
    ([{"type": "video_url", "video_url": {"url": data_url(b"ffconcat version 1.0\nfile /etc/passwd\n", "video/mp4")}}],
    "not a video"),
    ([{"type": "video_url", "video_url": {"url": data_url(b"\0" * 400_000, "video/mp4")}}], "bytes"),
    ([{"type": "video_url", "video_url": {"url": data_url(b"RIFF\0\0\0\0AVI LIST", "video/mp4")}}], "not a video"),
    ([{"type": "video_url", "video_url": {"url": data_url(), "fps": 0}}], "fps"),
    ([{"type": "video_url", "video_url": {"url": data_url(), "fps": "fast"}}], "fps"),
    ([{"type": "video_url", "video_url": {"url": data_url(), "max_frames": 0}}], "max_frames"),
    ([{"type": "video_url", "video_url": {"url": "/etc"}}], "data URL"),
    ([image(), {"type": "region", "kind": "box", "pixels": [0, 0, 65, 10]}], "leaves picture 0"),
    ([image(), {"type": "region", "kind": "box", "pixels": [-1, 0, 6, 10]}], "leaves picture 0"),
    ([image(), {"type": "region", "kind": "box", "pixels": [9, 9, 5, 10]}], "swapped"),
    ([image(), {"type": "region", "kind": "box", "pixels": [9, 9, 9, 9]}], "without area"),
    ([image(), {"type": "region", "kind": "box", "pixels": [1, 2, 3]}], "pixels"),
    ([image(), {"type": "region", "kind": "point", "pixels": [[1, 2], [3, 4]]}], "pixels"),
    ([image(), {"type": "region", "kind": "quad", "pixels": [1, 2, 3, 4]}], "pixels"),
    ([image(), {"type": "region", "kind": "circle", "pixels": [1, 2, 3]}], "kind"),
    ([image(), {"type": "region", "kind": "point", "pixels": ["1", "2"]}], "pixels"),
    ([image(), {"type": "region", "kind": "point", "pixels": [1, 2], "image": 1}], "no picture 1"),
    ([image(), {"type": "region", "kind": "point", "pixels": [1, 2], "image": -1}], "image"),
    ([{"type": "region", "kind": "point", "pixels": [1, 2]}], "no picture 0"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "word"), PART_CASES, ids=lambda value: str(value)[-60:] if isinstance(value, list) else None)
def test_parts_that_are_wrong(http: TestClient, parts: list[Any], word: str) -> None:
    refused(http, 400, chat(http, ask(*parts, "?")), word)


def clip(width: int, height: int, seconds: float, rate: int = 10) -> bytes:
    av = pytest.importorskip("av")
    from PIL import Image

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(round(seconds * rate)):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (width, height)))))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(("size", "word"), [((64, 48, 6.0), "6 s"), ((640, 480, 0.5), "640x480")])
def test_r15_clips_that_are_too_much(http: TestClient, size: tuple[int, int, float], word: str) -> None:
    refused(http, 400, chat(http, ask({"type": "video_url", "video_url": {"url": data_url(clip(*size), "video/mp4")}}, "?")), word)
    fine = {"type": "video_url", "video_url": {"url": data_url(clip(64, 48, 1.0), "video/mp4")}}
    assert chat(http, ask(fine, "?")).status_code == 200


# Addresses. Those on the allow-list are there on purpose: what they lead to decides.

ADDRESSES = {
    "images": ["93.184.216.34"], "loop": ["127.0.0.1"], "loop6": ["::1"], "any": ["0.0.0.0"], "any6": ["::"],
    "private10": ["10.1.2.3"],
    "private172": ["172.16.0.9"], "private192": ["192.168.1.1"], "linklocal": ["169.254.169.254"], "linklocal6": ["fe80::1"],
    "scoped": ["fe80::1%eth0"], "unique": ["fd00:ec2::254"], "shared": ["100.64.0.1"], "multicast": ["224.0.0.1"],
    "multicast6": ["ff02::1"],
    "reserved": ["240.0.0.1"], "broadcast": ["255.255.255.255"], "documentation": ["192.0.2.1"], "benchmark": ["198.18.0.1"],
    "mapped": ["::ffff:127.0.0.1"], "mappedprivate": ["::ffff:10.0.0.1"], "compatible": ["::127.0.0.1"],
    "nat64": ["64:ff9b::7f00:1"],
    "nat64private": ["64:ff9b::a00:1"], "nat64local": ["64:ff9b:1::1"], "sixtofour": ["2002:7f00:1::"],
    "teredo": ["2001:0:4136:e378::"],
    "sitelocal": ["fec0::1"], "mixed": ["93.184.216.34", "127.0.0.1"], "mixed6": ["2606:2800:220:1::1", "::1"], "none": [],
    "odd": ["localhost"],
    "discard": ["100::1"], "zero": ["0.1.2.3"], "alsoloop": ["127.255.255.254"], "localhost": ["127.0.0.1"],
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ADDRESSES if name != "images"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_r15_names_that_lead_inside(http: TestClient, name: str, scheme: str) -> None:
    error = refused(http, 400, chat(http, ask(image(f"{scheme}://{name}.cdn.example/a.png"), "?")), "could not be fetched")
    assert error["code"] == "media_fetch_failed"
    for address in ADDRESSES[name]:
        assert address not in error["message"], "the answer does not tell what is inside"


NOTATIONS = [
    "http://127.0.0.1/a.png", "http://127.0.0.1:80/", "http://127.1/", "http://127.0.1/", "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/", "http://0x7f.1/", "http://0177.0.0.1/", "http://017700000001/", "http://0177.1/", "http://127.0.0.01/",
    "http://127.0.0.1./", "http://0/", "http://0.0.0.0/", "http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[fe80::1%25eth0]/",
    "http://[2002:7f00:1::]/", "http://[fd00::1]/", "http://localhost/", "http://LOCALHOST/", "http://localhost./",
    "http://10.0.0.8/",
    "http://169.254.169.254/latest/meta-data/", "http://0xA9FEA9FE/", "http://2852039166/", "http://169.254.43518/",
    "http://0251.0376.0251.0376/",
    "http://①②⑦.⓪.⓪.①/", "http://１２７.0.0.1/", "http://127。0。0。1/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "http://localhost%00.images.example/",
    "http://images.example@127.0.0.1/", "http://127.0.0.1@images.example/", "http://user:pass@images.example/",
    "http://@images.example/",
    "http://images.example\\@127.0.0.1/", "http://127.0.0.1\\.images.example/", "http://127.0.0.1#@images.example/",
    "http://127.0.0.1?@images.example/", "http:///images.example/", "http://", "http:images.example/a.png",
    "//images.example/a.png",
    "http://images.example.evil.example/", "http://evilimages.example/", "http://cdn.example/", "http://example/",
    "http://evilcdn.example/",
    "http://images.example:22/", "http://images.example:0/", "http://images.example:99999/", "http://images.example:http/",
    "https://images.example:80/", "http://images.example /", "http://images.example/\r\nHost: 127.0.0.1",
    "http://images.example/a b.png",
    "http://images.exam\tple/a.png", " http://images.example/a.png", "http://images..example/", "http://.images.example/",
    "http://-images.example/",
    "http://" + "a" * 300 + ".cdn.example/", "http://images.example/" + "a" * 5000, "ftp://images.example/a.png",
    "gopher://images.example/",
    "dict://images.example:11211/", "ldap://images.example/", "ws://images.example/", "jar:http://images.example!/",
    "javascript:alert(1)",
    "blob:http://images.example/1", "unix:/var/run/docker.sock", "http+unix://images.example/",
    "view-source:http://images.example/",
]  # fmt: skip


@pytest.mark.parametrize("url", NOTATIONS, ids=lambda url: ascii(url[:60]))
def test_r15_addresses_in_every_notation(http: TestClient, url: str) -> None:
    refused(http, 400, chat(http, ask(image(url), "?")))


PATHS = [
    "{secret}", "file://{secret}", "file://localhost{secret}", "FILE://{secret}", "file:{secret}", "//{secret}",
    "/proc/self/root{secret}",
    "./../../../../../../../../..{secret}", "~/{name}", "data:,{secret}", "data:image/png;base64,{secret}", "data:{secret}",
    "images.example{secret}",
    "path:{secret}", "{secret}\0.png", "\\\\127.0.0.1\\share\\{name}", "C:{secret}", "concat:{secret}", "pipe:0", "fd:0",
    "/dev/zero", "/dev/stdin",
    "/etc/passwd", "../../../etc/passwd", "http://images.example/../..{secret}#file://{secret}",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATHS, ids=ascii)
@pytest.mark.parametrize("kind", ["image_url", "video_url"])
def test_r15_no_path_of_a_request_is_opened(http: TestClient, secret: Path, watch: Watch, pattern: str, kind: str) -> None:
    url = pattern.format(secret=secret, name=secret.name)
    if url.startswith("http://images.example"):
        url = url.replace("images.example", "loop.cdn.example")  # it is not asked either: its address leads inside
    answer = chat(http, ask({"type": kind, kind: {"url": url}}, "?"))
    error = refused(http, 400, answer)
    assert SECRET not in error["message"]


@pytest.mark.parametrize(
    "path",
    ["/assets/../server.py", "/assets/..%2fserver.py", "/assets/%2e%2e/server.py", "/assets/....//server.py", "/assets//etc/passwd",
     "/assets/%2fetc%2fpasswd", "/assets/..\\server.py", "/assets/index.html%00.js", "/assets/", "/assets", "/assets/.hidden",
     "/../etc/passwd",
     "/..%2f..%2fetc/passwd", "/v1/models/../../etc/passwd", "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/v1/files",
     "/v1/embeddings", "/docs",
     "/redoc", "/static/app.js", "/.env", "/.git/config", "/v1", "//evil.example/", "/v1/chat/completions/x"],
)  # fmt: skip
def test_paths_that_lead_nowhere(http: TestClient, path: str) -> None:
    answer = http.get(f"http://testserver{path}", follow_redirects=False)
    refused(http, 404, answer)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_methods_that_a_route_does_not_take(http: TestClient, method: str) -> None:
    answer = http.request(method, CHAT)
    refused(http, 405, answer)
    assert answer.headers["allow"] == "POST"
    assert "access-control-allow-origin" not in answer.headers, "no other site's page may read an answer"


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic cmlnaHQ=", "right", "Bearer right2", "Bearer righ", "bearer é"]
)
def test_keys_that_are_wrong(engine: ScriptedEngine, given: str | None) -> None:
    settings = ServerSettings(api_keys=("right", "other"), hosts=None)
    with TestClient(create_app({"nano": engine}, settings)) as http:
        headers = {} if given is None else {"Authorization": given.encode("utf-8")}
        before = len(engine.submitted)
        for answer in (
            http.post(CHAT, json=ask("x"), headers=headers),
            http.get("/v1/models", headers=headers),
            http.get("/metrics", headers=headers),
        ):
            refused(http, 401, answer)
            assert answer.headers["www-authenticate"] == "Bearer" and "right" not in answer.text
        assert len(engine.submitted) == before
        for key in ("right", "other"):
            assert http.post(CHAT, json=ask("x"), headers={"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1evil", "[::2]", ""]
)
def test_names_that_the_server_does_not_have(engine: ScriptedEngine, host: str) -> None:
    """DNS rebinding: a page whose own name was pointed at this machine."""
    with TestClient(create_app({"nano": engine}, ServerSettings()), base_url="http://127.0.0.1:8000") as http:
        answer = http.post(CHAT, json=ask("x"), headers={"Host": host})
        refused(http, 403, answer)
        for own in ("localhost:1", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000"):
            assert http.post(CHAT, json=ask("x"), headers={"Host": own}).status_code == 200


def test_every_answer_tells_browsers_to_be_careful(http: TestClient) -> None:
    for answer in (
        http.get("/"),
        http.get("/health"),
        http.get("/nothing"),
        chat(http, ask("x")),
        chat(http, ask("x", stream=True)),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_there_are_two_hundred_of_them() -> None:
    several = (
        len(BODIES)
        + len(TYPES)
        + len(BAD_FIELDS)
        + len(PICTURES)
        + len(PART_CASES)
        + 2 * len(ADDRESSES)
        + len(NOTATIONS)
        + 2 * len(PATHS)
    )
    assert several >= 200


def test_the_watch_sees_a_file_and_a_call(secret: Path) -> None:
    """It can fail."""
    import socket

    with watched() as seen:
        secret.read_bytes()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.connect(("192.0.2.1", 9))  # of a datagram socket: sends nothing
    assert any(SECRET in name for name in seen.opened) and seen.outside
    seen.opened, seen.called = [], []
