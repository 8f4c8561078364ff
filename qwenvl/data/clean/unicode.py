"""What the Unicode standard says of a character: its script, and whether it is an emoji.

The ranges lie in unicode.yaml, made from the standard's own files by `python -m qwenvl.data.clean.unicode FOLDER` (on Debian
/usr/share/unicode of the package unicode-data). Python's own unicodedata knows neither property.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator

from qwenvl.runtime import atomic_write
from qwenvl.types import QwenVLError

Range = tuple[int, int]
"""First and last code point, both included."""

TABLES = Path(__file__).with_name("unicode.yaml")

# File of the standard -> the properties that are taken from it. UAX #24 and UTS #51 say what they mean.
SOURCES = {"Scripts.txt": None, "emoji/emoji-data.txt": ("Emoji", "Emoji_Presentation")}

_LINE = re.compile(r"^([0-9A-F]+)(?:\.\.([0-9A-F]+))?\s*;\s*(\w+)")
_VERSION = re.compile(r"^# Scripts-([\d.]+)\.txt")


class CharacterError(QwenVLError, ValueError):
    """A script that the standard does not have, or a folder without the standard's files."""


@cache
def tables() -> dict[str, tuple[Range, ...]]:
    """Property -> its ranges: every script by the standard's name, `Emoji` and `Emoji_Presentation`."""
    written = yaml.safe_load(TABLES.read_text(encoding="utf-8"))["ranges"]
    return {name: tuple(parse_range(text) for text in ranges.split()) for name, ranges in written.items()}


def ranges_of(name: str) -> tuple[Range, ...]:
    """Raises CharacterError for a name that is neither a script nor an emoji property."""
    if name not in tables():
        raise CharacterError(f"{name!r} is no script of Unicode; write it as the standard does: Latin, Han, Cyrillic, ...")
    return tables()[name]


def parse_range(text: str) -> Range:
    """`4E00-9FFF` or `A9`, in hexadecimal digits. Raises ValueError."""
    first, _, last = text.partition("-")
    found = int(first, 16), int(last or first, 16)
    if not 0 <= found[0] <= found[1] <= sys.maxunicode:
        raise ValueError(f"{text!r} is no range of characters")
    return found


def _written_ranges(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        try:
            parse_range(text)
        except ValueError:
            raise ValueError(f"{text!r}: write characters as hexadecimal code points, such as 4E00-9FFF or A9") from None
    return texts


def _known_scripts(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        ranges_of(name)
    return names


Ranges = Annotated[tuple[str, ...], AfterValidator(_written_ranges)]
"""A field of a rule: characters as hexadecimal code points."""
Scripts = Annotated[tuple[str, ...], AfterValidator(_known_scripts)]
"""A field of a rule: scripts by the standard's names."""


def one_of(ranges: Iterable[Range]) -> str:
    """The inside of a regular expression's character class: `[` + this + `]` matches one character of the ranges."""
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in merged(ranges))


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same characters in as few ranges as possible, ascending."""
    result: list[Range] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def script_of(character: str) -> str:
    """The script's name; `Unknown` for a code point that has none (unassigned or private)."""
    point = ord(character)
    scripts = _scripts()
    place = bisect_right(scripts, point, key=lambda script: script[0]) - 1
    return scripts[place][2] if place >= 0 and point <= scripts[place][1] else "Unknown"


@cache
def _scripts() -> list[tuple[int, int, str]]:
    """First and last code point of every range that belongs to a script, which no two share, with its name."""
    return sorted((*part, name) for name, ranges in tables().items() if not name.startswith("Emoji") for part in ranges)


def generate(folder: Path, out: Path = TABLES) -> None:
    """Write unicode.yaml from the files of the standard. Raises CharacterError where they are not in the folder."""
    found: dict[str, list[Range]] = defaultdict(list)
    version = ""
    for name, wanted in SOURCES.items():
        if not (folder / name).is_file():
            raise CharacterError(f"{folder / name}: no such file; install Debian's unicode-data, or fetch unicode.org/Public/UCD")
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            if not version and (match := _VERSION.match(line)):
                version = match[1]
            if (match := _LINE.match(line)) and (wanted is None or match[3] in wanted):
                found[match[3]].append((int(match[1], 16), int(match[2] or match[1], 16)))
    written = {name: " ".join(_written(*part) for part in merged(ranges)) for name, ranges in sorted(found.items())}
    source = f"Unicode {version}: {', '.join(SOURCES)}; https://www.unicode.org/terms_of_use.html"
    with atomic_write(out) as temporary:
        lines = "".join(f'  {name}: "{ranges}"\n' for name, ranges in written.items())
        temporary.write_text(f"source: '{source}'\nranges:\n{lines}", encoding="utf-8")


def _written(first: int, last: int) -> str:
    return f"{first:X}" if first == last else f"{first:X}-{last:X}"


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
