"""Values that fields of forms and tables are filled with: persons, companies, addresses, dates, amounts, codes. All are made up."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np

from qwenvl.data.synth.draws import pick, whole
from qwenvl.data.synth.figures.words import book, say
from qwenvl.data.synth.names import Language

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")


def _of(rng: np.random.Generator, table: str, language: Language) -> str:
    word: str = pick(rng, book("fields")[table][language])
    return word


def person(rng: np.random.Generator, language: Language) -> str:
    given, family = _of(rng, "given", language), _of(rng, "family", language)
    return f"{given} {family}" if language == "en" else family + given


def company(rng: np.random.Generator, language: Language) -> str:
    head, tail = _of(rng, "company_head", language), _of(rng, "company_tail", language)
    return f"{head} {tail}" if language == "en" else head + tail


def address(rng: np.random.Generator, language: Language) -> str:
    number, street, town = whole(rng, 1, 240), _of(rng, "street", language), _of(rng, "town", language)
    if language == "en":
        return f"{number} {street}, {town} {whole(rng, 1000, 9899)}"
    return f"{town}{street}{number}号"


def town(rng: np.random.Generator, language: Language) -> str:
    return _of(rng, "town", language)


def phone(rng: np.random.Generator, language: Language) -> str:
    """Numbers 555-0100 to 555-0199 are kept for fiction; the Chinese form is no number of any exchange."""
    number = f"555-01{whole(rng, 0, 99):02d}"
    return f"({whole(rng, 201, 989)}) {number}" if language == "en" else f"000-{number[:3]}{number[4:]}"


def mail(rng: np.random.Generator) -> str:
    given, family = _of(rng, "given", "en").lower(), _of(rng, "family", "en").lower()
    joined = pick(rng, (f"{given}.{family}", f"{given[0]}{family}", f"{given}{whole(rng, 10, 99)}"))
    return f"{joined}@{pick(rng, book('fields')['mail'])}"


def day(rng: np.random.Generator, first: int = 2015, last: int = 2024) -> datetime.date:
    """Any day from the beginning of one year to the end of another."""
    begin, end = datetime.date(first, 1, 1).toordinal(), datetime.date(last, 12, 31).toordinal()
    return datetime.date.fromordinal(whole(rng, begin, end))


def date_style(rng: np.random.Generator, language: Language) -> str:
    """One way to write all dates of a document."""
    return pick(rng, ("iso", "words", "slashes") if language == "en" else ("iso", "words"))


def written(date: datetime.date, style: str, language: Language) -> str:
    """A date in a style: 2021-05-14; 14 May 2021 or 2021年5月14日; 05/14/2021."""
    if style == "iso":
        return date.isoformat()
    if language == "zh":
        return f"{date.year}年{date.month}月{date.day}日"
    if style == "words":
        return f"{date.day} {_MONTHS[date.month - 1]} {date.year}"
    return f"{date.month:02d}/{date.day:02d}/{date.year}"


def month(rng: np.random.Generator, language: Language) -> str:
    """The whole name of a month."""
    number = whole(rng, 1, 12)
    return _MONTHS[number - 1] if language == "en" else f"{number}月"


def clock(rng: np.random.Generator) -> str:
    return f"{whole(rng, 6, 22):02d}:{5 * whole(rng, 0, 11):02d}"


def code(rng: np.random.Generator, pattern: str) -> str:
    """A pattern with "#" for a digit and "@" for a capital; the first digit is not 0."""
    filled = ""
    for character in pattern:
        if character == "#":
            filled += str(whole(rng, 0 if any(c.isdigit() for c in filled) else 1, 9))
        else:
            filled += pick(rng, "ABCDEFGHJKLMNPQRSTUVWXYZ") if character == "@" else character
    return filled


def goods(rng: np.random.Generator, count: int, language: Language) -> list[tuple[str, Decimal]]:
    """Different goods with a price in cents."""
    table = book("fields")["goods"]
    chosen = [table[int(place)] for place in rng.permutation(len(table))[:count]]
    return [
        (say(item["name"], language), Decimal(whole(rng, item["price"][0] * 100, item["price"][1] * 100)).scaleb(-2))
        for item in chosen
    ]


def money(amount: Decimal) -> str:
    """With two decimals, thousands apart."""
    return f"{amount:,.2f}"


def column(rng: np.random.Generator, spec: dict[str, Any], count: int, language: Language) -> list[str]:
    """Values of a column of fields.yaml; persons, goods, codes and groups are all different as far as there are enough."""
    kind, of = spec["kind"], spec.get("of")
    if kind == "goods":
        return [name for name, _ in goods(rng, count, language)]
    if kind == "date":
        style = date_style(rng, language)
        return [written(day(rng), style, language) for _ in range(count)]
    if kind == "group":
        items = [say(item, language) for item in book("words")["groups"][of]["items"]]
        order = [int(place) for place in rng.permutation(len(items))]
        return [items[order[row % len(order)]] for row in range(count)]
    values: list[str] = []
    while len(values) < count:
        value = {
            "person": lambda: person(rng, language),
            "time": lambda: clock(rng),
            "code": lambda: code(rng, str(of)),
            "number": lambda: str(whole(rng, *of)),  # type: ignore[misc]
            "choice": lambda: say(pick(rng, of), language),  # type: ignore[arg-type]
        }[kind]()
        if kind not in ("person", "code") or value not in values:
            values.append(value)
    return values
