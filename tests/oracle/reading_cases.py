"""Cases for the scorers of reading, drawn from seeds: what a peer outside this repository scored is compared with ours on the same.

The peers' answers lie in tests/oracle/data, with the repository and commit of each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

ENGLISH = [
    "the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "Car", "automobile", "big", "large", "running", "runs",
    "ran", "quickly,", "table", "12", "3.5%", "x-ray", "(A)", ":",
]  # fmt: skip
CHINESE = ["今天", "天气", "很", "好", "我们", "去", "公园", "散步", "中华", "人民", "图片", "中", "的", "文字", "，", "（一）"]
CELLS = [*ENGLISH[:8], *CHINESE[:4], "x<sup>2</sup>", "<b>bold</b>", "&amp;", "&lt;5", "５％"]
SOUP = ("</td>", "<td>", "<tr>", "</tr>", "<b>", "</b>", "<p>", "<br>", "</table>", "text", "<td colspan=2>", "<th>", "<span>")
TAG = re.compile("</?[a-z]+[^>]*>")


def some(rng: Random, words: list[str], most: int, joint: str = " ") -> str:
    return joint.join(rng.choice(words) for _ in range(rng.randrange(most + 1)))


def near(rng: Random, text: str) -> str:
    """The same, or with some letters changed, cut, or other words around it."""
    kind = rng.random()
    if kind < 0.3:
        return text
    if kind < 0.5:
        return "".join(letter if rng.random() < 0.85 else rng.choice("xyz 。") for letter in text)
    if kind < 0.65:
        return text[: rng.randrange(len(text) + 1)]
    if kind < 0.85:
        said = text.upper() if rng.random() < 0.3 else text
        return rng.choice(("It says: ", "Answer:\n", "")) + said + rng.choice((".", " ", "!"))
    return some(rng, ENGLISH + CHINESE, 8)


def table(rng: Random) -> str:
    rows = []
    for number in range(rng.randrange(1, 5)):
        cells = ""
        for _ in range(rng.randrange(1, 5)):
            tag = "th" if number == 0 and rng.random() < 0.2 else "td"
            spans = "".join(f' {name}="{rng.randrange(1, 4)}"' for name in ("colspan", "rowspan") if rng.random() < 0.12)
            cells += f"<{tag}{spans}>{some(rng, CELLS, 3)}</{tag}>"
        rows.append(f"<tr>{cells}</tr>")
    if rng.random() < 0.3:
        rows[0] = f"<thead>{rows[0]}</thead><tbody>"
    return f"<table{rng.choice(('', ' border=1'))}>{''.join(rows)}</table>"


def soup(rng: Random, text: str, changes: int) -> str:
    """HTML with tags taken out, put in, or the end cut off."""
    for _ in range(changes):
        tags, place, kind = list(TAG.finditer(text)), rng.randrange(len(text) + 1), rng.random()
        if kind < 0.25:
            text = text[:place]
        elif kind < 0.65 and tags:
            tag = rng.choice(tags)
            text = text[: tag.start()] + text[tag.end() :]
        elif tags:
            tag = rng.choice(tags)
            text = text[: tag.end()] + rng.choice(SOUP) + text[tag.end() :]
    return text


def tables(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """(reply, truth), pages of HTML: a third equal in their tags, a third of soup, a third two different tables."""
    rng = Random(seed)
    for number in range(count):
        truth = table(rng)
        reply = (re.sub("fox|的", "cat", truth), soup(rng, truth, rng.randrange(1, 4)), table(rng))[number % 3]
        yield f"<html><body>{reply}</body></html>", f"<html><body>{truth}</body></html>"


def html_page(rng: Random) -> str:
    """Headings, paragraphs with styles, lists and tables."""
    parts = []
    for _ in range(rng.randrange(1, 6)):
        words = some(rng, CELLS, 5)
        listed = "".join(f"<li>{some(rng, CELLS, 2)}</li>" for _ in range(rng.randrange(3)))
        layout = (f"<h1>{words}</h1>", f"<p>{words}</p>", f"<p>{words} <i>in it</i> after</p>", f"<ul>{listed}</ul>")
        parts.append(rng.choice((*layout, f"<div class='x'>{table(rng)}</div>", table(rng))))
    return "\n".join(parts)


def html_pages(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """(reply, truth), half of the replies with tags taken out, moved or cut off."""
    rng = Random(seed)
    for number in range(count):
        truth = html_page(rng)
        reply = soup(rng, truth, rng.randrange(1, 4)) if number % 2 else rng.choice((truth.replace("fox", "cat"), html_page(rng)))
        yield f"<html><body>{reply}</body></html>", f"<html><body>{truth}</body></html>"


def value(rng: Random, depth: int) -> Any:
    kind = rng.random()
    if depth and kind < 0.25:
        return {rng.choice(("name", "n", "price", "日期")): value(rng, depth - 1) for _ in range(rng.randrange(3))}
    if depth and kind < 0.4:
        return [value(rng, 0) for _ in range(rng.randrange(3))]
    if depth and kind < 0.55:
        return [{rng.choice(("a", "b")): value(rng, depth - 1)} for _ in range(rng.randrange(3))]
    return rng.choice(("", " a", "ab c", "１２ 元", "北京 市", "3kg", "x,y", "、z", 5, 2.5))


def document(rng: Random) -> dict[str, Any]:
    return {rng.choice(("name", "n", "price", "日期", "total")): value(rng, 2) for _ in range(rng.randrange(1, 5))} | {"id": "a 1"}


LATEX = ["\\frac{1}{2}", "x", "=", "C1=CC", "\\alpha", "\\text{中文}", "y_{2}", "-"]
READINGS = (("multi_scene_ocr", "IC15"), ("multi_scene_ocr", "zh_scene"), ("multi_lan_ocr", "Arabic"), ("multi_lan_ocr", "French"))


def cc_ocr(seed: int, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(reply, truth) of all tracks of CC-OCR."""
    rng = Random(seed)
    for number in range(count):
        kind = ("reading", "doc", "table", "formula", "molecular", "kie")[number % 6]
        if kind == "reading":
            track, subset = rng.choice(READINGS)
            words = ENGLISH if subset in ("IC15", "French") else CHINESE + ENGLISH
            label = some(rng, words, 12, rng.choice((" ", "\n", "\t"))) or "x"
            yield near(rng, label), {"track": track, "subset": subset, "op": "", "label": label}
        elif kind == "kie":
            truth = document(rng)
            reply = json.dumps(truth if rng.random() < 0.3 else truth | document(rng), ensure_ascii=False, indent=1)
            reply = rng.choice((reply, f"Here:\n```json\n{reply}\n```", reply[:-3], json.dumps({})))
            yield reply, {"track": "kie", "subset": "POIE", "op": "", "label": truth}
        else:
            label = table(rng) if kind == "table" else some(rng, LATEX, 10) or "x"
            reply = soup(rng, label, rng.randrange(3)) if kind == "table" else near(rng, label)
            if rng.random() < 0.4:
                fence = {"doc": "latex", "formula": "latex", "table": "html", "molecular": "text"}[kind]
                head = "\\documentclass{article}\n\\begin{document}" if kind == "doc" else ""
                reply = f"Sure.\n```{fence}\n{head}{reply}\n{rng.choice(('```', ''))}"
            yield reply, {"track": "doc_parsing", "subset": kind, "op": kind, "label": label}
