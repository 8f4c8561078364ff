"""What lines of a PDF page that belong together are: a heading, a paragraph, an item of a list, or code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from qwenvl.data.documents.blocks import Block
from qwenvl.data.documents.page import Line, Pixels, around, scaled
from qwenvl.data.documents.text_lines import WIDE

BULLET = re.compile(r"[•‣◦▪■□●○◆◇►▶➢✓✔–—·*-]$|[•‣◦▪■□●○◆◇►▶➢✓✔–—·*-]\s")
NUMBER = re.compile(r"(?:\(?(?:\d{1,3}|[a-z]|[ivx]{1,4})[.)、]|（\d{1,2}）|\[\d{1,3}\])(?:\s|$)")
CAPTION = re.compile(r"(?:Figure|Fig\.|FIGURE|图|圖)\s*\d")
ENDS = (".", "。", ":", "：", ";", "；", ",", "，", "、")

HEADING_SIZE = 1.15
LEVELS = ((2.0, "1"), (1.55, "2"), (1.25, "3"), (0.0, "4"))
"""Size of a heading's font by that of running text, and the level from there on."""
MAX_HEADING = 160
"""Characters of a heading at most."""


@dataclass(slots=True)
class Group:
    """Lines that belong together; `box` in pixels."""

    lines: list[Line]

    @property
    def box(self) -> Pixels:
        return around([line.box for line in self.lines])

    @property
    def size(self) -> float:
        return max(line.size for line in self.lines)


def joined(lines: Sequence[Line]) -> str:
    """Lines of running text as one: a word divided at a line's end is put together, Chinese gets no blanks."""
    text = ""
    for line in lines:
        if not text:
            text = line.text
        elif text.endswith("-") and text[-2:-1].isalpha() and line.text[:1].islower():
            text = text[:-1] + line.text
        elif WIDE.match(text[-1]) or WIDE.match(line.text[0]):
            text += line.text
        else:
            text += f" {line.text}"
    return text


def is_item(text: str) -> bool:
    """Whether a line begins as an item of a list does."""
    return bool(BULLET.match(text) or NUMBER.match(text))


def apart(upper: Line, lower: Line) -> float:
    return (lower.box[1] + lower.box[3] - upper.box[1] - upper.box[3]) / 2


def text_block(group: Group, body: float, size: tuple[int, int]) -> Block:
    box = scaled(group.box, size)
    text = joined(group.lines)
    if all(line.mono for line in group.lines) and (len(group.lines) > 1 or not _is_heading(group, text, body)):
        return Block("code", box, _code(group.lines))
    if _is_heading(group, text, body):
        level = next(level for least, level in LEVELS if group.size >= least * body)
        return Block("heading", box, text, attributes={"level": level})
    if is_item(text):
        return Block("item", box, text)
    return Block("paragraph", box, text)


def _is_heading(group: Group, text: str, body: float) -> bool:
    if len(group.lines) > 3 or len(text) > MAX_HEADING or not any(letter.isalpha() for letter in text):
        return False
    if group.size >= HEADING_SIZE * body:
        return True
    bold = all(line.bold for line in group.lines)
    return bold and group.size >= 0.95 * body and not text.endswith(ENDS)


def _code(lines: Sequence[Line]) -> str:
    """Lines of code with the blanks that a PDF does not keep: those before and within them, and empty lines."""
    left = min(line.box[0] for line in lines)
    letters = sorted((line.box[2] - line.box[0]) / len(line.text) for line in lines if len(line.text) > 3)
    letter = letters[len(letters) // 2] if letters else max(lines[0].size / 2, 1.0)
    pitch = min((far for a, b in pairwise(lines) if (far := apart(a, b)) > 0.5 * b.size), default=1.0)
    rows: list[str] = []
    last: Line | None = None
    for line in lines:
        column = round((line.box[0] - left) / letter)
        if last is not None and apart(last, line) <= 0.5 * line.size:
            rows[-1] = f"{rows[-1].ljust(max(column, len(rows[-1]) + 1))}{line.text}"
        else:
            rows += [""] * (round(apart(last, line) / pitch) - 1 if last is not None else 0)
            rows.append(" " * column + line.text)
        last = line
    return "\n".join(rows)


def with_lists(blocks: Sequence[Block]) -> list[Block]:
    """Items that follow each other as one list. A bullet is not written: the element says it; a number is part of the text."""
    result: list[Block] = []
    for block in blocks:
        if block.kind != "item":
            result.append(block)
            continue
        ordered = not BULLET.match(block.text)
        item = replace(block, text=block.text if ordered else block.text[1:].lstrip())
        last = result[-1] if result else None
        if last is not None and last.kind == "list" and (last.attributes.get("ordered") == "true") == ordered:
            result[-1] = replace(last, box=_both(last, item), children=(*last.children, item))
        else:
            result.append(Block("list", block.box, children=(item,), attributes={"ordered": "true"} if ordered else {}))
    return result


def with_captions(blocks: Sequence[Block]) -> list[Block]:
    """A picture and the caption right below or above it as one block."""
    result: list[Block] = []
    for block in blocks:
        last = result[-1] if result else None
        if last is not None and last.kind == "image" and block.kind == "paragraph" and CAPTION.match(block.text):
            result[-1] = Block("image caption", _both(last, block), block.text, picture=last.box)
        elif last is not None and block.kind == "image" and last.kind == "paragraph" and CAPTION.match(last.text):
            result[-1] = Block("image caption", _both(last, block), last.text, picture=block.box)
        else:
            result.append(block)
    return result


def _both(a: Block, b: Block) -> Pixels | None:
    boxes = [block.box for block in (a, b) if block.box is not None]
    return around(boxes) if boxes else None
