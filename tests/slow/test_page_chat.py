"""The page in a browser: ask, see the places, stop, ask again, edit, come back; and what a model writes stays text."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.page_browser import CHROMIUM, add_picture, answered, ask, chromium, picture, rectangle, until, watched
from tests.page_server import DONUT, Reply, Script, box, serve

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def parts(body: dict[str, Any], message: int = -1) -> list[dict[str, Any]]:
    return body["messages"][message]["content"]


def sent_bytes(part: dict[str, Any]) -> bytes:
    return base64.b64decode(part["image_url"]["url"].partition(",")[2])


def on_screen(page: Page, pixels: tuple[float, float, float, float]) -> list[float]:
    """Where a box of the picture is on the screen."""
    left, top, right, bottom = rectangle(page, "#frame img")
    width, height = page.locator("#frame img").evaluate("picture => [picture.naturalWidth, picture.naturalHeight]")
    across, down = (right - left) / width, (bottom - top) / height
    return [left + pixels[0] * across, top + pixels[1] * down, left + pixels[2] * across, top + pixels[3] * down]


def test_an_answer_shows_its_box_where_it_is(browser: Browser) -> None:
    pieces = ("<ref>the red ", "box</ref><box>(1", "00,100),(300,500)</box>")
    reply = Reply(pieces, "the red box", (box("the red box", 20, 10, 60, 50),))
    with serve(Script(lambda body, number: reply)) as script, watched(browser, script.url) as seen:
        page = seen.page
        content = picture()
        add_picture(page, content)
        expect(page.locator("#picture-facts")).to_contain_text("200 × 100 px")
        ask(page, "Where is the red box?")
        expect(page.locator(".answer-body")).to_have_text("the red box")
        assert rectangle(page, ".place rect.line") == pytest.approx(on_screen(page, (20, 10, 60, 50)), abs=0.6)
        expect(page.locator(".tag")).to_have_text("the red box")
        expect(page.locator(".costs")).to_contain_text("61 tokens read (36 of pictures, 12 cached)")
        expect(page.locator("#budget")).to_have_text("85 of 2,048 tokens")
        image, text = parts(script.bodies[0])
        assert sent_bytes(image) == content, "the bytes are sent as they came"
        assert text == {"type": "text", "text": "Where is the red box?"}
        assert script.bodies[0]["stream_options"] == {"include_usage": True}


def test_words_and_places_light_each_other(browser: Browser) -> None:
    text = "A cat, a dog and another cat."
    regions = (box("cat", 0, 0, 50, 50), box("dog", 60, 0, 90, 50), box("cat", 120, 20, 180, 90))
    with serve(Script(lambda body, number: Reply((text,), text, regions))) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        ask(page, "What is there?")
        assert page.locator(".word").all_text_contents() == ["cat", "dog", "cat"]
        colours = page.locator(".word").evaluate_all("all => all.map(one => getComputedStyle(one).getPropertyValue('--c'))")
        assert colours[0] == colours[2] != colours[1], "a colour per label"
        lit = "all => all.filter(one => one.classList.contains('lit')).map(one => one.dataset.places)"
        page.locator(".word").nth(2).hover()
        expect(page.locator(".place.lit")).to_have_count(1)
        assert page.locator("[data-places]").evaluate_all(lit) == ["2"] * 4, "word, entry, shape and name"
        page.locator(".tag", has_text="dog").hover()
        expect(page.locator(".word.lit")).to_have_text("dog")
        page.mouse.move(5, 5)
        expect(page.locator(".lit")).to_have_count(0)
        page.locator(".word").first.focus()
        expect(page.locator(".place.lit")).to_have_attribute("data-places", "0")


def test_a_picture_is_shown_upright(browser: Browser) -> None:
    """By its EXIF, as the server reads it: places are in the upright picture's pixels, and the bytes stay as they are."""
    turned = picture(200, 100, orientation=6)  # stored lying, to be turned clockwise: 100 x 200
    assert Image.open(io.BytesIO(turned)).size == (200, 100)
    reply = Reply(("box",), "box", (box("box", 50, 20, 90, 60),))
    with serve(Script(lambda body, number: reply)) as script, watched(browser, script.url) as seen:
        add_picture(seen.page, turned)
        expect(seen.page.locator("#picture-facts")).to_contain_text("100 × 200 px")
        ask(seen.page, "Where?")
        assert rectangle(seen.page, ".place rect.line") == pytest.approx(on_screen(seen.page, (50, 20, 90, 60)), abs=0.6)
        assert sent_bytes(parts(script.bodies[0])[0]) == turned


def test_stop_ends_the_answer_and_keeps_what_was_said(browser: Browser) -> None:
    slow = Reply(tuple(f"word{number} " for number in range(400)), pause=0.05)
    with serve(Script(lambda body, number: slow if number == 0 else DONUT)) as script, watched(browser, script.url) as seen:
        page = seen.page
        page.fill("#question", "Tell me everything")
        page.keyboard.press("Enter")
        expect(page.locator(".answer-body")).to_contain_text("word2")
        expect(page.locator(".answer")).to_have_attribute("aria-busy", "true")
        page.keyboard.press("Escape")
        answered(page)
        expect(page.locator(".answer .note")).to_have_text("Stopped.")
        said = page.locator(".answer-body").text_content()
        assert said and "word2" in said and "word300" not in said
        until(page, "!document.querySelector('#send').hidden")
        for _ in range(100):
            if script.left:
                break
            page.wait_for_timeout(50)
        assert script.left == 1, "the server was told"
        ask(page, "And now?", 2)
        assert script.bodies[1]["messages"][1]["content"].startswith("word0 word1"), "what was said is history"


def test_regenerate_keeps_both_answers(browser: Browser) -> None:
    with serve(Script(lambda body, number: Reply((f"answer {number}",)))) as script, watched(browser, script.url) as seen:
        page = seen.page
        ask(page, "Say a number")
        page.click(".again")
        expect(page.locator(".answer-body")).to_have_text("answer 1")
        assert script.bodies[0] == script.bodies[1]
        expect(page.locator(".answer-actions")).to_contain_text("2 / 2")
        page.get_by_label("Previous answer").click()
        expect(page.locator(".answer-body")).to_have_text("answer 0")
        ask(page, "And then?", 2)
        assert script.bodies[2]["messages"][1] == {"role": "assistant", "content": "answer 0"}, "the one on show"


def test_an_edited_question_replaces_what_came_after(browser: Browser) -> None:
    with serve(Script(lambda body, number: Reply((f"answer {number}",)))) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        ask(page, "first")
        ask(page, "second", 2)
        page.get_by_label("Edit the question").first.click()
        expect(page.locator("#question")).to_have_value("first")
        expect(page.locator(".attachment")).to_have_count(1)
        page.fill("#question", "first, better")
        page.keyboard.press("Enter")
        expect(page.locator(".answer-body")).to_have_text(["answer 2"])
        assert [part["type"] for part in parts(script.bodies[2])] == ["image_url", "text"]
        assert len(script.bodies[2]["messages"]) == 1
        page.get_by_label("Edit the question").click()
        page.click("#edit-cancel")
        expect(page.locator("#question")).to_have_value("")
        expect(page.locator(".turn")).to_have_count(1)


def test_what_was_written_before_a_reload_is_kept(browser: Browser) -> None:
    reply = Reply(tuple(f"word{number} " for number in range(40)), pause=0.2)
    with serve(Script(lambda body, number: reply)) as script, watched(browser, script.url) as seen:
        page = seen.page
        page.fill("#question", "Tell me")
        page.click("#send")
        expect(page.locator(".answer-body")).to_contain_text("word12", timeout=20_000)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        expect(page.locator(".answer-body")).to_contain_text("word3")
        expect(page.locator(".turn")).to_contain_text("Stopped")


def test_history_is_there_after_a_reload(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        ask(page, "Where is the donut?")
        ask(page, "And again?", 2)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        expect(page.locator(".turn")).to_have_count(2)
        expect(page.locator(".place")).to_have_count(1)
        until(page, "document.querySelector('#frame img')?.naturalWidth === 200")
        ask(page, "Third?", 3)
        assert [message["role"] for message in script.bodies[2]["messages"]] == ["user", "assistant"] * 2 + ["user"]
        assert sent_bytes(parts(script.bodies[2], 0)[0]) == picture(), "pictures are kept too"
        page.click("#new")
        expect(page.locator("#stage")).to_be_hidden()
        ask(page, "Another one")
        expect(page.locator(".side-item")).to_have_count(2)
        page.locator(".side-open-button", has_text="Where is").click()
        expect(page.locator(".turn")).to_have_count(3)
        page.get_by_label("Delete “Where is the donut?”").click(force=True)
        expect(page.locator(".side-item")).to_have_count(1)
        page.locator("#toast button").click()
        expect(page.locator(".side-item")).to_have_count(2)


def test_errors_are_a_line_with_a_way_on(browser: Browser) -> None:
    def reply(body: dict[str, Any], number: int) -> Reply:
        busy = Reply(status=429, error="64 requests wait already; come back later", headers={"Retry-After": "3"})
        return (busy, Reply(("half an ans",), cut=True), DONUT)[number]

    with serve(Script(reply)) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        ask(page, "Where is the donut?")
        expect(page.locator(".error-words")).to_have_text("64 requests wait already; come back later. Try again in 3 s.")
        expect(page.locator(".bubble")).to_have_text("Where is the donut?")
        page.click(".retry")
        expect(page.locator(".error-words")).to_contain_text("broke off")
        expect(page.locator(".answer-body")).to_contain_text("half an")
        page.click(".retry")
        expect(page.locator(".word")).to_have_text("the donut")
        expect(page.locator(".answer .error-line")).to_have_count(0)
        assert len(script.bodies) == 3 and script.bodies[0]["messages"] == script.bodies[2]["messages"]
        seen.errors[:] = [line for line in seen.errors if "429" not in line]


def test_a_failed_question_leaves_its_picture_to_the_next(browser: Browser) -> None:
    replies = (Reply(status=400, error="no"), DONUT)
    with serve(Script(lambda body, number: replies[number])) as script, watched(browser, script.url) as seen:
        add_picture(seen.page)
        ask(seen.page, "bad")
        ask(seen.page, "good", 2)
        assert [part["type"] for part in parts(script.bodies[1])] == ["image_url", "text"]
        assert len(script.bodies[1]["messages"]) == 1
        expect(seen.page.locator(".place")).to_have_count(1)
        seen.errors.clear()


EVIL = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


TABLE = f"# {EVIL}\n\n| a | {EVIL} |\n|---|---|\n| b | c |\n\n```html\n{EVIL}\n```\n- **{EVIL}** [x](javascript:alert(1))"
PAGE = f'<html><body><p data-bbox="0 0 9 9" onclick="x()">Hi {EVIL}<iframe src="//e.org"></iframe></p></body></html>'
EVILS: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "plain": (EVIL, ()),
    "label": (f"a {EVIL} here", (box(EVIL, 0, 0, 10, 10),)),
    "markdown": (TABLE, ()),
    "html": (PAGE, (box("Hi", 0, 0, 9, 9),)),
    "json": (f'{{"a": "{EVIL.replace(chr(34), chr(39))}"}}', ()),
}


@pytest.mark.parametrize("shape", EVILS)
def test_what_a_model_writes_is_never_run(browser: Browser, shape: str) -> None:
    text, regions = EVILS[shape]
    reply = Reply((text[:40], text[40:]), text, regions)
    with serve(Script(lambda body, number: reply)) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        ask(page, "Say it")
        page.wait_for_timeout(200)
        assert page.title() == "qwenvl"
        assert page.locator(".answer :is(img, script, iframe, a)").count() == 0
        assert page.locator("[onerror], [onclick]").count() == 0
        if shape != "html":  # there, what is no text of the page is left out
            expect(page.locator(".answer-body")).to_contain_text("<img src=x onerror=")
        else:
            expect(page.locator(".document p")).to_contain_text("Hi")
            page.locator(".document p").hover()
            expect(page.locator(".place.lit")).to_have_count(1)


def test_an_answer_in_markdown_is_laid_out(browser: Browser) -> None:
    table = "| name | cat |\n|---|---|\n| a | b |"
    text = f'## Title\n\nSome **bold** and `code`.\n\n- one\n- two\n\n{table}\n\n```json\n{{"x": [1, 2]}}\n```'
    shown = {"h4": "Title", "strong": "bold", "p code": "code", "li": "one", "th": "name", "td": "a", "pre": '"x"'}
    reply = Reply((text,), text, (box("cat", 0, 0, 9, 9),))
    with serve(Script(lambda body, number: reply)) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        ask(page, "Say it")
        for tag, words in shown.items():
            expect(page.locator(".answer-body").locator(tag).first).to_contain_text(words)
        expect(page.locator(".answer-body th .word")).to_have_text("cat")


def test_settings_go_into_the_request(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page
        add_picture(page)
        page.click("#settings")
        values = {"temperature": 0.5, "top_p": 0.9, "top_k": 20, "max_tokens": 64, "seed": 7, "presence_penalty": 1}
        for name, value in {**values, "max_pixels": 50000}.items():
            page.fill(f"#settings-dialog [name={name}]", str(value))
        page.get_by_label("System message").fill("Be brief.")
        page.get_by_label("Form of the answer").select_option("json_schema")
        page.get_by_label("JSON schema").fill('{"type": "array"}')
        page.keyboard.press("Escape")
        ask(page, "List it")
        body = script.bodies[0]
        assert {name: body[name] for name in values} == values
        schema = {"name": "answer", "schema": {"type": "array"}, "strict": True}
        assert body["response_format"] == {"type": "json_schema", "json_schema": schema}
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert parts(body)[0]["image_url"]["max_pixels"] == 50000 and "frequency_penalty" not in body
        page.reload()
        page.wait_for_selector("body[data-ready]")
        page.click("#settings")
        expect(page.locator("[name=seed]")).to_have_value("7")
        page.get_by_label("Form of the answer").select_option("boxes")
        page.keyboard.press("Escape")
        ask(page, "Again", 2)
        assert script.bodies[1]["grammar"] == "boxes" and "response_format" not in script.bodies[1]
        page.click("#settings")
        page.get_by_text("Back to the server's defaults").click()
        page.keyboard.press("Escape")
        ask(page, "And again", 3)
        assert script.bodies[2].keys() == {"model", "messages", "stream", "stream_options"}


def test_a_key_is_asked_for_and_kept_for_the_tab(browser: Browser) -> None:
    with serve(Script(key="secret")) as script, watched(browser, script.url) as seen:
        page = seen.page
        expect(page.locator("#notice")).to_contain_text("API key")
        page.fill("#api-key", "secret")
        page.keyboard.press("Enter")
        expect(page.locator("#notice")).to_be_hidden()
        ask(page, "Hello")
        expect(page.locator(".answer-body")).to_have_text("the donut")
        assert page.evaluate("JSON.stringify({...localStorage})").count("secret") == 0
        seen.errors[:] = [line for line in seen.errors if "401" not in line]


def test_models_are_switched(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url) as seen:
        page = seen.page
        page.select_option("#model", "qwen2.5-vl-nano")
        expect(page.locator("#model-facts")).to_have_text("4,096 tokens of context")
        add_picture(page)
        expect(page.locator("[data-tool=quad]")).to_be_disabled()
        expect(page.locator("[data-tool=point]")).to_be_enabled()
        ask(page, "Hello")
        assert script.bodies[0]["model"] == "qwen2.5-vl-nano"
        page.reload()
        page.wait_for_selector("body[data-ready]")
        expect(page.locator("#model")).to_have_value("qwen2.5-vl-nano")
        page.select_option("#model", "qwen-vl-nano")
        expect(page.locator("#notice")).to_contain_text("base model")


def test_json_and_copy(browser: Browser) -> None:
    with serve(Script()) as script, watched(browser, script.url, permissions=["clipboard-read", "clipboard-write"]) as seen:
        page = seen.page
        add_picture(page)
        ask(page, "Where is the donut?")
        page.locator(".copy").click()
        assert page.evaluate("navigator.clipboard.readText()") == "the donut"
        page.locator(".icon-button.json").click()
        shown = page.locator("#json-text")
        expect(shown).to_contain_text('"pixels": [12.1, 52.1, 129, 145.2]')
        page.get_by_role("button", name="Request").click()
        expect(shown).to_contain_text("data:image/jpeg;base64,… (")
        page.get_by_role("button", name="Markup").click()
        expect(shown).to_have_text("<ref>the donut</ref><box>(036,155),(384,432)</box>")
