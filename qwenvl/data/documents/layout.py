"""What the lines of a PDF page are: headings, paragraphs, lists, code, tables and figures, in reading order.

PDF does not say it. Headings are told by the size and weight of their font, paragraphs by the distance between lines and by lines
that end early, lists by what stands before an item, tables by rules, figures by pictures and drawings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from qwenvl.data.documents.blocks import Block
from qwenvl.data.documents.page import Line, Pixels, around, inside, scaled
from qwenvl.data.documents.pdf_graphics import Graphics
from qwenvl.data.documents.reading_order import reading_order
from qwenvl.data.documents.tables import Table, find_tables
from qwenvl.data.documents.text_blocks import BULLET, NUMBER, Group, apart, is_item, text_block, with_captions, with_lists
from qwenvl.data.documents.text_lines import WIDE

LABEL = re.compile(
    r"(?:\d{1,3}(?:\.\d{1,3})*\.?|[A-Z](?:\.\d{1,3})+|(?:Chapter|Appendix|Part|Section)\s[\dA-Z]+\.?"
    r"|第\s?[\d一二三四五六七八九十]+\s?[章节部篇])$"
)
DRAWN = "•"
"""What a bullet that is a shape is written as."""

LABEL_GAP, LEADER_GAP = 3.0, 6.0
"""A label stands before its text by so many sizes of the font at most, what leading dots lead to behind them."""
LEADING, LED = re.compile(r".*\.{4}\s?$"), re.compile(r".*\.{4} \S+$")
CODE_GAP = 2.6
"""Lines of code are this many sizes of the font apart at most."""
GUTTER, SAME_SIZE, INDENT = 1.1, 1.15, 0.8
"""Sizes of running text that columns are apart at least; how far the sizes of a paragraph's lines differ at most; sizes of the font
that a paragraph's first line is moved in at least."""
BACKGROUND_LINES = 8
"""A picture with so many lines of text on it is the ground that they stand on, not a figure."""

_Item = Line | Table | Pixels


def body_size(sizes: Sequence[float]) -> float:
    """The size of most characters: that of running text. 0 where there are none."""
    counts = Counter(round(size * 2) / 2 for size in sizes if size > 0)
    return counts.most_common(1)[0][0] if counts else 0.0


def page_blocks(lines: Sequence[Line], graphics: Graphics, size: tuple[int, int], body: float) -> tuple[list[Line], list[Block]]:
    """The lines in reading order, labels joined to what they stand before, and the blocks of the page. `body`: see `body_size`."""
    body = body or body_size([line.size for line in lines])
    tables = find_tables(lines, graphics, size)
    tabled = {index for table in tables for index in table.lines}
    bullets = [_bullet(mark) for mark in graphics.marks if not any(inside(mark, box) for box in graphics.pictures)]
    joined_up = _with_labels([*(line for index, line in enumerate(lines) if index not in tabled), *bullets])
    loose = [line for line in joined_up if line not in bullets]
    figures = [box for box in graphics.pictures if not any(inside(box, table.box) for table in tables)]
    figures = [box for box in figures if sum(inside(line.box, box) for line in loose) < BACKGROUND_LINES]
    on_figures = {id(line): box for line in loose for box in figures if inside(line.box, box)}
    items: list[_Item] = [*[line for line in loose if id(line) not in on_figures], *tables, *figures]
    boxes = [item if isinstance(item, tuple) else item.box for item in items]
    ordered = [(items[index], edge) for index, edge in reading_order(boxes, GUTTER * body)]
    found: list[Line] = []
    blocks: list[Block] = []
    for item in _grouped(ordered, graphics.down):
        if isinstance(item, Group):
            found += item.lines
            blocks.append(text_block(item, body, size))
        elif isinstance(item, Table):
            found += [lines[index] for index in item.lines]
            style = {"style": "border-collapse: collapse; border: 1px solid"} if item.ruled else {}
            blocks.append(Block("table", scaled(item.box, size), rows=item.rows, attributes=style))
        else:
            written = [line for line in loose if on_figures.get(id(line)) == item]
            found += written
            words = "\n".join(line.text for line in written)
            blocks.append(Block("image ocr" if written else "image", scaled(item, size), words))
    return found, with_captions(with_lists(blocks))


def _bullet(mark: Pixels) -> Line:
    """A bullet that is drawn as a shape, as if it were written; its font's size is what bullets of that width have."""
    left, top, right, bottom = mark
    return Line(DRAWN, ((left, top), (right, top), (right, bottom), (left, bottom)), 2 * (right - left))


def _with_labels(lines: Sequence[Line]) -> list[Line]:
    """Lines with what stands alone beside them: a bullet or a number before a text, leading dots and the page behind a title."""
    result = list(lines)
    for line in lines:
        if line in result and (BULLET.fullmatch(line.text) or NUMBER.fullmatch(line.text) or LABEL.fullmatch(line.text)):
            _take_next(result, line, LABEL_GAP)
    for line in sorted(lines, key=lambda line: line.box[0]):
        if line.text.startswith("....") and line in result:
            before = [other for other in result if _beside(other, line, LEADER_GAP)]
            if before:
                _take_next(result, max(before, key=lambda other: other.box[2]), LEADER_GAP)
    for line in list(result):
        if LEADING.match(line.text):
            _take_next(result, line, LEADER_GAP)
    return result


def _beside(line: Line, other: Line, gap: float) -> bool:
    """Whether the other line stands to the right on the same row, at most `gap` sizes of the font away."""
    middle = (other.box[1] + other.box[3]) / 2
    return (
        line is not other
        and -line.size < other.box[0] - line.box[2] <= gap * max(line.size, other.size)
        and (line.box[1] < middle < line.box[3] or other.box[1] < (line.box[1] + line.box[3]) / 2 < other.box[3])
    )


def _take_next(lines: list[Line], line: Line, gap: float) -> None:
    """Join the nearest line to the right to a line, in place."""
    beside = [other for other in lines if _beside(line, other, gap)]
    if beside:
        other = min(beside, key=lambda other: other.box[0])
        left, top, right, bottom = around([line.box, other.box])
        quad = ((left, top), (right, top), (right, bottom), (left, bottom))
        larger = max(line, other, key=lambda one: len(one.text))
        lines[lines.index(line)] = replace(larger, text=f"{line.text.rstrip()} {other.text}", quad=quad)
        lines.remove(other)


def _grouped(items: Sequence[tuple[_Item, float]], walls: Sequence[Pixels]) -> list[Group | Table | Pixels]:
    """Lines that follow each other as groups; tables and figures as they are. Each item comes with its column's right edge; one of
    `walls`, upright rules, may stand before it."""
    pitch = _pitch([item for item, _ in items])
    lines = [item for item, _ in items if isinstance(item, Line)]
    groups: list[Group | Table | Pixels] = []
    for item, edge in items:
        if not isinstance(item, Line):
            groups.append(item)
            continue
        near = max(line.box[2] for line in lines if abs(line.box[0] - item.box[0]) <= 3 * line.size)
        middle = (item.box[1] + item.box[3]) / 2
        ends = [wall[0] for wall in walls if wall[1] < middle < wall[3] and wall[0] >= item.box[2]]
        if groups and isinstance(last := groups[-1], Group) and _continues(last, item, pitch, min(edge, near, *ends)):
            last.lines.append(item)
        else:
            groups.append(Group([item]))
    return groups


def _pitch(items: Sequence[_Item]) -> float:
    """From one line of a paragraph to the next, by the size of the font: what the closer ones of the page's lines are apart."""
    pairs = [(a, b) for a, b in pairwise(items) if isinstance(a, Line) and isinstance(b, Line)]
    far = sorted(apart(a, b) / b.size for a, b in pairs if 0.9 * b.size <= apart(a, b) <= 2.5 * b.size)
    return far[len(far) * 3 // 10] if far else 1.2


def _continues(group: Group, line: Line, pitch: float, edge: float) -> bool:
    """Whether a line goes on what the group says."""
    last, first = group.lines[-1], group.lines[0]
    if line.mono != last.mono or line.bold != last.bold or max(line.size, last.size) > SAME_SIZE * min(line.size, last.size):
        return False
    far = apart(last, line)
    if line.mono:
        return -0.5 * line.size < far <= CODE_GAP * line.size
    if not 0.5 * line.size < far <= 1.25 * pitch * line.size + 1 or line.box[0] > last.box[2] or line.box[2] < last.box[0]:
        return False
    if LED.match(last.text) or is_item(line.text) or (LABEL.match(line.text.split(" ")[0]) and line.bold):
        return False
    start = last.box[0]
    if len(group.lines) == 1 and is_item(first.text):
        return line.box[0] > start - INDENT * line.size
    if line.box[0] - start > INDENT * line.size:
        return False
    return not _ended_early(last, line, edge)


def _ended_early(last: Line, line: Line, edge: float) -> bool:
    """Whether the next line's first word would have found room at the end of the last one. `edge`: where lines end."""
    room = edge - last.box[2]
    letter = (line.box[2] - line.box[0]) / max(len(line.text), 1)
    word = 1 if WIDE.match(line.text[0]) else len(line.text.split(" ")[0])
    return room > (word + 1) * letter + 2 * line.size
