"""OmniDocBench 1.0, end to end: a page of Markdown against its annotation, by edits of texts, formulas, tables and reading order.

vlmeval/dataset/OmniDocBench (omnidocbench.py, utils.py, metrics.py) of open-compass/VLMEvalKit @ e8e78f0, which is the evaluation
of opendatalab/OmniDocBench 1.0. Not here: BLEU and METEOR of texts, CDM of formulas (it draws them with TeX), and tables in LaTeX
(it asks latexml): a table in LaTeX is a missing one, as it is there in the numbers of edits and TEDS.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from qwenvl.eval.scorers.editing import distance_share
from qwenvl.eval.scorers.markdown_page import Piece, read_page
from qwenvl.eval.scorers.markdown_tables import normalised_table
from qwenvl.eval.scorers.page_match import match_in_pairs, match_lines
from qwenvl.eval.scorers.teds import teds
from qwenvl.eval.task import EvaluationError

IGNORED = frozenset({
    "figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm", "code_algorithm_caption", "header",
    "footer", "page_footnote", "page_number", "equation_caption",
})  # fmt: skip
"""Texts that are matched, so that nothing else is in their place, and then not counted."""
TEXTS = (
    "text_block", "title", "code_txt", "code_txt_caption", "reference", "equation_caption", "figure_caption", "figure_footnote",
    "table_caption", "table_footnote", "code_algorithm", "code_algorithm_caption", "header", "footer", "page_footnote",
    "page_number",
)  # fmt: skip
PARTS = ("text", "formula", "table", "order")
INLINE = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
UNWRITTEN = (
    "\\mathbf", "\\mathrm", "\\mathnormal", "\\mathit", "\\mathbb", "\\mathcal", "\\mathscr", "\\mathfrak", "\\mathsf", "\\mathtt",
    "\\textbf", "\\text", "\\boldmath", "\\boldsymbol", "\\operatorname", "\\bm", "\\symbfit", "\\mathbfcal", "\\symbf",
    "\\scriptscriptstyle", "\\notag", "\\setlength", "\\coloneqq", "\\space", "\\thickspace", "\\thinspace", "\\medspace",
    "\\nobreakspace", "\\negmedspace", "\\quad", "\\qquad", "\\enspace", "\\substackw", " ",
)  # fmt: skip
"""What a formula says about its looks, taken out in this order."""
COMMANDS = (r"\\tag\{.*?\}", r"\\hspace\{.*?\}", r"\\begin\{.*?\}", r"\\end\{.*?\}", r"\\arraycolsep.*?\}")


@dataclass(frozen=True, slots=True)
class Line:
    """A true text, formula or table: its category, its place in the order of reading (None: it has none), what it says."""

    category: str
    order: int | None
    content: str


def annotated(page: Mapping[str, Any]) -> dict[str, list[list[Any]]]:
    """{"text", "formula", "table"} -> [category, order, content] of a page of OmniDocBench.json, in the order of reading.

    Texts that were cut in two are one; where three were, the middle one stands in it twice, as published. Raises KeyError.
    """
    cut = [link for link in page["extra"]["relation"] if link["relation_type"] == "truncated"]
    joined: list[list[Any]] = []
    for source, target in ((link["source_anno_id"], link["target_anno_id"]) for link in cut):
        groups = [group for group in joined if source in group or target in group]
        for group in groups or [[]]:
            group += [source, target]
            joined += [] if groups else [group]
    parts = {name: None for group in joined for name in group}
    by_category: dict[str, list[Mapping[str, Any]]] = {}
    known = {}
    for item in page["layout_dets"]:
        if item["anno_id"] in parts:
            known[item["anno_id"]] = item
        else:
            by_category.setdefault(item["category_type"], []).append(item)
    for group in joined:
        pieces = sorted((known[name] for name in group), key=lambda item: item["order"])
        whole = {**pieces[0], "text": "".join(piece["text"] for piece in pieces)}
        by_category.setdefault(whole["category_type"], []).append(whole)
    wanted = {"text": (TEXTS, "text"), "formula": (("equation_isolated",), "latex"), "table": (("table",), "html")}
    found = {}
    for part, (categories, key) in wanted.items():
        items = [item for category in categories for item in by_category.get(category, [])]
        items.sort(key=lambda item: item.get("order") or 0)
        found[part] = [[item["category_type"], item.get("order"), str(item[key])] for item in items]
    return found


def page_scores(reply: str, truth: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, float]:
    """Of each part that the page has: its edits in [0, 1], as {"text", "formula", "table", "order"}, and "teds" of its tables.

    Edits of all lines of a page by the letters of the longer of each two. truth: `annotated`. Raises EvaluationError where
    pylatexenc, which turns formulas within lines into letters, is not installed.
    """
    return dict(_scored(reply, json.dumps({part: truth[part] for part in PARTS[:3]}, ensure_ascii=False)))


@lru_cache(maxsize=1 << 13)
def _scored(reply: str, kept: str) -> dict[str, float]:
    """Kept: a page's scores are asked for by page, all together and by group, and take a while."""
    said, truth = read_page(reply), json.loads(kept)
    lines = {part: [Line(*line) for line in truth[part]] for part in PARTS[:3]}
    scores: dict[str, float] = {}
    if lines["text"]:
        pairs, orders = _matched_texts(lines["text"], said.texts)
        scores |= _edits("text", pairs)
        if order := _order_edits(orders):
            scores["order"] = order[0]
    if lines["formula"]:
        scores |= _edits("formula", _matched_formulas(lines["formula"], said.formulas))
    if lines["table"]:
        tables = _matched_tables(lines["table"], said.tables)
        scores |= _edits("table", tables)
        scores["teds"] = sum(teds(ours, theirs) for theirs, ours in tables) / len(tables)
    return scores


def plain_text(text: str) -> str:
    """Letters, digits and underscores alone, with formulas within lines as letters (textblock2unicode and clean_string)."""
    for match in reversed(list(INLINE.finditer(text))):
        formula = re.sub(r"\\([\\_&%^])", "", match[1] if match[1] is not None else match[2])
        if any(sign in formula for sign in "\\^_"):
            written = _letters(formula + " " * formula.endswith("\\"))
            if written is not None:
                text = text[: match.start()] + written.strip() + text[match.end() :]
    for sign in ("\\t", "\\n", "\t", "\n", "/t", "/n"):
        text = text.replace(sign, "")
    return re.sub(r"[^\w\u4e00-\u9fff]", "", text)


def plain_formula(text: str) -> str:
    r"""A formula in small letters, without \[ \], spaces and what says how it looks (normalized_formula)."""
    inner = re.search(r"\\\[(.+?)(?<!\\)\\\]", text)
    text = inner[1].strip() if inner else text
    for pattern in COMMANDS:
        text = re.sub(pattern, "", text)
    text = text.strip(".")
    for command in UNWRITTEN:
        text = text.replace(command, "")
    return text.lower()


def _letters(formula: str) -> str | None:
    try:
        latex: Any = import_module("pylatexenc.latex2text")
    except ImportError:
        raise EvaluationError("OmniDocBench reads formulas within lines by pylatexenc; run: pip install 'qwenvl[eval]'") from None
    try:
        return str(latex.LatexNodes2Text().latex_to_text(formula))
    except Exception:  # what is no LaTeX stays as it stands, as published
        return None


Pair = tuple[str, str]
"""What is true and what is said, as they are compared."""


def _matched_texts(lines: Sequence[Line], pieces: Sequence[Piece]) -> tuple[list[Pair], list[tuple[list[int | None], int | None]]]:
    """The pairs that count, and of each the orders of its true lines and where its first line stands in the reply."""
    kept = [(line.content, plain_text(line.content), line.category) for line in lines]
    true = [line for line in kept if line[0] and line[1]]
    said = [(piece.content, plain) for piece in pieces if (plain := plain_text(piece.content))]
    pairs, orders = [], []
    for trues, run in match_lines([line[1] for line in true], [line[1] for line in said]):
        categories = [true[number][2] for number in trues]
        counted = [category for category in categories if category not in IGNORED] or categories
        if counted and Counter(counted).most_common(1)[0][0] in IGNORED:
            continue
        pairs.append(("".join(true[number][1] for number in trues), "".join(said[number][1] for number in run)))
        # As published, a line's number counts without the lines that say nothing, its order is looked up with them.
        orders.append(([lines[number].order for number in trues], pieces[run[0]].position if run else None))
    return pairs, orders


def _matched_formulas(lines: Sequence[Line], pieces: Sequence[Piece]) -> list[Pair]:
    true = [(line.content, plain) for line in lines if line.content and (plain := plain_formula(line.content))]
    said = [(piece.content, plain) for piece in pieces if piece.content and (plain := plain_formula(piece.content))]
    pairs = []
    for trues, run in match_lines([line[1] for line in true], [line[1] for line in said]):
        if trues:
            pairs.append(("".join(true[number][1] for number in trues), "".join(said[number][1] for number in run)))
    return pairs


def _matched_tables(lines: Sequence[Line], pieces: Sequence[Piece]) -> list[Pair]:
    true = [line.content for line in lines if line.content]
    said = [piece.content for piece in pieces if piece.content]
    pairs = []
    for trues, run in match_in_pairs(true, said):
        if trues:
            theirs, ours = true[trues[0]], said[run[0]] if run else ""
            pairs.append((normalised_table(theirs) or theirs, normalised_table(ours) or ours))
    return pairs


def _edits(part: str, pairs: Sequence[Pair]) -> dict[str, float]:
    lengths = [max(map(len, pair)) for pair in pairs]
    if not sum(lengths):
        return {}
    return {part: sum(distance_share(*pair) * length for pair, length in zip(pairs, lengths, strict=True)) / sum(lengths)}


def _order_edits(orders: Sequence[tuple[list[int | None], int | None]]) -> tuple[float] | None:
    """Edits between the true order of lines and that of the reply; None for a page without ordered lines."""
    # A line without an order is [""] in the published code, where it has no companion.
    ordered = [(trues, place) for trues, place in orders if trues and not (len(trues) == 1 and not trues[0])]
    true = sorted(order for trues, _ in ordered for order in trues if order)
    placed = [(trues, place) for trues, place in ordered if place is not None]
    placed.sort(key=lambda match: match[1])
    said = [order for trues, _ in placed for order in trues if order]
    return (distance_share(said, true),) if said or true else None
