"""What a run has made of its documents: counts, drops rule by rule with examples, and pages drawn by chance from the shards.

report.json has the numbers, report.html the same with pictures. Boxes and texts are those that the shards hold.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qwenvl.data.documents.convert import Job, Outcome, chance
from qwenvl.data.html_page import html_page
from qwenvl.data.inspect_samples import drawing
from qwenvl.data.outlines import regions_of
from qwenvl.data.shards import ShardReader
from qwenvl.families.spec import Markup
from qwenvl.processing.image import open_image
from qwenvl.processing.regions import parts_text
from qwenvl.runtime import atomic_write
from qwenvl.types import Region, Sample

SHOWN_PAGES, SHOWN_EXAMPLES = 12, 6
SHOWN_TEXT = 6000

_STYLE = """
section { border-top: 1px solid var(--line); padding: 1em 0; display: flex; gap: 1.5em; align-items: flex-start; flex-wrap: wrap }
section > div { flex: 1; min-width: min(26em, 100%) }
svg { width: min(44em, 100%); height: auto; flex: none; border: 1px solid var(--line) }
polygon { fill: none; stroke: #f0f; stroke-width: 1.5 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 12px/1.5 ui-monospace, monospace; margin: .5em 0; color: var(--bad) }
td, th { padding: .2em 1.2em .2em 0; border-bottom: 1px solid var(--line); text-align: left }
td + td { text-align: right; font-variant-numeric: tabular-nums } h2 { margin-top: 2em }
.gallery { display: flex; flex-wrap: wrap; gap: .8em } figure { margin: 0; width: 16em; overflow-wrap: anywhere; font-size: .85em }
figure img { border: 1px solid var(--line) }
"""


def write_report(out: Path, job: Job, total: Outcome) -> dict[str, Any]:
    """Write report.json and report.html into the folder of a run, and return what the first holds."""
    data = summary(job, total)
    for name, text in (
        ("report.json", json.dumps(data, indent=1, ensure_ascii=False) + "\n"),
        ("report.html", _page(data, total, list(_drawn_by_chance(out, SHOWN_PAGES)))),
    ):
        with atomic_write(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return data


def summary(job: Job, total: Outcome) -> dict[str, Any]:
    """The numbers of a run, as plain data."""
    rules = [name for name in type(job.rules).model_fields if getattr(job.rules, name) is not None]
    others = sorted(set(total.dropped) - set(rules))
    return {
        "kind": job.kind,
        "files": len(total.files),
        "damaged_files": sorted(total.damaged),
        "pages": total.pages,
        "dropped": {name: total.dropped[name] for name in (*others, *rules)},
        "failed": {name: total.failed[name] for name in rules},
        "kept": total.kept,
        "kept_percent": round(100 * total.kept / total.pages, 1) if total.pages else None,
        "samples": total.samples,
        "counts": dict(sorted(total.counts.items())),
    }


def _drawn_by_chance(out: Path, count: int) -> Iterator[Sample]:
    """Samples of the shards, the same ones in every run."""
    files = sorted(out.glob("part-*.parquet"))
    if not files:
        return
    reader = ShardReader(*files)
    for index in sorted(sorted(range(len(reader)), key=lambda index: chance(str(index)))[:count]):
        yield reader.sample(index)


def _page(data: dict[str, Any], total: Outcome, samples: Sequence[Sample]) -> str:
    rows = [("files", data["files"]), ("damaged files", len(data["damaged_files"])), ("pages", data["pages"])]
    rows += [(f"dropped: {name.replace('_', ' ')}", -count) for name, count in data["dropped"].items()]
    rows += [("kept", data["kept"]), ("samples", data["samples"])]
    kept = "" if data["kept_percent"] is None else f"<p>{data['kept_percent']:g} % of the pages stay.</p>"
    counts = _table(list(data["counts"].items()))
    damaged = "".join(f"<li>{html.escape(line)}</li>" for line in data["damaged_files"])
    galleries = "".join(_gallery(rule, shown) for rule, shown in sorted(total.examples.items()))
    sections = "".join(map(_section, samples))
    body = f"<h1>{data['kind'].upper()} pages</h1>{_table(rows)}{kept}<h2>What stays</h2>{counts}"
    body += f"<h2>Damaged files</h2><ul>{damaged}</ul>" if damaged else ""
    body += f"<h2>Dropped, for example</h2>{galleries}" if galleries else ""
    body += f"<h2>Kept, drawn by chance</h2>{sections}" if sections else ""
    return html_page(f"{data['kind']} pages", body, _STYLE, width="90em")


def _table(rows: Sequence[tuple[str, int]]) -> str:
    return "<table>" + "".join(f"<tr><td>{html.escape(name)}</td><td>{count:,}</td></tr>" for name, count in rows) + "</table>"


def _gallery(rule: str, shown: Sequence[dict[str, Any]]) -> str:
    chosen = sorted(shown, key=lambda example: chance(example["page"]))[:SHOWN_EXAMPLES]
    figures = "".join(
        f'<figure><img src="{example["picture"]}" alt=""><br>{html.escape(example["statistic"])}<br>'
        f"<small>{html.escape(example['page'])}</small></figure>"
        for example in chosen
    )
    return f'<h3>{html.escape(rule.replace("_", " "))}</h3><div class="gallery">{figures}</div>'


def _section(sample: Sample) -> str:
    """The page with its places, and what is taught about it; places in pixels of the page as it is stored."""
    picture = open_image(sample.images[0].image)
    markup = Markup(style="json") if sample.task == "document_parsing" else Markup()
    answer = parts_text(sample.messages[-1].parts, markup, {0: picture.size})
    title = (
        f"<b>{html.escape(sample.id)}</b><br><small>{html.escape(sample.language)}, {len(_answered(sample))} places</small>"
    )
    text = html.escape(answer[:SHOWN_TEXT] + ("…" if len(answer) > SHOWN_TEXT else ""))
    return f"<section>{drawing(np.asarray(picture), _answered(sample))}<div>{title}<pre>{text}</pre></div></section>"


def _answered(sample: Sample) -> list[Region]:
    """The places of the answer."""
    return [region for part in sample.messages[-1].parts for region in regions_of(part)]
