"""A small kit of controls for drawing screens. Every control is kept as a Widget: where it is clicked, what it is called, what one
wants who uses it, and in which state it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from qwenvl.data.synth.draws import between, pick
from qwenvl.data.synth.figures.canvas import Align, Box, Canvas, Colour, Level
from qwenvl.data.synth.figures.figure import Element
from qwenvl.data.synth.figures.icon import icon_mask
from qwenvl.data.synth.figures.lettering import Family, draw_family, shorten, wrap
from qwenvl.data.synth.figures.style import HUES, Theme, draw_theme, legible, mixed
from qwenvl.data.synth.figures.words import book, say
from qwenvl.data.synth.names import Language

State = Literal["", "on", "off"]


@dataclass(frozen=True, slots=True)
class Widget:
    """A control: its element (box = what is clicked), what it is labelled, what one wants who uses it, and its state."""

    element: Element
    label: str
    want: str = ""
    state: State = ""


@dataclass(frozen=True, slots=True)
class Skin:
    """How controls look. `unit` is the size of a text line's letters in pixels, which everything else is measured in."""

    theme: Theme
    accent: Colour
    family: Family
    unit: int
    radius: int
    outlined: bool
    coloured_bar: bool


def draw_skin(rng: np.random.Generator, unit: int, dark_share: float) -> Skin:
    theme = draw_theme(rng, dark_share)
    accent = HUES[pick(rng, ("blue", "blue", "green", "purple", "red", "teal", "orange", "pink"))][1 if theme.dark else 0]
    radius = round(unit * pick(rng, (0.0, 0.3, 0.5, 1.2)))
    return Skin(theme, accent, draw_family(rng, "sans"), unit, radius, rng.random() < 0.5, rng.random() < 0.4)


@dataclass(slots=True)
class Kit:
    """A screen being drawn."""

    canvas: Canvas
    skin: Skin
    language: Language
    rng: np.random.Generator
    states: Mapping[str, str] = field(default_factory=dict)
    """Label -> what someone has made of the control since: "on" or "off", or the text in a field."""
    widgets: list[Widget] = field(default_factory=list)
    texts: list[Element] = field(default_factory=list)

    @property
    def width(self) -> int:
        return self.canvas.image.width

    @property
    def height(self) -> int:
        return self.canvas.image.height

    def em(self, count: float) -> int:
        """That many units in pixels."""
        return round(self.skin.unit * count)

    def say(self, pair: list[Any]) -> str:
        return say(pair, self.language)

    def words(self, key: str) -> Any:
        return book("screens")[key]

    def some(self, key: str, count: int) -> list[Any]:
        """Different entries of a list of screens.yaml, at random."""
        entries = self.words(key)
        return [entries[int(place)] for place in self.rng.permutation(len(entries))[:count]]

    def keep(self, kind: str, box: Box, label: str, name: list[str], want: list[str], state: State = "") -> None:
        self.widgets.append(Widget(Element(kind, box, label, self.say(name)), label, self.say(want), state))

    def text(
        self, x: float, y: float, text: str, colour: Colour | None = None, size: float = 1.0, strong: bool = False,
        align: Align = "left", level: Level = "top", room: float | None = None,
    ) -> Box:  # fmt: skip
        """A line of text; cut where it is wider than `room`."""
        kind = (self.skin.family.strong if strong else self.skin.family.plain)(self.skin.unit * size)
        text = text if room is None else shorten(text, kind, room)
        box = self.canvas.text(x, y, text, kind, colour or self.skin.theme.ink, align, level)
        self.texts.append(Element("text", box, text))
        return box

    def paragraph(self, x: float, y: float, text: str, room: float, colour: Colour | None = None) -> int:
        """Lines of text from there on; returns where they end."""
        kind = self.skin.family.plain(self.skin.unit)
        for line in wrap(text, kind, room):
            self.text(x, y, line, colour)
            y += kind.line_height
        return round(y)

    def sign(self, key: str, x: float, y: float, size: float, colour: Colour) -> Box:
        """An icon with its middle there; not a control."""
        side = max(round(size), 10)
        return self.canvas.stamp(icon_mask(key, side), round(x - side / 2), round(y - side / 2), colour)

    def icon_button(self, key: str, x: float, y: float, colour: Colour | None = None, size: float = 1.5) -> None:
        """An icon of `signs` that can be pressed; the box is the icon's with some room around it."""
        entry, side = self.words("signs")[key], self.em(size)
        self.sign(key, x, y, side, colour or self.skin.theme.ink)
        reach = round(side * 0.75)
        box = (round(x) - reach, round(y) - reach, round(x) + reach, round(y) + reach)
        english, chinese = entry["name"]
        self.keep("icon button", box, self.say(entry["name"]), [f"the {english} button", f"{chinese}按钮"], entry["want"])

    def button(self, box: Box, label: list[str], filled: bool = True, strong: bool = False, of: str = "") -> None:
        """A button with a text: filled with the accent, or outlined. `of`: what it belongs to, where there are several alike."""
        skin = self.skin
        fill = skin.accent if filled else skin.theme.fill if not skin.outlined else None
        if fill is None:
            self.canvas.rectangle(box, skin.theme.ground, skin.theme.muted, radius=skin.radius)
        else:
            self.canvas.rectangle(box, fill, radius=skin.radius)
        ink = legible(skin.accent) if filled else skin.theme.ink
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        self.text(*middle, self.say(label), ink, strong=strong, align="centre", level="middle", room=box[2] - box[0] - self.em(0.5))
        english, chinese = label
        name = [f"the “{english}” button" + (f" of “{of}”" if of else ""), (f"“{of}”的" if of else "") + f"“{chinese}”按钮"]
        want = [f"Press “{english}”" + (f" for “{of}”." if of else "."), f"点击{f'“{of}”的' if of else ''}“{chinese}”。"]
        self.keep("button", box, self.say(label), name, want)

    def button_width(self, label: list[str]) -> int:
        return round(self.skin.family.plain(self.skin.unit).width(self.say(label))) + self.em(2.4)

    def field(self, box: Box, label: list[str], value: str = "", inside: bool = False, icon: str = "") -> None:
        """A text field, its label above it or, with `inside`, in it while it is empty."""
        skin, value = self.skin, self.states.get(self.say(label), value)
        if skin.outlined:
            self.canvas.rectangle(box, skin.theme.ground, skin.theme.muted, radius=skin.radius)
        else:
            self.canvas.rectangle(box, skin.theme.fill, radius=skin.radius)
        x, middle = box[0] + self.em(0.7), (box[1] + box[3]) / 2
        if icon:
            self.sign(icon, x + self.em(0.5), middle, self.em(1.2), skin.theme.muted)
            x += self.em(1.7)
        if not inside:
            self.text(box[0], box[1] - self.em(0.35), self.say(label), skin.theme.muted, 0.9, level="bottom")
        shown = value or (self.say(label) if inside else "")
        if shown:
            ink = skin.theme.ink if value else skin.theme.muted
            self.text(x, middle, shown, ink, level="middle", room=box[2] - x - self.em(0.4))
        english, chinese = label
        name = [f"the “{english}” field", f"“{chinese}”输入框"]
        want = [f"Type into the field “{english}”.", f"在“{chinese}”中输入内容。"]
        self.keep("text field", box, self.say(label), name, want)

    def switch(self, right: int, middle: int, label: list[str], on: bool) -> None:
        """A switch whose right end is there."""
        on = self._is_on(label, on)
        height = self.em(1.35)
        width = round(height * 1.8)
        box = (right - width, middle - height // 2, right, middle - height // 2 + height)
        track = self.skin.accent if on else mixed(self.skin.theme.muted, self.skin.theme.ground, 0.4)
        self.canvas.rectangle(box, track, radius=height // 2)
        knob = height - 4
        x = box[2] - knob - 2 if on else box[0] + 2
        self.canvas.ellipse((x, box[1] + 2, x + knob, box[1] + 2 + knob), (255, 255, 255))
        self._toggled("switch", box, label, on, ["switch", "开关"])

    def tick(self, left: int, middle: int, label: list[str], on: bool, round_box: bool = False) -> int:
        """A box to tick (or a round one, of which one is chosen) with its text at the right; returns where that ends."""
        on = self._is_on(label, on)
        side = self.em(1.15)
        box = (left, middle - side // 2, left + side, middle - side // 2 + side)
        line = self.skin.theme.muted
        if round_box:
            self.canvas.ellipse(box, self.skin.theme.ground, self.skin.accent if on else line, 1.6)
            if on:
                inner = side * 0.28
                self.canvas.ellipse((box[0] + inner, box[1] + inner, box[2] - inner, box[3] - inner), self.skin.accent)
        else:
            fill = self.skin.accent if on else self.skin.theme.ground
            self.canvas.rectangle(box, fill, self.skin.accent if on else line, radius=2)
            if on:
                self.sign("check", (box[0] + box[2]) / 2, middle, side * 0.8, legible(self.skin.accent))
        text = self.text(box[2] + self.em(0.5), middle, self.say(label), level="middle")
        kind = ["option", "选项"] if round_box else ["checkbox", "复选框"]
        self._toggled("radio button" if round_box else "checkbox", box, label, on, kind)
        return text[2]

    def _is_on(self, label: list[str], drawn: bool) -> bool:
        return self.states.get(self.say(label), "on" if drawn else "off") == "on"

    def _toggled(self, kind: str, box: Box, label: list[str], on: bool, noun: list[str]) -> None:
        english, chinese = label
        if kind == "radio button":
            want = [f"Choose “{english}”.", f"选择“{chinese}”。"]
        elif kind == "checkbox":
            want = [f"{'Untick' if on else 'Tick'} “{english}”.", f"{'取消勾选' if on else '勾选'}“{chinese}”。"]
        else:
            want = [f"Turn {'off' if on else 'on'} {english}.", f"{'关闭' if on else '打开'}{chinese}。"]
        name = [f"the “{english}” {noun[0]}", f"“{chinese}”{noun[1]}"]
        self.keep(kind, box, self.say(label), name, want, "on" if on else "off")

    def row(self, box: Box, title: str, below: str = "", icon: str = "", right: str = "", kind: str = "list item") -> None:
        """An entry of a list: a title, a smaller text below it, an icon before it, a text at its end."""
        skin, middle = self.skin, (box[1] + box[3]) / 2
        x = box[0] + self.em(0.9)
        if icon:
            self.sign(icon, x + self.em(0.7), middle, self.em(1.5), skin.accent)
            x += self.em(2.4)
        edge = box[2] - self.em(0.9)
        if right:
            edge = self.text(edge, middle, right, skin.theme.muted, 0.85, align="right", level="middle")[0] - self.em(0.6)
        if below:
            self.text(x, middle - self.em(0.1), title, strong=True, level="bottom", room=edge - x)
            self.text(x, middle + self.em(0.1), below, skin.theme.muted, 0.85, room=edge - x)
        else:
            self.text(x, middle, title, level="middle", room=edge - x)
        self.keep(kind, box, title, [f"the entry “{title}”", f"“{title}”一项"], [f"Open “{title}”.", f"打开“{title}”。"])

    def tab(self, box: Box, label: list[str], on: bool, icon: str = "") -> None:
        """A tab: an icon over its text, or the text alone with a line below where it is chosen."""
        colour = self.skin.accent if on else self.skin.theme.muted
        middle = (box[0] + box[2]) / 2
        if icon:
            self.sign(icon, middle, box[1] + self.em(1.25), self.em(1.5), colour)
            self.text(middle, box[3] - self.em(0.35), self.say(label), colour, 0.75, align="centre", level="bottom")
        else:
            self.text(middle, (box[1] + box[3]) / 2, self.say(label), colour, strong=on, align="centre", level="middle")
            if on:
                self.canvas.rectangle((box[0], box[3] - 3, box[2], box[3]), colour)
        english, chinese = label
        name = [f"the “{english}” tab", f"“{chinese}”标签"]
        self.keep("tab", box, self.say(label), name, [f"Switch to “{english}”.", f"切换到“{chinese}”。"], "on" if on else "off")

    def link(
        self,
        x: float,
        y: float,
        label: list[str],
        colour: Colour | None = None,
        kind: str = "link",
        align: Align = "left",
        level: Level = "top",
    ) -> Box:
        """A text that can be clicked: a link, or an entry of a menu bar."""
        box = self.text(x, y, self.say(label), colour or self.skin.accent, align=align, level=level)
        grown = (box[0] - self.em(0.3), box[1] - self.em(0.3), box[2] + self.em(0.3), box[3] + self.em(0.3))
        english, chinese = label
        noun = ["menu", "菜单"] if kind == "menu" else ["link", "链接"]
        want = (
            [f"Open the menu “{english}”.", f"打开“{chinese}”菜单。"]
            if kind == "menu"
            else [f"Follow “{english}”.", f"点击“{chinese}”。"]
        )
        self.keep(kind, grown, self.say(label), [f"the “{english}” {noun[0]}", f"“{chinese}”{noun[1]}"], want)
        return box

    def picture(self, box: Box) -> None:
        """A stand-in for a photograph: hills, sky and sun."""
        sky = mixed(self.skin.accent, (255, 255, 255), between(self.rng, 0.5, 0.8))
        self.canvas.rectangle(box, sky)
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        radius = height * 0.12
        x, y = left + width * between(self.rng, 0.2, 0.8), top + height * 0.28
        self.canvas.ellipse((x - radius, y - radius, x + radius, y + radius), (250, 220, 110))
        for peak, shade in ((between(self.rng, 0.25, 0.45), 0.25), (between(self.rng, 0.55, 0.75), 0.45)):
            foot = [
                (max(left + width * (peak - 0.4), left), bottom),
                (left + width * peak, top + height * 0.42),
                (min(left + width * (peak + 0.4), right), bottom),
            ]
            self.canvas.polygon([(x, min(y, bottom - 1)) for x, y in foot], mixed(self.skin.accent, (40, 60, 50), shade))


def rows_of(kit: Kit, top: int, bottom: int, height: int, count: int) -> Sequence[Box]:
    """Boxes of entries below each other, as many as there is room for."""
    fitting = min(count, (bottom - top) // height)
    return [(0, top + row * height, kit.width, top + (row + 1) * height) for row in range(fitting)]
