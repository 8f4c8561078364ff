"""The page for everyone: two languages, two themes, a phone, axe-core, no word untranslated, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")

from playwright.sync_api import Browser, Page, expect

from tests.page_browser import CHROMIUM, add_picture, ask, axe_source, chromium, picture, rectangle, until, violations, watched
from tests.page_server import SCENE, SEEN, WEB, Reply, Script, box, serve

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: apt-get install chromium")

SETTINGS = ("#settings", "#settings-dialog")
DIALOGS = (SETTINGS, (".icon-button.json", "#json-dialog"), ("#live", "#live-dialog"))
FORBIDDEN = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
STILL = """[...document.querySelectorAll('*')].every((one) => {
  const style = getComputedStyle(one);
  return style.animationName === 'none' && /^(0s, )*0s$/.test(style.transitionDuration);
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_source()


def ask_the_sample(page: Page) -> None:
    page.click("[data-sample=ground]")
    page.wait_for_selector(".attachment")
    until(page, "document.querySelector('#question').value !== ''")
    page.click("#send")
    page.wait_for_selector(".answer-foot")
    page.wait_for_selector(".place")


LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 375, "height": 760}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2},
    "chinese": {"locale": "zh-CN"},
}


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious(browser: Browser, axe: str, look: str) -> None:
    """Of the beginning, a question being written, an answer, an error, and every dialog."""
    replies = (SEEN, Reply(status=503, error="the server is shutting down"))
    with serve(Script(lambda body, number: replies[number])) as script, watched(browser, script.url, **LOOKS[look]) as seen:
        page = seen.page
        assert violations(page, axe) == [], "at the beginning"
        page.click("[data-sample=cities]")
        page.wait_for_selector(".attachment >> nth=1")
        page.click("#draw")
        for key in ("Enter", "Shift+ArrowDown", "Shift+ArrowRight", "Enter"):
            page.keyboard.press(key)
        expect(page.locator(".place-item")).to_have_count(1)
        assert violations(page, axe) == [], "while a question is written"
        page.click("#menu" if look == "phone" else "#new")
        if look == "phone":
            assert violations(page, axe) == [], "the open side"
            page.click("#new")
        ask_the_sample(page)
        assert violations(page, axe) == [], "an answer"
        page.locator(".word").first.focus()
        expect(page.locator(".word.lit")).to_have_count(1)
        page.wait_for_timeout(200)  # colours change over a moment
        assert violations(page, axe) == [], "a word that is lit"
        for button, dialog in DIALOGS:
            page.click(button)
            expect(page.locator(dialog)).to_be_visible()
            expect(page.locator("#live-start")).to_be_enabled() if dialog == "#live-dialog" else None
            assert violations(page, axe) == [], dialog
            page.keyboard.press("Escape")
        page.fill("#question", "And now?")
        page.keyboard.press("Enter")
        page.wait_for_selector(".retry")
        assert violations(page, axe) == [], "an error"
        seen.errors[:] = [line for line in seen.errors if "503" not in line]


def test_phone_needs_no_sideways_scrolling(browser: Browser) -> None:
    table = "| a | b | c | d |\n|---|---|---|---|\n" + "| wide cell number one | two | three | four |\n" * 3
    text = "A very" + "long" * 40 + f" word, `code` and\n\n{table}"
    long = Reply((text,), None, tuple(box(f"thing {number}", number, number, 50 + number, 60) for number in range(20)))
    replies = (SEEN, long, Reply(status=400, error="x" * 300))
    with serve(Script(lambda body, number: replies[number])) as script, watched(browser, script.url, **LOOKS["phone"]) as seen:
        page = seen.page

        def check(when: str) -> None:
            assert page.evaluate("document.documentElement.scrollWidth") <= 375, when
            assert page.locator("#scroll").evaluate("node => node.scrollWidth <= node.clientWidth"), when
            left, _, right, bottom = rectangle(page, "#composer")
            assert left >= 0 and right <= 375 and bottom <= 760.5, (when, "the question is in reach")

        check("at the beginning")
        ask_the_sample(page)
        check("an answer")
        for name in ("one.jpg", "two.jpg", "three.jpg"):
            add_picture(page, picture(), name)
        page.click("#draw")
        for key in ("Enter", "Shift+ArrowDown", "Shift+ArrowRight", "Enter"):
            page.keyboard.press(key)
        check("with pictures and a place")
        ask(page, "And these?", 2)
        check("a long answer")
        expect(page.locator(".entries").nth(1).locator("li:visible")).to_have_count(8)
        ask(page, "Wrong", 3)
        check("an error")
        page.click("#menu")
        expect(page.locator("#side")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#side")).to_be_hidden()
        seen.errors[:] = [line for line in seen.errors if "400" not in line]


def test_a_box_is_drawn_by_touch(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url, **LOOKS["phone"]) as seen:
        page = seen.page
        add_picture(page)
        page.tap("[data-tool=box]")
        left, top, right, bottom = rectangle(page, "#frame")
        client = seen.context.new_cdp_session(page)

        def touch(kind: str, x: float, y: float) -> None:
            point = {"x": left + x * (right - left), "y": top + y * (bottom - top)}
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else [point]})

        for kind, x, y in (("touchStart", 0.2, 0.2), ("touchMove", 0.5, 0.5), ("touchMove", 0.8, 0.7), ("touchEnd", 0, 0)):
            touch(kind, x, y)
        expect(page.locator(".place-item")).to_contain_text("box 40, 20 – 160, 70")


def test_the_language_follows_the_browser_and_can_be_switched(browser: Browser) -> None:
    with serve(Script(lambda body, number: SEEN)) as script, watched(browser, script.url, locale="zh-CN") as seen:
        page = seen.page
        assert page.get_attribute("html", "lang") == "zh"
        expect(page.locator("h1")).to_have_text("看图问答")
        ask_the_sample(page)
        assert script.bodies[0]["messages"][-1]["content"][-1]["text"].startswith("甜甜圈")
        expect(page.locator(".costs")).to_contain_text("词元")
        page.click("[data-language=en]")
        expect(page.locator(".costs")).to_contain_text("tokens read")
        expect(page.locator("#question")).to_have_attribute("placeholder", "Ask about a picture or a clip")
        expect(page.locator(".place")).to_have_count(4)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.get_attribute("html", "lang") == "en"


def test_the_theme_follows_the_system_and_can_be_switched(browser: Browser) -> None:
    paper = "getComputedStyle(document.querySelector('.app')).backgroundColor"
    with serve(Script()) as script, watched(browser, script.url, color_scheme="dark") as seen:
        page = seen.page
        dark = page.evaluate(paper)
        page.click("[data-theme-choice=light]")
        light = page.evaluate(paper)
        assert light == "rgb(255, 255, 255)" != dark
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.evaluate(paper) == light
        page.click("[data-theme-choice=auto]")
        assert page.evaluate(paper) == dark


def test_without_motion_nothing_moves(browser: Browser) -> None:
    slow = Reply(("a",) * 5, pause=0.5)
    for motion, stands in (("reduce", True), ("no-preference", False)):
        with serve(Script(lambda body, number: slow)) as script, watched(browser, script.url, reduced_motion=motion) as seen:
            seen.page.fill("#question", "Wait")
            seen.page.keyboard.press("Enter")
            seen.page.wait_for_selector(".waiting")
            assert seen.page.evaluate(STILL) is stands


def test_the_answer_is_said_to_screen_readers(browser: Browser) -> None:
    with serve(Script(lambda body, number: SEEN)) as script, watched(browser, script.url) as seen:
        page = seen.page
        assert page.get_attribute("#announcer", "aria-live") == "polite"
        ask_the_sample(page)
        expect(page.locator("#announcer")).to_have_text(SCENE)
        expect(page.locator("#question")).to_be_focused()


def test_every_word_has_both_languages_and_is_used() -> None:
    words = (WEB / "words.js").read_text(encoding="utf-8")
    keys = re.findall(r'^  "?([\w.]+)"?: \[', words, re.MULTILINE)
    code = "".join(path.read_text(encoding="utf-8") for path in WEB.glob("*.js") if path.name != "words.js")
    html = (WEB / "index.html").read_text(encoding="utf-8")
    assert len(keys) > 150 and len(set(keys)) == len(keys)
    said = set(re.findall(r'\bt\("([\w.]+)"', code)) | set(re.findall(r'data-t(?:-label|-placeholder)?="([\w.]+)"', html))
    assert said <= set(keys), said - set(keys)
    families = re.findall(r"\bt\(`([\w.]+\.)\$", code)
    unused = {key for key in keys if key not in said and not any(key.startswith(family) for family in families)}
    kinds = {"box", "point", "quad"}  # looked up by their names
    assert {key for key in unused if f'"{key}"' not in code} <= kinds


def test_the_page_is_of_files_of_its_own() -> None:
    """No address of another host, no inline script or style, nothing that reads a string as HTML or code."""
    for path in (*WEB.glob("*.js"), *WEB.glob("*.css"), WEB / "index.html"):
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, (path.name, addresses)
        assert not re.search(FORBIDDEN, text), path.name
    html = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<script>|<style", html)
    for module in WEB.glob("*.js"):
        assert module.read_text(encoding="utf-8").startswith("// "), (module.name, "says at its top what it is")
