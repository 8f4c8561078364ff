"""The page and what belongs to it: read once, when the server starts. No path of a request is ever looked up on the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from qwenvl.serve.errors import ApiError

FOLDER = Path(__file__).with_name("web")
SAMPLES = Path(__file__).parents[1] / "assets" / "samples"
"""Pictures for the page's examples."""
KINDS = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8", ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png",
    ".jpg": "image/jpeg", ".webp": "image/webp", ".ico": "image/x-icon", ".woff2": "font/woff2", ".mp4": "video/mp4",
    ".webmanifest": "application/manifest+json", ".txt": "text/plain; charset=utf-8",
}  # fmt: skip


class Pages:
    """Files by the path that a request may name: exactly those that lay in the folder at the start, and the sample pictures."""

    def __init__(self, folder: Path = FOLDER, samples: Path = SAMPLES) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        files = [(file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*"))]
        files += [(f"samples/{file.name}", file) for file in sorted(samples.glob("*.png"))]
        for name, file in files:
            kind = KINDS.get(file.suffix.lower())
            if kind and file.is_file() and not any(part.startswith(".") for part in name.split("/")):
                content = file.read_bytes()
                self._files[name] = (content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    def answer(self, name: str, request: Request) -> Response:
        """Raises ApiError (404)."""
        found = self._files.get(name)
        if found is None:
            what = "this installation has no page; the API is under /v1" if name == "index.html" else "there is no such file"
            raise ApiError(404, what, code="not_found")
        content, kind, tag = found
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)
