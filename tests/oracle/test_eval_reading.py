"""Scorers of tables, fields, pages and short readings equal those that the benchmarks were published with, on the same cases.

The peers ran outside this repository; what they gave lies in data/, each file with repository and commit. Where a peer raises
(null), ours says 0: a span that is no number is no table.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qwenvl.eval.scorers import cc_ocr, ocrbench_v2, omnidocbench, page_text
from qwenvl.eval.scorers.key_values import field_f1
from qwenvl.eval.scorers.ocrbench import is_read
from qwenvl.eval.scorers.teds import html_teds, teds
from tests.oracle import ocrbench_cases, page_cases, reading_cases

DATA = Path(__file__).parent / "data"
NEAR = 1e-8
"""The peers add 1e-9 to denominators here and there, and are rounded to nine digits."""


def peer(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"eval_{name}.json").read_text(encoding="utf-8"))
    assert found["count"] >= 1000
    return found


def test_teds_equals_pubtabnet() -> None:
    known = peer("teds")
    for number, (reply, truth) in enumerate(reading_cases.tables(known["seed"], known["count"])):
        for structure_only, key in ((False, "teds"), (True, "structure")):
            assert teds(reply, truth, structure_only) == pytest.approx(known[key][number] or 0.0, abs=NEAR), (number, reply)
    assert len(set(known["teds"])) > 300, "the cases differ"


def test_html_teds_equals_zss_over_lxml() -> None:
    known = peer("html_teds")
    for number, (reply, truth) in enumerate(reading_cases.html_pages(known["seed"], known["count"])):
        assert html_teds(reply, truth) == pytest.approx(known["scores"][number], abs=NEAR), (number, reply)


def test_ocrbench_equals_its_script() -> None:
    known = peer("ocrbench")
    cases = ocrbench_cases.ocrbench(known["seed"], known["count"])
    assert [int(is_read(*case)) for case in cases] == known["read"]
    assert 200 < sum(known["read"]) < known["count"] - 200


def test_ocrbench_v2_equals_its_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nltk")
    pytest.importorskip("jieba")
    known, real = peer("ocrbench_v2"), page_text.meteor

    class WordNet:
        """The synonyms of the words that METEOR asked for, as the peer had them of the real one."""

        def synsets(self, word: str) -> list[Any]:
            names = known["synonyms"].get(word, [])
            return [SimpleNamespace(lemmas=lambda: [SimpleNamespace(name=lambda name=name: name) for name in names])]

    monkeypatch.setattr(page_text, "meteor", lambda said, meant, wordnet=None: real(said, meant, WordNet()))
    kinds: Counter[str] = Counter()
    for number, (reply, truth) in enumerate(ocrbench_cases.ocrbench_v2(known["seed"], known["count"])):
        score, expected = ocrbench_v2.question_score(reply, truth), known["scores"][number]
        assert score == (None if expected is None else pytest.approx(expected, abs=NEAR)), (number, truth["type"], reply)
        kinds[truth["type"]] += bool(expected)
    assert all(kinds[kind] for kind in {*ocrbench_cases.KINDS, "table parsing en"}), "of every kind some reply earns something"


def test_cc_ocr_equals_its_scripts() -> None:
    known = peer("cc_ocr")
    for number, (reply, truth) in enumerate(reading_cases.cc_ocr(known["seed"], known["count"])):
        measures, expected = cc_ocr.reply_measures(reply, truth), known["scores"][number]
        if truth["track"] == "kie":
            right, whole = measures["fields"]
            found = [measures["score"][0], field_f1(right, 2 * (whole - right))]
            assert found == pytest.approx(expected, abs=NEAR), (number, reply)
        else:
            assert measures["score"][0] == pytest.approx(expected or 0.0, abs=NEAR), (number, reply)


def test_pages_equal_omnidocbench() -> None:
    pytest.importorskip("pylatexenc")
    known, compared = peer("omnidocbench"), 0
    for number, (reply, page) in enumerate(page_cases.pages(known["seed"], known["count"])):
        expected = known["pages"][number]
        if expected is None:
            continue  # the peer fails on a page of texts without a letter
        compared += 1
        scores = omnidocbench.page_scores(reply, omnidocbench.annotated(page))
        wanted = {key: value for key, value in zip(known["measures"], expected, strict=True) if value is not None}
        assert scores == pytest.approx(wanted, abs=NEAR), (number, reply, page)
    assert compared >= 1000
