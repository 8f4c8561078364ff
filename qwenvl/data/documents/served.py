"""What a web page gets of the disk and of the network: files of its own folder, and nothing else."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ORIGIN = "http://document.invalid"
"""The address that a document believes it has; RFC 2606 keeps `.invalid` from ever being one."""
MAX_BYTES = 20_000_000
"""Of a file at most."""


class Served:
    """Answers what a document asks for: the document itself, and files in `root`. Everything else is refused, and every way out."""

    def __init__(self, root: Path, address: str) -> None:
        self.root, self.address = root, address
        self.loaded = False

    def answer(self, route: Any) -> None:
        request = route.request
        if request.is_navigation_request() and (self.loaded or request.url != self.address):
            route.fulfill(status=204)  # no content: the page stays as it is, where an error would take its place
            return
        content = self.read(request.url) if request.url.startswith(f"{ORIGIN}/") else None
        if content is None:
            route.abort()
            return
        kind = mimetypes.guess_type(urlsplit(request.url).path)[0] or "application/octet-stream"
        kind = "text/html" if request.url == self.address and kind != "application/xhtml+xml" else kind
        route.fulfill(body=content, content_type=kind)

    def read(self, address: str) -> bytes | None:
        try:
            path = (self.root / unquote(urlsplit(address).path).lstrip("/")).resolve()
            inside = path.is_relative_to(self.root) and path.is_file() and path.stat().st_size <= MAX_BYTES
            return path.read_bytes() if inside else None
        except (OSError, ValueError):
            return None
