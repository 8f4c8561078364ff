"""Web pages as pages: laid out and drawn by headless Chromium, with their lines of text and their blocks.

Steps 1 and 2 of the paper's A.4 (arXiv 2308.12966), which used Puppeteer. A page is untrusted: its scripts do not run, nothing
reaches the network, and of the disk it is given what lies in its own folder (`root`), through us: it has no `file:` address.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image
from pydantic import Field

from qwenvl.config import Count, Strict
from qwenvl.data.documents.dom import STYLES, Dom, Fragment, read_snapshot
from qwenvl.data.documents.dom_layout import page_blocks, visible_pictures
from qwenvl.data.documents.dom_lines import DomLine, lines_of_fragments, page_cuts
from qwenvl.data.documents.ink import Ink
from qwenvl.data.documents.page import DocumentError, Line, NoPage, Page, Pixels, ReaderError
from qwenvl.data.documents.served import MAX_BYTES, ORIGIN, Served
from qwenvl.data.documents.text_lines import normal

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--hide-scrollbars", "--disable-lcd-text", "--font-render-hinting=none", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
ATTEMPTS = 3
"""Times that the browser is asked for a picture: on a machine under load it may have none at first."""
WIDEST = 1.6
"""A page wider than the view gets a wider one, up to so many times."""

SETTLE = """() => {
  for (const one of document.querySelectorAll('*')) {
    const style = getComputedStyle(one);
    if (style.position === 'fixed') one.style.setProperty('position', 'absolute', 'important');
    if (style.position === 'sticky') one.style.setProperty('position', 'static', 'important');
    if (one.tagName === 'IMG' && !one.naturalWidth) one.style.setProperty('visibility', 'hidden', 'important');
  }
  const style = document.createElement('style');
  style.textContent = `*, *::before, *::after { animation: none !important; transition: none !important;
    caret-color: transparent !important; scroll-behavior: auto !important; background-attachment: scroll !important }`;
  document.documentElement.append(style);
  return Math.max(document.documentElement.scrollWidth, document.body ? document.body.scrollWidth : 0);
}"""
"""Nothing moves, nothing stays in place while the page is scrolled, and pictures that are missing do not show their names."""
HIDE_TEXT = """() => {
  const style = document.createElement('style');
  style.id = 'without-text';
  style.textContent = `*, *::before, *::after, *::marker, *::placeholder { -webkit-text-fill-color: transparent !important;
    text-shadow: none !important } svg text, svg tspan { fill: transparent !important; stroke: transparent !important }`;
  document.documentElement.append(style);
}"""
SHOW_TEXT = "() => document.getElementById('without-text').remove()"


class HtmlSpec(Strict):
    """How web pages become pages."""

    width: Count = 1000
    """Of the view, in CSS pixels."""
    height: Count = 1414
    """Of a page at most, in CSS pixels: a web page is cut between lines. The two are A4's ratio."""
    scale: float = Field(default=1.0, gt=0, le=4)
    """Pixels of a CSS pixel."""
    max_pages: Count = 50
    """Pages of one file beyond these are left out, and counted."""
    seconds: float = Field(default=30.0, gt=0)
    """A file that takes longer to load is refused."""
    chromium: str = CHROMIUM
    """The browser to run."""


class Browser:
    """Chromium, started when the first page asks for it: `with Browser(spec) as browser: browser.pages(...)`."""

    def __init__(self, spec: HtmlSpec) -> None:
        self.spec = spec
        self._playwright: Any = None
        self._browser: Any = None

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the browser, which may have ended before."""
        if self._playwright is not None:
            from playwright.sync_api import Error

            with suppress(Error):
                if self._browser is not None:
                    self._browser.close()
            with suppress(Error):
                self._playwright.stop()
        self._browser = self._playwright = None

    def pages(self, path: Path, root: Path, name: str | None = None) -> Iterator[Page | NoPage]:
        """The pages of a file. What it refers to is looked for in `root`, a folder above it.

        Raises DocumentError for a file that is missing, too large or does not load, ReaderError where there is no browser.
        """
        name = name or str(path)
        path, root = path.resolve(), root.resolve()
        _check_file(path, root, name)
        context = self._context()
        from playwright.sync_api import Error  # there, or there would be no context

        try:
            served = Served(root, f"{ORIGIN}/{quote(path.relative_to(root).as_posix())}")
            context.route("**/*", served.answer)
            view = context.new_page()
            yield from _View(view, context.new_cdp_session(view), self.spec, name, served).pages()
        except Error as error:
            raise DocumentError(f"{name}: {_reason(error)}; leave it out, or look at it in a browser") from None
        finally:
            with suppress(Error):  # the browser is gone, and a new one is started for the next file
                context.close()

    def _context(self) -> Any:
        """A window without a memory, in a new browser where there is none or the last one has died."""
        if self._browser is not None:
            from playwright.sync_api import Error

            with suppress(Error):
                return self._new_context()
            self.close()
        self._start()
        return self._new_context()

    def _new_context(self) -> Any:
        spec = self.spec
        return self._browser.new_context(
            java_script_enabled=False, offline=True, service_workers="block", accept_downloads=False,
            viewport={"width": spec.width, "height": spec.height}, device_scale_factor=spec.scale, reduced_motion="reduce",
        )  # fmt: skip

    def _start(self) -> None:
        try:
            from playwright.sync_api import Error, sync_playwright
        except ImportError:
            raise ReaderError("web pages need playwright: pip install 'qwenvl[documents]'") from None
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(
                executable_path=self.spec.chromium, args=list(ARGUMENTS), chromium_sandbox=os.geteuid() != 0
            )
        except Error as error:
            self.close()
            raise ReaderError(
                f"{self.spec.chromium}: does not start ({_reason(error)}); on Debian: apt-get install chromium, or give --chromium"
            ) from None


def _check_file(path: Path, root: Path, name: str) -> None:
    if not path.is_file():
        raise DocumentError(f"{name}: no such file; check the path")
    if not path.is_relative_to(root):
        raise DocumentError(f"{name}: not in the folder {root}; give a folder above it as --root")
    if path.stat().st_size > MAX_BYTES:
        raise DocumentError(f"{name}: larger than {MAX_BYTES} bytes; leave it out")


def _reason(error: Exception) -> str:
    """What playwright says, without its log and the method's name."""
    first = str(error).strip().split("\n")[0]
    return first.split(": ", 1)[-1][:160]


class _View:
    """One document in the browser."""

    def __init__(self, view: Any, session: Any, spec: HtmlSpec, name: str, served: Served) -> None:
        self.view, self.session, self.spec, self.name, self.served = view, session, spec, name, served

    def pages(self) -> Iterator[Page | NoPage]:
        view, spec = self.view, self.spec
        view.set_default_timeout(spec.seconds * 1000)
        view.goto(self.served.address, wait_until="load")
        self.served.loaded = True
        wide = min(view.evaluate(SETTLE), int(WIDEST * spec.width))
        if wide > spec.width:
            view.set_viewport_size({"width": wide, "height": spec.height})
        dom = read_snapshot(self.session.send("DOMSnapshot.captureSnapshot", {"computedStyles": list(STYLES)}), spec.scale)
        height = spec.height * spec.scale
        cuts = page_cuts(dom, height, spec.max_pages)
        if not cuts:
            yield NoPage(self.name, 1, "nothing is shown")
        for number, (top, bottom) in enumerate(cuts, start=1):
            yield self.page(dom, number, top, bottom)
        if cuts and (rest := dom.size[1] - cuts[-1][1]) > 1:
            yield NoPage(self.name, len(cuts) + 1, f"beyond the first {spec.max_pages} pages of a file", math.ceil(rest / height))

    def page(self, dom: Dom, number: int, top: float, bottom: float) -> Page | NoPage:
        with_text, without = self.pictures(top, bottom)
        ink = Ink.between(with_text, without)
        frame = (0.0, top, float(with_text.width), bottom)
        fragments = [one for one in dom.fragments if one.box[1] >= top - 1 and one.box[3] <= bottom + 1]
        seen = [one for one in fragments if not one.text.strip() or ink.shows(_moved(one.box, top))]
        lines = _lines(seen, top, ink)
        grey = np.asarray(with_text.convert("L"))
        pictures = [(key, box) for key, box in visible_pictures(dom, frame) if _drawn(box, grey)]
        try:
            blocks = page_blocks(dom, lines, pictures, frame)
        except RecursionError:
            return NoPage(self.name, number, "elements nested too deeply")
        missed = round(1000 * ink.missed([one.line.box for one in lines]))
        notes = {"hidden pieces of text": len(fragments) - len(seen), "text ink outside of lines, per mille": missed}
        characters = "".join(one.text for one in fragments)
        image = with_text.convert("L") if _is_grey(with_text) else with_text
        written, noted = tuple(one.line for one in lines), {key: count for key, count in notes.items() if count}
        return Page(image, written, tuple(blocks), self.name, number, characters, noted)

    def pictures(self, top: float, bottom: float) -> tuple[Image.Image, Image.Image]:
        """A part of the page as it looks, and without its text."""
        scale = self.spec.scale
        start = self.view.evaluate("y => { window.scrollTo(0, y); return window.scrollY }", top / scale)
        crop = (0, round(top - start * scale), 0, round(bottom - start * scale))
        with_text = self.shot(crop)
        self.view.evaluate(HIDE_TEXT)
        without = self.shot(crop)
        self.view.evaluate(SHOW_TEXT)
        return with_text, without

    def shot(self, crop: tuple[int, int, int, int]) -> Image.Image:
        picture = capture(self.session)
        return picture.crop((0, max(crop[1], 0), picture.width, min(crop[3], picture.height)))


def capture(session: Any, **wanted: Any) -> Image.Image:
    """What a window shows; `wanted` as the DevTools protocol has it."""
    from playwright.sync_api import Error

    for left in reversed(range(ATTEMPTS)):
        try:
            answer = session.send("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": True, **wanted})
            break
        except Error:
            if not left:
                raise
    return Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")


def _moved(box: Pixels, top: float) -> Pixels:
    return box[0], box[1] - top, box[2], box[3] - top


def _lines(fragments: list[Fragment], top: float, ink: Ink) -> list[DomLine]:
    """Lines with boxes that fit their ink."""
    groups = list(lines_of_fragments(fragments))
    rough = [
        (min(one.box[0] for one in group), min(one.box[1] for one in group) - top,
         max(one.box[2] for one in group), max(one.box[3] for one in group) - top)
        for group in groups
    ]  # fmt: skip
    lines = []
    for group, box in zip(groups, ink.fitted(rough), strict=True):
        text = " ".join(normal("".join(one.text + one.blank for one in group)).split())
        if box is not None and text:
            left, upper, right, lower = box
            letters = [one for one in group if one.text.strip()]
            size = max(one.size for one in letters)
            bold, mono = (all(getattr(one, name) for one in letters) for name in ("bold", "mono"))
            lines.append(
                DomLine(Line(text, ((left, upper), (right, upper), (right, lower), (left, lower)), size, bold, mono), group)
            )
    return lines


def _drawn(box: Pixels, grey: np.ndarray) -> bool:
    """Whether a picture shows anything, in itself or against the ground it stands on."""
    left, top, right, bottom = (round(value) for value in box)
    part = grey[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]
    return part.size > 0 and int(part.max()) > int(part.min())


def _is_grey(picture: Image.Image) -> bool:
    red, green, blue = (np.asarray(channel) for channel in picture.split())
    return bool((red == green).all() and (green == blue).all())
