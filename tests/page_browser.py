"""The page in a headless Chromium, watched: what it logs, what it asks of other origins, what axe-core finds."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = "/usr/bin/chromium"
AXE = "4.14.1"
SLOW_MACHINE = 20_000  # ms to wait for what should take a few


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a camera that shows a test picture."""
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and what it should not have done. `errors` may be emptied by a test that expects some."""

    page: Page
    context: BrowserContext
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def ready(self, url: str) -> Page:
        self.page.goto(url)
        self.page.wait_for_selector("body[data-ready]")
        return self.page


@contextmanager
def watched(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """The page at `url`, opened in a profile of its own. At the end: no error was logged, nothing was asked of another origin."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-US", **options})
    context.set_default_timeout(SLOW_MACHINE)
    page = context.new_page()
    seen = Watched(page, context)
    inside = (url, "blob:" + url, "data:")

    def logged(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.errors.append(message.text)

    def requested(request: Request) -> None:
        if not request.url.startswith(inside):
            seen.foreign.append(request.url)

    page.on("console", logged)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    context.on("request", requested)
    try:
        seen.ready(url)
        yield seen
        assert not seen.errors, seen.errors
        assert not seen.foreign, seen.foreign
    finally:
        context.close()


def until(page: Page, expression: str) -> None:
    """Waits until an expression holds in the page. (Playwright's own way is an eval in the page, which its policy forbids.)"""
    for _ in range(SLOW_MACHINE // 50):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"still not: {expression}")


def picture(width: int = 200, height: int = 100, box: tuple[int, int, int, int] = (20, 10, 60, 50), orientation: int = 1) -> bytes:
    """A JPEG with a red box on green. orientation: of its EXIF."""
    image = Image.new("RGB", (width, height), "seagreen")
    ImageDraw.Draw(image).rectangle(box, fill="crimson")
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def add_picture(page: Page, content: bytes | None = None, name: str = "one.jpg") -> None:
    """Through the file picker; waits until it is shown."""
    before = page.locator(".attachment").count()
    page.set_input_files("#file", {"name": name, "mimeType": "image/jpeg", "buffer": content or picture()})
    until(page, f"document.querySelectorAll('.attachment').length > {before}")
    until(page, "document.querySelector('#frame img')?.complete")


def ask(page: Page, question: str, answers: int = 1) -> None:
    """Sends a question and waits until so many turns are answered."""
    page.fill("#question", question)
    page.keyboard.press("Enter")
    answered(page, answers)


def answered(page: Page, answers: int = 1) -> None:
    until(page, f"document.querySelectorAll('.answer-foot').length === {answers}")


def rectangle(page: Page, selector: str) -> list[float]:
    """Left, top, right, bottom on the screen of the first element."""
    script = "node => { const room = node.getBoundingClientRect(); return [room.left, room.top, room.right, room.bottom]; }"
    return page.locator(selector).first.evaluate(script)


def axe_source() -> str:
    """axe-core, by npm from its registry; kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwenvl-tests" / f"axe-core-{AXE}"
    script = cache / "package" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        assert npm, "the test of accessibility needs npm, which fetches axe-core: apt-get install npm"
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([npm, "pack", f"axe-core@{AXE}"], cwd=cache, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"npm pack axe-core@{AXE} failed; is the registry reached? {done.stderr[-300:]}"
        with tarfile.open(cache / f"axe-core-{AXE}.tgz") as archive:
            archive.extractall(cache, filter="data")
    return script.read_text(encoding="utf-8")


def violations(page: Page, source: str) -> list[str]:
    """What axe-core calls serious or critical, a line each."""
    page.evaluate(source)
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{one['id']}: {json.dumps([(node['target'], node.get('failureSummary', '')[:300]) for node in one['nodes'][:5]])}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
