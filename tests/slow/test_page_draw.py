"""Places drawn on a picture, by pointer and by keyboard, and what the request says of them; ways in for pictures; live frames."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.page_browser import CHROMIUM, add_picture, answered, ask, chromium, picture, rectangle, until, watched
from tests.page_server import WEB, Reply, Script, box, serve

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def parts(body: dict[str, Any], message: int = -1) -> list[dict[str, Any]]:
    return body["messages"][message]["content"]


def regions(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in parts(body) if part["type"] == "region"]


class Canvas:
    """Points at a picture of 200 x 100 pixels in its own pixels."""

    def __init__(self, page: Page) -> None:
        self.page = page
        left, top, right, bottom = rectangle(page, "#frame")
        self.place = lambda x, y: (left + x * (right - left) / 200, top + y * (bottom - top) / 100)

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*self.place(*begin))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(*end), steps=4)
        self.page.mouse.up()

    def tap(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.place(x, y))


def test_a_drawn_box_is_sent_in_pixels_of_the_picture(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        page.click("[data-tool=box]")
        Canvas(page).drag((150, 80), (30, 20))
        expect(page.locator("#question")).to_have_value("What is in [1]?")
        expect(page.locator(".place.mine")).to_have_count(1)
        page.fill(".place-label", "the thing")
        page.locator("#question").press("Enter")
        answered(page)
        image, before, region, after = parts(script.bodies[0])
        assert image["type"] == "image_url" and (before["text"], after["text"]) == ("What is in ", "?")
        assert {**region, "pixels": None} == {"type": "region", "kind": "box", "pixels": None, "image": 0, "label": "the thing"}
        assert region["pixels"] == pytest.approx([30, 20, 150, 80], abs=1)
        assert all(isinstance(value, int) for value in region["pixels"])
        expect(page.locator(".bubble .mark")).to_have_text("the thing")


def test_points_and_corners(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        canvas = Canvas(page)
        page.click("[data-tool=quad]")
        for corner in ((150, 90), (50, 80), (60, 10), (160, 20)):  # from the bottom right
            canvas.tap(*corner)
        page.fill("#question", "Read this")
        page.locator("#question").press("Enter")
        answered(page)
        (quad,) = regions(script.bodies[0])
        assert quad["kind"] == "quad", "clockwise from the top left, whichever way it was drawn"
        corners = ((60, 10), (160, 20), (150, 90), (50, 80))
        assert [tuple(point) for point in quad["pixels"]] == [pytest.approx(corner, abs=1) for corner in corners]
        page.select_option("#model", "qwen2.5-vl-nano")
        page.click("[data-tool=point]")
        canvas.tap(40, 60)
        page.locator("#question").press("Enter")
        answered(page, 2)
        (point,) = regions(script.bodies[1])
        assert point["kind"] == "point" and point["pixels"][0] == pytest.approx([40, 60], abs=1) and point["image"] == 0


def test_undo_takes_the_last_place_back(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        page.click("[data-tool=box]")
        canvas = Canvas(page)
        canvas.drag((10, 10), (50, 50))
        page.fill("#question", "Is [1] like")
        canvas.drag((100, 10), (150, 50))
        canvas.drag((60, 60), (90, 90))
        expect(page.locator("#question")).to_have_value("Is [1] like [2] [3]")
        page.get_by_label("Remove place 2").click()
        expect(page.locator("#question")).to_have_value("Is [1] like [2]")
        page.click("#undo")
        expect(page.locator("#question")).to_have_value("Is [1] like")
        page.locator("#stage-view").focus()
        page.keyboard.press("Control+z")
        expect(page.locator(".place.mine")).to_have_count(0)
        canvas.drag((10, 10), (10.4, 10.4))
        expect(page.locator(".place.mine")).to_have_count(0)  # no area, no box
        expect(page.locator("#undo")).to_be_disabled()


def test_a_place_on_an_earlier_picture_has_its_number(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page, picture(), "a.jpg")
        add_picture(page, picture(200, 100, (100, 10, 150, 60)), "b.jpg")
        ask(page, "Two pictures")
        page.locator(".film-button").nth(1).click()
        page.click("[data-tool=box]")
        Canvas(page).drag((100, 10), (150, 60))
        page.locator("#question").press("Enter")
        answered(page, 2)
        assert [region["image"] for region in regions(script.bodies[1])] == [1]
        assert [part["type"] for part in parts(script.bodies[1])] == ["text", "region", "text"], "pictures are not sent twice"
        assert [part["type"] for part in parts(script.bodies[1], 0)] == ["image_url", "image_url", "text"]


def test_places_show_on_the_picture_they_are_in(browser: Browser) -> None:
    found = (box("one", 0, 0, 10, 10), box("two", 20, 20, 60, 60, image=1))
    with serve(Script(lambda body, number: Reply(("one two",), None, found))) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page, picture(), "a.jpg")
        add_picture(page, picture(100, 100), "b.jpg")
        ask(page, "Where?")
        expect(page.locator(".tag")).to_have_text("two")
        page.locator(".word", has_text="one").hover()
        expect(page.locator(".tag")).to_have_text("one")
        expect(page.locator("#picture-facts")).to_contain_text("200 × 100 px")
        expect(page.locator(".place.lit")).to_have_count(1)


def test_all_of_it_by_keyboard(browser: Browser) -> None:
    """From the sample to the answer's place, without a pointer."""
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page

        def tab_to(selector: str, key: str = "Tab") -> None:
            for _ in range(60):
                page.keyboard.press(key)
                if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                    return
            raise AssertionError(f"{selector} is out of reach of the keyboard")

        tab_to(".sample")
        page.keyboard.press("Enter")
        page.wait_for_selector(".attachment")
        until(page, "document.activeElement.id === 'question'")
        tab_to("#stage-view", "Shift+Tab")
        for key in ("b", "Enter", "Shift+ArrowRight", "Shift+ArrowDown", "Alt+ArrowLeft"):
            page.keyboard.press(key)
        expect(page.locator("#announcer")).to_have_text("Cross at 201, 202")
        for key in ("Enter", "Enter", "ArrowUp", "Escape", "Escape", "/"):
            page.keyboard.press(key)
        expect(page.locator("#question")).to_be_focused()
        page.keyboard.press("Enter")
        answered(page)
        assert [region["pixels"] for region in regions(script.bodies[0])] == [[168, 168, 201, 202]]
        tab_to(".word", "Shift+Tab")
        expect(page.locator(".place.lit")).to_have_count(1)
        tab_to(".answer-actions .again")
        page.keyboard.press("Enter")
        expect(page.locator(".answer-actions")).to_contain_text("2 / 2")
        tab_to("#settings", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#settings-dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#settings")).to_be_focused()


def test_ways_in(browser: Browser) -> None:
    """Dropped, pasted, from the camera; what is no picture is a line."""
    give = """(kind) => fetch('assets/samples/scene-2.png').then((r) => r.blob()).then((blob) => {
        const data = new DataTransfer();
        data.items.add(new File([blob], 'given.png', {type: 'image/png'}));
        const event = kind === 'paste' ? new ClipboardEvent('paste', {clipboardData: data, bubbles: true})
          : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
        document.querySelector('#question').dispatchEvent(event);
    })"""
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page
        page.evaluate(give, "dragenter")
        expect(page.locator("#drop")).to_be_visible()
        page.evaluate(give, "drop")
        expect(page.locator("#drop")).to_be_hidden()
        expect(page.locator(".attachment")).to_have_count(1)
        page.evaluate(give, "paste")
        expect(page.locator(".attachment")).to_have_count(2)
        page.click("#camera")
        until(page, "document.querySelector('#camera-view').videoWidth > 0")
        page.click("#camera-take")
        expect(page.locator(".attachment")).to_have_count(3)
        page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no picture"})
        expect(page.locator("#notice")).to_contain_text("a.txt: this browser cannot show it")
        ask(page, "What are these?")
        urls = [part["image_url"]["url"] for part in parts(script.bodies[0])[:3]]
        assert [url.partition(";")[0] for url in urls] == ["data:image/png"] * 2 + ["data:image/jpeg"]


def test_a_clip_is_sent_as_it_is(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page
        page.click("[data-sample=when]")
        expect(page.locator(".attachment")).to_contain_text("224 × 224")
        page.click("#send")
        expect(page.locator("#notice")).to_contain_text("takes no clips")
        page.select_option("#model", "qwen2-vl-nano-chat")
        page.click("#settings")
        page.fill("[name=max_frames]", "8")
        page.keyboard.press("Escape")
        page.click("#send")
        answered(page)
        clip, question = parts(script.bodies[0])
        url = clip["video_url"]["url"]
        assert clip["type"] == "video_url" and clip["video_url"]["max_frames"] == 8 and "star" in question["text"]
        assert url.startswith("data:video/mp4;base64,")
        assert base64.b64decode(url.partition(",")[2]) == (WEB / "pictures" / "clip.mp4").read_bytes()
        expect(page.locator("#frame video")).to_be_visible()


def test_live_asks_one_frame_at_a_time(browser: Browser) -> None:
    slow = lambda body, number: Reply((f"frame {number}",), None, (box("frame", 10, 10, 50, 50),), pause=0.7)  # noqa: E731
    with serve(Script(slow)) as script, watched(browser, script.url) as seen:
        page = seen.page
        page.click("#live")
        page.fill("#live-question", "What is it?")
        page.select_option("#live-every", "0.5")
        until(page, "document.querySelector('#live-view').videoWidth > 0")
        page.click("#live-start")
        expect(page.locator("#live-answer")).to_have_text("frame 2")
        expect(page.locator("#live-frame .place")).to_have_count(1)
        assert script.most_at_work == 1
        page.click("#live-start")
        asked = len(script.bodies)
        page.wait_for_timeout(1500)
        assert len(script.bodies) == asked
        first, second = (parts(body)[0]["image_url"]["url"] for body in script.bodies[:2])
        assert first.startswith("data:image/jpeg") and first != second and parts(script.bodies[0])[1]["text"] == "What is it?"
        page.keyboard.press("Escape")
        assert page.evaluate("document.querySelector('#live-view').srcObject?.active") is not True, "the camera is off"


def test_a_stretch_of_a_clip_is_played(browser: Browser) -> None:
    reply = Reply(("From 2.0 to 3.0 seconds.",), None, spans=({"start": 2.0, "end": 3.0, "label": None},))
    with serve(Script(lambda body, number: reply)) as script, watched(browser, script.url) as seen:
        page = seen.page
        page.select_option("#model", "qwen2-vl-nano-chat")
        page.click("[data-sample=when]")
        until(page, "document.querySelector('#question').value !== ''")
        page.click("#send")
        answered(page)
        page.locator("button.span", has_text="2.0 – 3.0 s").click()
        until(page, "document.querySelector('#frame video').currentTime >= 2")
        until(page, "document.querySelector('#frame video').paused")
        assert 2.9 < page.evaluate("document.querySelector('#frame video').currentTime") < 4.5


def test_a_picture_is_saved_with_its_places(browser: Browser, tmp_path: Path) -> None:
    reply = Reply(("x",), None, (box("x", 100, 40, 160, 90),))
    with serve(Script(lambda body, number: reply)) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        ask(page, "Where?")
        expect(page.locator(".place")).to_have_count(1)
        with page.expect_download() as download:
            page.click("#save-picture")
        assert download.value.suggested_filename == "one-places.png"
        download.value.save_as(tmp_path / "saved.png")
        with Image.open(tmp_path / "saved.png") as saved:
            assert saved.size == (200, 100)
            edge, inside = (saved.convert("RGB").getpixel(place) for place in ((130, 90), (130, 70)))
        assert edge == (0xC2, 0x25, 0x5C), "the first label's colour"
        assert inside == pytest.approx((46, 139, 87), abs=3), "seagreen, as before"
