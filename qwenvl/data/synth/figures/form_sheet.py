"""A sheet of a form being filled in: labels, values beside them, and what the form says as keys and values."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
from PIL import Image

from qwenvl.data.documents.blocks import table_rows
from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.figures import fields
from qwenvl.data.synth.figures.canvas import Align, Box, Canvas, Colour, Level
from qwenvl.data.synth.figures.figure import Element
from qwenvl.data.synth.figures.lettering import Family, Type, wrap
from qwenvl.data.synth.figures.style import Theme
from qwenvl.data.synth.figures.table_layout import TableLook, draw_table, lay_out
from qwenvl.data.synth.figures.words import book, say
from qwenvl.data.synth.names import Language

_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Purchase:
    """Goods that are paid for: (name, count, unit price), and the rate of tax in percent on their sum."""

    items: tuple[tuple[str, int, Decimal], ...]
    rate: int

    @property
    def subtotal(self) -> Decimal:
        return sum((price * count for _, count, price in self.items), Decimal(0))

    @property
    def tax(self) -> Decimal:
        return (self.subtotal * self.rate / 100).quantize(_CENT)

    @property
    def total(self) -> Decimal:
        return self.subtotal + self.tax


def draw_purchase(rng: np.random.Generator, language: Language, most: int, rate: int) -> Purchase:
    goods = fields.goods(rng, whole(rng, 2, most), language)
    return Purchase(tuple((name, whole(rng, 1, 6), price) for name, price in goods), rate)


@dataclass(slots=True)
class Sheet:
    """The form: `values` are what it says, by key; Chinese keys are the printed labels."""

    canvas: Canvas
    theme: Theme
    family: Family
    hand: Family
    """What values are written in."""
    hand_colour: Colour
    size: int
    language: Language
    rng: np.random.Generator
    date_style: str
    elements: list[Element] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return self.canvas.image.width

    @property
    def height(self) -> int:
        return self.canvas.image.height

    @property
    def line(self) -> int:
        return round(self.size * 1.5)

    def em(self, count: float) -> int:
        return round(self.size * count)

    def say(self, pair: list[Any]) -> str:
        return say(pair, self.language)

    def label(self, key: str) -> str:
        return self.say(book("forms")["labels"][key])

    def key(self, key: str) -> str:
        """What the key is called in the answer."""
        return key if self.language == "en" else self.label(key)

    def column(self, *keys: str) -> int:
        """Room for the longest of some labels."""
        kind = self.family.plain(self.size)
        return round(max(kind.width(self.label(key) + ":") for key in keys)) + self.em(0.9)

    def title(self, kind: str) -> str:
        return self.say(pick(self.rng, book("forms")["titles"][kind]))

    def text(
        self, x: float, y: float, text: str, kind: Type, colour: Colour | None = None, align: Align = "left", level: Level = "top",
        role: str = "text", name: str = "",
    ) -> Box:  # fmt: skip
        box = self.canvas.text(x, y, text, kind, colour or self.theme.ink, align, level)
        self.elements.append(Element(role, box, text, name))
        return box

    def lines(
        self, x: float, y: float, text: str, kind: Type, room: float, align: Align = "left", role: str = "text", name: str = ""
    ) -> int:
        """A text broken to a width; returns where it ends. The name goes to the first line."""
        for number, line in enumerate(wrap(text, kind, room)):
            self.text(
                x, y, line, kind, self.hand_colour if role == "value" else None, align, role=role, name="" if number else name
            )
            y += kind.line_height
        return round(y)

    def say_value(self, key: str, text: str) -> None:
        self.values[self.key(key)] = text

    def written(self, key: str) -> str:
        """What the element that shows a value is called."""
        label = self.label(key)
        return f"the value of “{label}”" if self.language == "en" else f"“{label}”的内容"

    def beside(self, key: str, text: str, x: float, y: float, column: float, room: float) -> int:
        """A label with its value at the right, `column` pixels from it; returns where they end."""
        self.text(
            x,
            y,
            self.label(key) + (":" if self.language == "en" else "："),
            self.family.plain(self.size),
            self.theme.muted,
            role="label",
        )
        self.say_value(key, text)
        end = self.lines(x + column, y, text, self.hand.plain(self.size), room - column, role="value", name=self.written(key))
        return max(end, round(y + self.line))

    def below(self, key: str, text: str, x: float, y: float, room: float) -> int:
        """A small label with its value below it; returns where they end."""
        self.text(x, y, self.label(key), self.family.plain(self.size * 0.75), self.theme.muted, role="label")
        self.say_value(key, text)
        return self.lines(
            x, y + self.em(1.05), text, self.hand.plain(self.size), room, role="value", name=self.written(key)
        ) + self.em(0.4)

    def boxed(self, key: str, text: str, box: Box) -> None:
        """A label and its value in a frame."""
        self.canvas.rectangle(box, None, self.theme.muted)
        x = box[0] + self.em(0.5)
        self.text(x, box[1] + self.em(0.3), self.label(key), self.family.plain(self.size * 0.72), self.theme.muted, role="label")
        self.say_value(key, text)
        kind = self.hand.plain(self.size)
        while kind.width(text) > box[2] - x - self.em(0.4) and kind.size > 8:
            kind = kind.sized(kind.size - 1)
        self.text(x, box[3] - self.em(0.35), text, kind, self.hand_colour, level="bottom", role="value", name=self.written(key))

    def underlined(self, key: str, text: str, x: float, y: float, room: float) -> int:
        """A label, and its value written on a line after it; returns where they end."""
        label = self.label(key) + (":" if self.language == "en" else "：")
        box = self.text(x, y, label, self.family.plain(self.size), role="label")
        start = box[2] + self.em(0.6)
        self.canvas.rule(start, y + self.line, x + room, y + self.line, self.theme.muted)
        self.say_value(key, text)
        kind = self.hand.plain(self.size)
        while kind.width(text) > x + room - start - 4 and kind.size > 8:
            kind = kind.sized(kind.size - 1)
        self.text(start + self.em(0.3), y, text, kind, self.hand_colour, role="value", name=self.written(key))
        return round(y + self.line * 1.5)

    def choice(self, key: str, x: float, y: float, room: float) -> int:
        """A label and boxes of which one is ticked; returns where they end."""
        options = book("forms")["choices"][key]
        chosen = whole(self.rng, 0, len(options) - 1)
        start = self.text(
            x, y, self.label(key) + (":" if self.language == "en" else "："), self.family.plain(self.size), role="label"
        )[2]
        side = self.em(0.95)
        place = max(start + self.em(1), round(x + room * 0.25))
        for number, option in enumerate(options):
            box = (place, round(y) + self.em(0.2), place + side, round(y) + self.em(0.2) + side)
            self.canvas.rectangle(box, None, self.theme.ink)
            if number == chosen:
                cross = [(box[0] + 2, box[1] + side * 0.55), (box[0] + side * 0.42, box[3] - 3), (box[2] + 2, box[1] - 2)]
                self.canvas.line(cross, self.hand_colour, max(self.size * 0.13, 1.6))
            name = f"the box “{self.say(option)}”" if self.language == "en" else f"“{self.say(option)}”方框"
            self.elements.append(Element("box", box, "", name))
            place = self.text(box[2] + self.em(0.4), y, self.say(option), self.family.plain(self.size))[2] + self.em(1.4)
        self.say_value(key, self.say(options[chosen]))
        return round(y + self.line * 1.4)

    def table(self, purchase: Purchase, look: TableLook, left: int, top: int, width: int) -> int:
        """The items of an invoice as a table; returns where it ends."""
        keys = ("description", "quantity", "unit_price", "amount")
        rows = [[name, str(count), fields.money(price), fields.money(price * count)] for name, count, price in purchase.items]
        self.values[self.key("items")] = [dict(zip(map(self.key, keys), row, strict=True)) for row in rows]
        layout = lay_out(table_rows([[self.label(key) for key in keys], *rows]), look, width).widened(width)
        for cell in draw_table(self.canvas, layout, look, left, top):
            self.elements += [Element("text", box, line) for line, box in cell.lines]
        return top + layout.size[1]

    def total(self, key: str, amount: str, x: float, right: float, y: float, strong: bool = False) -> int:
        """A label with an amount at the right edge; returns where they end."""
        kind = self.family.strong(self.size * 1.1) if strong else self.family.plain(self.size)
        self.text(x, y, self.label(key), kind, role="label")
        self.say_value(key, amount)
        self.text(right, y, amount, kind, align="right", role="value", name=self.written(key))
        return round(y + kind.line_height * 1.15)

    def bars(self, box: Box) -> None:
        """A bar code (of no meaning)."""
        x = box[0]
        while x < box[2]:
            width = min(whole(self.rng, 1, 4), box[2] - x)
            self.canvas.rectangle((x, box[1], x + width, box[3]), (0, 0, 0))
            x += width + whole(self.rng, 1, 4)

    def face(self, box: Box) -> None:
        """The outline of a head and shoulders in place of a photograph."""
        self.canvas.rectangle(box, self.theme.fill, self.theme.muted)
        width, height = box[2] - box[0], box[3] - box[1]
        layer = Canvas.blank(width - 2, height - 2, self.theme.fill)
        layer.ellipse((width * 0.32, height * 0.16, width * 0.68, height * 0.52), self.theme.muted)
        layer.ellipse((width * 0.12, height * 0.58, width * 0.88, height * 1.35), self.theme.muted)
        self.canvas.paste(layer.image, box[0] + 1, box[1] + 1)

    def stamp(self, x: float, y: float, text: str) -> None:
        """A round red stamp with a text across it, slightly see-through."""
        radius = self.em(3)
        mask = Image.new("L", (2 * radius, 2 * radius))
        layer = Canvas.blank(2 * radius, 2 * radius, (0, 0, 0))
        layer.ellipse((2, 2, 2 * radius - 2, 2 * radius - 2), None, (170, 170, 170), max(self.size * 0.16, 2))
        layer.text(radius, radius, text, self.family.strong(self.size * 0.95), (170, 170, 170), "centre", "middle", turn=12)
        mask.paste(layer.image.convert("L"))
        self.canvas.stamp(mask, round(x - radius), round(y - radius), (205, 30, 35))
