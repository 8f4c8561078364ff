"""Modules of the page by themselves, in the browser: words of places, markup while it is written, and texts of any kind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")

from playwright.sync_api import Page

from tests.page_browser import CHROMIUM, chromium, watched
from tests.page_server import Script, box, serve

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser, serve(Script()) as script, watched(browser, script.url) as seen:
        yield seen.page


def call(page: Page, module: str, name: str, *arguments: Any) -> Any:
    return page.evaluate(
        "async ([module, name, values]) => (await import(`/assets/${module}`))[name](...values)", [module, name, list(arguments)]
    )


def linked(page: Page, text: str, *labels: str | None) -> tuple[str, list[list[int]], list[int]]:
    found = call(page, "regions.js", "linkWords", text, [{**box("", 0, 0, 9, 9), "label": label} for label in labels])
    for mark, shown in (("\ue000", "{"), ("\ue001", ":"), ("\ue002", "}")):
        found["text"] = found["text"].replace(mark, shown)
    return found["text"], found["links"], found["loose"]


def test_labels_find_their_words(page: Page) -> None:
    assert linked(page, "a cat and a dog", "cat", "dog") == ("a {0:cat} and a {1:dog}", [[0], [1]], [])
    assert linked(page, "two cats", "two cats", "two cats") == ("{0:two cats}", [[0, 1]], [])
    assert linked(page, "cat, cat", "cat", "cat") == ("{0:cat}, {1:cat}", [[0], [1]], [])
    assert linked(page, "cat, dog, cat", "cat", "dog", "cat") == ("{0:cat}, {1:dog}, {2:cat}", [[0], [1], [2]], [])
    assert linked(page, "concatenate a cat", "cat") == ("concatenate a {0:cat}", [[0]], [])
    assert linked(page, "一只猫和一条狗", "猫", "狗") == ("一只{0:猫}和一条{1:狗}", [[0], [1]], [])
    assert linked(page, "A Cat", "a cat") == ("{0:A Cat}", [[0]], [])
    assert linked(page, "nothing", "cat", None) == ("nothing", [], [0, 1])
    assert linked(page, "cat, dog", "dog", "cat") == ("{1:cat}".replace("1", "0") + ", {1:dog}", [[1], [0]], [])
    assert linked(page, "cat", "cat", "dog", "cat") == ("{0:cat}", [[0, 2]], [1])
    assert linked(page, "a\ue0000\ue001 b\ue002", "b")[0] == "a0 {0:b}", "marks that a model writes are none"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("<ref>the donut</ref><box>(036,155),(384,432)</box> is", "the donut is"),
        ("<ref>the donut</ref><box>(036,1", "the donut"),
        ("<ref>the do", "the do"),
        ("a <re", "a "),
        ("a < b", "a < b"),
        ("<|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>!", "cat!"),
        ("cat<|box_start|>(1,2),", "cat"),
        ("x<|box", "x"),
        ("<quad>(1,2)(3,4)</quad><p>tags stay</p>", "<p>tags stay</p>"),
    ],
)
def test_markup_is_hidden_while_it_is_written(page: Page, said: str, shown: str) -> None:
    assert call(page, "regions.js", "whileWriting", said) == shown


def test_numbers_in_brackets_are_places_only_where_there_are_some(page: Page) -> None:
    assert call(page, "conversation.js", "splitText", "Is [1] in [2]? [3]", 2) == ["Is ", 0, " in ", 1, "? [3]"]
    assert call(page, "conversation.js", "splitText", "See [1]", 0) == ["See [1]"]


@pytest.mark.parametrize("turn", range(4))
def test_corners_go_clockwise_from_the_top_left(page: Page, turn: int) -> None:
    corners = [[10, 12], [90, 5], [95, 60], [8, 70]]
    given = corners[turn:] + corners[:turn]
    assert call(page, "regions.js", "clockwise", given) == corners
    assert call(page, "regions.js", "clockwise", given[::-1]) == corners


def test_data_urls_are_cut_short_in_the_json_view(page: Page) -> None:
    url = "data:image/png;base64," + "A" * 4000
    short = call(page, "conversation.js", "shorten", {"a": [url, "short"]})
    assert short == {"a": ["data:image/png;base64,… (3000 bytes)", "short"]}


PIECES = [
    "<ref>", "</ref>", "<box>(1,2),(3,4)</box>", "```", "```json", "|", "|---|", "**", "*", "`", "\n", "\n\n", "# ", "- ", "1. ",
    "[x](javascript:1)", "\ue0000\ue001", "\ue002", "<p data-bbox='1 2 3 4'>", "<html><body>", "</p>", "<td colspan=99999>",
    "<img src=x onerror=alert(1) alt='&lt;b&gt;'>", "<script>", "<svg onload=x>", "<a href='javascript:1'>",
    "<p onclick=x style='a'",
    "&#x41;", "&#99999999;", '{"a": [1', "]}", "[1, 2]", "cat", " ", "猫", "\u2028", "<!--", "-->", "'", '"', "<", ">",
]  # fmt: skip

SHOW = """
  const [{ render }, { documentView }, { linkWords, whileWriting }] =
    await Promise.all(["markdown", "document_view", "regions"].map((name) => import(`/assets/${name}.js`)));
  const region = { kind: "box", pixels: [0, 0, 9, 9], label: "cat", image: 0 };
  const show = (text, regions) => {
    const root = document.createElement("div");
    const { text: marked, links } = linkWords(whileWriting(text), regions);
    const link = (number, children) => {
      const span = document.createElement("span");
      span.append(...children, ...links[number].map(String));
      return span;
    };
    const page = documentView({ id: "a", content: text, regions }, regions.map(() => 0));
    root.append(...render(marked, link), ...(page ? [page] : []));
    return root;
  };
"""
"""A text as all that the page makes of it."""

ANY_TEXT = f"async (texts) => {{ {SHOW}" + """
  const tags = /^(a|img|script|iframe|svg|style|object|embed|form|input|button|link|meta|base)$/;
  const bad = [];
  let slowest = 0;
  for (const text of texts) {
    const began = performance.now();
    const root = show(text, [region]);
    slowest = Math.max(slowest, performance.now() - began);
    for (const node of root.querySelectorAll("*")) {
      if (tags.test(node.localName) || [...node.attributes].some((one) => /^(on|style|href|src)/.test(one.name))) bad.push(text);
    }
  }
  return [bad.slice(0, 3), slowest];
}"""

LONG_TEXT = f"async (text) => {{ {SHOW}" + """
  const began = performance.now();
  show(text, []);
  show(`<html>${text}`, []);
  return performance.now() - began;
}"""


def test_any_text_is_shown_and_makes_nothing_harmful(page: Page) -> None:
    chance = random.Random(7)
    texts = ["".join(chance.choices(PIECES, k=chance.randint(1, 30 if turn % 50 else 3000))) for turn in range(1500)]
    bad, slowest = page.evaluate(ANY_TEXT, [text if turn % 3 else f"<html>{text}" for turn, text in enumerate(texts)])
    assert not bad
    assert slowest < 5000, "ms, for a text of some ten thousand characters"


WORST = ("<", "<p ", "<box>", "*a", "**a", "`", "|", "| --- ", '<p a="', "[a](", "&", "<script>", "<!--", "- ", "(", '"', "{")


@pytest.mark.parametrize("piece", WORST)
def test_long_texts_take_no_long_time(page: Page, piece: str) -> None:
    """A pattern that goes back and forth would stop the page: what is worst for each of them, 100,000 characters of it."""
    assert page.evaluate(LONG_TEXT, piece * (100_000 // len(piece))) < 4000, "ms"
