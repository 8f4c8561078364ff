"""CC-OCR: words of a reading, texts and tables of a page, fields of a document; and how subsets become tracks and a total.

Benchmarks/CC-OCR/evaluation/evaluator of AlibabaResearch/AdvancedLiterateMachinery @ fb6187e (ocr_evaluator.py,
doc_parsing_evaluator.py, kie_evaluator.py, common.py).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from qwenvl.eval.scorers.editing import distance_share
from qwenvl.eval.scorers.key_values import FULL_WIDTH, field_counts, field_f1, read_json, tidy, tree_accuracy, with_values
from qwenvl.eval.scorers.teds import teds

BY_LETTER = frozenset({"Arabic", "Japanese", "Korean"})
"""Subsets that are compared letter by letter, as those whose name has "zh" in it are."""
EPSILON = 1e-9
DOCUMENT_ENDS = re.compile(
    r"\\documentclass\{.*?\}|\\usepackage\[.*?\]\{.*?\}|\\usepackage\{.*?\}|\\geometry\{.*?\}|\\begin\{document\}"
    r"|\\end\{document\}|\\noindent"
)
HALF_WIDTH = {code: by for code, by in FULL_WIDTH.items() if code != 0x3000}
TRACKS = ("multi_scene_ocr", "multi_lan_ocr", "doc_parsing", "kie")


def words_f1(reply: str, truth: str, track: str, subset: str) -> float:
    """F1 of the words (letters, in some scripts) of a reading, each as often as it stands there; in any order, in small letters.

    Of scenes in Latin letters, only letters and digits count.
    """
    letters = subset in BY_LETTER or "zh" in subset
    bare = track == "multi_scene_ocr" and not letters
    said, true = (_words(text, letters, bare) for text in (reply, truth))
    right = sum((Counter(said) & Counter(true)).values())
    recall, precision = right / (len(true) + EPSILON), right / (len(said) + EPSILON)
    return 2 * recall * precision / (recall + precision + EPSILON)


def document_likeness(reply: str, truth: str) -> float:
    """1 - share of edits between a page's LaTeX and the reply's, in a fence or without its head, both without spaces."""
    said = _fenced(DOCUMENT_ENDS.sub("", reply), "latex")
    return 1 - distance_share(_close(said), _close(truth))


def table_likeness(reply: str, truth: str) -> float:
    """TEDS of the first table in HTML, without spaces in its cells and with full-width signs as usual ones."""
    said, true = (f"<html><body>{_tables(text).translate(HALF_WIDTH)}</body></html>" for text in (_fenced(reply, "html"), truth))
    return teds(said, true)


def formula_likeness(reply: str, truth: str) -> float:
    for word in ("```latex", "```", "\t"):
        reply = reply.replace(word, "")
    return 1 - distance_share(_close(reply), truth.replace(" ", ""))


def molecule_likeness(reply: str, truth: str) -> float:
    """SMILES, with or without their tags."""
    said = _close(reply).replace("<smiles>", "").replace("</smiles>", "")
    return 1 - distance_share(said, truth.replace(" ", ""))


PAGES = {"doc": document_likeness, "table": table_likeness, "formula": formula_likeness, "molecular": molecule_likeness}


def reply_measures(reply: str, truth: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """What one reply earns. truth: track, subset, op and label, as the data's folders have them.

    `score` is a number of [0, 1] and 1; `fields` of key-value pairs are counts: (right, right + wrong / 2).
    """
    kept = {name: truth[name] for name in ("track", "subset", "op", "label")}
    return dict(_measured(reply, json.dumps(kept, ensure_ascii=False)))


@lru_cache(maxsize=1 << 14)
def _measured(reply: str, kept: str) -> dict[str, tuple[float, float]]:
    """Kept: what a reply earns is asked for by question, by track and by group, and a table takes a while."""
    truth = json.loads(kept)
    if truth["track"] == "kie":
        said, true = (with_values(value, tidy) for value in (_object(read_json(reply)), truth["label"]))
        right, wrong = field_counts(said, true)
        return {"fields": (right, right + wrong / 2), "score": (tree_accuracy(said, true), 1)}
    label = str(truth["label"])
    if truth["track"] == "doc_parsing":
        return {"score": (PAGES[truth["op"]](reply, label), 1)}
    return {"score": (words_f1(reply.strip(), label.strip(), truth["track"], truth["subset"]), 1)}


Unit = tuple[str, str, float, float, float]
"""Track, subset, score, and of fields the right and the right + wrong / 2."""


def track_scores(units: Sequence[Unit], by_tree: bool = False) -> dict[str, float]:
    """The mean of each track's subsets, as the published summary has it: F1 of readings by picture, likeness of pages, F1 of all
    fields of a subset together. `by_tree`: nTED accuracy in the place of the fields' F1, as in VLMEvalKit's CCOCR."""
    subsets: dict[tuple[str, str], list[Unit]] = {}
    for unit in units:
        subsets.setdefault(unit[:2], []).append(unit)
    tracks: dict[str, list[float]] = {}
    for (track, _), found in subsets.items():
        value = sum(unit[2] for unit in found) / len(found)
        if track == "kie" and not by_tree:
            right, whole = sum(unit[3] for unit in found), sum(unit[4] for unit in found)
            value = field_f1(right, 2 * (whole - right))
        tracks.setdefault(track, []).append(value)
    return {track: sum(values) / len(values) for track, values in tracks.items()}


def total(units: Sequence[Unit], by_tree: bool = False) -> float:
    """The mean of the tracks."""
    scores = track_scores(units, by_tree)
    return sum(scores.values()) / len(scores)


def _words(text: str, letters: bool, bare: bool) -> list[str]:
    for word, by in (("\t", " "), ("\n", " "), ("###", ""), ("***", "")):
        text = text.replace(word, by)
    text = re.sub(r"\s+", " ", text)
    pieces = list(text.replace(" ", "")) if letters else text.split(" ")
    lowered = (re.sub("[^A-Za-z0-9]+", "", piece.lower()) if bare else piece.lower() for piece in pieces)
    return [piece for piece in lowered if piece]


def _fenced(text: str, language: str) -> str:
    """What stands in the first fence of that language, to the end of the text if it is not closed; else the whole text."""
    found = re.search(f"```{language}(.+?)```", text, re.DOTALL)
    if found:
        return found[1]
    return text.split(f"```{language}")[1] if f"```{language}" in text else text


def _tables(text: str) -> str:
    """The tables of a text one after the other, without what their own tag says and without white space that is seen."""
    text = text if "</table>" in text else text + "</table>"
    cleaned = []
    for table in re.findall("<table.*?>.*?</table>", text, re.DOTALL):
        table = re.sub(r">\s+<", "><", re.sub("<table.*?>", "<table>", table))
        cleaned.append(re.sub(">(.*?)<", lambda found: f">{_close(found[1])}<", table, flags=re.DOTALL).replace("\n", "").strip())
    return "".join(cleaned)


def _object(value: Any) -> Any:
    return {} if value is None else value


def _close(text: str) -> str:
    return text.replace(" ", "").replace("\n", "")
