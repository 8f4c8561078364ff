"""A real Chromium: actions do what they say, nothing leaves the site, and nothing a page does holds the run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

pytest.importorskip("playwright.async_api")

from qwenvl.agent.actions import (
    ActionError,
    Button,
    Click,
    DeviceKey,
    Drag,
    Keys,
    LongPress,
    Move,
    Open,
    Scroll,
    Swipe,
    Tap,
    Type,
    Wait,
)  # fmt: skip
from qwenvl.agent.browser import DESKTOP, PHONE_SCREEN, BrowserEnvironment, Screen
from qwenvl.agent.dialogue import ToolDialogue
from qwenvl.agent.environment import Done, Ended, EnvironmentLost
from qwenvl.agent.keywords import PHONE_KEYWORDS, KeywordDialogue, write_keyword
from qwenvl.agent.log import Log
from qwenvl.agent.loop import run
from qwenvl.agent.model import ScriptedModel
from qwenvl.agent.reading import TOOLS
from qwenvl.agent.site import AgentError, Site
from qwenvl.data.documents.html import CHROMIUM
from qwenvl.processing.actions import COMPUTER, PHONE
from qwenvl.processing.tools import ToolCall, write_call
from qwenvl.types import Point
from tests.agent_site import Place, free_port, served

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: apt-get install chromium")

T = TypeVar("T")


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Place, Place]]:
    with served() as both:
        yield both


@pytest.fixture
def site(places: tuple[Place, Place]) -> Place:
    for place in places:
        place.seen.clear()
    return places[0]


@pytest.fixture
def other(places: tuple[Place, Place]) -> Place:
    return places[1]


def opened(site: Place, page: str, screen: Screen = DESKTOP, **options: Any) -> BrowserEnvironment:
    return BrowserEnvironment(Site.of(site.address + page, options.pop("allow", ())), screen, **options)


def at(x: float, y: float, screen: Screen = DESKTOP) -> Point:
    """A pixel, as a fraction of the screen."""
    return (x + 0.5) / screen.width, (y + 0.5) / screen.height


def asked(browser: BrowserEnvironment, script: str) -> Any:
    return browser._do(browser._page.evaluate(script), 5)


def eventually(value: Callable[[], T], wanted: T) -> T:
    """The value, as soon as it is what is wanted, or after three seconds."""
    end = time.monotonic() + 3
    while (found := value()) != wanted and time.monotonic() < end:
        time.sleep(0.05)
    return found


def computer(action: str, **arguments: Any) -> str:
    return write_call(ToolCall(COMPUTER, {"action": action, **arguments}))


def phone(action: str, **arguments: Any) -> str:
    return write_call(ToolCall(PHONE, {"action": action, **arguments}))


def test_a_model_buys_a_teapot(site: Place, tmp_path: Path) -> None:
    """From screenshot to screenshot in two steps, and the log has the pages as they were."""
    answers = [
        computer("left_click", coordinate=[100, 170]),
        computer("left_click", coordinate=[100, 90]),
        computer("terminate", status="success"),
    ]
    with opened(site, "/shop.html") as browser:
        log = Log(tmp_path / "log", {"goal": "Buy the red teapot", "start": browser.where})
        assert run(ScriptedModel(answers), browser, ToolDialogue(TOOLS[COMPUTER]), "Buy", watcher=log) == Ended("success")
    assert [one for one in site.seen if "favicon" not in one] == [
        "GET /shop.html", "GET /pot.html?colour=red", "GET /bought.html?colour=red",
    ]  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "log/steps.jsonl").read_text().splitlines()]
    assert [row["where"].rpartition("/")[2] for row in rows] == ["shop.html", "pot.html?colour=red", "bought.html?colour=red"]
    assert rows[0]["size"] == [DESKTOP.width, DESKTOP.height]
    pictures = {(tmp_path / f"log/{name}").read_bytes() for name in ("step-001.png", "step-002.png", "end.png")}
    assert len(pictures) == 3


def test_the_phone_is_touched(site: Place) -> None:
    screen = PHONE_SCREEN
    with opened(site, "/touch.html", screen) as browser:
        assert np.asarray(browser.look()).shape == (915, 412, 3)
        assert asked(browser, "() => [innerWidth, innerHeight, navigator.maxTouchPoints > 0]") == [412, 915, True]
        asked(browser, "() => { window.held = []; for (const kind of ['touchstart', 'touchend']) "
              "document.addEventListener(kind, event => held.push([kind, event.timeStamp])) }")  # fmt: skip
        browser.act(Tap(at(100, 60, screen)))
        assert asked(browser, "() => document.querySelector('button').textContent") == "touched and clicked"
        asked(browser, "() => { held = [] }")
        browser.act(LongPress(at(100, 140, screen), 0.8))
        (start, began), (end, ended) = asked(browser, "() => held")
        assert (start, end) == ("touchstart", "touchend") and 700 < ended - began < 2500


def test_a_phone_goes_through_a_page(site: Place) -> None:
    """The same loop with the phone's tool: swipes scroll, buttons go back and home, what it has not is said."""
    screen = PHONE_SCREEN
    with opened(site, "/long.html", screen) as browser:
        browser.act(Swipe((0.5, 0.8), (0.5, 0.2)))
        assert 300 < eventually(lambda: asked(browser, "() => scrollY > 300 ? 500 : scrollY"), 500) <= 500
        for _ in range(6):
            browser.act(Swipe((0.5, 0.9), (0.5, 0.1)))
        top = asked(browser, "() => document.querySelector('button').getBoundingClientRect().top")
        assert 0 < top < 915
        browser.act(Tap(at(100, top + 20, screen)))
        assert asked(browser, "() => document.title") == "found"
        for action, said in (
            (Button("Back"), "no page to go back to"), (Button("Menu"), "no Menu"), (DeviceKey("volume_up"), "no key"),
            (Open("Clock"), "no app"),
        ):  # fmt: skip
            with pytest.raises(ActionError, match=said):
                browser.act(action)
        assert "Home is the page" in browser.act(Button("Home")).note
        assert asked(browser, "() => scrollY") == 0


def test_keywords_drive_the_same_phone(site: Place) -> None:
    def point(x: float, y: float) -> tuple[int, int]:
        return round(x / PHONE_SCREEN.width * 1000), round(y / PHONE_SCREEN.height * 1000)

    answers = [
        write_keyword("Tap", "I choose.", point=point(100, 170)), write_keyword("Back"), write_keyword("Tap", point=point(100, 90)),
        write_keyword("Tap", point=point(100, 90)), "I have bought the blue teapot.",
    ]  # fmt: skip
    with opened(site, "/shop.html", PHONE_SCREEN) as browser:
        ended = run(ScriptedModel(answers), browser, KeywordDialogue("phone", PHONE_KEYWORDS), "Buy the blue teapot")
    assert ended == Ended("success", "I have bought the blue teapot.")
    assert "GET /bought.html?colour=blue" in site.seen and "GET /bought.html?colour=red" not in site.seen


def test_mouse_and_keyboard(site: Place) -> None:
    with opened(site, "/drag.html") as browser:
        browser.act(Move(at(50, 70)))
        browser.act(Drag(at(300, 70)))
        assert 80 < int(asked(browser, "() => document.title")) < 95
    with opened(site, "/keys.html") as browser:
        browser.act(Keys(("Control", "a")))
        browser.act(Type("new 茶"))
        browser.act(Keys(("Enter",)))
        with pytest.raises(ActionError, match="Unknown key"):
            browser.act(Keys(("é",)))
        assert asked(browser, "() => document.querySelector('input').value") == "new 茶"
        assert asked(browser, "() => document.title") == "ControlanewEnter"
    with opened(site, "/long.html") as browser:
        browser.act(Scroll(-0.5))
        assert eventually(lambda: asked(browser, "() => scrollY"), DESKTOP.height // 2) == DESKTOP.height // 2
        browser.act(Scroll(1.0))
        assert eventually(lambda: asked(browser, "() => scrollY"), 0) == 0
        asked(browser, "() => { document.onclick = event => document.title = `${event.detail}`; "
              "document.oncontextmenu = event => { document.title = `menu ${event.clientX}`; return false } }")  # fmt: skip
        browser.act(Click(at(200, 300), times=2))
        assert asked(browser, "() => document.title") == "2"
        browser.act(Click(at(210, 300), "right"))
        assert asked(browser, "() => document.title").startswith("menu 21")
        assert "no field had the focus" in browser.act(Type("x")).note


@pytest.mark.parametrize(
    ("top", "path"), [(40, "/away"), (120, "/redirected"), (200, "/window"), (280, "/post"), (360, "/late")],
    ids=["link", "redirect", "window", "form", "script"],
)  # fmt: skip
def test_the_run_ends_before_the_site_is_left(site: Place, other: Place, top: int, path: str, tmp_path: Path) -> None:
    answers = [computer("left_click", coordinate=[100, top + 20]), computer("wait", time=1), computer("wait", time=1)]
    with opened(site, "/leave.html") as browser:
        ended = run(ScriptedModel(answers), browser, ToolDialogue(TOOLS[COMPUTER]), "x", watcher=Log(tmp_path / "log", {}))
        assert browser.where == f"{site.address}/leave.html"
    assert ended == Ended("left the site", f"it would have gone to {other.address}{path}")
    assert other.seen == []
    assert ">left the site<" in (tmp_path / "log/report.html").read_text()


def test_a_host_may_be_allowed(site: Place, other: Place) -> None:
    with opened(site, "/leave.html", allow=[other.address[7:]]) as browser:
        assert browser.act(Click(at(100, 60))) == Done()
        assert browser.where == f"{other.address}/away" or other.seen == ["GET /away"]
    assert "GET /away" in other.seen


def test_a_page_that_tries_everything_reaches_nobody(site: Place, other: Place) -> None:
    """Pictures, frames, scripts, requests, sockets, beacons, workers, redirects; and it is allowed nothing."""
    with opened(site, "/spy.html") as browser:
        browser.act(Wait(1.5))
        assert asked(browser, "() => document.title") == "not located"
        assert asked(browser, "() => Notification.permission") == "denied"
        assert asked(browser, "() => document.cookie") == ""
        assert asked(browser, "async () => (await navigator.serviceWorker?.getRegistrations() ?? []).length") == 0
    assert other.seen == []


def test_windows_dialogs_downloads_and_files_are_refused_and_said(site: Place) -> None:
    with opened(site, "/window.html") as browser:
        note = browser.act(Click(at(100, 60))).note or browser.act(Wait(1.5)).note  # it may come late
        assert "wanted a new window" in note and len(browser._page.context.pages) == 1
        assert browser.where.endswith("/window.html")
    with opened(site, "/dialog.html") as browser:
        assert "said 'Sure?' (confirm), which was dismissed" in browser.act(Click(at(60, 60))).note
        assert asked(browser, "() => document.querySelector('button').textContent") == "false"
        assert "said 'Hello' (alert)" in browser.act(Click(at(60, 140))).note
        assert "wanted to save 'file.bin'" in browser.act(Click(at(60, 220))).note
        assert "asked for a file" in browser.act(Click(at(60, 300))).note


def test_passwords_are_not_typed(site: Place) -> None:
    secret = "() => document.querySelector('[name=secret]').value"
    with opened(site, "/form.html") as browser:
        browser.act(Click(at(100, 60)))
        browser.act(Type("Ann"))
        browser.act(Click(at(100, 140)))
        for action in (Type("geheim"), Keys(("g",)), Keys(("Shift", "G"))):
            with pytest.raises(ActionError, match="password"):
                browser.act(action)
        assert asked(browser, secret) == ""
        browser.act(Click(at(100, 230)))
        assert eventually(lambda: browser.where.endswith("/thanks.html?name=Ann&secret="), True)
    with opened(site, "/form.html", allow_passwords=True) as browser:
        browser.act(Click(at(100, 140)))
        browser.act(Type("geheim"))
        assert asked(browser, secret) == "geheim"


def test_a_page_that_hangs_is_given_up(site: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwenvl.agent.browser.MARGIN", 1.0)
    began = time.monotonic()
    with opened(site, "/hang.html", seconds=4.0) as browser:
        answers = [computer("left_click", coordinate=[100, 60]), computer("terminate", status="success")]
        ended = run(ScriptedModel(answers), browser, ToolDialogue(TOOLS[COMPUTER]), "x")
    assert ended == Ended("page lost", "the page does not answer within 5 seconds")
    assert time.monotonic() - began < 40


def test_a_page_that_crashes_is_said(site: Place) -> None:
    with opened(site, "/still.html") as browser:
        with pytest.raises((EnvironmentLost, AgentError)):
            browser._do(browser._page.goto("chrome://crash"), 5)
        with pytest.raises(EnvironmentLost, match="crashed"):
            browser.act(Wait(0.1))
        with pytest.raises(EnvironmentLost):
            browser.look()


def test_a_run_that_is_stuck_ends(site: Place) -> None:
    with opened(site, "/still.html") as browser:
        model = ScriptedModel(lambda messages: computer("left_click", coordinate=[900, 700]))
        assert run(model, browser, ToolDialogue(TOOLS[COMPUTER]), "x").status == "stuck"


def test_what_does_not_open_is_one_line(site: Place, other: Place) -> None:
    with pytest.raises(AgentError, match="does not load"), BrowserEnvironment(Site.of(f"http://127.0.0.1:{free_port()}/")):
        pass
    with pytest.raises(AgentError, match=r"leads to .*/redirected at once"), opened(site, "/redirect"):
        pass
    with pytest.raises(AgentError, match="does not start"), opened(site, "/still.html", chromium="/bin/false"):
        pass
    assert other.seen == []


def test_a_page_on_disk_has_its_folder_and_no_network(other: Place, tmp_path: Path) -> None:
    other.seen.clear()
    folder = tmp_path / "page"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "style.css").write_text("body { background: #00ff00 }")
    (folder / "index.html").write_text(
        f'<!doctype html><link rel="stylesheet" href="style.css"><img src="{other.address}/img">'
        '<a style="position:absolute;left:0;top:0;width:99px;height:99px" href="../secret.txt">x</a>'
    )
    with BrowserEnvironment(Site.of((folder / "index.html").as_uri())) as browser:
        assert np.asarray(browser.look())[-1, -1].tolist() == [0, 255, 0]
        ended = browser.act(Click(at(50, 50))).ended
        assert ended is not None and ended.status == "left the site"
    assert other.seen == []


def test_a_run_from_the_command_line(site: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from qwenvl.cli import agent

    first = tmp_path / "first"
    first.mkdir()
    answers = [phone("click", coordinate=[100, 90]), phone("terminate", status="success")]
    (first / "steps.jsonl").write_text("".join(json.dumps({"answer": answer}) + "\n" for answer in answers))
    (first / "run.json").write_text(json.dumps({"tool": PHONE}))
    arguments = [f"{site.address}/shop.html", "Choose the blue one", "--replay", str(first), "--out", str(tmp_path / "again")]
    assert agent.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"success ({tmp_path}/again/report.html)"
    row = json.loads((tmp_path / "again/steps.jsonl").read_text().splitlines()[1])
    assert row["where"].endswith("/pot.html?colour=blue") and row["size"] == [412, 915]
