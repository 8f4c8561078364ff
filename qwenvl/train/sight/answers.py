"""The part of a run's report that shows answers: the same questions at several steps, with true and predicted places drawn."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from qwenvl.data.html_page import marks
from qwenvl.data.outlines import thumbnail_url
from qwenvl.train.sight.evaluations import region_of
from qwenvl.train.sight.run_folder import RunFolder

COLUMNS = 4
"""Evaluations that are shown of each question: the first, the last, and some in between."""
SIDE = 288
SHOWN_TEXT = 400

ANSWER_STYLE = """
.answers { display: grid; gap: .9em } .answers h3 { font-weight: 600; margin: 0 }
.truth { margin: .1em 0 .7em; font-size: .87em; overflow-wrap: anywhere } .step { color: var(--c0); font-weight: 600 }
.truth small, figcaption small { font-size: 1em }
.strip { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(11em, 18.5em); gap: .8em; overflow-x: auto }
.strip figure { margin: 0; min-width: 0 } .strip svg { display: block; width: 100%; height: auto; border-radius: 4px }
.strip figcaption { font-size: .87em; overflow-wrap: anywhere; margin-top: .3em } .strip b { font-weight: 600 }
.strip polygon, .strip circle { fill: none; stroke-width: 2.5; vector-effect: non-scaling-stroke;
  filter: drop-shadow(0 0 1px #000c) }
.true { stroke: #3ddc84; stroke-dasharray: 6 4 } .answered { stroke: #ff4fd8 } .asked { stroke: #5cc8ff; stroke-dasharray: 1.5 4 }
.key i { display: inline-block; width: 1.6em; border-top: 3px solid; vertical-align: middle; margin: 0 .35em 0 1em }
.key .t { border-color: #1fb866; border-top-style: dashed } .key .a { border-color: #e83cc0 }
.key .q { border-color: #2c9fe0; border-top-style: dotted }
"""
_MARKUP = re.compile(r"((?:<[^<>\s]{1,40}>|\(\d+, ?\d+\)|, (?=\())+)")
_KEY = '<p class="key"><small>places:<i class="t"></i>true<i class="a"></i>answered<i class="q"></i>asked about</small></p>'


def answers_section(run: RunFolder) -> str:
    """The questions of the latest evaluation, each with its answers as they changed."""
    if not run.evaluations or not run.evaluations[-1].get("shown"):
        return ""
    records = _chosen(run.evaluations)
    cards = ""
    for number, shown in enumerate(run.evaluations[-1]["shown"]):
        answers = [(record["step"], _of(record, shown["name"])) for record in records]
        cards += _card(run.path, number, shown, [(step, answer) for step, answer in answers if answer])
    return f'<h2>Answers</h2>{_KEY}<div class="answers">{cards}</div>'


def _chosen(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first, the last, and some in between."""
    last = len(records) - 1
    places = sorted({round(last * number / (COLUMNS - 1)) for number in range(COLUMNS)})
    return [records[place] for place in places]


def _of(record: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    return next((shown for shown in record.get("shown", ()) if shown["name"] == name), None)


def _card(run: Path, number: int, shown: Mapping[str, Any], answers: list[tuple[int, dict[str, Any]]]) -> str:
    picture, size = _picture(run / shown["picture"])
    figures = ""
    for place, (step, answer) in enumerate(answers):
        # The picture stands in the page once; the others use it.
        own = f'<image id="picture{number}" width="{size[0]}" height="{size[1]}" href="{picture}"/>'
        image = "" if not picture else own if place == 0 else f'<use href="#picture{number}"/>'
        drawn = "".join(marks(map(region_of, answer[kind]), *size, kind) for kind in ("asked", "true", "answered"))
        svg = f'<svg viewBox="0 0 {size[0]} {size[1]}">{image}{drawn}</svg>'
        said = f'<span class="step">after step {step:,}</span><br>{_text(answer["answer"])}'
        figures += f"<figure>{svg}<figcaption>{said}</figcaption></figure>"
    head = f'<h3>{_text(shown["question"])}</h3><p class="truth"><b>true:</b> {_text(shown["truth"])}</p>'
    return f'<section class="card">{head}<div class="strip">{figures}</div></section>'


def _picture(path: Path) -> tuple[str, tuple[int, int]]:
    """A data URL, and the size that places are drawn at. A picture that is gone leaves an empty frame."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except OSError:
        return "", (SIDE, SIDE)
    picture.thumbnail((SIDE, SIDE))
    return thumbnail_url(picture, SIDE, quality=85), picture.size


def _text(text: str) -> str:
    """Escaped, and markup paler than words."""
    cut = text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}…"
    words = _MARKUP.split(cut)  # what is between brackets of the pattern stands at the odd places
    pieces = [f"<small>{html.escape(word)}</small>" if place % 2 else html.escape(word) for place, word in enumerate(words)]
    return "".join(pieces) or "<small>(nothing)</small>"
