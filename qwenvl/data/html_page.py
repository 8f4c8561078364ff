"""The shell of every HTML page that this package writes: one file that stands alone, light or dark as its reader's screen is, and
wide or narrow; and pictures with places drawn over them."""

from __future__ import annotations

import html
from collections.abc import Iterable

from qwenvl.types import Region

_BASE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #222; --faint: #6e737b; --line: #dfe1e5; --panel: #f5f6f8;
  --strong: #8a8f98; --bad: #b00020; --good: #00613a }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --ink: #dfe2e7; --faint: #949aa5; --line: #31353d; --panel: #1d2026;
  --strong: #6f7682; --bad: #ff7a8a; --good: #5fd0a0 } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; padding: 0 1em; color: var(--ink); background: var(--paper) }
table { border-collapse: collapse } small { color: var(--faint) }
@media (max-width: 40em) { body { margin: 1em auto } }
"""


def html_page(title: str, body: str, style: str = "", width: str = "78em") -> str:
    """The whole page. `body` is HTML; `title` is text; `style` stands behind the base style, whose variables it may use."""
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_BASE}body {{ max-width: {width} }}\n{style}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def marks(regions: Iterable[Region], width: int, height: int, kind: str = "") -> str:
    """Places as SVG outlines in a picture of that size, to be coloured by the page's style; `kind` is their class."""
    return "".join(_mark(region, width, height, f' class="{kind}"' if kind else "") for region in regions)


def _mark(region: Region, width: int, height: int, attribute: str) -> str:
    points = region.pixels(width, height)
    title = f"<title>{html.escape(region.label)}</title>" if region.label else ""
    if region.kind == "point":
        (x, y), radius = points[0], max(width, height) / 60
        return f'<circle{attribute} cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{title}</circle>'
    if region.kind == "box":
        (left, top), (right, bottom) = points
        points = ((left, top), (right, top), (right, bottom), (left, bottom))
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon{attribute} points="{corners}">{title}</polygon>'
