"""The rules of OCRBench v2 for what has a structure: tables, charts, documents, dictionaries.

OCRBench_v2/eval_scripts/TEDS_metric.py and eval.py, Yuliang-Liu/MultimodalOCR @ 794c36d.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qwenvl.eval.scorers.key_values import flat_f1
from qwenvl.eval.scorers.teds import teds
from qwenvl.eval.scorers.trees import tree_distance

FENCED = re.compile(r"```(?:python|json)?\n(.*?)\n```", re.DOTALL | re.IGNORECASE)
PAIR = re.compile(r"""["']?([\w\s]+)["']?\s*[:=]\s*["']?([^\n,"'{}]+)["']?""")
ASSIGNED = re.compile(r"^\s*\w+\s*=\s*")
CLEANED = (
    (r"<bos>|<eos>|<pad>|<unk>", ""), (r"\s##(\S)", r"\1"), (r"\\\s", r"\\"), (r"\s\*\s\*\s", "**"), (r"{\s", "{"), (r"\s}", "}"),
    (r"\s}", "}"), (r"\\begin\s", r"\\begin"), (r"\\end\s", r"\\end"), (r"\\end{table}", r"\\end{table} \n\n"), (r"[\n*_]", " "),
)  # fmt: skip


@dataclass(slots=True)
class _Node:
    label: str
    children: list[_Node] = field(default_factory=list)


def html_table_score(reply: str, truth: str) -> float:
    """TEDS of the first table in HTML of a reply; 0.0 where there is none."""
    said = reply.replace("\n", "")
    start = said.find("<body") if "<body" in said else said.find("<table")
    return teds(wrapped(said[start:]), wrapped(truth)) if start >= 0 else 0.0


def markdown_table_score(reply: str, truth: str) -> float:
    return teds(html_of_markdown(reply), html_of_markdown(truth))


def wrapped(table: str) -> str:
    """A table with the tags around it that TEDS reads it by, where they are missing."""
    table = table.replace("\n", "")
    opened, closed = "<table" in table, "</table>" in table
    table = f"{'' if opened else '<table>'}{table}{'' if closed else '</table>'}"
    for tag in ("body", "html"):
        if f"<{tag}>" not in table:
            table = f"<{tag}>{table}</{tag}>"
    return table


def html_of_markdown(text: str) -> str:
    """Rows between bars, the second line (---) left out. As published: what stands before the first and behind the last bar is
    lost, and a fence goes with all letters of the word markdown at the ends."""
    lines = text.strip("```markdown").strip("```").strip().split("\n")  # noqa: B005 (letters, not words, as published)
    rows = []
    for line in [lines[0], *lines[2:]]:
        cells = line.strip().split("|")[1:-1]
        rows.append("".join(f"<td>{cell.strip() if set(cell) != {' '} else ' '}</td>" for cell in cells))
    return "<html><body><table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table></body></html>"


def chart_score(reply: str, truth: Any) -> float:
    """TEDS of the dictionaries that a chart is told as, two cells a row. `truth`: a mapping, or its text."""
    said = read_chart(reply)
    true = truth if isinstance(truth, Mapping) else read_chart(str(truth))
    return teds(_html_of_dict(said), _html_of_dict(true)) if said else 0.0


def read_chart(text: str) -> dict[Any, Any]:
    """The dictionary of Python in a text, in the longest fence or alone, without an assignment and comments; {} where none is."""
    fences = FENCED.findall(text)
    content = ASSIGNED.sub("", (max(fences, key=len) if fences else text).strip(), count=1)
    content = re.sub("#.*", "", content)
    content = content[: content.rfind("}") + 1] or content
    found = literal(content)
    return found if isinstance(found, dict) else {}


def read_pairs(text: str) -> dict[str, str]:
    """Names and values of a reply: JSON or a dictionary of Python, in a fence or alone, or else what looks like `name: value`."""
    fence = FENCED.search(text)
    content = fence[1] if fence else text.strip()
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = literal(content)
        if not isinstance(found, dict):
            found = {name.strip(): value.strip() for name, value in PAIR.findall(content)}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        return {}
    return {name.strip(): str(value).strip() for name, value in found.items()}


def pairs_score(reply: str, truth: Any) -> float:
    """`flat_f1` of a reply's pairs, where a name may have several accepted values. `truth`: a mapping, or its text (once or twice
    quoted). Raises ValueError for what is none."""
    true = truth
    for _ in range(2):
        true = true if isinstance(true, dict) else _loads(str(true).strip('"'))
    if not isinstance(true, dict):
        raise ValueError(f"no names with values: {str(truth)[:80]}")
    accepted = {name: [*map(str, value if isinstance(value, list) else [value])] for name, value in true.items()}
    return flat_f1(read_pairs(reply), accepted)


def document_score(reply: str, truth: str) -> float:
    """1 - edit distance / nodes of the trees of titles and lines (STEDS). As published, any two lines with words are alike: how
    many there are below which title is all that counts."""
    ours, theirs = _outline(reply), _outline(truth)
    apart = tree_distance(ours, theirs, lambda first, second: float(not (first.label.split() and second.label.split())))
    return 1 - apart / max(_size(ours), _size(theirs))


def _html_of_dict(content: Mapping[Any, Any]) -> str:
    # As published: a space stands between all letters of a value.
    rows = "".join(f"  <tr><td>{name}</td><td>{' '.join(str(value))}</td></tr>\n" for name, value in content.items())
    return f"<html><body><table>\n{rows}</table></body></html>"


def literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except Exception:  # any text is read: ValueError, SyntaxError, MemoryError, RecursionError, ...
        return None


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return literal(text)


def _outline(text: str) -> _Node:
    root = _Node("ROOT", [_Node("TITLE")])
    above = ""
    for line in text.split("\n"):
        for pattern, by in CLEANED:
            line = re.sub(pattern, by, line)
        if line.startswith("#"):
            above = line.replace("#", "")
            root.children.append(_Node(above))
        else:
            place = _first(root, above or "TITLE")
            assert place is not None
            place.children.append(_Node(line))
    return root


def _first(node: _Node, label: str) -> _Node | None:
    """The first node of that label, a node before what is in it."""
    if node.label == label:
        return node
    return next((found for child in node.children if (found := _first(child, label))), None)


def _size(node: _Node) -> int:
    return 1 + sum(map(_size, node.children))
