"""Screens of a telephone: settings, mail, a shop, a chat, a form, a launcher, a calculator, a music player."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.figures import fields
from qwenvl.data.synth.figures.canvas import Box
from qwenvl.data.synth.figures.style import legible, mixed
from qwenvl.data.synth.figures.widgets import Kit, rows_of
from qwenvl.data.synth.names import Language


def status_bar(kit: Kit) -> int:
    """The clock and the signs at the very top; returns its height."""
    height, ink = kit.em(1.9), kit.skin.theme.ink
    middle = height / 2
    kit.text(kit.em(1), middle, fields.clock(kit.rng), ink, 0.85, strong=True, level="middle")
    x = kit.width - kit.em(1.3)
    for key in ("battery", "wifi"):
        kit.sign(key, x, middle, kit.em(1.1), ink)
        x -= kit.em(1.7)
    return height


def app_bar(kit: Kit, title: list[str], left: str, right: Sequence[str]) -> int:
    """The bar with the page's title and its buttons; returns where it ends."""
    top = status_bar(kit)
    bottom = top + kit.em(3.2)
    ink = kit.skin.theme.ink
    if kit.skin.coloured_bar:
        kit.canvas.rectangle((0, top, kit.width, bottom), kit.skin.accent)
        ink = legible(kit.skin.accent)
    middle = (top + bottom) // 2
    kit.icon_button(left, kit.em(1.7), middle, ink)
    kit.text(
        kit.em(3.4), middle, kit.say(title), ink, 1.25, strong=True, level="middle", room=kit.width - kit.em(4.5 + 2.6 * len(right))
    )
    for place, key in enumerate(right):
        kit.icon_button(key, kit.width - kit.em(1.7 + 2.6 * place), middle, ink)
    return bottom


def tab_bar(kit: Kit, count: int = 4) -> int:
    """The row of tabs at the bottom; returns where it begins."""
    top = kit.height - kit.em(3.5)
    kit.canvas.rectangle((0, top, kit.width, kit.height), kit.skin.theme.ground)
    kit.canvas.rule(0, top, kit.width, top, kit.skin.theme.line)
    chosen = whole(kit.rng, 0, count - 1)
    for place, (label, icon) in enumerate(kit.some("tabs", count)):
        kit.tab((kit.width * place // count, top, kit.width * (place + 1) // count, kit.height), label, place == chosen, icon)
    return top


def settings(kit: Kit) -> None:
    top = app_bar(kit, kit.words("titles")["settings"], "left", ["search"])
    entries = kit.some("toggles", 5) + kit.some("pages", 5)
    order = [entries[int(place)] for place in kit.rng.permutation(len(entries))]
    toggles = [entry[1] for entry in kit.words("toggles")]
    for box, (label, icon) in zip(rows_of(kit, top, kit.height, kit.em(3.4), len(order)), order, strict=False):
        middle = (box[1] + box[3]) // 2
        if [label, icon] in kit.words("toggles") and icon in toggles:
            kit.sign(icon, kit.em(1.6), middle, kit.em(1.5), kit.skin.accent)
            kit.text(kit.em(3.3), middle, kit.say(label), level="middle")
            kit.switch(kit.width - kit.em(1), middle, label, kit.rng.random() < 0.5)
        else:
            kit.row(box, kit.say(label), icon=icon)
            kit.sign("right", kit.width - kit.em(1.6), middle, kit.em(1), kit.skin.theme.muted)
        kit.canvas.rule(kit.em(3.3), box[3], kit.width, box[3], kit.skin.theme.line)


def mail(kit: Kit) -> None:
    top = app_bar(kit, kit.words("titles")["mail"], "menu", ["search", "more"])
    bottom = tab_bar(kit, 3) if kit.rng.random() < 0.5 else kit.height
    subjects = kit.some("subjects", 9)
    for box, subject in zip(rows_of(kit, top, bottom, kit.em(4.4), 9), subjects, strict=False):
        person = fields.person(kit.rng, kit.language)
        radius = kit.em(1.2)
        middle = (box[1] + box[3]) // 2
        kit.canvas.ellipse(
            (kit.em(0.8), middle - radius, kit.em(0.8) + 2 * radius, middle + radius),
            mixed(kit.skin.accent, kit.skin.theme.ground, 0.3),
        )
        kit.text(kit.em(0.8) + radius, middle, person[0], kit.skin.theme.ink, strong=True, align="centre", level="middle")
        kit.row((box[0] + kit.em(3.2), box[1], box[2], box[3]), kit.say(subject), person, right=fields.clock(kit.rng))
        kit.canvas.rule(0, box[3], kit.width, box[3], kit.skin.theme.line)
    side = kit.em(3.4)
    x, y = kit.width - kit.em(3), bottom - kit.em(3)
    kit.canvas.rectangle((x - side // 2, y - side // 2, x + side // 2, y + side // 2), kit.skin.accent, radius=side // 2)
    kit.icon_button("plus", x, y, legible(kit.skin.accent))


def shop(kit: Kit) -> None:
    top = app_bar(kit, kit.words("titles")["shop"], "menu", ["cart", "search"])
    bottom = tab_bar(kit)
    margin, gap = kit.em(0.8), kit.em(0.7)
    width, height = (kit.width - 2 * margin - gap) // 2, kit.em(13.2)
    for place, (name, price) in enumerate(fields.goods(kit.rng, 6, kit.language)):
        row, column = divmod(place, 2)
        left, upper = margin + column * (width + gap), top + gap + row * (height + gap)
        if upper + height > bottom:
            break
        kit.canvas.rectangle((left, upper, left + width, upper + height), kit.skin.theme.fill, radius=kit.skin.radius)
        kit.picture((left + kit.em(0.5), upper + kit.em(0.5), left + width - kit.em(0.5), upper + kit.em(6.8)))
        kit.text(left + kit.em(0.6), upper + kit.em(7.2), name, strong=True, room=width - kit.em(1.2))
        cost = ("$" if kit.language == "en" else "¥") + fields.money(price)
        kit.text(left + kit.em(0.6), upper + kit.em(8.7), cost, kit.skin.accent)
        left, right = left + kit.em(0.6), left + width - kit.em(0.6)
        button = (left, upper + height - kit.em(2.7), right, upper + height - kit.em(0.6))
        kit.button(button, kit.words("titles")["to_cart"], of=name)


def chat(kit: Kit) -> None:
    name = fields.person(kit.rng, kit.language)
    top = app_bar(kit, [name, name], "left", ["more"])
    bottom = kit.height - kit.em(3.4)
    y = top + kit.em(1)
    for text in kit.some("messages", 8):
        mine = kit.rng.random() < 0.5
        said = kit.say(text)
        width = round(kit.skin.family.plain(kit.skin.unit).width(said)) + kit.em(1.6)
        if y + kit.em(2.2) > bottom:
            break
        left = kit.width - width - kit.em(0.8) if mine else kit.em(0.8)
        fill = kit.skin.accent if mine else kit.skin.theme.fill
        kit.canvas.rectangle((left, y, left + width, y + kit.em(2.2)), fill, radius=max(kit.skin.radius, 4))
        kit.text(left + kit.em(0.8), y + kit.em(1.1), said, legible(fill), level="middle")
        y += kit.em(2.9)
    kit.canvas.rule(0, bottom, kit.width, bottom, kit.skin.theme.line)
    middle = (bottom + kit.height) // 2
    box = (kit.em(0.8), middle - kit.em(1.1), kit.width - kit.em(5.6), middle + kit.em(1.1))
    kit.field(box, kit.words("titles")["type_here"], inside=True)
    kit.icon_button("microphone", kit.width - kit.em(4.2), middle)
    kit.icon_button("send", kit.width - kit.em(1.6), middle, kit.skin.accent)


def form(kit: Kit) -> None:
    entry = pick(kit.rng, kit.words("forms"))
    top = app_bar(kit, entry["title"], "left", [])
    fill_form(kit, entry, (kit.em(1.2), top + kit.em(1), kit.width - kit.em(1.2), kit.height))


def fill_form(kit: Kit, entry: dict[str, Any], area: Box) -> int:
    """Fields, boxes to tick, a button and a link below each other; returns where they end."""
    left, y, right, _ = area
    inside = kit.rng.random() < 0.3
    for label in entry["fields"]:
        y += kit.em(0.4 if inside else 1.9)
        value = typed(kit.rng, kit.language, label[0]) if not inside and kit.rng.random() < 0.5 else ""
        kit.field((left, y, right, y + kit.em(2.5)), label, value, inside)
        y += kit.em(3.1 if inside else 2.7)
    y += kit.em(1)
    for label in entry["ticks"]:
        kit.tick(left, y, label, kit.rng.random() < 0.5)
        y += kit.em(2)
    kit.button((left, y, right, y + kit.em(2.6)), entry["button"], strong=True)
    y += kit.em(3.6)
    kit.link((left + right) / 2, y, entry["link"], align="centre")
    return y + kit.em(2)


def typed(rng: np.random.Generator, language: Language, english: str) -> str:
    """What someone types into a field, by its English label; nothing into some."""
    if english in ("Password", "Repeat password"):
        return "•" * whole(rng, 6, 12)
    if english == "E-mail":
        return fields.mail(rng)
    if english in ("User name", "Subject", "Message"):
        return ""
    if english == "Telephone":
        return fields.phone(rng, language)
    if english == "Date":
        return fields.day(rng).isoformat()
    if english == "Time":
        return fields.clock(rng)
    if english == "Guests":
        return str(whole(rng, 1, 8))
    if english in ("Street", "City"):
        return fields.address(rng, language) if english == "Street" else fields.town(rng, language)
    return fields.person(rng, language)


def launcher(kit: Kit) -> None:
    kit.canvas.rectangle((0, 0, kit.width, kit.height), mixed(kit.skin.accent, kit.skin.theme.ground, 0.75))
    top = status_bar(kit) + kit.em(1.5)
    columns = 4
    step = kit.width // columns
    for place, (label, icon) in enumerate(kit.some("apps", 20)):
        row, column = divmod(place, columns)
        x, y = step * column + step // 2, top + row * kit.em(6.2) + kit.em(1.9)
        if y + kit.em(4) > kit.height:
            break
        side = kit.em(3.6)
        colour = pick(kit.rng, _app_colours(kit))
        plate = (x - side // 2, y - side // 2, x - side // 2 + side, y - side // 2 + side)
        kit.canvas.rectangle(plate, colour, radius=max(kit.skin.radius, kit.em(0.8)))
        kit.sign(icon, x, y, side * 0.6, legible(colour))
        text = kit.text(x, y + side * 0.5 + kit.em(0.35), kit.say(label), size=0.8, align="centre")
        box = (min(plate[0], text[0]), plate[1], max(plate[2], text[2]), text[3])
        english, chinese = label
        kit.keep(
            "app", box, kit.say(label), [f"the {english} app", f"“{chinese}”应用"], [f"Open the {english} app.", f"打开{chinese}。"]
        )


def _app_colours(kit: Kit) -> list[tuple[int, int, int]]:
    return [kit.skin.accent, (240, 240, 244), (44, 160, 60), (245, 130, 30), (214, 39, 45), (60, 62, 70), (140, 75, 190)]


def calculator(kit: Kit) -> None:
    top = app_bar(kit, kit.words("titles")["calculator"], "menu", ["more"])
    first, second = whole(kit.rng, 2, 99), whole(kit.rng, 2, 99)
    kit.text(kit.width - kit.em(1.2), top + kit.em(1.5), f"{first} × {second}", kit.skin.theme.muted, 1.3, align="right")
    kit.text(kit.width - kit.em(1.2), top + kit.em(3.8), str(first * second), size=2.6, strong=True, align="right")
    keys = ["C", "(", ")", "÷", "7", "8", "9", "×", "4", "5", "6", "−", "1", "2", "3", "+", "0", ".", "%", "="]
    gap, start = kit.em(0.6), top + kit.em(8.5)
    width, height = (kit.width - 5 * gap) // 4, (kit.height - start - 6 * gap) // 5
    for place, key in enumerate(keys):
        row, column = divmod(place, 4)
        left, upper = gap + column * (width + gap), start + gap + row * (height + gap)
        kit.button((left, upper, left + width, upper + height), [key, key], filled=key == "=", strong=True)


def player(kit: Kit) -> None:
    top = app_bar(kit, kit.words("titles")["player"], "left", ["share", "heart"])
    side = min(kit.width - kit.em(6), kit.height - top - kit.em(13))
    left = (kit.width - side) // 2
    kit.picture((left, top + kit.em(1.5), left + side, top + kit.em(1.5) + side))
    y = top + kit.em(3) + side
    kit.text(kit.width / 2, y, kit.say(pick(kit.rng, kit.words("songs"))), size=1.3, strong=True, align="centre")
    kit.text(kit.width / 2, y + kit.em(2), fields.person(kit.rng, kit.language), kit.skin.theme.muted, align="centre")
    y += kit.em(4.6)
    share = kit.rng.random() * 0.8 + 0.1
    seconds = whole(kit.rng, 120, 300)
    bar = (kit.em(2), y, kit.width - kit.em(2), y + kit.em(0.35))
    kit.canvas.rectangle(bar, kit.skin.theme.line)
    reached = round(bar[0] + (bar[2] - bar[0]) * share)
    kit.canvas.rectangle((bar[0], bar[1], reached, bar[3]), kit.skin.accent)
    radius = kit.em(0.55)
    knob = kit.canvas.ellipse((reached - radius, y + 3 - radius, reached + radius, y + 3 + radius), kit.skin.accent)
    kit.keep(
        "slider", knob, "", ["the position of the track", "播放进度滑块"], ["Move to another place in the track.", "拖动播放进度。"]
    )
    for x, value, align in ((bar[0], seconds * share, "left"), (bar[2], seconds, "right")):
        kit.text(x, y + kit.em(0.9), f"{int(value) // 60}:{int(value) % 60:02d}", kit.skin.theme.muted, 0.8, align=align)  # type: ignore[arg-type]
    for place, key in enumerate(("previous", "play", "next")):
        kit.icon_button(key, kit.width / 2 + kit.em(5) * (place - 1), y + kit.em(4.3), size=2.2 if key == "play" else 1.6)


MOBILE: dict[str, Callable[[Kit], None]] = {
    "settings": settings, "mail": mail, "shop": shop, "chat": chat, "form": form, "launcher": launcher, "calculator": calculator,
    "player": player,
}  # fmt: skip
