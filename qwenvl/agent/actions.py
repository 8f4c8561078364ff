"""What a model may do: on a screen with a mouse, a keyboard or a finger, or as a robot. Places are fractions of the screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qwenvl.types import Point, QwenVLError


class ActionError(QwenVLError):
    """An answer that is no action; the message tells the model what is wrong."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys pressed together, by their names in a browser ("Control", "a")."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Type:
    text: str


@dataclass(frozen=True, slots=True)
class Move:
    to: Point


@dataclass(frozen=True, slots=True)
class Click:
    """With a mouse; where the cursor is, if nothing is said."""

    at: Point | None
    button: Literal["left", "right", "middle"] = "left"
    times: int = 1


@dataclass(frozen=True, slots=True)
class Drag:
    """With the left button down, from where the cursor is."""

    to: Point


@dataclass(frozen=True, slots=True)
class Scroll:
    """up: in heights of the screen; below 0 down."""

    up: float
    at: Point | None = None


@dataclass(frozen=True, slots=True)
class Tap:
    """With a finger."""

    at: Point


@dataclass(frozen=True, slots=True)
class LongPress:
    at: Point
    seconds: float


@dataclass(frozen=True, slots=True)
class Swipe:
    start: Point
    end: Point


@dataclass(frozen=True, slots=True)
class Button:
    """A phone's own."""

    name: str


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A key event of a phone, as adb names it."""

    name: str


@dataclass(frozen=True, slots=True)
class Open:
    """An app of a phone."""

    app: str


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Terminate:
    """The end, as the model sees it; `said` are its last words, where there are any."""

    success: bool
    said: str = ""


@dataclass(frozen=True, slots=True)
class Deed:
    """What a robot does, by its keyword, to what is at a place."""

    verb: str
    at: Point | None = None


Action = (
    Keys | Type | Move | Click | Drag | Scroll | Tap | LongPress | Swipe | Button | DeviceKey | Open | Wait | Terminate | Deed
)


def points_of(action: Action | None) -> tuple[Point, ...]:
    """The places of an action, in [0, 1] of the screen, in order."""
    found = (getattr(action, name, None) for name in ("at", "start", "to", "end"))
    return tuple(point for point in found if point is not None)


def in_words(action: Action, size: tuple[int, int]) -> str:
    """One line for a person; places in pixels of a screen of `size`."""
    match action:
        case Keys(keys):
            return f"press {'+'.join(keys)}"
        case Type(text):
            return f"type {text!r}"
        case Move(to):
            return f"move to {_pixels(to, size)}"
        case Click(at, button, times):
            name = "double click" if times == 2 else "click" if button == "left" else f"{button} click"
            return f"{name} {_pixels(at, size)}" if at else name
        case Drag(to):
            return f"drag to {_pixels(to, size)}"
        case Scroll(up):
            return f"scroll {'up' if up > 0 else 'down'} by {abs(up) * size[1]:.0f}"
        case Tap(at):
            return f"tap {_pixels(at, size)}"
        case LongPress(at, seconds):
            return f"press {_pixels(at, size)} for {seconds:g} s"
        case Swipe(start, end):
            return f"swipe {_pixels(start, size)} to {_pixels(end, size)}"
        case Button(name):
            return f"button {name}"
        case DeviceKey(name):
            return f"key {name}"
        case Open(app):
            return f"open {app!r}"
        case Wait(seconds):
            return f"wait {seconds:g} s"
        case Terminate(success):
            return "done" if success else "give up"
        case Deed(verb, at):
            return f"{verb} {_pixels(at, size)}" if at else verb


def pixel_of(point: Point, size: tuple[int, int]) -> tuple[int, int]:
    """The pixel of a screen of `size` that a place lies in."""
    x, y = (min(int(value * side), side - 1) for value, side in zip(point, size, strict=True))
    return x, y


def _pixels(point: Point, size: tuple[int, int]) -> str:
    x, y = pixel_of(point, size)
    return f"({x}, {y})"
