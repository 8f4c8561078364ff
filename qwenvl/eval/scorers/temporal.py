"""When what is queried happens: recall at thresholds of temporal intersection over union, and its mean.

The measures of lmms_eval/tasks/charades_sta/utils.py, EvolvingLMMs-Lab/lmms-eval @ 75571cf. Times are seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qwenvl.eval.scorers.boxes import span_iou
from qwenvl.eval.task import Prediction, Tally
from qwenvl.processing.spans import read_spans

THRESHOLDS = (0.3, 0.5, 0.7)

TIME = r"(\d{1,9}(?:\.\d+)?)"
UNIT = r"\s*(?:seconds?|secs?|s)?\s*"
PLAIN = re.compile(rf"(?<![\d.:]){TIME}{UNIT}(?:-|–|—|~|\bto\b|\band\b|\buntil\b)\s*{TIME}(?![\d:])", re.IGNORECASE)
APART = re.compile(rf"\b(?:start|begin)\w*\b\D{{0,40}}{TIME}.*?\bend\w*\b\D{{0,40}}{TIME}", re.IGNORECASE | re.DOTALL)


def said_span(reply: str) -> tuple[float, float] | None:
    """The first span that a reply names. Where it names no unit, plain numbers are seconds: nothing else was asked for."""
    for said in read_spans(reply)[:1]:
        return said.start, said.end
    found = PLAIN.search(reply) or APART.search(reply)
    if found is None:
        return None
    first, second = float(found[1]), float(found[2])
    return min(first, second), max(first, second)


def when(prediction: Prediction) -> Mapping[str, Tally]:
    """The reply's first span against truth["span"]; a reply without one overlaps nothing."""
    start, end = prediction.truth["span"]
    said = said_span(prediction.reply)
    return recalls(0.0 if said is None else span_iou(said, (start, end)))


def recalls(overlap: float) -> dict[str, Tally]:
    """Measure -> tally of an overlap: `miou` itself, `r1_iou_30` and so on whether it reaches a threshold."""
    return {"miou": (overlap, 1.0)} | {f"r1_iou_{100 * bound:.0f}": (float(overlap >= bound), 1.0) for bound in THRESHOLDS}
