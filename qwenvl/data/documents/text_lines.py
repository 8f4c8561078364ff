"""Characters with boxes become words and lines. Pure geometry: nothing here knows PDF.

Characters come in the order in which the document draws them, in the frame of their own line: turned text is turned upright before.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qwenvl.data.documents.page import Line, Pixels, Quad
from qwenvl.types import Point

SAME_LINE = 0.5
"""Part of the lower one's height that two characters of a line share."""
WORD_GAP, MONO_GAP, WIDE_GAP = 0.16, 0.4, 0.5
"""A gap of this part of the font's size is a space. Letters of one width stand further apart without one, and so do Chinese
characters, which are spread to fill a line."""
LINE_GAP, BACK_GAP = 0.9, 0.7
"""A wider gap, or a longer step back, begins a new line: the next column, the next cell."""

SPILL = 0.5
"""Pixels by which the smoothed edge of a glyph may stand out of its outline."""
MOSTLY = 0.9
"""Part of a line's characters that make it bold, or of one width."""

WIDE = re.compile(
    r"[\u2e80-\u30ff\u3100-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
"""Characters as wide as they are high, and the punctuation of print that has them."""
LEADER = re.compile(r"(?:[.·․…]\s?){5,}")
"""The dots that lead from a title to its page: written as four, however many there are."""
COMPATIBLE = re.compile(r"[\u2e80-\u2fdf\ufb00-\ufb06]")
"""Radicals that some fonts map whole Chinese characters to, and Latin ligatures: written as what they stand for."""


@dataclass(frozen=True, slots=True)
class Character:
    """One character, or a ligature's several. Boxes in pixels of the line's own frame: `ink` that of the glyph, `cell` from one
    character to the next and from ascent to descent. A blank has a cell alone."""

    text: str
    ink: Pixels
    cell: Pixels
    size: float
    bold: bool = False
    mono: bool = False

    @property
    def blank(self) -> bool:
        return self.text.isspace()


def lines_of(characters: Sequence[Character], angle: float = 0.0, walls: Sequence[Pixels] = ()) -> list[Line]:
    """The lines of text, in the order in which they are drawn. `angle`: degrees by which their frame is turned, clockwise.

    `walls`: boxes of upright rules, such as those between the cells of a table; no line goes through one.
    """
    runs = _joined(_runs(characters, walls), walls)
    return [line for run in runs if (line := _line(run, angle)) is not None]


def normal(text: str) -> str:
    """Composed characters (NFC), ligatures and radicals as what they stand for, leading dots as four, blanks as plain spaces, no
    control characters."""
    text = COMPATIBLE.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
    text = unicodedata.normalize("NFC", text).replace("\u00ad", "-")
    kept = (" " if letter.isspace() else letter for letter in text if letter.isspace() or unicodedata.category(letter)[0] != "C"
            or unicodedata.category(letter) == "Co")  # fmt: skip
    return LEADER.sub(".... ", "".join(kept))


def turned(point: Point, angle: float) -> Point:
    """A point turned clockwise about the origin of a picture, whose y grows downwards. Right angles are exact."""
    x, y = point
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    if angle % 90 == 0:
        cosine, sine = round(cosine), round(sine)
    return x * cosine - y * sine, x * sine + y * cosine


def turned_box(box: Pixels, angle: float) -> Pixels:
    """The upright box around a box turned by a right angle."""
    (x, y), (u, v) = turned((box[0], box[1]), angle), turned((box[2], box[3]), angle)
    return min(x, u), min(y, v), max(x, u), max(y, v)


def _runs(characters: Iterable[Character], walls: Sequence[Pixels]) -> list[list[Character]]:
    """Characters that follow each other along a line as they are drawn."""
    runs: list[list[Character]] = []
    last: Character | None = None
    for character in characters:
        if character.blank:
            if runs and last is not None:
                runs[-1].append(character)
            continue
        if last is None or not _follows(last, character, walls):
            runs.append([])
        runs[-1].append(character)
        last = character
    return runs


def _follows(last: Character, next_one: Character, walls: Sequence[Pixels]) -> bool:
    before, after, size = last.cell, next_one.cell, max(last.size, next_one.size)
    if after == before:  # letters of one ligature
        return True
    gap = after[0] - before[2]
    if not -BACK_GAP * size <= gap <= LINE_GAP * size or after[0] < before[0] - 0.1 * size or not _level(before, after):
        return False
    middle = (after[1] + after[3]) / 2
    left, right = last.ink[2], next_one.ink[0]
    return not any(left <= (wall[0] + wall[2]) / 2 <= right and wall[1] <= middle <= wall[3] for wall in walls)


def _level(a: Pixels, b: Pixels) -> bool:
    """Whether two boxes stand on one line."""
    common = min(a[3], b[3]) - max(a[1], b[1])
    return common >= SAME_LINE * min(a[3] - a[1], b[3] - b[1]) > 0


def _joined(runs: list[list[Character]], walls: Sequence[Pixels]) -> list[list[Character]]:
    """Runs that go on another one although they are drawn apart from it: a word in another colour, an index drawn last."""
    ends = [max((one for one in run if not one.blank), key=lambda one: one.cell[2]) for run in runs]
    by_height = sorted(range(len(runs)), key=lambda index: ends[index].cell[1])
    tops = [ends[index].cell[1] for index in by_height]
    before: dict[int, int] = {}
    used: set[int] = set()
    for index in sorted(range(len(runs)), key=lambda index: runs[index][0].cell[0]):
        first = runs[index][0]
        reach = 2 * first.size
        near = by_height[bisect_left(tops, first.cell[1] - reach) : bisect_right(tops, first.cell[1] + reach)]
        found = [other for other in near if other != index and other not in used and _follows(ends[other], first, walls)]
        if found:
            before[index] = max(found, key=lambda other: ends[other].cell[2])
            used.add(before[index])
    return _chains(runs, before)


def _chains(runs: list[list[Character]], before: dict[int, int]) -> list[list[Character]]:
    """Runs linked to the one before them, each chain at the place of the first drawn of it."""
    after = {first: second for second, first in before.items()}
    chains: list[tuple[int, list[Character]]] = []
    for index in range(len(runs)):
        if index in before:
            continue
        place, chain, here = index, list(runs[index]), after.get(index)
        while here is not None:
            place, chain, here = min(place, here), chain + runs[here], after.get(here)
        chains.append((place, chain))
    return [chain for _, chain in sorted(chains, key=lambda chain: chain[0])]


def _line(run: Sequence[Character], angle: float) -> Line | None:
    """None for a run of which nothing is left, or that has no area."""
    seen = [character for character in run if not character.blank]
    text = _text(run)
    left, top = min(one.ink[0] for one in seen) - SPILL, min(one.ink[1] for one in seen) - SPILL
    right, bottom = max(one.ink[2] for one in seen) + SPILL, max(one.ink[3] for one in seen) + SPILL
    if not text or right - left <= 2 * SPILL or bottom - top <= 2 * SPILL:
        return None
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    quad: Quad = tuple(turned(corner, angle) for corner in corners)  # type: ignore[assignment]
    sizes = sorted(one.size for one in seen)
    bold, mono = (sum(flags) >= MOSTLY * len(seen) for flags in ([one.bold for one in seen], [one.mono for one in seen]))
    return Line(text, quad, sizes[len(sizes) // 2], bold, mono)


def _text(run: Sequence[Character]) -> str:
    """Characters with spaces where there are blanks or gaps between them."""
    pieces: list[str] = []
    last: Character | None = None
    blank = False
    for character in run:
        if character.blank:
            blank = True
            continue
        if last is not None and _apart(last, character, blank):
            pieces.append(" ")
        pieces.append(character.text)
        last, blank = character, False
    return normal("".join(pieces)).strip()


def _apart(before: Character, after: Character, blank: bool) -> bool:
    gap = (after.cell[0] - before.cell[2]) / max(before.size, after.size, 1e-6)
    if WIDE.match(before.text[-1]) and WIDE.match(after.text[0]):
        return gap > WIDE_GAP
    return blank or gap > (MONO_GAP if before.mono and after.mono else WORD_GAP)
