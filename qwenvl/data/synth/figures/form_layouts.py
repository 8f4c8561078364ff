"""Kinds of forms: invoice, receipt, application, card, ticket, parcel label.

Each draws on a sheet, says its values by key, and returns where it ends.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal

import numpy as np

from qwenvl.data.synth.draws import between, pick, whole
from qwenvl.data.synth.figures import fields
from qwenvl.data.synth.figures.canvas import Box
from qwenvl.data.synth.figures.form_sheet import Sheet, draw_purchase
from qwenvl.data.synth.figures.style import legible
from qwenvl.data.synth.figures.table_layout import draw_table_look
from qwenvl.data.synth.figures.words import book, say

Values = Callable[["Sheet"], str]


def _date(first: int, last: int) -> Values:
    return lambda sheet: fields.written(fields.day(sheet.rng, first, last), sheet.date_style, sheet.language)


def _person(sheet: Sheet) -> str:
    return fields.person(sheet.rng, sheet.language)


def _table(name: str) -> Values:
    return lambda sheet: sheet.say(pick(sheet.rng, book("forms")[name]))


def _group(name: str) -> Values:
    return lambda sheet: sheet.say(pick(sheet.rng, book("words")["groups"][name]["items"]))


def _code(*patterns: str) -> Values:
    return lambda sheet: fields.code(sheet.rng, pick(sheet.rng, patterns))


# How a field of each key is filled; the keys of forms.yaml that are computed are not here.
FILL: dict[str, Values] = {
    "address": lambda sheet: fields.address(sheet.rng, sheet.language),
    "customer_address": lambda sheet: fields.address(sheet.rng, sheet.language),
    "sender_address": lambda sheet: fields.address(sheet.rng, sheet.language),
    "recipient_address": lambda sheet: fields.address(sheet.rng, sheet.language),
    "company": lambda sheet: fields.company(sheet.rng, sheet.language),
    "telephone": lambda sheet: fields.phone(sheet.rng, sheet.language),
    "email": lambda sheet: fields.mail(sheet.rng),
    "city": _group("cities"),
    "from": _group("cities"),
    "to": _group("cities"),
    "nationality": _group("countries"),
    "department": _group("departments"),
    "course": _group("subjects"),
    "contents": lambda sheet: fields.goods(sheet.rng, 1, sheet.language)[0][0],
    "position": _table("positions"),
    "occupation": _table("occupations"),
    "time": lambda sheet: fields.clock(sheet.rng),
    "departure": lambda sheet: fields.clock(sheet.rng),
    "invoice_number": _code("INV-#####", "########", "@@-####"),
    "receipt_number": _code("######", "R#######"),
    "card_number": _code("#### ####", "@######", "########"),
    "ticket_number": _code("@@######", "##########"),
    "tracking_number": _code("@@########", "############"),
    "seat": lambda sheet: f"{whole(sheet.rng, 1, 40)}{pick(sheet.rng, 'ABCDEF')}",
    "gate": lambda sheet: f"{pick(sheet.rng, 'ABCD')}{whole(sheet.rng, 1, 30)}",
    "platform": lambda sheet: str(whole(sheet.rng, 1, 18)),
    "weight": lambda sheet: f"{between(sheet.rng, 0.2, 25):.1f} kg",
    "price": lambda sheet: (
        ("€ " if sheet.language == "en" else "¥") + fields.money(Decimal(whole(sheet.rng, 500, 48000)).scaleb(-2))
    ),
    **dict.fromkeys(("name", "customer", "passenger", "sender", "recipient", "cashier"), _person),
    "date": _date(2015, 2024),
    "date_of_birth": _date(1950, 2006),
    "valid_until": _date(2025, 2030),
}


def fill(sheet: Sheet, key: str) -> str:
    return FILL[key](sheet)


def invoice(sheet: Sheet) -> int:
    margin, width = sheet.em(2.5), sheet.width
    strong = sheet.family.strong(sheet.size * 1.5)
    seller = fill(sheet, "company")
    y = sheet.lines(margin, margin, seller, strong, width * 0.55, role="value", name=sheet.written("seller"))
    sheet.say_value("seller", seller)
    small = sheet.family.plain(sheet.size * 0.9)
    for key in ("address", "telephone"):
        y = sheet.lines(margin, y, fill_said(sheet, key), small, width * 0.5, role="value", name=sheet.written(key))
    heading = sheet.family.strong(sheet.size * 1.9)
    title = sheet.text(width - margin, margin, sheet.title("invoice"), heading, sheet.theme.accent, "right", role="title")
    left_end = right_end = max(y, title[3]) + sheet.em(1.5)
    column = sheet.column("customer", "customer_address")
    for key in ("customer", "customer_address"):
        left_end = sheet.beside(key, fill(sheet, key), margin, left_end, column, width * 0.54 - margin)
    day = fields.day(sheet.rng)
    due = day + datetime.timedelta(days=pick(sheet.rng, (14, 30, 60)))
    dates = {"date": day, "due_date": due}
    for key in ("invoice_number", "date", "due_date"):
        said = fields.written(dates[key], sheet.date_style, sheet.language) if key in dates else fill(sheet, key)
        right_end = sheet.beside(
            key, said, width * 0.6, right_end, sheet.column("invoice_number", "due_date"), width * 0.4 - margin
        )
    purchase = draw_purchase(sheet.rng, sheet.language, 8, pick(sheet.rng, (0, 5, 7, 13, 19, 20)))
    look = draw_table_look(sheet.rng, sheet.theme, sheet.family, sheet.size)
    y = sheet.table(purchase, look, margin, max(left_end, right_end) + sheet.em(1.2), width - 2 * margin) + sheet.em(1)
    x = width - margin - sheet.em(14)
    if purchase.rate:
        y = sheet.total("subtotal", fields.money(purchase.subtotal), x, width - margin, y)
        y = sheet.total("tax", fields.money(purchase.tax), x, width - margin, y)
        sheet.canvas.rule(x, y - sheet.em(0.25), width - margin, y - sheet.em(0.25), sheet.theme.muted)
    y = sheet.total("total", fields.money(purchase.total), x, width - margin, y, strong=True)
    if sheet.rng.random() < 0.35:
        sheet.stamp(margin + sheet.em(8), y - sheet.em(1.5), sheet.say(["PAID", "已付款"]))
    note = say(pick(sheet.rng, book("forms")["notes"]), sheet.language)
    return sheet.text(margin, y + sheet.em(2), note, small, sheet.theme.muted)[3]


def fill_said(sheet: Sheet, key: str) -> str:
    """A value that stands without its label."""
    text = fill(sheet, key)
    sheet.say_value(key, text)
    return text


def receipt(sheet: Sheet) -> int:
    margin, right, middle = sheet.em(1.4), sheet.width - sheet.em(1.4), sheet.width / 2
    plain, room = sheet.family.plain(sheet.size), sheet.width - sheet.em(2.8)
    company = fill_said(sheet, "company")
    y = sheet.lines(
        middle, margin, company, sheet.family.strong(sheet.size * 1.3), room, "centre", "value", sheet.written("company")
    )
    y = sheet.lines(middle, y, fill_said(sheet, "address"), plain, room, "centre", "value", sheet.written("address"))
    sheet.text(middle, y + sheet.em(0.3), sheet.title("receipt"), plain, align="centre", role="title")
    y += sheet.em(2.3)
    for key in ("receipt_number", "date", "time", "cashier")[: whole(sheet.rng, 2, 4)]:
        y = sheet.beside(key, fill(sheet, key), margin, y, sheet.em(7.5), room)
    y = _dashed(sheet, y)
    purchase = draw_purchase(sheet.rng, sheet.language, 9, 0)
    rows = []
    for name, count, price in purchase.items:
        sheet.text(margin, y, name, plain)
        y += sheet.em(1.4)
        sheet.text(margin + sheet.em(1.5), y, f"{count} x {fields.money(price)}", plain)
        sheet.text(right, y, fields.money(price * count), plain, align="right")
        y += sheet.em(1.6)
        row = {
            "description": name,
            "quantity": str(count),
            "unit_price": fields.money(price),
            "amount": fields.money(price * count),
        }
        rows.append({sheet.key(key): text for key, text in row.items()})
    sheet.values[sheet.key("items")] = rows
    y = _dashed(sheet, y)
    y = sheet.total("total", fields.money(purchase.total), margin, right, y, strong=True)
    cash = Decimal(-(-int(purchase.total) // 10) * 10 + 10)
    y = sheet.total("cash", fields.money(cash), margin, right, y)
    y = sheet.total("change", fields.money(cash - purchase.total), margin, right, y)
    y = _dashed(sheet, y)
    y = sheet.lines(middle, y, say(pick(sheet.rng, book("forms")["thanks"]), sheet.language), plain, room, "centre")
    sheet.bars((margin * 2, y + sheet.em(0.6), right - margin, y + sheet.em(3.6)))
    return y + sheet.em(3.6)


def _dashed(sheet: Sheet, y: int) -> int:
    sheet.canvas.rule(sheet.em(1.4), y + sheet.em(0.4), sheet.width - sheet.em(1.4), y + sheet.em(0.4), sheet.theme.muted, dash=4)
    return y + sheet.em(1)


def application(sheet: Sheet) -> int:
    margin = sheet.em(2.5)
    room = sheet.width - 2 * margin
    title = sheet.title("application")
    box = sheet.text(sheet.width / 2, margin, title, sheet.family.strong(sheet.size * 1.7), align="centre", role="title")
    y = box[3] + sheet.em(2)
    keys = ["name", "date_of_birth", "nationality", "occupation", "telephone", "email", "address", "city", "course"]
    keys = ["name", *[keys[1 + int(place)] for place in sheet.rng.permutation(len(keys) - 1)[: whole(sheet.rng, 4, 7)]]]
    if sheet.rng.random() < 0.5:
        y = _boxes(sheet, keys, (margin, y, margin + room, sheet.height)) + sheet.em(1.2)
    else:
        for key in keys:
            y = sheet.underlined(key, fill(sheet, key), margin, y, room)
        y += sheet.em(0.6)
    choices = ["membership", "delivery", "payment", "contact"]
    for place in sheet.rng.permutation(len(choices))[: whole(sheet.rng, 1, 3)]:
        y = sheet.choice(choices[int(place)], margin, y, room)
    y += sheet.em(1.5)
    half = room // 2 - sheet.em(1)
    sheet.underlined("date", fill(sheet, "date"), margin, y, half)
    signature = say(book("forms")["signature"], sheet.language) + (":" if sheet.language == "en" else "：")
    end = sheet.text(margin + half + sheet.em(2), y, signature, sheet.family.plain(sheet.size))[2]
    sheet.canvas.rule(end + sheet.em(0.6), y + sheet.line, margin + room, y + sheet.line, sheet.theme.muted)
    _scribble(sheet, end + sheet.em(1.2), y + sheet.em(0.7))
    return y + sheet.em(2)


def _boxes(sheet: Sheet, keys: list[str], area: Box) -> int:
    """Fields in frames, two in a row; a long one takes the whole row. Returns where they end."""
    left, y, right, _ = area
    height, middle, column = sheet.em(3.1), (left + right) // 2, 0
    for key in keys:
        wide = key in ("address", "email")
        if column and wide:
            y, column = y + height - 1, 0
        box = (left if not column else middle, y, right if wide or column else middle + 1, y + height)
        sheet.boxed(key, fill(sheet, key), box)
        if column or wide:
            y, column = y + height - 1, 0
        else:
            column = 1
    return y + (height if column else 0)


def _scribble(sheet: Sheet, x: float, y: float) -> None:
    """A signature that says nothing."""
    steps = np.cumsum(sheet.rng.random(14) * sheet.size * 0.45)
    points = [(x + float(step), y + float(sheet.rng.random() - 0.5) * sheet.size * 1.3) for step in steps]
    sheet.canvas.line(points, sheet.hand_colour, max(sheet.size * 0.1, 1.4))


def card(sheet: Sheet) -> int:
    margin, width = sheet.em(1.3), sheet.width
    band = sheet.em(3.4)
    sheet.canvas.rectangle((0, 0, width, band), sheet.theme.accent)
    company = fill_said(sheet, "company")
    ink = legible(sheet.theme.accent)
    sheet.text(
        margin,
        band / 2,
        company,
        sheet.family.strong(sheet.size * 1.15),
        ink,
        level="middle",
        role="value",
        name=sheet.written("company"),
    )
    sheet.text(width - margin, band / 2, sheet.title("card"), sheet.family.plain(sheet.size * 1.1), ink, "right", "middle", "title")
    photo = (margin, band + margin, margin + sheet.em(8.5), band + margin + sheet.em(11))
    side = sheet.rng.random() < 0.5
    if side:
        photo = (width - margin - sheet.em(8.5), photo[1], width - margin, photo[3])
    sheet.face(photo)
    x, room = (margin, width - 3 * margin - sheet.em(8.5)) if side else (photo[2] + margin, width - photo[2] - 2 * margin)
    keys = [
        "name",
        "card_number",
        *pick(sheet.rng, (["department", "position"], ["course", "date_of_birth"], ["date_of_birth"])),
        "valid_until",
    ]
    y = photo[1]
    stacked, column = sheet.rng.random() < 0.5, sheet.column(*keys)
    for key in keys:
        value = fill(sheet, key)
        y = sheet.below(key, value, x, y, room) if stacked else sheet.beside(key, value, x, y, column, room) + sheet.em(0.5)
    return max(y, photo[3])


def ticket(sheet: Sheet) -> int:
    margin, width = sheet.em(1.5), sheet.width
    band = sheet.em(3)
    kind = pick(sheet.rng, book("forms")["titles"]["ticket"])
    title = sheet.say(kind)
    sheet.canvas.rectangle((0, 0, width, band), sheet.theme.accent)
    sheet.text(
        margin, band / 2, title, sheet.family.strong(sheet.size * 1.2), legible(sheet.theme.accent), level="middle", role="title"
    )
    tear = round(width * 0.74)
    sheet.canvas.rule(tear, band, tear, sheet.height, sheet.theme.muted, dash=6)
    half = (tear - 2 * margin) // 2
    start = fill(sheet, "from")
    goal = fill(sheet, "to")
    while goal == start:
        goal = fill(sheet, "to")
    y = band + margin
    for key, value, x in (("from", start, margin), ("to", goal, margin + half)):
        sheet.text(x, y, sheet.label(key), sheet.family.plain(sheet.size * 0.75), sheet.theme.muted, role="label")
        sheet.say_value(key, value)
        sheet.text(x, y + sheet.em(1.1), value, sheet.hand.strong(sheet.size * 1.6), role="value", name=sheet.written(key))
    y += sheet.em(4.2)
    keys = ("passenger", "date", "departure", "seat", "gate" if kind[0] == "Boarding pass" else "platform", "price")
    low = y
    for place, key in enumerate(keys):
        end = sheet.below(key, fill(sheet, key), margin + (place % 2) * half, y, half - sheet.em(0.5))
        low = max(low, end)
        if place % 2:
            y = low
    sheet.below("ticket_number", fill(sheet, "ticket_number"), tear + margin, band + margin, width - tear - 2 * margin)
    sheet.bars((tear + margin, band + margin + sheet.em(4.5), width - margin, sheet.height - margin))
    return sheet.height - margin


def label(sheet: Sheet) -> int:
    margin, width = sheet.em(1.2), sheet.width
    box = sheet.text(margin, margin, sheet.title("label"), sheet.family.strong(sheet.size * 1.8), role="title")
    y = box[3] + sheet.em(0.8)
    column, room = sheet.column("sender_address", "recipient_address"), width - 2 * margin
    for keys in (("sender", "sender_address", "telephone"), ("recipient", "recipient_address")):
        sheet.canvas.rule(4, y, width - 4, y, sheet.theme.ink)
        y += sheet.em(0.7)
        for key in keys:
            y = sheet.beside(key, fill(sheet, key), margin, y, column, room)
        y += sheet.em(0.4)
    sheet.canvas.rule(4, y, width - 4, y, sheet.theme.ink)
    y += sheet.em(0.6)
    sheet.below("weight", fill(sheet, "weight"), margin, y, room // 2)
    y = sheet.below("contents", fill(sheet, "contents"), margin + room // 2, y, room // 2)
    sheet.bars((margin, y + sheet.em(0.5), width - margin, y + sheet.em(4.2)))
    y = sheet.beside(
        "tracking_number", fill(sheet, "tracking_number"), margin, y + sheet.em(4.8), sheet.column("tracking_number"), room
    )
    sheet.canvas.rectangle((4, 4, width - 4, y + margin), None, sheet.theme.ink, 2)
    return y + margin


LAYOUTS: dict[str, Callable[[Sheet], int]] = {
    "invoice": invoice, "receipt": receipt, "application": application, "card": card, "ticket": ticket, "label": label,
}  # fmt: skip
# Least and greatest width in units of the letters' size, and height by width.
SHAPES: dict[str, tuple[float, float, float]] = {
    "invoice": (46, 56, 1.2), "receipt": (22, 28, 2.9), "application": (42, 52, 1.15), "card": (36, 40, 0.5),
    "ticket": (44, 50, 0.42), "label": (30, 36, 0.98),
}  # fmt: skip
