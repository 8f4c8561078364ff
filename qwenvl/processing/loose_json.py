"""JSON as models write it: inside prose and fences, with trailing commas, single quotes, quotes in a string, or without an end.

What `json` reads is read the same here; everything else is read as far as it goes. Nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 32
"""Brackets within brackets from which on a value is cut: no answer needs more, and a loop of "[[[[" must not end the program."""

BLANK = re.compile(r"\s*")
SEPARATOR = re.compile(r"[\s,，;]*")
COLON = re.compile(r"\s*[:：=]\s*")
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
WORD = re.compile(r"[A-Za-z_][\w-]*")
# A quote ends a string only before what may follow one, or before the next key whose comma was forgotten: `"the "big" dog",`.
AFTER_STRING = re.compile(r"""\s*(?:[,，:：}\]]|$|["'][\w -]{1,40}["']\s*:)|[ \t]*\r?\n""")
LITERALS = {"true": True, "false": False, "null": None, "none": None}
QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
SAFE_DIGITS = 300  # beyond it a number is a float: int() refuses more than 4300 digits, and float() an int of more than 308


@dataclass(frozen=True, slots=True)
class Found:
    """A list or object in a text, and the place of it: text[start:end]. `complete` is False where it was cut off or broken off."""

    value: list[Any] | dict[str, Any]
    start: int
    end: int
    complete: bool


def find_json(text: str) -> list[Found]:
    """Every outermost list and object in a text, in order; one that cannot be gone on with ends there."""
    found: list[Found] = []
    place = 0
    while opening := re.compile(r"[\[{]").search(text, place):
        reader = _Reader(text, opening.start())
        value = reader.value()
        found.append(Found(value, opening.start(), reader.place, reader.complete))
        place = max(reader.place, opening.end())
    return found


class _Reader:
    """Reads one value from `place` on; `complete` turns False where something is missing or cannot be read."""

    def __init__(self, text: str, place: int) -> None:
        self.text = text
        self.place = place
        self.complete = True

    def value(self, depth: int = 0) -> Any:
        """The value at `place`; _NOTHING where there is none."""
        character = self._next()
        if character in ("[", "{"):
            if depth == MAX_DEPTH:
                return self._broken()
            return self._list(depth + 1) if character == "[" else self._object(depth + 1)
        if character in QUOTES:
            return self._string(QUOTES[character])
        if found := NUMBER.match(self.text, self.place):
            self.place = found.end()
            # A number at the very end may be the first digits of a longer one.
            return _number(found.group()) if self.place < len(self.text) else self._broken()
        found = WORD.match(self.text, self.place)
        if found and found.group().lower() in LITERALS:
            self.place = found.end()
            return LITERALS[found.group().lower()]
        return self._broken()

    def _list(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.place += 1
        while True:
            self._skip(SEPARATOR)
            if self._closed("]"):
                return items
            begin = self.place
            item = self.value(depth)
            if isinstance(item, str) and COLON.match(self.text, self.place):  # a key: the list's bracket was forgotten
                self.place = begin
                return items
            if item is not _NOTHING:
                items.append(item)
            if not self.complete:
                return items

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self.place += 1
        while True:
            self._skip(SEPARATOR)
            if self._closed("}"):
                return members
            key = self._key()
            if key is None or not self._skip(COLON):
                self._broken()
                return members
            value = self.value(depth)
            if value is not _NOTHING:
                members[key] = value
            if not self.complete:
                return members

    def _key(self) -> str | None:
        character = self._next()
        if character in QUOTES:
            return self._string(QUOTES[character])
        found = WORD.match(self.text, self.place)
        if found:
            self.place = found.end()
        return found.group() if found else None

    def _string(self, closing: str) -> str:
        text, start = self.text, self.place + 1
        place, pieces = start, []
        while place < len(text):
            character = text[place]
            if character == "\\":
                pieces.append(text[start:place])
                escaped, place = _escape(text, place + 1)
                pieces.append(escaped)
                start = place
            elif character == closing and AFTER_STRING.match(text, place + 1):
                self.place = place + 1
                return "".join((*pieces, text[start:place]))
            else:
                place += 1
        self.place, self.complete = len(text), False
        return "".join((*pieces, text[start:]))

    def _next(self) -> str:
        """The next character that is not blank, "" at the end."""
        self._skip(BLANK)
        return self.text[self.place : self.place + 1]

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self.text, self.place)
        self.place = found.end() if found else self.place
        return found is not None

    def _closed(self, bracket: str) -> bool:
        """Whether the list or object ends here. The other bracket ends it too, but is left to what is around it."""
        character = self.text[self.place : self.place + 1]
        if character == bracket:
            self.place += 1
        elif character == "":
            self.complete = False
        return character in ("", "]", "}")

    def _broken(self) -> Any:
        self.complete = False
        return _NOTHING


class _Nothing:
    """Where a value should have been and there was none (None is JSON's null)."""


_NOTHING = _Nothing()


def _number(digits: str) -> int | float:
    plain = digits.lstrip("+-")
    return int(digits) if plain.isascii() and plain.isdigit() and len(plain) <= SAFE_DIGITS else float(digits)


def _escape(text: str, place: int) -> tuple[str, int]:
    """What a backslash before `place` means, and where the text goes on. An unknown escape is the character itself."""
    letter = text[place : place + 1]
    if letter == "u" and re.fullmatch(r"[0-9a-fA-F]{4}", text[place + 1 : place + 5]):
        code = int(text[place + 1 : place + 5], 16)
        low = re.match(r"\\u(d[c-f][0-9a-f]{2})", text[place + 5 : place + 11], re.IGNORECASE)
        if 0xD800 <= code < 0xDC00 and low:
            return chr(0x10000 + ((code - 0xD800) << 10) + int(low.group(1), 16) - 0xDC00), place + 11
        return chr(code), place + 5
    return ESCAPES.get(letter, letter), place + 1
