"""Screens of telephones, computers and the web, with every control named: where to click for what, what is on, what is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from qwenvl.data.formats import phone_step, spot_text
from qwenvl.data.synth.draws import between, draw_language, pick, whole
from qwenvl.data.synth.figures.asking import Ask, Samples, put, voice_of
from qwenvl.data.synth.figures.canvas import Canvas
from qwenvl.data.synth.figures.figure import Figure, FigureSpec, generator
from qwenvl.data.synth.figures.screen_desktop import DESKTOP
from qwenvl.data.synth.figures.screen_mobile import MOBILE
from qwenvl.data.synth.figures.widgets import Kit, Widget, draw_skin
from qwenvl.data.synth.figures.words import book, say
from qwenvl.data.wording import numbers
from qwenvl.processing.actions import PHONE
from qwenvl.processing.tools import ToolCall
from qwenvl.types import RegionPart, Sample

STREAM = 4
Device = Literal["mobile", "desktop"]
_LAYOUTS = {"mobile": MOBILE, "desktop": DESKTOP}


class ScreenSpec(FigureSpec):
    """What screens may show."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "grounding", "point", "element_naming", "gui_target", "gui_click", "gui_action", "gui_state", "reading",
        "ocr_spotting",
    )  # fmt: skip

    devices: tuple[Device, ...] = ("mobile", "desktop")
    mobile_width: tuple[int, int] = (360, 540)
    """Least and greatest width in pixels."""
    mobile_aspect: tuple[float, float] = (1.6, 2.1)
    """Heights, as parts of the width."""
    desktop_width: tuple[int, int] = (800, 1280)
    """Heights are 0.58 to 0.75 of it."""
    dark_share: float = Field(default=0.25, ge=0, le=1)
    layouts: tuple[str, ...] = ()
    """Kinds of screens, such as settings or form; all of the device where none is named."""

    @model_validator(mode="after")
    def _is_drawable(self) -> ScreenSpec:
        for name, floor in (("mobile_width", 300), ("desktop_width", 640)):
            low, high = getattr(self, name)
            if not floor <= low <= high:
                raise ValueError(f"{name}: needs {floor} <= least <= greatest, not {low}, {high}")
        if not self.devices:
            raise ValueError("devices: name at least one")
        for device in self.devices if self.layouts else ():
            if unknown := set(self.layouts) - _LAYOUTS[device].keys():
                raise ValueError(f"layouts: {device} has no {', '.join(sorted(unknown))}; known: {', '.join(_LAYOUTS[device])}")
        return self


@dataclass(frozen=True, slots=True)
class Screen(Figure):
    """A screen. Elements: every control, by its kind, and "text" for every line that can be read."""

    source: ClassVar[str] = "synth/screen"

    device: Device
    layout: str
    widgets: tuple[Widget, ...]


def make_screen(spec: ScreenSpec, seed: int, index: int, states: Mapping[str, str] | None = None) -> Screen:
    """Screen number `index` of a stream. The same arguments give the same bytes, in any order and any process.

    `states`: what someone has made of its controls since, by label; nothing else changes.
    """
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    device = pick(rng, spec.devices)
    layout = pick(rng, spec.layouts or tuple(_LAYOUTS[device]))
    if device == "mobile":
        width = whole(rng, *spec.mobile_width)
        height, unit = round(width * between(rng, *spec.mobile_aspect)), round(width / between(rng, 25, 29))
    else:
        width = whole(rng, *spec.desktop_width)
        height, unit = round(width * between(rng, 0.58, 0.75)), round(width / between(rng, 62, 76))
    skin = draw_skin(rng, max(unit, 11), spec.dark_share)
    kit = Kit(Canvas.blank(width, height, skin.theme.ground), skin, language, rng, states or {})
    _LAYOUTS[device][layout](kit)
    elements = (*(widget.element for widget in kit.widgets), *kit.texts)
    return Screen(kit.canvas.image, elements, language, seed, index, device, layout, tuple(kit.widgets))


def samples(spec: ScreenSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(screen_samples(make_screen(spec, seed, index), spec.held_out))


def screen_samples(screen: Screen, held_out: bool = False, each: int = 3) -> list[Sample]:
    """What is asked about a screen: where controls are, where to click for what, what a control is, what is on, what is written."""
    voice = voice_of(screen, held_out)
    made = Samples(screen, voice)
    elements = [widget.element for widget in screen.widgets]
    made.find(elements, each, points=each)
    made.name(elements, each)
    for widget in voice.some(_wanted(screen), each):
        box = screen.region(widget.element.box)
        extra = {"phrase": widget.want, "element": widget.element.kind, "regions": [numbers(box)]}
        target, click = RegionPart(widget.element.name, (box,)), RegionPart(widget.element.name, (screen.spot(widget.element),))
        made.say("gui_target", put(voice, "gui_target", want=widget.want), [target], **extra)
        made.say("gui_click", put(voice, "gui_want", want=widget.want), [click], **extra)
    if screen.device == "mobile":
        for widget in voice.some(_wanted(screen), each):
            call = ToolCall(PHONE, {"action": "click", "coordinate": screen.spot(widget.element)})
            regions = [numbers(screen.region(widget.element.box))]
            made.take("gui_action", phone_step(screen.image, widget.want, (), call), regions=regions, goal=widget.want)
    asks = []
    for widget in screen.widgets:
        if widget.state and widget.element.kind in ("switch", "checkbox", "radio button"):
            on = widget.state == "on"
            asks.append(Ask("gui_state", {"name": widget.element.name}, voice.say("Yes" if on else "No", "是" if on else "否")))
    made.ask("gui_state", asks, each)
    texts = screen.of_kind("text")
    made.name(texts, 1, written=True)
    made.take("ocr_spotting", spot_text(screen.image, [(text.text, screen.region(text.box)) for text in texts], screen.language))
    return made.found


def _wanted(screen: Screen) -> list[Widget]:
    """The controls that alone do what one wants. A magnifying glass does not, beside a tab that searches."""
    tabs, signs = book("screens")["tabs"], book("screens")["signs"]
    labels = [widget.label for widget in screen.widgets if widget.element.kind == "tab"]
    icons = {icon for label, icon in tabs if say(label, screen.language) in labels}
    done_twice = {say(sign["want"], screen.language) for key, sign in signs.items() if key in icons}
    wants = [widget.want for widget in screen.widgets]
    return [widget for widget in screen.widgets if wants.count(widget.want) == 1 and widget.want not in done_twice]
