"""Forms with what they say as keys and values: invoices, receipts, applications, cards, tickets, parcel labels. All is made up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import model_validator

from qwenvl.data.formats import key_values, read_text, spot_text
from qwenvl.data.synth.draws import between, draw_language, pick
from qwenvl.data.synth.figures import fields
from qwenvl.data.synth.figures.asking import Ask, Samples, voice_of
from qwenvl.data.synth.figures.canvas import Canvas
from qwenvl.data.synth.figures.figure import Element, Figure, FigureSpec, generator
from qwenvl.data.synth.figures.form_layouts import LAYOUTS, SHAPES
from qwenvl.data.synth.figures.form_sheet import Sheet
from qwenvl.data.synth.figures.lettering import draw_family
from qwenvl.data.synth.figures.style import draw_theme
from qwenvl.data.synth.figures.words import book, say
from qwenvl.data.synth.names import Language
from qwenvl.data.wording import Voice
from qwenvl.types import Sample

STREAM = 5
FormKind = Literal["invoice", "receipt", "application", "card", "ticket", "label"]
_CUT: tuple[FormKind, ...] = ("receipt", "label")
"""Paper that ends where the print ends."""
_WHOLE: tuple[FormKind, ...] = ("card", "ticket")
"""Paper of one size; of the other kinds some are a whole page and some the upper part."""
_INKS = ((20, 20, 24), (20, 20, 24), (25, 50, 140), (30, 60, 170))
"""What values are written in: print, or the blue of a pen."""


class FormSpec(FigureSpec):
    """What forms may be."""

    TASKS: ClassVar[tuple[str, ...]] = (
        "key_values", "form_qa", "grounding", "point", "reading", "ocr", "ocr_spotting",
    )  # fmt: skip

    kinds: tuple[FormKind, ...] = get_args(FormKind)
    text_size: tuple[float, float] = (13, 19)
    """Font size in pixels; the picture grows with it."""

    @model_validator(mode="after")
    def _is_drawable(self) -> FormSpec:
        low, high = self.text_size
        if not 9 <= low <= high:
            raise ValueError(f"text_size: needs 9 <= least <= greatest, not {low}, {high}")
        if not self.kinds:
            raise ValueError("kinds: name at least one")
        return self


@dataclass(frozen=True, slots=True)
class Form(Figure):
    """A form. Elements: "title", "label", "value" (named), "text", "box" (to tick). `values`: what it says, by key."""

    source: ClassVar[str] = "synth/form"

    kind: FormKind
    values: dict[str, Any]


def make_form(spec: FormSpec, seed: int, index: int) -> Form:
    """Form number `index` of a stream. The same arguments give the same bytes, in any order and any process."""
    rng = generator(STREAM, seed, index)
    language = draw_language(rng, spec.language)
    kind = pick(rng, spec.kinds)
    sheet = _sheet(rng, kind, language, round(between(rng, *spec.text_size)))
    end = LAYOUTS[kind](sheet)
    image = sheet.canvas.image
    if kind in _CUT or (kind not in _WHOLE and rng.random() < 0.5):
        image = image.crop((0, 0, image.width, min(end + sheet.em(1.2), image.height)))
    return Form(image, tuple(sheet.elements), language, seed, index, kind, sheet.values)


def _sheet(rng: np.random.Generator, kind: FormKind, language: Language, size: int) -> Sheet:
    low, high, aspect = SHAPES[kind]
    width = round(size * between(rng, low, high))
    theme = draw_theme(rng, 0.0)
    family = draw_family(rng, "mono" if kind == "receipt" else None)
    hand = family if rng.random() < 0.5 or kind == "receipt" else draw_family(rng)
    colour = pick(rng, _INKS) if kind == "application" else theme.ink
    canvas = Canvas.blank(width, round(width * aspect), theme.ground)
    return Sheet(canvas, theme, family, hand, colour, size, language, rng, fields.date_style(rng, language))


def samples(spec: FormSpec, seed: int, index: int) -> list[Sample]:
    """The Samples about one of them, as generators.py has it."""
    return spec.asked(form_samples(make_form(spec, seed, index), spec.held_out))


def form_samples(form: Form, held_out: bool = False, each: int = 3) -> list[Sample]:
    """What is asked about a form: all and some of its keys as JSON, single values, their places, its text."""
    voice = voice_of(form, held_out)
    made = Samples(form, voice)
    values = form.values
    made.take("key_values", key_values(form.image, values, form.language), value=values)
    keys = set(voice.some(list(values), max(len(values) // 2, 1)))
    some = {key: value for key, value in values.items() if key in keys}
    made.take("key_values", key_values(form.image, some, form.language), value=some)
    made.ask("form_qa", _asks(form, voice), 2 * each)
    made.find(form.of_kind("value", "title", "box"), each, points=1)
    written = [element for element in form.elements if element.text]
    made.name(written, each, written=True)
    lines = [(element.text, form.region(element.box)) for element in _by_rows(written)]
    made.take("ocr", read_text(form.image, "\n".join(text for text, _ in lines), form.language))
    made.take("ocr_spotting", spot_text(form.image, lines, form.language))
    return made.found


def _by_rows(elements: list[Element]) -> list[Element]:
    """From top to bottom, and from left to right where boxes stand in one line."""
    rows: list[list[Element]] = []
    for element in sorted(elements, key=lambda element: (element.box[1] + element.box[3], element.box[0])):
        middle = (element.box[1] + element.box[3]) / 2
        if rows and rows[-1][0].box[1] <= middle < rows[-1][0].box[3]:
            rows[-1].append(element)
        else:
            rows.append([element])
    return [element for row in rows for element in sorted(row, key=lambda element: element.box[0])]


def _asks(form: Form, voice: Voice) -> list[Ask]:
    """Single values; and of what is sold, how many, how much in all, and the dearest."""
    labels = {
        key if form.language == "en" else say(pair, "zh"): say(pair, form.language) for key, pair in book("forms")["labels"].items()
    }
    found = [Ask("form_value", {"label": labels[key]}, value) for key, value in form.values.items() if isinstance(value, str)]
    items = next((value for value in form.values.values() if isinstance(value, list)), None)
    if items:
        description, quantity, unit_price, amount = items[0]
        found.append(Ask("form_items", {}, str(len(items))))
        found.append(Ask("form_pieces", {}, str(sum(int(item[quantity]) for item in items)), tuple(_sum(items, quantity))))
        item = voice.pick(items)
        found.append(Ask("form_price", {"name": item[description]}, item[unit_price]))
        amounts = [float(item[amount].replace(",", "")) for item in items]
        if amounts.count(max(amounts)) == 1:
            found.append(Ask("form_dearest", {}, items[amounts.index(max(amounts))][description]))
    return found


def _sum(items: list[dict[str, str]], key: str) -> list[str]:
    counts = [item[key] for item in items]
    return [f"{' + '.join(counts)} = {sum(map(int, counts))}"]
