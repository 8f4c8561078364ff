"""Screens of a computer: a file manager, an editor, a dialog over a window, settings, and pages in a browser."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.figures import fields
from qwenvl.data.synth.figures.canvas import Box
from qwenvl.data.synth.figures.screen_mobile import fill_form
from qwenvl.data.synth.figures.style import legible, mixed
from qwenvl.data.synth.figures.widgets import Kit

_BLUR = 10
"""Side of the squares of pixels that are averaged behind a dialog: no text can be read through it."""


def window(kit: Kit, box: Box, title: str) -> Box:
    """A window with a title bar; returns the inside."""
    bar = kit.em(2.3)
    theme = kit.skin.theme
    kit.canvas.rectangle(box, theme.ground, theme.muted)
    fill = kit.skin.accent if kit.skin.coloured_bar else theme.fill
    kit.canvas.rectangle((box[0] + 1, box[1] + 1, box[2] - 1, box[1] + bar), fill)
    ink, middle = legible(fill, (theme.ground, theme.ink)), box[1] + bar / 2
    kit.text(box[0] + kit.em(1), middle, title, ink, strong=True, level="middle", room=box[2] - box[0] - kit.em(9))
    kit.icon_button("close", box[2] - kit.em(1.5), middle, ink, 1.0)
    return (box[0] + 1, box[1] + bar, box[2] - 1, box[3] - 1)


def menu_bar(kit: Kit, box: Box) -> int:
    """A row of menus; returns where it ends."""
    x = box[0] + kit.em(0.8)
    for label in kit.words("menus")[: whole(kit.rng, 4, 8)]:
        x = kit.link(x, box[1] + kit.em(1.05), label, kit.skin.theme.ink, "menu", level="middle")[2] + kit.em(1.4)
    kit.canvas.rule(box[0], box[1] + kit.em(2.1), box[2], box[1] + kit.em(2.1), kit.skin.theme.line)
    return box[1] + kit.em(2.2)


def tool_bar(kit: Kit, box: Box, top: int, keys: list[str]) -> int:
    """A row of buttons with icons; returns where it ends."""
    kit.canvas.rectangle((box[0], top, box[2], top + kit.em(2.8)), kit.skin.theme.fill)
    for place, key in enumerate(keys):
        kit.icon_button(key, box[0] + kit.em(1.6 + 2.6 * place), top + kit.em(1.4))
    return top + kit.em(2.8)


def _desktop(kit: Kit) -> Box:
    """The ground behind windows, and the box of a window on it."""
    kit.canvas.rectangle((0, 0, kit.width, kit.height), mixed(kit.skin.accent, kit.skin.theme.ground, 0.55))
    margin = kit.em(1.5)
    return (margin, margin, kit.width - margin, kit.height - margin)


def files(kit: Kit) -> None:
    box = window(kit, _desktop(kit), kit.say(kit.words("titles")["files"]))
    top = menu_bar(kit, box) if kit.rng.random() < 0.5 else box[1]
    top = tool_bar(kit, box, top, ["left", "right", "up", "refresh", "search", "list", "grid"])
    edge = box[0] + kit.em(10)
    y = top + kit.em(0.6)
    for label, icon in kit.some("places", 6):
        kit.row((box[0] + kit.em(0.3), y, edge, y + kit.em(2.2)), kit.say(label), icon=icon, kind="side bar entry")
        y += kit.em(2.3)
    kit.canvas.rule(edge, top, edge, box[3], kit.skin.theme.line)
    columns = [edge + kit.em(1), edge + (box[2] - edge) // 2, box[2] - kit.em(6.5)]
    for x, label in zip(columns, kit.words("file_columns"), strict=True):
        kit.text(x, top + kit.em(1), kit.say(label), kit.skin.theme.muted, strong=True, level="middle")
    y = top + kit.em(2.1)
    style = fields.date_style(kit.rng, kit.language)
    for name in kit.some("file_names", 10):
        if y + kit.em(2.2) > box[3]:
            break
        title = f"{kit.say(name)}_{whole(kit.rng, 1, 99)}.{pick(kit.rng, kit.words('file_kinds'))}"
        kit.row((edge + 1, y, columns[1] - kit.em(0.5), y + kit.em(2.2)), title, icon="file", kind="file")
        kit.text(
            columns[1],
            y + kit.em(1.1),
            fields.written(fields.day(kit.rng), style, kit.language),
            kit.skin.theme.muted,
            0.9,
            level="middle",
            room=columns[2] - columns[1] - 4,
        )
        kit.text(columns[2], y + kit.em(1.1), f"{whole(kit.rng, 2, 980)} KB", kit.skin.theme.muted, 0.9, level="middle")
        y += kit.em(2.3)


def editor(kit: Kit) -> None:
    name = kit.say(kit.some("file_names", 1)[0])
    box = window(kit, _desktop(kit), f"{name}.txt")
    top = tool_bar(kit, box, menu_bar(kit, box), ["save", "undo", "redo", "scissors", "copy", "printer", "search", "question"])
    y = top + kit.em(1.2)
    kit.text(box[0] + kit.em(1.5), y, kit.say(kit.some("headlines", 1)[0]), size=1.6, strong=True)
    y += kit.em(3)
    for text in (*kit.some("slogans", 3), *kit.some("messages", 6)):
        if y + kit.em(4) > box[3]:
            break
        y = kit.paragraph(box[0] + kit.em(1.5), y, kit.say(text), box[2] - box[0] - kit.em(3)) + kit.em(0.4)
    kit.canvas.rule(box[0], box[3] - kit.em(2), box[2], box[3] - kit.em(2), kit.skin.theme.line)
    words = whole(kit.rng, 80, 900)
    kit.text(
        box[0] + kit.em(1),
        box[3] - kit.em(1),
        kit.say([f"{words} words", f"{words} 字"]),
        kit.skin.theme.muted,
        0.9,
        level="middle",
    )


def dialog(kit: Kit) -> None:
    """A question over another screen, which is shaded and out of focus."""
    pick(kit.rng, (files, editor, landing))(kit)
    kit.widgets.clear()
    kit.texts.clear()
    picture = kit.canvas.image
    blurred = picture.reduce(_BLUR).resize(picture.size, Image.Resampling.BICUBIC)
    picture.paste(blurred.point([round(level * 0.55) for level in range(256)] * 3))
    entry = pick(kit.rng, kit.words("dialogs"))
    buttons = entry["buttons"]
    gap = kit.em(0.8)
    wanted = sum(kit.button_width(label) for label in buttons) + gap * (len(buttons) - 1) + kit.em(3)
    width, height = min(max(wanted, kit.em(26)), kit.width - kit.em(2)), kit.em(13)
    left, top = (kit.width - width) // 2, (kit.height - height) // 2
    box = window(kit, (left, top, left + width, top + height), kit.say(entry["title"]))
    kit.sign(
        pick(kit.rng, ("warning", "question", "information")),
        box[0] + kit.em(2.5),
        box[1] + kit.em(3.2),
        kit.em(2.6),
        kit.skin.accent,
    )
    kit.paragraph(box[0] + kit.em(5), box[1] + kit.em(2), kit.say(entry["text"]), box[2] - box[0] - kit.em(6.5))
    x, y = box[2] - kit.em(1), box[3] - kit.em(3.2)
    for place, label in reversed(list(enumerate(buttons))):
        kit.button((x - kit.button_width(label), y, x, y + kit.em(2.3)), label, filled=place == len(buttons) - 1)
        x -= kit.button_width(label) + gap


def preferences(kit: Kit) -> None:
    box = window(kit, _desktop(kit), kit.say(kit.words("titles")["settings"]))
    tabs = kit.some("pages", 5)
    width = (box[2] - box[0]) // len(tabs)
    chosen = whole(kit.rng, 0, len(tabs) - 1)
    for place, (label, _) in enumerate(tabs):
        kit.tab((box[0] + width * place, box[1], box[0] + width * (place + 1), box[1] + kit.em(2.8)), label, place == chosen)
    y, middle = box[1] + kit.em(4.6), (box[0] + box[2]) // 2
    start = y
    for label, _ in kit.some("toggles", 6):
        kit.tick(box[0] + kit.em(1.5), y, label, kit.rng.random() < 0.5)
        y += kit.em(2.3)
    on = whole(kit.rng, 0, 2)
    kit.text(middle + kit.em(1), start, kit.say(kit.words("titles")["start_with"]), strong=True, level="middle")
    for place, (label, _) in enumerate(kit.some("tabs", 3)):
        kit.tick(middle + kit.em(1), start + (place + 1) * kit.em(2.3), label, place == on, round_box=True)
    x = box[2] - kit.em(1)
    for place, label in enumerate((["OK", "确定"], ["Apply", "应用"], ["Cancel", "取消"])):
        width = kit.button_width(label)
        kit.button((x - width, box[3] - kit.em(3.2), x, box[3] - kit.em(0.9)), label, filled=place == 0)
        x -= width + kit.em(0.8)


def browser(kit: Kit) -> int:
    """The frame of a browser; returns where the page begins."""
    theme = kit.skin.theme
    kit.canvas.rectangle((0, 0, kit.width, kit.height), theme.ground)
    height = kit.em(3.2)
    kit.canvas.rectangle((0, 0, kit.width, height), theme.fill)
    for place, key in enumerate(("left", "right", "refresh")):
        kit.icon_button(key, kit.em(1.8 + 2.5 * place), height / 2, size=1.3)
    address = f"www.{pick(kit.rng, kit.words('sites'))[0].lower().replace(' ', '-')}.example.com"
    kit.field((kit.em(9), kit.em(0.5), kit.width - kit.em(6.5), kit.em(2.7)), ["Address", "地址"], address, inside=True)
    for place, key in enumerate(("more", "bookmark")):
        kit.icon_button(key, kit.width - kit.em(1.8 + 2.5 * place), height / 2, size=1.3)
    return height


def navigation(kit: Kit, top: int) -> int:
    """The head of a site: its name, and links to its pages."""
    bottom = top + kit.em(3.4)
    middle = (top + bottom) / 2
    ink = kit.skin.theme.ink
    if kit.skin.coloured_bar:
        kit.canvas.rectangle((0, top, kit.width, bottom), kit.skin.accent)
        ink = legible(kit.skin.accent)
    name = fields.company(kit.rng, kit.language)
    x = kit.text(kit.em(1.5), middle, name, ink, 1.2, strong=True, level="middle", room=kit.width * 0.35)[2] + kit.em(2.5)
    for label in kit.some("sites", 6):
        if x + kit.em(9) > kit.width:
            break
        x = kit.link(x, middle, label, ink, level="middle")[2] + kit.em(1.7)
    kit.icon_button("cart", kit.width - kit.em(1.8), middle, ink)
    return bottom


def landing(kit: Kit) -> None:
    """A page that begins with a headline and ends in cards."""
    top = navigation(kit, browser(kit))
    middle = kit.width / 2
    y = top + kit.em(2.2)
    kit.text(middle, y, kit.say(kit.some("headlines", 1)[0]), size=2.2, strong=True, align="centre", room=kit.width - kit.em(2))
    kit.text(
        middle, y + kit.em(4), kit.say(kit.some("slogans", 1)[0]), kit.skin.theme.muted, align="centre", room=kit.width - kit.em(2)
    )
    y += kit.em(6.4)
    calls = kit.some("calls", 2)
    widths = [kit.button_width(label) for label in calls]
    x = round(middle - (sum(widths) + kit.em(1)) / 2)
    for place, (label, width) in enumerate(zip(calls, widths, strict=True)):
        kit.button((x, y, x + width, y + kit.em(2.5)), label, filled=place == 0)
        x += width + kit.em(1)
    y += kit.em(4.5)
    count, gap = 3, kit.em(1.2)
    width = (kit.width - (count + 1) * gap) // count
    for place, (name, price) in enumerate(fields.goods(kit.rng, count, kit.language)):
        left = gap + place * (width + gap)
        low = min(y + kit.em(14), kit.height - kit.em(0.8))
        kit.canvas.rectangle((left, y, left + width, low), kit.skin.theme.fill, radius=kit.skin.radius)
        if low - y < kit.em(8):
            continue
        kit.picture((left + kit.em(0.6), y + kit.em(0.6), left + width - kit.em(0.6), low - kit.em(5.6)))
        kit.text(left + kit.em(0.8), low - kit.em(5.1), name, strong=True, room=width - kit.em(1.6))
        cost = ("$" if kit.language == "en" else "¥") + fields.money(price)
        kit.text(left + kit.em(0.8), low - kit.em(3.6), cost, kit.skin.theme.muted)
        kit.link(left + kit.em(0.8), low - kit.em(2), [f"{name}: details", f"{name}详情"])


def site_form(kit: Kit) -> None:
    """A form in the middle of a page."""
    top = navigation(kit, browser(kit))
    entry = pick(kit.rng, kit.words("forms"))
    width = min(kit.em(30), kit.width - kit.em(4))
    left = (kit.width - width) // 2
    kit.text(left, top + kit.em(1.2), kit.say(entry["title"]), size=1.5, strong=True)
    fill_form(kit, entry, (left, top + kit.em(3.4), left + width, kit.height))


def results(kit: Kit) -> None:
    """What a search has found."""
    top = browser(kit)
    kit.field(
        (kit.em(2), top + kit.em(1), kit.width - kit.em(12), top + kit.em(3.6)),
        kit.words("titles")["search"],
        inside=True,
        icon="search",
    )
    kit.button((kit.width - kit.em(11), top + kit.em(1), kit.width - kit.em(4), top + kit.em(3.6)), kit.words("titles")["search"])
    y = top + kit.em(5)
    for headline in kit.some("headlines", 6):
        if y + kit.em(5) > kit.height:
            break
        kit.link(kit.em(2), y, headline)
        kit.text(
            kit.em(2),
            y + kit.em(1.6),
            f"www.{fields.mail(kit.rng).split('@')[0].replace('.', '-')}.example.org",
            kit.skin.theme.muted,
            0.85,
        )
        y = kit.paragraph(
            kit.em(2), y + kit.em(3), kit.say(pick(kit.rng, kit.words("slogans"))), kit.width - kit.em(6), kit.skin.theme.muted
        )
        y += kit.em(1)


DESKTOP: dict[str, Callable[[Kit], None]] = {
    "files": files, "editor": editor, "dialog": dialog, "preferences": preferences, "landing": landing, "site form": site_form,
    "results": results,
}  # fmt: skip
