"""Trajectories: whole tasks on a drawn phone, screen by screen, with the call that is right on each.

The phone has a start screen with apps. Some of them can be worked in: settings have switches, a chat has a field, a form in the
browser has both. A screen that is come back to is as it was left. All of it is a pure function of (spec, seed, index).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from qwenvl.config import Count
from qwenvl.data.formats import phone_trajectory
from qwenvl.data.synth.draws import between, draw_language, pick, whole
from qwenvl.data.synth.figures.figure import Element
from qwenvl.data.synth.figures.screen import Screen, ScreenSpec, make_screen
from qwenvl.data.synth.figures.screen_mobile import typed
from qwenvl.data.synth.figures.widgets import Widget
from qwenvl.data.synth.figures.words import book, say
from qwenvl.data.synth.long.budget import LongSpec, stream
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import Voice, numbers
from qwenvl.processing.actions import PHONE
from qwenvl.processing.tools import ToolCall
from qwenvl.types import Region, Sample

PHRASES = Path(__file__).with_name("trajectories.yaml")
_KIND = 4
_NUMBERS = 8
"""Numbers of screens kept free for each phone."""
_SECRET = "•"

START = "launcher"
APPS = {"Settings": "settings", "Messages": "chat", "Browser": "form"}
"""App, by its English name on the start screen -> kind of screen that it opens. In the others nothing is done."""


class TrajectorySpec(LongSpec):
    """What phones look like and how much is done on them."""

    language: Literal["en", "zh", "both"] = "both"
    width: tuple[int, int] = (420, 720)
    """Least and greatest width of the screen in pixels."""
    aspect: tuple[float, float] = (1.7, 2.1)
    """Height, as a part of the width."""
    visits: tuple[int, int] = (1, 8)
    """Least and greatest number of visits to apps; fewer where the budget is full."""
    edits: Count = 4
    """What is done in one visit at most."""
    dark_share: float = Field(default=0.25, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Step:
    """A screen and the call that is right on it; `target`: the control that it is aimed at."""

    screen: Screen
    call: ToolCall
    target: Element | None = None


@dataclass(slots=True)
class Phone:
    """One phone in use. `states`: by kind of screen, what has been made of its controls."""

    spec: ScreenSpec
    seed: int
    first: int
    shown: str = START
    states: dict[str, dict[str, str]] = field(default_factory=dict)

    def look(self) -> Screen:
        """The screen as it is now."""
        number = self.first + [START, *APPS.values()].index(self.shown)
        spec = self.spec.model_copy(update={"layouts": (self.shown,)})
        return make_screen(spec, self.seed, number, dict(self.states.get(self.shown, {})))

    def change(self, label: str, state: str) -> None:
        self.states.setdefault(self.shown, {})[label] = state


def samples(spec: TrajectorySpec, seed: int, index: int) -> list[Sample]:
    """The trajectory of number `index`; none where the phone's start screen has no app to work in."""
    rng = stream(_KIND, seed, index)
    room = spec.budget(rng)
    language = draw_language(rng, spec.language)
    voice = Voice(language, "chat", rng, spec.held_out)
    phone = Phone(_screens(spec, language, rng), seed, index * _NUMBERS)
    steps: list[Step] = []
    tasks: list[str] = []
    for _ in range(whole(rng, *spec.visits)):
        home = [Step(phone.look(), _call("system_button", button="Home"))] if tasks else []
        visited = visit(phone, voice, spec.edits)
        if visited is None:
            break
        task, done = visited
        if tasks and _length(spec, [*steps, *home, *done], [*tasks, task]) > room:
            break
        steps += [*home, *done]
        tasks.append(task)
        last = phone.look()
    if not tasks:
        return []
    steps.append(Step(last, _call("terminate", status="success")))
    goal = put(voice, "goal", tasks=voice.say(" ", "").join(tasks))
    return [_sample(goal, steps, language, f"trajectory {seed}/{index}")]


def visit(phone: Phone, voice: Voice, edits: int) -> tuple[str, list[Step]] | None:
    """Go from the start screen to another app than before and do something there: what is wanted, and the steps. None where there
    is nothing to do. The phone is left in the app.
    """
    before, phone.shown = phone.shown, START
    start = phone.look()
    known = {say(label, voice.language): APPS[label[0]] for label, _ in book("screens")["apps"] if label[0] in APPS}
    apps = [widget for widget in start.widgets if widget.label in known and known[widget.label] != before]
    for app in voice.some(apps, len(apps)):
        phone.shown = known[app.label]
        wants: list[str] = []
        steps = [_click(start, app)]
        for label in voice.some([widget.label for widget in _editable(phone.look())], edits):
            want, done = _edit(phone, label, voice)
            wants += want
            steps += done
        if wants:
            return put(voice, "in_app", app=app.label, wants=voice.say(", ", "，").join(wants)), steps
    return None


def _editable(screen: Screen) -> list[Widget]:
    """Switches, boxes to tick, and fields that nothing is written in: typing would add to it."""
    labels = [widget.label for widget in screen.widgets]
    able = [widget for widget in screen.widgets if labels.count(widget.label) == 1]
    return [widget for widget in able if widget.element.kind in ("switch", "checkbox") or _is_empty(screen, widget)]


def _is_empty(screen: Screen, widget: Widget) -> bool:
    """Whether a widget is a text field that shows nothing, or its own label."""
    left, top, right, bottom = widget.element.box
    inside = [
        text for text in screen.of_kind("text") if left <= text.box[0] and text.box[2] <= right and top <= text.box[1] < bottom
    ]
    return widget.element.kind == "text field" and all(text.text == widget.label for text in inside)


def _edit(phone: Phone, label: str, voice: Voice) -> tuple[list[str], list[Step]]:
    """Do something with a control, on the screen as it is by now; nothing with a field that nothing is to be typed into."""
    screen = phone.look()
    widget = next(widget for widget in screen.widgets if widget.label == label)
    if widget.element.kind != "text field":
        phone.change(label, "off" if widget.state == "on" else "on")
        want = widget.want.rstrip(".。")
        return [want[:1].lower() + want[1:]], [_click(screen, widget)]
    text = _text_for(label, voice)
    if not text or _SECRET in text:
        return [], []
    phone.change(label, text)
    steps = [_click(screen, widget), Step(screen, _call("type", text=text), widget.element)]
    return [put(voice, "type_text", text=text, label=label)], steps


def _text_for(label: str, voice: Voice) -> str:
    words = book("screens")
    if label == say(words["titles"]["type_here"], voice.language):
        return say(pick(voice.rng, words["messages"]), voice.language)
    fields = {say(pair, voice.language): pair[0] for form in words["forms"] for pair in form["fields"]}
    return typed(voice.rng, voice.language, fields[label])


def _screens(spec: TrajectorySpec, language: Language, rng: np.random.Generator) -> ScreenSpec:
    """What all screens of one phone have in common: their size, and whether they are dark."""
    width, aspect = whole(rng, *spec.width), between(rng, *spec.aspect)
    dark = float(rng.random() < spec.dark_share)
    return ScreenSpec(
        devices=("mobile",), language=language, mobile_width=(width, width), mobile_aspect=(aspect, aspect), dark_share=dark
    )


def _click(screen: Screen, widget: Widget) -> Step:
    return Step(screen, _call("click", coordinate=screen.spot(widget.element)), widget.element)


def _call(action: str, **arguments: Any) -> ToolCall:
    return ToolCall(PHONE, {"action": action, **arguments})


def _length(spec: TrajectorySpec, steps: Sequence[Step], tasks: Sequence[str]) -> int:
    """Tokens of the steps and of the last one, which comes after them."""
    steps = [*steps, Step(steps[-1].screen, _call("terminate", status="success"))]
    return spec.ruler.sample(_sample(" ".join(tasks), steps, "en", ""))


def _sample(goal: str, steps: Sequence[Step], language: Language, name: str) -> Sample:
    """`extra`: the goal, and of every step the call with its places in [0, 1] and the box that a click may lie in, if any."""
    told = []
    for step in steps:
        arguments = {key: numbers(value) if isinstance(value, Region) else value for key, value in step.call.arguments.items()}
        box = None if step.target is None else numbers(step.screen.region(step.target.box))
        told.append({"name": step.call.name, "arguments": arguments, "box": box})
    messages = phone_trajectory(goal, [(step.screen.image, step.call) for step in steps])
    extra = {"kind": "phone_trajectory", "question": goal, "calls": told}
    return Sample(messages, name, "phone_trajectory", language, "trajectories", extra)


def put(voice: Voice, kind: str, **slots: str) -> str:
    return voice.phrasing(kind, PHRASES).format_map(slots)
