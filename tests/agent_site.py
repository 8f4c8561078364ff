"""A few web pages on loopback for the agent's browser, and a second server that stands for everybody else.

Both remember every request that reaches them.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

STYLE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>
body { font: 22px/1.5 sans-serif; margin: 0 } * { box-sizing: border-box }
.at { position: absolute; left: 40px; width: 300px; height: 60px; font: inherit } </style>"""
"""Elements of class `at` lie at x from 40 to 340, 60 pixels high; `top` says where."""


def at(top: int, tag: str, attributes: str = "", inside: str = "") -> str:
    return f'<{tag} class="at" style="top:{top}px" {attributes}>{inside}</{tag}>'


def pages(other: str) -> dict[str, str]:
    """other: the address of the other server, http://HOST:PORT."""
    return {
        "/form.html": '<form action="/thanks.html">'
        + at(40, "input", 'name="name" placeholder="Your name"')
        + at(120, "input", 'name="secret" type="password" placeholder="Password"')
        + at(200, "button", "", "Send")
        + "</form>",
        "/thanks.html": "<h1>Thank you</h1>",
        "/shop.html": "<h2>Tea shop</h2>"
        + at(60, "button", """onclick="location='/pot.html?colour=blue'" """, "Blue teapot, 12.00")
        + at(140, "button", """onclick="location='/pot.html?colour=red'" """, "Red teapot, 15.00"),
        "/pot.html": "<h2>Your basket</h2>" + at(60, "button", """onclick="location='/bought.html'+location.search" """, "Buy now"),
        "/bought.html": "<h1>Bought</h1>",
        "/leave.html": at(40, "a", f'href="{other}/away"', "Away")
        + at(120, "a", 'href="/redirect"', "By a redirect")
        + at(200, "a", f'href="{other}/window" target="_blank"', "In a window")
        + f'<form method="post" action="{other}/post"><input type="hidden" name="a" value="secret">'
        + at(280, "button", "", "Send")
        + "</form>"
        + at(360, "button", f"""onclick="setTimeout(() => location = '{other}/late', 100)" """, "A little later"),
        "/window.html": at(40, "button", """onclick="window.open('/thanks.html')" """, "Open"),
        "/dialog.html": at(40, "button", """onclick="this.textContent = confirm('Sure?')" """, "Ask")
        + at(120, "button", """onclick="alert('Hello')" """, "Greet")
        + at(200, "a", 'href="/file.bin" download="file.bin"', "Save")
        + at(280, "input", 'type="file"'),
        "/long.html": "<h1>Top</h1>" + at(3000, "button", """onclick="document.title='found'" """, "At the end")
        + '<div style="height:3200px"></div>',
        "/touch.html": at(40, "button", """ontouchstart="this.textContent='touched'" onclick="this.textContent+=' and clicked'" """)
        + at(120, "div", "", "press me"),
        "/spy.html": f"""<h1>Spy</h1><img src="{other}/img"><iframe src="{other}/frame"></iframe>
            <link rel="prefetch" href="{other}/prefetch"><link rel="preconnect" href="{other}">
            <script src="{other}/script"></script><script>
            fetch('{other}/fetch', {{mode: 'no-cors'}}).catch(() => 0); fetch('/redirect', {{mode: 'no-cors'}}).catch(() => 0);
            navigator.sendBeacon('{other}/beacon', 'secret'); new WebSocket('{other.replace("http", "ws")}/socket');
            new EventSource('{other}/events'); const x = new XMLHttpRequest(); x.open('POST', '{other}/xhr'); x.send('secret');
            new Worker(URL.createObjectURL(new Blob(["fetch('{other}/worker', {{mode: 'no-cors'}})"])));
            navigator.serviceWorker && navigator.serviceWorker.register('/worker.js').catch(() => 0);
            addEventListener('pagehide', () => navigator.sendBeacon('{other}/farewell', 'secret'));
            navigator.geolocation.getCurrentPosition(() => document.title = 'located', () => document.title = 'not located');
            </script>""",
        "/hang.html": at(40, "button", 'onclick="for (;;);"', "Hang"),
        "/close.html": at(40, "button", 'onclick="window.close()"', "Close"),
        "/still.html": "<h1>Nothing happens here</h1>",
        "/drag.html": at(40, "input", 'type="range" min="0" max="100" value="0" oninput="document.title=this.value"'),
        "/keys.html": at(40, "input", 'value="old" autofocus onkeydown="document.title+=event.key"'),
    }


class Place:
    """One server: `address`, and `seen`, the paths (with method) that were asked for."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.server = server
        self.port = server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.seen: list[str] = []


@contextmanager
def served() -> Iterator[tuple[Place, Place]]:
    """(site, other)."""
    other = Place(ThreadingHTTPServer(("127.0.0.1", 0), _Handler))
    site = Place(ThreadingHTTPServer(("127.0.0.1", 0), _Handler))
    content = pages(other.address)
    for place, shown in ((site, content), (other, {})):
        place.server.place, place.server.pages, place.server.other = place, shown, other.address  # type: ignore[attr-defined]
        threading.Thread(target=place.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield site, other
    finally:
        for place in (site, other):
            place.server.shutdown()
            place.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.place.seen.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        path = urlsplit(self.path).path
        if path == "/redirect":
            self.send_response(302)
            self.send_header("Location", f"{self.server.other}/redirected")  # type: ignore[attr-defined]
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        page = self.server.pages.get(path)  # type: ignore[attr-defined]
        body = (STYLE + page).encode() if page is not None else b"secret"
        self.send_response(200 if page is not None else 404)
        self.send_header("Content-Type", "text/html" if page is not None else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
