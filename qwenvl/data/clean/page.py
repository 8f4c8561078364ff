"""The report as an HTML page that stands alone: a table like the paper's Table 2, rules with their drops, pictures of examples."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenvl.data.clean.images import decode
from qwenvl.data.clean.inputs import Pair
from qwenvl.data.html_page import html_page
from qwenvl.data.outlines import thumbnail_url
from qwenvl.processing.image import ImageError

SIDE = 160
SHOWN_TEXT = 300
LANGUAGES = {"en": "English", "zh": "Chinese"}

_STYLE = """
h2 { margin-top: 2em } h3 { margin: 1.4em 0 .4em; font-size: 1em }
th { text-align: left; font-weight: 600; border-bottom: 2px solid var(--strong) }
td, th { padding: .2em 1em .2em 0; vertical-align: top } td { border-bottom: 1px solid var(--line) }
.n { text-align: right; font-variant-numeric: tabular-nums } .total td { border-top: 2px solid var(--strong); font-weight: 600 }
.bar { display: inline-block; height: .7em; background: #c0504d; vertical-align: baseline }
.gallery { display: flex; flex-wrap: wrap; gap: .6em }
figure { display: flex; gap: .6em; margin: 0; min-width: 17em; max-width: 25em; border: 1px solid var(--line); padding: .4em }
figure img { max-height: 6.5em; max-width: 9em; align-self: flex-start }
.none { width: 6.5em; height: 4em; background: var(--panel); color: var(--faint); text-align: center; line-height: 4em; flex: none }
figcaption { overflow-wrap: anywhere; font-size: .9em; min-width: 9em; flex: 1 }
.why { color: var(--bad) } .now { color: var(--good) }
"""


@dataclass(frozen=True)
class Example:
    """One row to look at. `picture` is a data URL, None where there is none; `double` the text and picture that stayed instead."""

    where: str
    raw: str
    clean: str | None
    reason: str
    picture: str | None
    double: tuple[str, str | None] | None


def thumbnail(pair: Pair) -> str | None:
    """The picture as a small JPEG in a data URL; None where it cannot be read."""
    try:
        picture = decode(pair.content())
    except (ImageError, OSError, ValueError):
        return None
    return thumbnail_url(picture, SIDE)


def page(data: Mapping[str, Any], examples: Mapping[str, Mapping[str, Sequence[Example]]]) -> str:
    """The whole page. Every text from the data is escaped, and nothing is loaded from elsewhere."""
    sections = "".join(_dataset(row, examples[row["dataset"]]) for row in data["datasets"])
    return html_page("cleaning report", f"<h1>What cleaning has left</h1>{_overview(data)}{sections}", _STYLE)


def _overview(data: Mapping[str, Any]) -> str:
    """Table 2 of the paper, with its own percentage beside ours where it has one."""
    numbers = ("Original", "Cleaned", "Remaining %", "in the paper", "not fetched")
    heads = "<th>Language<th>Dataset" + "".join(f"<th class=n>{name}" for name in numbers)
    rows = "".join(
        f"<tr><td>{_languages(row['languages'])}<td>{html.escape(row['dataset'])}{_counts(row, row['paper_remaining_percent'])}"
        for row in data["datasets"]
    )
    return f"<table><tr>{heads}{rows}<tr class=total><td>Total<td>{_counts(data['total'], None)}</table>"


def _counts(row: Mapping[str, Any], paper: int | None) -> str:
    remaining = _percent(row["remaining_percent"])
    return _numbers((row["original"], row["cleaned"], remaining, _percent(paper), row["not_fetched"] or ""))


def _dataset(row: Mapping[str, Any], examples: Mapping[str, Sequence[Example]]) -> str:
    title = f"<h2>{html.escape(row['dataset'])}</h2>"
    about = f"<p>Preset {html.escape(row['preset'])}. Files: {row['files']:,}. Rows: {row['rows']:,}.</p>"
    damaged = "".join(f"<p class=why>Damaged, read up to the damage: {html.escape(line)}</p>" for line in row["damaged_files"])
    heads = "<th>Rule<th>Setting<th class=n>Dropped<th class=n>%<th class=n>Failed<th>"
    drops = "".join(_drop(rule, row["original"]) for rule in row["rules"])
    note = (
        "<p><small>Dropped: rows that this rule was the first to refuse. Failed: rows that it refuses, of those that came so far: "
        "text, size, picture and score are judged in turn.</small></p>"
    )
    counts = _pairs("Texts that stay were cleaned of", row["text_cleaned"]) + _pairs("Scores: quantiles", row["score_quantiles"])
    galleries = "".join(_gallery(kind, shown) for kind, shown in _in_order(row, examples))
    return f"{title}{about}{damaged}<table><tr>{heads}{drops}</table>{note}{counts}{galleries}"


def _drop(rule: Mapping[str, Any], original: int) -> str:
    share = 100 * rule["dropped"] / original if original else 0
    bar = f'<span class=bar style="width:{share / 5:.2f}em"></span>'
    cells = (rule["dropped"], f"{share:.2f} %", rule["failed"])
    return f"<tr><td>{html.escape(rule['rule'])}<td>{html.escape(rule['setting'])}{_numbers(cells)}<td>{bar}"


def _in_order(row: Mapping[str, Any], examples: Mapping[str, Sequence[Example]]) -> list[tuple[str, Sequence[Example]]]:
    """The rules in their order, then the other kinds."""
    rules = [rule["rule"] for rule in row["rules"]]
    kinds = [name for name in rules if name in examples] + sorted(name for name in examples if name not in rules)
    return [(kind, examples[kind]) for kind in kinds if examples[kind]]


def _gallery(kind: str, shown: Sequence[Example]) -> str:
    return f"<h3>{html.escape(kind.replace('_', ' '))}</h3><div class=gallery>{''.join(map(_figure, shown))}</div>"


def _figure(example: Example) -> str:
    pictures = _picture(example.picture)
    text = _text(example.raw)
    if example.double is not None:
        pictures += _picture(example.double[1])
        text += f"<br><small>stays instead:</small> {_text(example.double[0])}"
    if example.clean is not None and example.clean != example.raw:
        text += f"<br><span class=now>{_text(example.clean)}</span>"
    why = f"<span class=why>{_text(example.reason)}</span><br>" if example.reason else ""
    return f"<figure>{pictures}<figcaption>{why}{text}<br><small>{html.escape(example.where)}</small></figcaption></figure>"


def _picture(address: str | None) -> str:
    return f'<img src="{address}" alt="">' if address else "<span class=none>no picture</span>"


def _text(text: str) -> str:
    return html.escape(text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}…")


def _pairs(title: str, values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    return f"<p>{title}: {', '.join(f'{html.escape(key)} <b>{value:,}</b>' for key, value in values.items())}.</p>"


def _numbers(cells: Sequence[Any]) -> str:
    return "".join(f"<td class=n>{cell:,}" if isinstance(cell, int) else f"<td class=n>{cell}" for cell in cells)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:g} %"


def _languages(counts: Mapping[str, int]) -> str:
    """The languages that at least one row in twenty is in."""
    rows = sum(counts.values())
    return ", ".join(LANGUAGES.get(name, name) for name, count in counts.items() if 20 * count >= rows)
