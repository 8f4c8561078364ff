"""What tests of synthetic figures share: one small spec of each kind, and how a message looks as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qwenvl.data.synth.figures import chart, chemistry, code, form, formula, icon, music, page, screen, table
from qwenvl.data.synth.figures.chart_data import ChartSpec
from qwenvl.data.synth.figures.figure import Figure, FigureSpec
from qwenvl.data.synth.figures.table_data import TableSpec
from qwenvl.types import CoordinatesPart, Part, RegionPart, Sample, TextPart


@dataclass(frozen=True)
class Kind:
    spec: FigureSpec
    make: Callable[[Any, int, int], Figure]
    samples: Callable[..., list[Sample]]


KINDS: dict[str, Kind] = {
    "chart": Kind(ChartSpec(width=(440, 560)), chart.make_chart, chart.chart_samples),
    "table": Kind(TableSpec(rows=(2, 5)), table.make_table, table.table_samples),
    "form": Kind(form.FormSpec(text_size=(12, 14)), form.make_form, form.form_samples),
    "screen": Kind(screen.ScreenSpec(desktop_width=(800, 900)), screen.make_screen, screen.screen_samples),
    "icon": Kind(icon.IconSpec(), icon.make_icon, icon.icon_samples),
    "code": Kind(code.CodeSpec(), code.make_code, code.code_samples),
    "formula": Kind(formula.FormulaSpec(known_share=1.0, count=(1, 2)), formula.make_formula, formula.formula_samples),
    "music": Kind(music.MusicSpec(bars=(2, 6)), music.make_music, music.music_samples),
    "chemistry": Kind(chemistry.ChemistrySpec(), chemistry.make_chemistry, chemistry.chemistry_samples),
    "page": Kind(
        page.PageSpec(width=(540, 600), parts=tuple(part for part in page.WEIGHTS if part != "formula")),
        page.make_page, page.page_samples,
    ),
}  # fmt: skip


def said(parts: Sequence[Part], width: int = 1000, height: int = 1000) -> str:
    """Text as it stands, phrases, and the numbers of coordinates in a frame."""
    text = ""
    for part in parts:
        if isinstance(part, TextPart):
            text += part.text
        elif isinstance(part, RegionPart):
            text += part.phrase or ""
        elif isinstance(part, CoordinatesPart):
            points = [(x * width, y * height) for x, y in part.region.points]
            text += part.separator.join(str(round(value)) for point in points for value in point)
    return text
