"""A headless Chromium as an environment: it shows one tab, does what a mouse, a keyboard or a finger does, and stays on its site.

The browser runs in a thread of its own, so that pages go on while a model thinks, and every action has a limit of time: a page
whose script never ends cannot hold the run. It has no memory (no cookies, no cache from before), may download nothing, is asked for
no permission, and opens no second window. Requests that leave the site are answered by nobody (`Site`, and `Gate` for all that a
browser does not ask about); one that would leave with the whole page ends the run.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from PIL import Image

from qwenvl.agent.actions import Action, ActionError
from qwenvl.agent.environment import Done, Ended, EnvironmentLost
from qwenvl.agent.gate import Gate
from qwenvl.agent.hands import Hands
from qwenvl.agent.site import AgentError, Site
from qwenvl.data.documents.html import CHROMIUM
from qwenvl.runtime import offline

ARGUMENTS = (
    "--disable-lcd-text", "--font-render-hinting=none", "--disable-background-networking", "--disable-component-update",
    "--no-first-run", "--disable-quic", "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--proxy-bypass-list=<-loopback>",
)  # fmt: skip
"""The last one sends addresses of this machine through the gate too."""
MARGIN = 5.0
"""Seconds beyond an action's own limit after which the browser is given up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Screen:
    """(width, height) in pixels, and whether it is touched."""

    width: int
    height: int
    touch: bool = False


# Multiples of 28: Qwen2-VL and Qwen2.5-VL see the first one as it is.
DESKTOP = Screen(1288, 812)
PHONE_SCREEN = Screen(412, 915, touch=True)


def check_browser(site: Site, chromium: str) -> None:
    """Whether there is all that the page needs, before anything is loaded. Raises AgentError, or ImportError for playwright."""
    import playwright.async_api  # noqa: F401

    if offline() and site.host not in ("", "localhost", "127.0.0.1", "::1"):
        raise AgentError(f"{site.start}: QWENVL_OFFLINE is set; unset it, or give a page on this machine")
    if shutil.which(chromium) is None:
        raise AgentError(f"{chromium}: no such program; on Debian: apt-get install chromium, or give --chromium")


class BrowserEnvironment:
    """`with BrowserEnvironment(site, DESKTOP) as browser: browser.look()`.

    seconds: for a page to load, and for an action, at most. Raises AgentError where there is no browser, or no page at the address.
    """

    def __init__(
        self, site: Site, screen: Screen = DESKTOP, seconds: float = 20.0, allow_passwords: bool = False, chromium: str = CHROMIUM
    ) -> None:
        self.site, self.screen, self.seconds, self.chromium = site, screen, seconds, chromium
        self._events: list[str] = []
        self._left: str | None = None
        self._lost: str | None = None
        self._hands = Hands(site.start, screen.width, screen.height, screen.touch, allow_passwords)
        self._loop = asyncio.new_event_loop()
        self._playwright: Any = None
        self._browser: Any = None
        self._page: Any = None

    def __enter__(self) -> BrowserEnvironment:
        check_browser(self.site, self.chromium)
        self._gate = Gate(self.site).__enter__()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        try:
            self._do(self._start(), 60.0)
            self._do(self._open(), self.seconds)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the browser, which may have ended before."""
        for ending in (
            self._browser and self._browser.close(), self._playwright and self._playwright.stop(), self._stop_rest(),
        ):  # fmt: skip
            if ending:
                with suppress(Exception):  # it is gone, or hangs: the process ends with ours
                    asyncio.run_coroutine_threadsafe(ending, self._loop).result(10.0)
        self._browser = self._playwright = None
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._gate.__exit__(None, None, None)

    async def _stop_rest(self) -> None:
        """What was given up is not waited for."""
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    @property
    def where(self) -> str:
        return str(self._page.url)

    @property
    def refused(self) -> tuple[str, ...]:
        """Hosts beside the site that the page asked for, and did not get."""
        return tuple(self._gate.refused)

    def look(self) -> Image.Image:
        content = self._do(self._screenshot(), self.seconds)
        return Image.open(io.BytesIO(content)).convert("RGB")

    def act(self, action: Action) -> Done:
        if left := self._ended():  # while the model thought
            return Done("", left)
        self._do(self._act(action), self.seconds)
        if self._lost:
            raise EnvironmentLost(self._lost)
        # What a page wanted after its last step was over is told with this one.
        events, self._events = self._events, []
        return Done("; ".join(dict.fromkeys([*self._hands.take_notes(), *events])), self._ended())

    def judge(self, claim: Ended) -> Ended:
        """A page does not say whether a goal is reached: the model is believed."""
        return claim

    def _ended(self) -> Ended | None:
        return Ended("left the site", f"it would have gone to {self._left}") if self._left else None

    def _do(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run in the browser's thread. Raises EnvironmentLost where it takes too long or the browser is gone."""
        from playwright.async_api import Error

        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds + MARGIN)
        except TimeoutError:
            future.cancel()
            raise EnvironmentLost(f"the page does not answer within {seconds + MARGIN:g} seconds") from None
        except Error as error:
            raise EnvironmentLost(self._lost or _reason(error)) from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    async def _start(self) -> None:
        from playwright.async_api import Error, async_playwright

        self._playwright = await async_playwright().start()
        try:
            self._browser = await self._playwright.chromium.launch(
                executable_path=self.chromium, args=list(ARGUMENTS), chromium_sandbox=os.geteuid() != 0, handle_sigint=False,
                proxy={"server": self._gate.address},
            )  # fmt: skip
        except Error as error:
            raise AgentError(
                f"{self.chromium}: does not start ({_reason(error)}); on Debian: apt-get install chromium, or give --chromium"
            ) from None

    async def _open(self) -> None:
        from playwright.async_api import Error

        screen = self.screen
        context = await self._browser.new_context(
            viewport={"width": screen.width, "height": screen.height}, has_touch=screen.touch, is_mobile=screen.touch,
            accept_downloads=False, service_workers="block", permissions=[], locale="en-US",
        )  # fmt: skip
        context.set_default_timeout(self.seconds * 1000)
        await context.route(self.site.outside, self._refuse)
        self._page = page = await context.new_page()
        self._hands.page, self._hands.session = page, await context.new_cdp_session(page)
        context.on("page", self._on_window)
        for event, listen in (
            ("request", self._on_request), ("dialog", self._on_dialog), ("download", self._on_download),
            ("filechooser", self._on_files), ("crash", self._on_crash), ("close", self._on_close),
        ):  # fmt: skip
            page.on(event, listen)
        try:
            await page.goto(self.site.start, wait_until="load")
        except Error as error:
            if self._left:
                raise AgentError(self._elsewhere()) from None
            raise AgentError(f"{self.site.start}: does not load ({_reason(error)}); check the address") from None
        await self._settle()
        if self._left:
            raise AgentError(self._elsewhere())

    def _elsewhere(self) -> str:
        return f"{self.site.start}: leads to {self._left} at once; start there, or allow its host with --allow"

    async def _screenshot(self) -> bytes:
        if self._lost:
            raise EnvironmentLost(self._lost)
        return bytes(await self._page.screenshot(type="png", timeout=self.seconds * 1000))

    async def _act(self, action: Action) -> None:
        if self._lost:
            raise EnvironmentLost(self._lost)
        from playwright.async_api import Error

        try:
            await self._hands.do(action)
        except Error as error:  # a key that no keyboard has, a page that went away under the hand
            if self._lost or self._page.is_closed():
                raise
            raise ActionError(f"the browser says: {_reason(error)}") from None
        await self._settle()

    async def _settle(self) -> None:
        """Wait until what an action has set off is there, or two seconds are over."""
        from playwright.async_api import Error

        await asyncio.sleep(0.2)
        with suppress(Error):  # a page that goes on loading is shown as it is
            await self._page.wait_for_load_state("load", timeout=self.seconds * 1000)
            await self._page.wait_for_load_state("networkidle", timeout=2000)

    async def _refuse(self, route: Any) -> None:
        """What is asked for beside the site. 204 leaves a page as it is; an error would take its place."""
        request = route.request
        if self.site.permits(request.url):
            await route.continue_()
        elif _of_whole_page(request):
            self._leave(request.url)
            await route.fulfill(status=204)
        else:
            await route.abort()

    def _on_request(self, request: Any) -> None:
        """Redirects are not routed, but told: the gate refuses what they lead to."""
        if not self.site.permits(request.url) and _of_whole_page(request):
            self._leave(request.url)

    def _leave(self, url: str) -> None:
        self._left = self._left or url[:300]

    async def _on_window(self, page: Any) -> None:
        """A new window, whose address is seen by `_refuse` if it leaves the site."""
        if page is self._page:
            return
        self._events.append(f"the page wanted a new window ({page.url[:200]}), which it did not get")
        with suppress(Exception):
            await page.close()

    async def _on_dialog(self, dialog: Any) -> None:
        self._events.append(f"the page said {dialog.message[:200]!r} ({dialog.type}), which was dismissed")
        with suppress(Exception):
            await dialog.dismiss()

    async def _on_download(self, download: Any) -> None:
        self._events.append(f"the page wanted to save {download.suggested_filename[:100]!r}, which it may not")
        with suppress(Exception):
            await download.cancel()

    def _on_files(self, chooser: Any) -> None:
        self._events.append("the page asked for a file, and got none")

    def _on_crash(self, page: Any) -> None:
        self._lost = "the page has crashed"

    def _on_close(self, page: Any) -> None:
        self._lost = self._lost or "the page has closed itself"


def _of_whole_page(request: Any) -> bool:
    """Whether a request would replace the page, or open a window; a frame within a page would not."""
    from playwright.async_api import Error

    if not request.is_navigation_request():
        return False
    try:
        return request.frame.parent_frame is None
    except Error:  # of a window that is not there yet
        return True


def _reason(error: Exception) -> str:
    """What playwright says, without its log and the method's name."""
    return str(error).strip().split("\n")[0].split(": ", 1)[-1][:160]
