"""A page that was written as Markdown, taken apart: texts, formulas, tables, in the order of the page.

md_tex_filter of vlmeval/dataset/OmniDocBench/utils.py, open-compass/VLMEvalKit @ e8e78f0, with all that it does to a page.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

from qwenvl.eval.scorers.markdown_tables import BARRED, with_html_tables

PICTURE = re.compile(r"!\[.*?\]\(.*?\)")
FENCE_STARTS, FENCE_ENDS = re.compile(r"^```markdown\n?", re.MULTILINE), re.compile(r"```\n?$", re.MULTILINE)
REPEATED = re.compile(r"([^a-zA-Z0-9])\1{10,}")
FORMULA = re.compile(r"\$\$(.*?)\$\$|\\\[(.*?)\\\]|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
DOLLARS = re.compile(r"\$\$(.*?)\$\$|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
LATEX_TABLE = re.compile(r"\\begin{table}(.*?)\\end{table}", re.DOTALL)
HTML_TABLE = re.compile("<table.*?</table>", re.DOTALL)
CODE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
TITLES = (
    re.compile(r"\\title\{(.*?)\}"), re.compile(r"\\title\s*\{\s*(.*?)\s*\}", re.DOTALL),
    re.compile(r"\\text\s*\{\s*(.*?)\s*\}", re.DOTALL), re.compile(r"\\section\*?\{(.*?)\}"),
    re.compile(r"\\section\*?\{\s*(.*?)\s*\}", re.DOTALL),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a page, and where in its text it begins."""

    content: str
    position: int


@dataclass(frozen=True, slots=True)
class Page:
    """`formulas` holds those within lines too, which stand in the texts as well."""

    texts: tuple[Piece, ...] = ()
    formulas: tuple[Piece, ...] = ()
    tables: tuple[Piece, ...] = ()
    latex_tables: tuple[Piece, ...] = ()


def read_page(text: str) -> Page:
    """What a reply holds. Any text is read."""
    text = FENCE_ENDS.sub("", FENCE_STARTS.sub("", PICTURE.sub("", text)))
    text = re.sub(" {4,}", "    ", re.sub("_{4,}", "____", text))
    text = REPEATED.sub(r"\1\1\1\1", text)
    latex_tables, text = _taken(text, _latex_tables(text))
    tables, text = _taken(text, _enclosed(text, "<table(?:[^>]*)>", "</table>", len("<table(?:[^>]*)>")))
    formulas, text = _formulas(text)
    if len(BARRED.findall(text + "\n")) >= 2:
        text = with_html_tables(text)
        found, text = _taken(text, [match.span() for match in HTML_TABLE.finditer(text)])
        tables += [Piece(piece.content.strip(), piece.position) for piece in found]
    texts: list[Piece] = []
    for match in CODE.finditer(text):
        texts.append(Piece(match[2].strip(), match.start()))
        text = _blanked(text, match.start(), match.end())
    for pattern in TITLES:
        text = pattern.sub(r"\1", text)
    _paragraphs(text, texts, formulas, tables)
    return Page(*(tuple(sorted(found, key=lambda piece: piece.position)) for found in (texts, formulas, tables, latex_tables)))


def _formulas(text: str) -> tuple[list[Piece], str]:
    found: list[Piece] = []
    for match in FORMULA.finditer(text):
        line = "".join(match[0].split())
        dollars = DOLLARS.search(line)
        if dollars is None or dollars[1]:
            text = _blanked(text, match.start(), match.end())
            line = line if dollars is None else DOLLARS.sub(r"\\[\1\\]", line)
        else:  # within a line, of whose text it stays a part
            line = DOLLARS.sub(r"\\[\2\3\\]", line)
        found.append(Piece(line, match.start()))
    return found, text


def _paragraphs(text: str, texts: list[Piece], formulas: list[Piece], tables: list[Piece]) -> None:
    """What is left, by blank lines; by lines where there are none."""
    blocks = text.split("\n\n")
    if len(blocks) == 1:
        blocks = text.split("\n")
    position = 0
    for block in blocks:
        content = "\n".join(line.strip() for line in block.strip().split("\n") if line.strip())
        if content.startswith("<table") and content.endswith("</table>"):
            tables.append(Piece(content, position))
        elif content.startswith("$") and content.endswith("$"):
            if content.replace("$", "").strip():
                formulas.append(Piece(content, position))
        elif content:
            texts.append(Piece(content, position))
        position += len(block)


def _latex_tables(text: str) -> list[tuple[int, int]]:
    spans = []
    for match in LATEX_TABLE.finditer(text):
        spans.append(match.span())
        text = _blanked(text, *match.span())
    begin, end = r"\\begin{tabular}", r"\\end{tabular}"
    return sorted(spans + _enclosed(text, begin, end, len(begin)), key=lambda span: span[0])


def _enclosed(text: str, begin: str, end: str, skipped: int) -> list[tuple[int, int]]:
    """Where the outermost of nested stretches stand. As published, lengths are those of the patterns, and where something is left
    open at the end, all is looked at again from behind the first one's beginning."""
    begins, ends = ([match.start() for match in re.finditer(f"(?={pattern})", text)] for pattern in (begin, end))
    spans: list[tuple[int, int]] = []
    place = 0
    while True:
        opened: list[int] = []
        while True:
            opening, closing = _next(begins, place), _next(ends, place)
            if closing is None:  # whatever opens from here on stays open
                opened += [opening] if opening is not None else []
                break
            if opening is not None and opening < closing:
                opened.append(opening)
                place = opening + len(end)
            else:
                if opened and not opened[1:]:
                    spans.append((opened[0], closing + len(end)))
                del opened[-1:]
                place = closing + len(end)
        if not opened or _next(ends, opened[0] + skipped) is None:
            return spans
        place = opened[0] + skipped


def _next(places: list[int], start: int) -> int | None:
    """The first of some places, in order, that is not before `start`."""
    index = bisect_left(places, start)
    return places[index] if index < len(places) else None


def _taken(text: str, spans: list[tuple[int, int]]) -> tuple[list[Piece], str]:
    """The stretches, and the text with spaces in their place."""
    pieces = [Piece(text[start:end], start) for start, end in spans]
    for piece in pieces:
        text = _blanked(text, piece.position, piece.position + len(piece.content))
    return pieces, text


def _blanked(text: str, start: int, end: int) -> str:
    return text[:start] + " " * (end - start) + text[end:]
