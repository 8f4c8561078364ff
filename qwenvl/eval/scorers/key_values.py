"""Scores of key-value pairs read from a document: which fields are right, and how far a nested answer is from the true one.

Fields and their F1 as Donut (arXiv 2111.15664, section 3.1) and CC-OCR count them: evaluation/evaluator/kie_evaluator.py,
Benchmarks/CC-OCR of AlibabaResearch/AdvancedLiterateMachinery @ fb6187e.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qwenvl.eval.scorers.text import edit_distance
from qwenvl.eval.scorers.trees import tree_distance

FENCED = re.compile("```json(.*?)```", re.DOTALL)
FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
"""Full-width letters, digits and signs, and the wide space -> the usual ones."""
SPACES = (
    (r"(?<=[\u4e00-\u9fff])\s+(?=[\u4e00-\u9fffa-zA-Z0-9])", ""),
    (r"(?<=[a-zA-Z0-9])\s+(?=[\u4e00-\u9fff])", ""),
    (r"(?<![0-9])\s*([,.!?:;])\s*", r"\1 "),
    (r"(?<=[0-9])(?=[a-zA-Z])|(?<=[a-zA-Z])(?=[0-9])", " "),
    (r"\s+", " "),
)


@dataclass(slots=True)
class _Node:
    label: str
    leaf: bool = False
    children: list[_Node] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """What it costs to write or delete it: a value its letters, a name one."""
        return len(self.label) if self.leaf else 1


def read_json(reply: str) -> Any:
    """What a reply says in JSON, in a fence or alone; None where it says none. Line breaks do not count."""
    found = FENCED.search(reply) if "```json" in reply else None
    if "```json" in reply and found is None:
        return None
    try:
        return json.loads((found[1] if found else reply).strip().replace("\n", ""))
    except (ValueError, RecursionError):
        return None


def field_counts(said: Any, true: Any) -> tuple[int, int]:
    """(fields that are right, fields that are said and not true or true and not said); a field is a path of names and a value."""
    ours, theirs = Counter(fields(normalised(said))), Counter(fields(normalised(true)))
    right = (ours & theirs).total()
    return right, ours.total() + theirs.total() - 2 * right


def field_f1(right: float, wrong: float) -> float:
    """F1 of the counts of one document or of many together (micro-averaged). No field at all is no right one: 0."""
    return right / (right + wrong / 2 + 1e-6)


def fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """("menu.name", "cake") of {"menu": [{"name": ["cake"]}]}."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from fields(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner, path)
    else:
        yield path, value


def normalised(value: Any) -> Any:
    """Names by length and alphabet, every value a list of texts without white space around them, and nothing that is empty.

    Of a list that is not all objects, only texts and numbers stay.
    """
    if isinstance(value, dict):
        kept = {name: normalised(value[name]) for name in sorted(value, key=lambda name: (len(name), name))}
        return {name: inner if isinstance(inner, list) else [inner] for name, inner in kept.items() if inner}
    if isinstance(value, list):
        if all(isinstance(item, dict) for item in value):
            return [item for item in map(normalised, value) if item]
        plain = [str(item).strip() for item in value if type(item) in (str, int, float)]
        return [text for text in plain if text]
    return [str(value).strip()]


def tree_accuracy(said: Any, true: Any) -> float:
    """1 - edit distance of the trees of both / that of the true one from nothing, not below 0 (nTED of Donut).

    Values cost their letters, names one. 0.0 where nothing is true, as published.
    """
    ours, theirs, nothing = _tree(normalised(said)), _tree(normalised(true)), _tree({})
    whole = tree_distance(nothing, theirs, _change, _weight, _weight)
    return max(0.0, 1.0 - tree_distance(ours, theirs, _change, _weight, _weight) / whole) if whole else 0.0


def with_values(value: Any, change: Callable[[str], str]) -> Any:
    """The same with every text changed that stands under a name. As published: texts that stand in a list stay as they are."""
    if isinstance(value, dict):
        return {name: with_values(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_values(inner, change) if isinstance(inner, dict) else inner for inner in value]
    return change(value) if isinstance(value, str) else value


def tidy(text: str) -> str:
    """Full-width signs as usual ones, 、 as a comma, and one space where one belongs: CC-OCR's form of a value."""
    text = text.translate(FULL_WIDTH).replace("、", ",")
    for pattern, by in SPACES:
        text = re.sub(pattern, by, text)
    return text


def flat_f1(said: Mapping[str, str], true: Mapping[str, list[str]]) -> float:
    """Of all names of both, the share whose value is one of the accepted ones, without case and spaces: OCRBench v2's F1 of keys
    (compute_f1_score of eval_scripts/TEDS_metric.py, OCRBench_v2 of Yuliang-Liu/MultimodalOCR @ 794c36d). 0.0 without any name."""
    names = said.keys() | true.keys()
    right = sum(1 for name in said.keys() & true.keys() if _plain(said[name]) in map(_plain, true[name]))
    return right / len(names) if names else 0.0


def _plain(value: str) -> str:
    return value.lower().strip().replace("\n", " ").replace(" ", "")


def _tree(value: Any, name: str = "<root>") -> _Node:
    node = _Node(name)
    if isinstance(value, dict):
        node.children = [_tree(inner, key) for key, inner in value.items()]
    elif all(isinstance(item, dict) for item in value):
        node.children = [_tree(item, "<subtree>") for item in value]
    else:
        node.children = [_Node(str(item), leaf=True) for item in value]
    return node


def _weight(node: _Node) -> float:
    return float(node.weight)


def _change(first: _Node, second: _Node) -> float:
    if first.leaf and second.leaf:
        return float(edit_distance(first.label, second.label))
    if first.leaf or second.leaf:
        return 1.0 + (first if first.leaf else second).weight
    return float(first.label != second.label)
