"""What a mouse, a keyboard and a finger do to a page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from qwenvl.agent import actions
from qwenvl.agent.actions import Action, ActionError
from qwenvl.types import Point

STEPS = 12
"""Places that a drag or a swipe passes, 15 ms each."""

IN_PASSWORD = """() => {
  let at = document.activeElement;
  while (at && at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
  const hint = at ? (at.getAttribute('autocomplete') || '') : '';
  return document.hasFocus() && !!at && at.tagName === 'INPUT' &&
    (at.type === 'password' || /password|one-time-code/.test(hint));
}"""
"""Whether what is typed now goes into a field for a secret."""

PHONE_KEYS = {"enter": "Enter", "tab": "Tab", "del": "Backspace", "backspace": "Backspace", "escape": "Escape", "space": "Space"}


class Hands:
    """Does actions on `page`; places are fractions of a screen of `width` times `height`."""

    def __init__(self, start: str, width: int, height: int, touch: bool, allow_passwords: bool) -> None:
        self.start, self.size, self.touch, self.allow_passwords = start, (width, height), touch, allow_passwords
        self.page: Any = None
        self.session: Any = None
        self._cursor: Point = (0.5, 0.5)
        self._notes: list[str] = []
        self._does: dict[type, Callable[[Any], Coroutine[Any, Any, None]]] = {
            actions.Keys: self._keys, actions.Type: self._type, actions.Move: self._move, actions.Click: self._click,
            actions.Drag: self._drag, actions.Scroll: self._scroll, actions.Tap: self._tap, actions.LongPress: self._long_press,
            actions.Swipe: self._swipe, actions.Button: self._button, actions.DeviceKey: self._device_key, actions.Open: self._open,
            actions.Wait: self._wait,
        }  # fmt: skip

    def take_notes(self) -> list[str]:
        """What there was to say of the last action."""
        notes, self._notes = self._notes, []
        return notes

    async def do(self, action: Action) -> None:
        """Raises ActionError for what cannot be done here."""
        self._notes = []
        if type(action) not in self._does:
            raise ActionError(f"a page knows no {type(action).__name__}")
        await self._does[type(action)](action)

    def _pixel(self, point: Point) -> Point:
        """The middle of the pixel that a place lies in, inside of the screen."""
        x, y = actions.pixel_of(point, self.size)
        return x + 0.5, y + 0.5

    async def _to(self, point: Point | None) -> Point:
        """Move the cursor there, if anywhere; where it is now, in pixels."""
        if point is not None:
            self._cursor = point
            await self.page.mouse.move(*self._pixel(point))
        return self._pixel(self._cursor)

    async def _move(self, action: actions.Move) -> None:
        await self._to(action.to)

    async def _click(self, action: actions.Click) -> None:
        x, y = await self._to(action.at)
        await self.page.mouse.click(x, y, button=action.button, click_count=action.times)

    async def _drag(self, action: actions.Drag) -> None:
        await self._to(self._cursor)
        await self.page.mouse.down()
        self._cursor = action.to
        await self.page.mouse.move(*self._pixel(action.to), steps=STEPS)
        await self.page.mouse.up()

    async def _scroll(self, action: actions.Scroll) -> None:
        await self._to(action.at or self._cursor)
        await self.page.mouse.wheel(0, -action.up * self.size[1])

    async def _keys(self, action: actions.Keys) -> None:
        *held, last = action.keys
        if len(last) == 1 and "Control" not in held and "Meta" not in held:
            await self._check_secret()
        await self.page.keyboard.press("+".join(action.keys))

    async def _type(self, action: actions.Type) -> None:
        await self._check_secret()
        if not await self.page.evaluate("() => !!document.activeElement && document.activeElement !== document.body"):
            self._notes.append("no field had the focus when this was typed: click one first")
        await self.page.keyboard.type(action.text)

    async def _check_secret(self) -> None:
        if self.allow_passwords:
            return
        for frame in self.page.frames:
            if await frame.evaluate(IN_PASSWORD):
                raise ActionError("this is a field for a password, into which nothing may be typed (--allow-passwords)")

    async def _wait(self, action: actions.Wait) -> None:
        await asyncio.sleep(action.seconds)

    async def _tap(self, action: actions.Tap) -> None:
        await self.page.touchscreen.tap(*self._pixel(action.at))

    async def _finger(self, kind: str, *places: Point) -> None:
        points = [{"x": x, "y": y} for x, y in places]
        await self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    async def _long_press(self, action: actions.LongPress) -> None:
        await self._finger("touchStart", self._pixel(action.at))
        await asyncio.sleep(action.seconds)
        await self._finger("touchEnd")

    async def _swipe(self, action: actions.Swipe) -> None:
        (left, top), (right, bottom) = self._pixel(action.start), self._pixel(action.end)
        await self._finger("touchStart", (left, top))
        for step in range(1, STEPS + 1):
            await asyncio.sleep(0.015)
            part = step / STEPS
            await self._finger("touchMove", (left + (right - left) * part, top + (bottom - top) * part))
        await asyncio.sleep(0.1)  # a finger that rests throws nothing on
        await self._finger("touchEnd")

    async def _button(self, action: actions.Button) -> None:
        if action.name == "Enter":
            await self.page.keyboard.press("Enter")
        elif action.name == "Home":
            await self.page.goto(self.start)
            self._notes.append("this phone has no desktop: Home is the page that the task began on")
        elif action.name == "Back":
            await self._back()
        else:
            raise ActionError(f"this phone shows one page and has no {action.name}")

    async def _back(self) -> None:
        history = await self.session.send("Page.getNavigationHistory")
        before = history["entries"][: history["currentIndex"]]
        if not before or before[-1]["url"] == "about:blank":
            raise ActionError("there is no page to go back to")
        await self.page.go_back()

    async def _device_key(self, action: actions.DeviceKey) -> None:
        name = action.name.lower().removeprefix("keycode_")
        if name == "back":
            await self._back()
        elif name == "clear":
            await self._check_secret()
            await self.page.keyboard.press("Control+a")
            await self.page.keyboard.press("Delete")
        elif name in PHONE_KEYS:
            await self.page.keyboard.press(PHONE_KEYS[name])
        else:
            raise ActionError(f"this phone shows one page and has no key {action.name[:40]!r}")

    async def _open(self, action: actions.Open) -> None:
        raise ActionError(f"this phone shows one page and has no app {action.app[:40]!r}")
