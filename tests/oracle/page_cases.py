"""Annotated pages as OmniDocBench has them, and Markdown that someone could have read from them, drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

from tests.oracle.reading_cases import some

WORDS = [
    "alpha", "beta", "gamma", "delta", "$x_1$", "$\\alpha^2$", "$\\frac{1}{2}$", "$5$", "北京", "天气", "12.5", "house", "tree",
    "the", "of", "and", "\\(y\\)", "fig", "1", "a|b",
]  # fmt: skip
TEXTS = ["text_block"] * 6 + [
    "title", "code_txt", "reference", "figure_caption", "table_caption", "header", "footer", "page_number", "equation_caption",
]  # fmt: skip
FORMULAS = ("E = mc^2", "\\frac{a}{b} \\tag{1}", "\\mathbf{x}+1", "a_{i}^{2}", "\\begin{aligned} x &= 1 \\end{aligned}")
LAYOUTS = (
    "![x](y.png) WORDS ____________ ===============", "```python\nprint(1)\n```", "\\section{WORDS}", "<table><tr><td>WORDS", "$",
    "| a | b |\n|---|---|\n| WORDS | 1 |\n", "```markdown\nWORDS\n```", "\\begin{tabular}{cc} a & b \\\\ \\end{tabular}",
    "\\( z \\)",
)  # fmt: skip


def text(rng: Random, most: int) -> str:
    return some(rng, WORDS, most) or "x"


def html_table(rng: Random) -> str:
    rows = [[text(rng, 3) for _ in range(rng.randrange(1, 4))] for _ in range(rng.randrange(1, 4))]
    return "<table>" + "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows) + "</table>"


def pages(seed: int, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(reply, page)."""
    rng = Random(seed)
    for _ in range(count):
        layout: list[dict[str, Any]] = []
        written: list[str] = []
        for number in range(rng.randrange(1, 9)):
            item, words = _item(rng)
            layout.append({"anno_id": number, "order": None if rng.random() < 0.1 else number + 1, "attribute": {}, **item})
            written += [words] if words else []
        page = {"layout_dets": layout, "page_info": {"image_path": "p.jpg"}, "extra": {"relation": _cuts(rng, layout)}}
        yield _changed(rng, written), page


def _item(rng: Random) -> tuple[dict[str, Any], str]:
    kind = rng.random()
    if kind < 0.7:
        words = text(rng, rng.choice((3, 8, 20)))
        return {"category_type": rng.choice(TEXTS), "text": "***" if rng.random() < 0.04 else words}, words
    if kind < 0.82:
        formula = rng.choice(FORMULAS)
        said = rng.choice(("$$%s$$", "\\[%s\\]", "\\(%s\\)")) % formula
        return {"category_type": "equation_isolated", "latex": f"$${formula}$$"}, said
    if kind < 0.95:
        table = html_table(rng)
        styled = table.replace("<td>", '<td colspan=1 style="a">')
        said = rng.choice((table, table, table.replace("td", "th", 2), table[:-8], styled))
        return {"category_type": "table", "html": table}, said
    return {"category_type": "figure"}, ""


def _cuts(rng: Random, layout: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A text that goes on in another, and sometimes in a third."""
    texts = [item["anno_id"] for item in layout if item["category_type"] == "text_block" and item["order"]]
    links = list(pairwise(texts))[: rng.choice((0, 0, 0, 1, 2))]
    return [{"source_anno_id": one, "target_anno_id": other, "relation_type": "truncated"} for one, other in links]


def _changed(rng: Random, written: list[str]) -> str:
    lines = list(written)
    for _ in range(rng.randrange(5)):
        kind, place = rng.random(), rng.randrange(len(lines)) if lines else 0
        if not lines or kind < 0.15:
            lines.insert(place, rng.choice((*LAYOUTS, text(rng, 12))).replace("WORDS", text(rng, 3)))
        elif kind < 0.3:
            lines.pop(place)
        elif kind < 0.45:
            rng.shuffle(lines)
        elif kind < 0.65:  # cut in two, or in three
            words = lines[place].split(" ")
            middle = rng.randrange(len(words) + 1)
            lines[place : place + 1] = [" ".join(words[:middle]), " ".join(words[middle:])]
        elif kind < 0.8 and place + 1 < len(lines):
            lines[place : place + 2] = [f"{lines[place]} {lines[place + 1]}"]
        else:
            lines[place] = "".join(letter if rng.random() < 0.85 else rng.choice("xyz ") for letter in lines[place])
    return rng.choice(("\n\n", "\n\n", "\n")).join(lines)
