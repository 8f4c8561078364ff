"""Each rule of the paper's A.4 drops what it names, and a page at its border stays."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from qwenvl.config import ConfigError, validate
from qwenvl.data.documents.page import Line, Page
from qwenvl.data.documents.page_rules import HTML_RULES, PDF_RULES, PageRules

PLAIN = "Ordinary words, enough of them to be a page."


def page(text: str = PLAIN, size: tuple[int, int] = (600, 800), **notes: int) -> Page:
    quad = ((10.0, 10.0), (90.0, 10.0), (90.0, 20.0), (10.0, 20.0))
    named = {name.replace("_", " "): count for name, count in notes.items()}
    return Page(Image.new("L", size), (Line(text, quad, 10.0),), (), "book.pdf", 1, text, named)


CASES: list[tuple[str, Page, Page]] = [
    ("small_image", page(size=(223, 800)), page(size=(224, 224))),
    ("characters", page("x" * 29 + " "), page("x" * 30)),
    ("characters", page("x" * 6001), page("x" * 6000)),
    ("latin_extended", page(PLAIN + "\u0100"), page(PLAIN + "\u00ff")),
    ("latin_extended", page(PLAIN + "\u024f"), page(PLAIN + "\u0250")),
    ("private_use", page(PLAIN + "\ue000"), page(PLAIN + "\ud7a3")),
    ("private_use", page(PLAIN + "\uf8ff"), page(PLAIN + "\uf900")),
    ("private_use", page(PLAIN + "\U000f0000"), page(PLAIN + "\U0002fa1d")),
    ("other_script", page("п" * 11 + "x" * 89), page("п" * 10 + "x" * 90)),
    ("other_script", page("かな" * 20), page("这一页上写着足够多的中文字，所以它会留下来，一直到最后都是这样的。")),
    ("no_code", page(characters_without_a_code=1), page()),
]


@pytest.mark.parametrize(("rule", "dropped", "kept"), CASES)
def test_a_rule_drops_what_it_names_and_nothing_beside_it(rule: str, dropped: Page, kept: Page) -> None:
    assert list(PDF_RULES.judge(dropped)) == [rule]
    assert PDF_RULES.judge(kept) == {}


def test_text_outside_of_lines_is_told_by_its_share() -> None:
    note = "text ink outside of lines, per mille"
    few, many = page(), page()
    few.notes[note], many.notes[note] = 20, 21
    assert HTML_RULES.judge(few) == {} and HTML_RULES.judge(many) == {"no_line": 21}


def test_web_pages_may_have_latin_extended() -> None:
    """The paper's five steps for HTML are the six for PDF without it."""
    assert "latin_extended" in PDF_RULES.judge(page(PLAIN + "ž"))
    assert HTML_RULES.judge(page(PLAIN + "ž")) == {}


def test_all_rules_that_fail_are_named_in_order() -> None:
    failed = PDF_RULES.judge(page("ž\ue000", size=(100, 100)))
    assert failed == {"small_image": 100, "characters": 2, "latin_extended": "ž", "private_use": "\ue000"}


def test_what_a_page_says_counts_even_where_it_is_hidden() -> None:
    hidden = Page(page().image, page().lines, (), "book.pdf", 1, PLAIN + "\ue000")
    assert list(PDF_RULES.judge(hidden)) == ["private_use"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"characters": {"minimum": 9, "maximum": 3}}, "least"),
        ({"latin_extended": {"blocks": ["letters"]}}, "hexadecimal"),
        ({"emoji": {}}, "unknown key"),
        ({"other_script": {"scripts": ["English"]}}, "no script of Unicode"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        validate(settings, PageRules, "rules")


def test_a_rule_can_be_left_out() -> None:
    rules = validate({"characters": None}, PageRules, "rules")
    assert rules.judge(page("x")) == {}
