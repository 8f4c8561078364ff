"""A run as one page that stands alone: the goal, how it ended, and each step with its screen, its thought and what came of it."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwenvl.agent.environment import Ended
from qwenvl.agent.keywords import FUNCTION, RETURN
from qwenvl.data.html_page import html_page
from qwenvl.processing.tools import strip_calls

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 1400
"""Longest side of a picture in the page, in pixels."""

STYLE = """
h1 { font-size: 1.45em; margin: 0 0 .5em }
.head { display: flex; flex-wrap: wrap; gap: .35em 2em; margin: .8em 0 1.6em; color: var(--faint) }
.head b { color: var(--ink); font-weight: 600 }
.end { display: inline-block; padding: .15em .7em; border-radius: 1em; color: #fff; background: #b45309; font-weight: 600 }
.end.success { background: #00613a } .end.failure { background: #b00020 } .end.running { background: #4b5563 }
section { display: grid; grid-template-columns: minmax(0, 3fr) minmax(15em, 2fr); gap: 1.4em; padding: 1.3em 0;
  border-top: 1px solid var(--line) }
section.tall { grid-template-columns: minmax(0, 17em) minmax(15em, 1fr) }
section img { width: 100%; border: 1px solid var(--line); border-radius: 6px; display: block }
h2 { font-size: 1em; margin: 0 0 .7em; display: flex; gap: .7em; align-items: baseline }
h2 span { flex: none; min-width: 1.5em; text-align: center; border-radius: 1em; background: var(--ink); color: var(--paper);
  font-size: .85em; padding: .1em .3em }
.thought { margin: 0 0 .7em; white-space: pre-wrap }
pre { margin: 0 0 .7em; padding: .6em .8em; background: var(--panel); border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .82em }
.note { margin: 0 0 .7em; padding: .4em .8em; border-left: 3px solid #b45309; background: var(--panel); overflow-wrap: anywhere }
small { display: block; overflow-wrap: anywhere }
@media (max-width: 46em) { section, section.tall { grid-template-columns: 1fr } section.tall img { max-width: 17em } }
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A line of steps.jsonl with its picture."""

    row: Mapping[str, Any]
    picture: str = field(repr=False)


def report(about: Mapping[str, Any], steps: Sequence[Shown], ended: Ended | None, last: str | None) -> str:
    """The page; `last` is the last screen, once the run has ended."""
    goal = html.escape(str(about.get("goal", "")))
    status = ended.status if ended else "running"
    kind = status if status in ("success", "failure", "running") else "other"
    why = f" {html.escape(ended.reason)}" if ended and ended.reason else ""
    facts = {
        "start": about.get("start", ""),
        "tool": about.get("tool", ""),
        "model": about.get("model", ""),
        "steps": len(steps),
        "seconds": f"{sum(sum(step.row['seconds'].values()) for step in steps):.1f}",
        "begun": about.get("begun", ""),
    }
    head = "".join(f"<span>{name} <b>{html.escape(str(value))}</b></span>" for name, value in facts.items() if value != "")
    body = f'<h1>{goal}</h1><p><span class="end {kind}">{status}</span>{why}</p><div class="head">{head}</div>'
    body += "".join(map(_step, steps))
    if last is not None and steps:
        shape = _shape(steps[-1].row)
        body += f'<section class="{shape}"><img alt="the last screen" src="{last}"><div><h2>the last screen</h2></div></section>'
    return html_page(f"{status}: {about.get('goal', '')}", body, STYLE, width="80em")


def _step(step: Shown) -> str:
    row = step.row
    words = html.escape(row.get("action") or "no action")
    told = [f"<h2><span>{row['step']}</span>{words}</h2>"]
    if thought := thought_of(row["answer"]):
        told.append(f'<p class="thought">{html.escape(thought)}</p>')
    if "call" in row:
        told.append(f"<pre>{html.escape(json.dumps(row['call'], ensure_ascii=False))}</pre>")
    elif row["answer"].strip():
        told.append(f"<pre>{html.escape(row['answer'])}</pre>")
    if row["note"]:
        told.append(f'<p class="note">{html.escape(row["note"])}</p>')
    took = f"model {row['seconds']['model']:.1f} s, action {row['seconds']['action']:.1f} s"
    tokens = f", {row['tokens']['prompt']} tokens read and {row['tokens']['answer']} written" if "tokens" in row else ""
    told.append(f"<small>{html.escape(row['where'])}</small><small>{took}{tokens}</small>")
    picture = f'<img alt="the screen before step {row["step"]}, with its action" src="{step.picture}">'
    return f'<section class="{_shape(row)}">{picture}<div>{"".join(told)}</div></section>\n'


def _shape(row: Mapping[str, Any]) -> str:
    return "tall" if row["size"][1] > row["size"][0] else ""


def thought_of(answer: str) -> str:
    """What a model wrote around its call: its plan."""
    return strip_calls(answer).partition(FUNCTION)[0].removeprefix(RETURN).strip(" :\n")


def picture_url(picture: Image) -> str:
    """As WebP: letters stay sharp at a tenth of a PNG's size."""
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
