"""The page and `qwenvl serve` with the built-in model, together: the donut's box is where the donut is."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")

from PIL import Image
from playwright.sync_api import Page, expect

from tests.page_browser import CHROMIUM, add_picture, answered, ask, chromium, rectangle, until, watched

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: apt-get install chromium")

SHOTS = os.environ.get("QWENVL_PAGE_SHOTS")
"""A folder that the pictures of the page in docs/images are written to, if they are to be drawn anew."""
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2},
}  # fmt: skip

MODELS = ("qwen-vl-nano-chat", "qwen2-vl-nano-chat")


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """`qwenvl serve` on a free port; its address."""
    command = [sys.executable, "-m", "qwenvl", "serve", "--port", "0", "--device", "cpu", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as process:
        assert process.stdout is not None
        said = ""
        try:
            for line in process.stdout:
                said += line
                found = re.search(r"serving at (http://\S+)", line)
                if found:
                    yield found[1].rstrip("/")
                    break
            else:
                raise AssertionError(f"the server does not start: {said[-1000:]}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def shoot(page: Page, name: str) -> None:
    """A picture of 256 colours: they are in the repository."""
    page.mouse.move(1, 1)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(256, dither=Image.Dither.NONE).save(f"{SHOTS}/page-{name}.png", optimize=True)


def overlap(one: list[float], other: list[float]) -> float:
    """Intersection over union of two boxes."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    both = max(across, 0) * max(down, 0)
    return both / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - both)


def test_ask_see_the_box_draw_one(data_folder: Path, repository: Path) -> None:
    samples = repository / "qwenvl" / "assets" / "samples"
    things = {thing["name"]: thing["box"] for thing in json.loads((samples / "truth.json").read_text())["scene-2.png"]["things"]}
    with serving("--model", *MODELS) as url, chromium() as browser, watched(browser, url) as seen:
        page = seen.page
        add_picture(page, (samples / "scene-2.png").read_bytes(), "scene-2.png")
        ask(page, "Where is the donut? Give its box.")
        left, top, right, _ = rectangle(page, "#frame img")
        scale = (right - left) / 336
        shown = rectangle(page, ".place rect.line")
        found = [(shown[0] - left) / scale, (shown[1] - top) / scale, (shown[2] - left) / scale, (shown[3] - top) / scale]
        assert overlap(found, things["donut"]) > 0.5, found
        expect(page.locator(".word")).to_contain_text("donut")
        expect(page.locator(".costs")).to_contain_text(re.compile(r"\d+ tokens read \(\d+ of pictures.*written.*first after"))

        page.click("[data-tool=box]")
        panda = [value * scale + corner for value, corner in zip(things["panda"], (left, top, left, top))]
        page.mouse.move(*panda[:2])
        page.mouse.down()
        page.mouse.move(*panda[2:], steps=3)
        page.mouse.up()
        expect(page.locator("#question")).to_have_value("What is in [1]?")
        page.locator("#question").press("Enter")
        answered(page, 2)
        expect(page.locator(".answer-body").nth(1)).to_contain_text("panda")

        page.select_option("#model", MODELS[1])
        page.click("#new")
        page.click("[data-sample=when]")
        until(page, "document.querySelector('#question').value !== ''")
        page.click("#send")
        answered(page)
        expect(page.locator(".answer-body")).to_contain_text(re.compile(r"\d"))
        expect(page.locator(".answer .error-line")).to_have_count(0)


def test_the_server_keeps_its_policy(repository: Path) -> None:
    """The page is whole under the server's own headers, its key included, and every file that it names is there."""
    with serving("--api-key", "secret") as url, chromium() as browser, watched(browser, url) as seen:
        page = seen.page
        page.fill("#api-key", "secret")
        page.keyboard.press("Enter")
        expect(page.locator("#model")).to_have_value(MODELS[0])
        ask(page, "Hello")
        expect(page.locator(".answer .error-line")).to_have_count(0)
        web = repository / "qwenvl" / "serve" / "web"
        listed = re.findall(r'"((?:samples|pictures)/[\w.-]+)"', (web / "samples.js").read_text())
        missing = [name for name in listed if page.request.get(f"{url}/assets/{name}").status != 200]
        assert len(listed) > 8 and not missing, missing
        seen.errors[:] = [line for line in seen.errors if "401" not in line]


def test_every_thing_is_found_on_every_screen(repository: Path) -> None:
    """A grounded caption of the nano model's: each of its places has a word and a shape, on a desk and on a phone."""
    scene = (repository / "qwenvl" / "assets" / "samples" / "scene-2.png").read_bytes()
    with serving() as url, chromium() as browser:
        for look, options in LOOKS.items():
            with watched(browser, url, **options) as seen:
                page = seen.page
                add_picture(page, scene, "scene-2.png")
                ask(page, "Tell me what you see and draw a box around each thing.")
                count = page.locator(".word").count()
                assert count >= 3 and page.locator(".place").count() == page.locator(".tag").count() == count
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                if SHOTS:
                    shoot(page, look)
