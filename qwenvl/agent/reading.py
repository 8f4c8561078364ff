"""How a model's calls of the published tools are read: every argument checked.

A call that is wrong is an ActionError, whose one line the model gets as the result of its step. What can be taken as meant is
taken, and said in the notes: a place beside the screen, the middle of a box, a wait that is too long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qwenvl.agent.actions import (
    Action,
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
    Terminate,
    Type,
    Wait,
)  # fmt: skip
from qwenvl.processing.actions import COMPUTER, COMPUTER_USE, MOBILE_USE, PHONE
from qwenvl.processing.markup_style import Frame
from qwenvl.processing.tools import CALL_TAGS, ToolCall, read_calls
from qwenvl.types import Point, Region

LONGEST_WAIT = 10.0
"""Seconds that one step may wait or press at most."""
LONGEST_TEXT = 2000
"""Characters that one step may type."""


@dataclass(frozen=True, slots=True)
class ReadAction:
    """call: as the model made it, its places as Regions, so that it can be told again in any frame. notes: what was mended."""

    call: ToolCall
    action: Action
    notes: tuple[str, ...] = ()


class Arguments:
    """The arguments of one call, each asked for by its name and checked."""

    def __init__(self, given: Mapping[str, Any], frame: Frame) -> None:
        self.given = {name: value for name, value in given.items() if value is not None}
        self.frame = frame
        self.notes: list[str] = []
        self.places: dict[str, Region] = {}

    def point(self, name: str) -> Point:
        """A place, from its coordinates in the frame. Raises ActionError."""
        found = self.optional_point(name)
        if found is None:
            raise ActionError(f"{name} is missing: give [x, y]")
        return found

    def optional_point(self, name: str) -> Point | None:
        value = self.given.get(name)
        if value is None:
            return None
        numbers = list(value) if isinstance(value, list | tuple) else []
        if len(numbers) not in (2, 4) or not all(map(_is_number, numbers)):
            raise ActionError(f"{name} is {_shown(value)}: give [x, y], two numbers")
        if len(numbers) == 4:
            numbers = [(numbers[0] + numbers[2]) / 2, (numbers[1] + numbers[3]) / 2]
            self.notes.append(f"{name} is a box: its middle was taken")
        within = [min(max(number, 0), side) for number, side in zip(numbers, self.frame, strict=True)]
        if within != numbers:
            wide, high = self.frame
            self.notes.append(f"{name} {_shown(value)} is outside of the screen of {wide}x{high}: its edge was taken")
        x, y = (number / side for number, side in zip(within, self.frame, strict=True))
        self.places[name] = Region("point", ((x, y),))
        return x, y

    def text(self, name: str) -> str:
        value = self.given.get(name)
        if not isinstance(value, str) or not value:
            raise ActionError(f"{name} is {_shown_or_missing(value)}: give a text")
        if len(value) > LONGEST_TEXT:
            raise ActionError(f"{name} has {len(value)} characters: give {LONGEST_TEXT} at most")
        return value

    def number(self, name: str) -> float:
        value = self.given.get(name)
        if value is None or not _is_number(value):
            raise ActionError(f"{name} is {_shown_or_missing(value)}: give a number")
        return float(value)

    def seconds(self, name: str = "time") -> float:
        """One second where nothing is said, as in android_world/env/actuation.py of google-research/android_world @ 1903b2f."""
        value = self.number(name) if name in self.given else 1.0
        if value < 0:
            raise ActionError(f"{name} is {value:g}: give seconds, 0 or more")
        if value > LONGEST_WAIT:
            self.notes.append(f"{name} is {value:g}: {LONGEST_WAIT:g} seconds are the most")
        return min(value, LONGEST_WAIT)

    def choice(self, name: str, options: tuple[str, ...]) -> str:
        value = self.given.get(name)
        found = next((option for option in options if isinstance(value, str) and value.lower() == option.lower()), None)
        if found is None:
            raise ActionError(f"{name} is {_shown_or_missing(value)}: give one of {', '.join(options)}")
        return found

    def keys(self, name: str) -> tuple[str, ...]:
        """Names as of pyautogui, xdotool or a browser, one by one or joined by "+"."""
        value = self.given.get(name)
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(one, str) and one for one in names):
            raise ActionError(f'{name} is {_shown(value)}: give a list of names, as in ["ctrl", "a"]')
        parts = [part for one in names for part in (one.split("+") if len(one) > 1 and "+" in one.strip("+") else [one])]
        return tuple(map(key_named, parts))


_KEYS = {
    "ctrl": "Control", "control": "Control", "ctrlleft": "Control", "ctrlright": "Control", "shift": "Shift", "shiftleft": "Shift",
    "shiftright": "Shift", "alt": "Alt", "option": "Alt", "altleft": "Alt", "altright": "Alt", "cmd": "Meta", "command": "Meta",
    "win": "Meta", "super": "Meta", "meta": "Meta", "enter": "Enter", "return": "Enter", "esc": "Escape", "escape": "Escape",
    "tab": "Tab", "backspace": "Backspace", "delete": "Delete", "del": "Delete", "space": "Space", " ": "Space", "up": "ArrowUp",
    "arrowup": "ArrowUp", "down": "ArrowDown", "arrowdown": "ArrowDown", "left": "ArrowLeft", "arrowleft": "ArrowLeft",
    "right": "ArrowRight", "arrowright": "ArrowRight", "pageup": "PageUp", "pgup": "PageUp", "pagedown": "PageDown",
    "pgdn": "PageDown", "pgdown": "PageDown", "home": "Home", "end": "End", "insert": "Insert",
    **{f"f{number}": f"F{number}" for number in range(1, 13)},
}  # fmt: skip


def key_named(name: str) -> str:
    """A key's name in a browser. Raises ActionError."""
    if len(name) == 1 and not name.isspace():
        return name
    found = _KEYS.get(name if name.isspace() else name.strip().lower().replace("_", "").replace("-", ""))
    if found is None:
        raise ActionError(f"there is no key {_shown(name)}: give a letter, or a name like enter, ctrl, tab, pagedown")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown_or_missing(value: Any) -> str:
    return "missing" if value is None else _shown(value)


Build = Callable[[Arguments], Action]


def _ends(arguments: Arguments) -> Action:
    return Terminate(arguments.choice("status", ("success", "failure")) == "success")


def _typed(arguments: Arguments) -> Action:
    return Type(arguments.text("text"))


def _waits(arguments: Arguments) -> Action:
    return Wait(arguments.seconds())


@dataclass(frozen=True, slots=True)
class Tool:
    """A published tool: how it is told, and what each of its actions is made of."""

    told: Mapping[str, Any] = field(repr=False)
    actions: Mapping[str, Build] = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.told["name"])

    def read(self, text: str, frame: Frame) -> ReadAction:
        """The action of a model's answer: that of its first call. frame: what coordinates are counted in, (width, height).

        Raises ActionError.
        """
        calls = read_calls(text)
        if not calls:
            why = "is cut off" if CALL_TAGS[0] in text else "makes no call"
            raise ActionError(
                f'the answer {why}: write {CALL_TAGS[0]} {{"name": "{self.name}", "arguments": {{"action": ...}}}} {CALL_TAGS[1]}'
            )
        call = calls[0]
        if call.name != self.name:
            raise ActionError(f"there is no function {_shown(call.name)}: call {self.name}")
        done = call.arguments.get("action")
        if not isinstance(done, str) or done not in self.actions:
            raise ActionError(f"action is {_shown(done)}: give one of {', '.join(self.actions)}")
        arguments = Arguments(call.arguments, frame)
        try:
            action = self.actions[done](arguments)
        except ActionError as error:
            raise ActionError(f"{done}: {error}") from None
        if len(calls) > 1:
            arguments.notes.append(f"only the first of {len(calls)} calls was done")
        return ReadAction(ToolCall(call.name, call.arguments | arguments.places), action, tuple(arguments.notes))


TOOLS: Mapping[str, Tool] = {
    # `coordinate` is taken with every click, though the tool's own words ask for it with two other actions only.
    COMPUTER: Tool(
        COMPUTER_USE,
        {
            "key": lambda given: Keys(given.keys("keys")),
            "type": _typed,
            "mouse_move": lambda given: Move(given.point("coordinate")),
            "left_click": lambda given: Click(given.optional_point("coordinate")),
            "left_click_drag": lambda given: Drag(given.point("coordinate")),
            "right_click": lambda given: Click(given.optional_point("coordinate"), "right"),
            "middle_click": lambda given: Click(given.optional_point("coordinate"), "middle"),
            "double_click": lambda given: Click(given.optional_point("coordinate"), times=2),
            "scroll": lambda given: Scroll(given.number("pixels") / given.frame[1], given.optional_point("coordinate")),
            "wait": _waits,
            "terminate": _ends,
        },
    ),
    PHONE: Tool(
        MOBILE_USE,
        {
            "key": lambda given: DeviceKey(given.text("text")),
            "click": lambda given: Tap(given.point("coordinate")),
            "long_press": lambda given: LongPress(given.point("coordinate"), given.seconds()),
            "swipe": lambda given: Swipe(given.point("coordinate"), given.point("coordinate2")),
            "type": _typed,
            "system_button": lambda given: Button(given.choice("button", ("Back", "Home", "Menu", "Enter"))),
            "open": lambda given: Open(given.text("text")),
            "wait": _waits,
            "terminate": _ends,
        },
    ),
}
