"""The text of a laid out web page as lines, and where the page is cut between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qwenvl.data.documents.dom import PICTURES, Dom, Fragment
from qwenvl.data.documents.page import Line
from qwenvl.data.documents.text_lines import WIDE, normal

SAME_LINE = 0.5
GAP, BACK = 2.0, 1.0
"""Sizes of the font that a piece of a line stands behind the one before it at most, or before its end."""
LEAST_PAGE = 0.4
"""Part of a page's height that a cut may leave of it at least, to keep a table's row or a picture whole."""
WHOLE = 0.5
"""Part of a page's height up to which a row or a picture is kept whole."""


@dataclass(frozen=True, slots=True)
class DomLine:
    """A line and the fragments that it is made of; in pixels of the page that it stands on."""

    line: Line
    fragments: tuple[Fragment, ...]

    @property
    def owner(self) -> int:
        return self.fragments[0].owner

    @property
    def node(self) -> int:
        return self.fragments[0].node


def page_cuts(dom: Dom, height: float, limit: int) -> list[tuple[float, float]]:
    """(top, bottom) of each of the first `limit` pages. A cut goes through no line, nor, where possible, a row or a picture."""
    lines = [(fragment.box[1], fragment.box[3]) for fragment in dom.fragments]
    rest = [
        (one.box[1], one.box[3]) for one in dom.elements.values()
        if one.tag in ("tr", *PICTURES) and one.box[3] - one.box[1] <= WHOLE * height
    ]  # fmt: skip
    cuts: list[tuple[float, float]] = []
    top, end = 0.0, dom.size[1]
    while top < end and len(cuts) < limit:
        bottom = min(top + height, end)
        if bottom < end:
            near = [span for span in lines if top <= span[0] and span[0] < bottom < span[1]]
            least = top + LEAST_PAGE * height
            bottom = _cut(bottom, lines + rest, least) or (_cut(bottom, lines, least) if near else None) or bottom
        cuts.append((top, bottom))
        top = bottom
    return cuts


def _cut(bottom: float, spans: Sequence[tuple[float, float]], least: float) -> float | None:
    """The lowest place from `bottom` up to `least` that no span reaches across, in whole pixels."""
    here = float(int(bottom))
    crossed = sorted((span for span in spans if span[0] < bottom and span[1] > least), key=lambda span: -span[1])
    while here >= least:
        above = [span[0] for span in crossed if span[0] < here < span[1]]
        if not above:
            return here
        here = float(int(min(above)))
    return None


def lines_of_fragments(fragments: Sequence[Fragment]) -> Iterator[tuple[Fragment, ...]]:
    """Fragments that follow each other on one line of one element."""
    line: list[Fragment] = []
    for fragment in fragments:
        if line and not (fragment.owner == line[0].owner and _goes_on(line[-1], fragment)):
            yield tuple(line)
            line = []
        line.append(fragment)
    if line:
        yield tuple(line)


def _goes_on(before: Fragment, after: Fragment) -> bool:
    common = min(before.box[3], after.box[3]) - max(before.box[1], after.box[1])
    height = min(before.box[3] - before.box[1], after.box[3] - after.box[1])
    size = max(before.size, after.size)
    return common >= SAME_LINE * height and -BACK * size <= after.box[0] - before.box[2] <= GAP * size


def said(lines: Sequence[DomLine]) -> str:
    """Lines of running text as one, with the blanks that were collapsed where a line ends. Markers of a list are left out."""
    text = ""
    for index, line in enumerate(lines):
        if index and lines[index - 1].owner != line.owner and text:
            text += " "
        for fragment in line.fragments:
            if not fragment.marker:
                text += fragment.text + fragment.blank
        if text and not text[-1].isspace() and not WIDE.match(text[-1]) and _breaks(line, lines[index + 1 : index + 2]):
            text += " "
    return " ".join(normal(text).split())


def _breaks(line: DomLine, after: Sequence[DomLine]) -> bool:
    """Whether there is a line after this one, which ends by a break of the document and not because it was full."""
    return any(line.fragments[-1].node != other.fragments[0].node for other in after)
