"""Scores of texts, tables, fields and pages: what they punish, and that no reply is too strange for them."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenvl.data.sources import SourceError
from qwenvl.eval.scorers import cc_ocr, ocrbench_v2, omnidocbench, page_text
from qwenvl.eval.scorers.assignment import assign
from qwenvl.eval.scorers.editing import character_errors, distance_share, nearest_window, word_errors
from qwenvl.eval.scorers.key_values import field_counts, field_f1, tree_accuracy
from qwenvl.eval.scorers.page_match import match_lines
from qwenvl.eval.scorers.spotting import read_words, spotting_f1
from qwenvl.eval.scorers.teds import html_teds, teds
from qwenvl.eval.scorers.text import edit_distance
from qwenvl.eval.task import EvaluationError, summarise
from qwenvl.eval.tasks.documents import BENCHMARKS as DOCUMENTS
from qwenvl.eval.tasks.reading import BENCHMARKS as READING
from tests.fast.eval_fixtures.documents import build_omnidocbench
from tests.fast.eval_fixtures.reading import build_cc_ocr, build_ocrbench, build_ocrbench_v2


def by_table(first: str, second: str) -> int:
    """Levenshtein's distance, cell by cell."""
    above = list(range(len(second) + 1))
    for row, letter in enumerate(first, start=1):
        line = [row]
        for column, other in enumerate(second, start=1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (letter != other)))
        above = line
    return above[-1]


@settings(max_examples=300, deadline=None)
@given(st.text("abc中", max_size=40), st.text("abc中", max_size=40))
def test_bits_equal_the_table_of_distances(first: str, second: str) -> None:
    assert edit_distance(first, second) == by_table(first, second) == edit_distance(list(first), tuple(second))


def test_error_rates_are_summed_over_replies() -> None:
    tallies = [character_errors("kitten", "sitting"), character_errors("", "ab"), character_errors("long reply", "x")]
    assert tallies == [(3, 7), (2, 2), (10, 1)] and summarise(tallies).value == 1.5, "more than everything may be wrong"
    assert word_errors("the big cat", "the cat sat") == (2, 3)
    assert (distance_share("", ""), distance_share("ab", ""), distance_share("ab", "abcd")) == (0.0, 1.0, 0.5)


def test_a_text_is_found_in_a_longer_one() -> None:
    assert nearest_window("xx the tide xx", "the tide", 5) == 0 and nearest_window("xx th3 tade xx", "the tide", 5) == 2
    assert nearest_window("zzzzzzzzzz", "the tide", 3) == 3, "not nearer than what is enough"
    assert nearest_window("short", "longer", 3) is None and nearest_window("a", "", 1) is None


def test_pairs_are_the_cheapest_of_all() -> None:
    from itertools import permutations

    rng = random.Random(0)
    for _ in range(200):
        costs = [[rng.randrange(5) for _ in range(rng.randrange(1, 5))] for _ in range(1)]
        costs = [[rng.randrange(5) for _ in costs[0]] for _ in range(rng.randrange(1, 5))]
        few, many = sorted((len(costs), len(costs[0])))
        pairs = assign(costs)
        assert len(pairs) == few == len({row for row, _ in pairs}) == len({column for _, column in pairs})
        flat = costs if len(costs) == few else [list(column) for column in zip(*costs, strict=True)]
        best = min(sum(flat[row][column] for row, column in enumerate(order)) for order in permutations(range(many), few))
        assert sum(costs[row][column] for row, column in pairs) == best
    assert assign([]) == assign([[]]) == []


TABLE = "<html><body><table><tr><td>a</td><td>bb</td></tr><tr><td colspan=2>c</td></tr></table></body></html>"


def test_teds_counts_cells_spans_and_letters() -> None:
    assert teds(TABLE, TABLE) == 1.0
    assert teds(TABLE.replace("bb", "bx"), TABLE) == pytest.approx(1 - 0.5 / 5)
    assert teds(TABLE.replace("bb", "xx"), TABLE, structure_only=True) == 1.0
    assert teds(TABLE.replace(" colspan=2", ""), TABLE) == pytest.approx(1 - 1 / 5)
    assert teds(TABLE.replace("<tr><td colspan=2>c</td></tr>", ""), TABLE) == pytest.approx(1 - 2 / 5)
    for nothing in ("", "no table", "<table><tr><td>a</td></tr></table>", TABLE.replace("colspan=2", "colspan=two")):
        assert teds(nothing, TABLE) == 0.0
    assert teds(TABLE.replace("</td>", "").replace("</tr>", ""), TABLE) == 1.0, "closing tags may be missing"


def test_documents_in_html_are_compared_whole() -> None:
    page = "<html><body><h1>On tides</h1><p>They come <b>in</b>.</p><div>%s</div></body></html>"
    true = page % TABLE[12:-14]
    assert html_teds(true, true) == 1.0 and html_teds("", "") == 1.0 and html_teds("zzz", true) == html_teds(true, "zzz") == 0.0
    assert 0.9 < html_teds(true.replace("tides", "tide"), true) < 1.0
    assert html_teds(true.replace("h1", "h2"), true) == pytest.approx(1 - 1 / 11)
    assert html_teds(true.replace("<b>in</b>", "in"), true) < html_teds(true.replace("tides", "tide"), true)


def test_no_reply_is_too_strange() -> None:
    deep = "<html><body>" + "<table><tr><td>" * 3000
    nested = "[" * 5000 + "{" * 5000
    for reply in (deep, nested, "\x00", "<" * 3000, "```json", "|" * 2000, "$" * 999, "\\begin{tabular}" * 300):
        assert 0 <= teds(reply, TABLE) <= 1 and 0 <= html_teds(reply, TABLE) <= 1
        assert read_words(reply) == []
        for kind, answer in (
            ("key information extraction en", '{"a": "b"}'), ("chart parsing en", {"a": 1}), ("table parsing cn", "x"),
            ("text counting en", "3"), ("document parsing en", "# x"), ("VQA with position en", "x"),
        ):  # fmt: skip
            truth = {"type": kind, "question": "x", "answers": [answer], "eval": "regression", "bbox": [1, 2, 3, 4]}
            assert ocrbench_v2.question_score(reply, truth) is not None
        for track, op in (("kie", ""), ("doc_parsing", "table"), ("doc_parsing", "doc"), ("multi_lan_ocr", "")):
            truth = {"track": track, "subset": "x", "op": op, "label": {"a": "b"} if track == "kie" else "x"}
            assert cc_ocr.reply_measures(reply, truth)["score"][0] >= 0
        assert omnidocbench.page_scores(reply, {"text": [["title", 1, "Tides"]], "formula": [], "table": []})["text"] <= 1


def test_fields_count_with_their_names_and_as_often_as_they_stand() -> None:
    true = {"menu": [{"name": "tea", "price": "2"}, {"name": "tea", "price": "3"}], "total": "5"}
    assert field_counts(true, true) == (5, 0) and tree_accuracy(true, true) == 1.0
    assert field_counts({"menu": [{"name": "tea"}], "sum": "5"}, true) == (1, 5), "one right, one said, four missed"
    assert field_f1(1, 5) == pytest.approx(2 / 7, abs=1e-5) and field_f1(0, 0) == 0.0
    assert 0 < tree_accuracy({"menu": [{"name": "tea", "price": "2"}], "total": "5"}, true) < 1


def test_words_are_found_where_they_stand() -> None:
    true = [((10, 10, 110, 50), "STOP!"), ((200, 10, 300, 50), "###"), ((10, 500, 90, 560), "go")]
    said = read_words('[(12, 10, 112, 50, "stop"), (205, 15, 290, 45, "smudge"), (10, 500, 90, 560, "went"), (0, 0, 1, 2000, "x")]')
    assert len(said) == 3, "one leaves the picture"
    assert spotting_f1(said, true) == 0.5, "one of two; what lies in an unreadable word does not count"
    assert spotting_f1([], true) == 0.0 == spotting_f1(said, [])


def test_a_line_may_be_cut_or_joined() -> None:
    true = ["The tide comes in slowly and with it all of the boats", "Nobody had seen such a light", "The end"]
    assert match_lines(true, [true[0][:25], true[0][25:], true[1], true[2]]) == [([0], [0, 1]), ([1], [2]), ([2], [3])]
    assert match_lines(true, [true[2], true[1] + true[0]]) == [([0, 1], [1]), ([2], [0])]
    assert match_lines([], ["a"]) == [([], [0])] and match_lines(["a"], []) == [([0], [])]


def test_order_is_scored_apart_from_the_words() -> None:
    lines = [["text_block", number, text] for number, text in enumerate(("first part", "other words", "last"), start=1)]
    scores = omnidocbench.page_scores("last\n\nfirst part\n\nother words", {"text": lines, "formula": [], "table": []})
    assert scores == {"text": 0.0, "order": pytest.approx(2 / 3)}


@pytest.mark.parametrize("package", ["nltk", "jieba", "pylatexenc"])
def test_a_missing_package_is_said_in_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (package, "nltk.translate.meteor_score", "pylatexenc.latex2text"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EvaluationError, match=rf"{package}.*qwenvl\[eval\]"):
        if package == "pylatexenc":
            omnidocbench.plain_text("so $x_1$ it is")
        else:
            page_text.page_likeness("茶" if package == "jieba" else "tea", "a cup of tea")


def test_a_kind_without_a_rule_is_named() -> None:
    with pytest.raises(EvaluationError, match="no questions of the kind 'x'; known: text recognition en"):
        ocrbench_v2.question_score("", {"type": "x", "question": "", "answers": []})
    with pytest.raises(EvaluationError, match=r"table parsing en, 'Draw it.': its answers do not fit the kind"):
        ocrbench_v2.question_score("", {"type": "table parsing en", "question": "Draw it.", "answers": ["x"]})
    unasked = {"type": "text translation cn", "question": "翻译", "answers": [""]}
    assert ocrbench_v2.question_score("tea", unasked) is None and ocrbench_v2.question_score("", unasked) == 0.0


def test_files_that_are_not_as_distributed_are_named(tmp_path: Path) -> None:
    for name, build, file, change in (
        ("ocrbench", build_ocrbench, "OCRBench.json", {"answers": "question_answers"}),
        ("ocrbench_v2", build_ocrbench_v2, "OCRBench_v2.json", {"question": "asked"}),
        ("cc_ocr", build_cc_ocr, "kie/open_category/COLD_CELL/qa.jsonl", {"prompt": "asked"}),
        ("omnidocbench", build_omnidocbench, "OmniDocBench.json", {"layout_dets": "layout"}),
    ):
        build(tmp_path)
        benchmark = (READING | DOCUMENTS)[name]
        assert all(list(tmp_path.glob(pattern)) for split in benchmark.splits.values() for pattern in split.files)
        text = (tmp_path / file).read_text(encoding="utf-8")
        for old, new in change.items():
            text = text.replace(json.dumps(old), json.dumps(new))
        (tmp_path / file).write_text(text, encoding="utf-8")
        with pytest.raises(SourceError, match=next(iter(change))):
            list(benchmark.read(tmp_path, next(iter(benchmark.splits))))
