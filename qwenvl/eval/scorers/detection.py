"""Mean average precision of boxes as COCO measures it (pycocotools/cocoeval.py, cocodataset/cocoapi @ 8c9bcc3), all sizes of boxes.

Boxes are (x, y, width, height) in pixels, rows of an array. Matching is done once for each picture and category; what is left is
quick enough to be repeated for a bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Of overlap, over which precision is averaged."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""At which precision is sampled."""
MOST = 100
"""Boxes of one picture and category that count, the surest first."""

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Matched:
    """Boxes said of one category in one picture, the surest first, against the true ones.

    scores (D,); hits (10, D): whether a box found a true one, by threshold; ignored (10, D): whether that one was a crowd;
    truths: how many there were, without crowds.
    """

    scores: Array
    hits: Array
    ignored: Array
    truths: int


Detected = Mapping[str, Matched]
"""Category -> its boxes, of one picture."""


def overlaps(said: Array, true: Array, crowd: Array) -> Array:
    """Intersection over union (D, G); over the said box alone where the true one is a crowd."""
    low = np.maximum(said[:, None, :2], true[None, :, :2])
    high = np.minimum((said[:, :2] + said[:, 2:])[:, None], (true[:, :2] + true[:, 2:])[None])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas, true_areas = said[:, 2] * said[:, 3], true[:, 2] * true[:, 3]
    whole = np.where(crowd[None], areas[:, None], areas[:, None] + true_areas[None] - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def match(said: Array, scores: Array, true: Array, crowd: Array | None = None) -> Matched:
    """Each said box takes the true one that it overlaps most and that no surer one took; a crowd may be taken often.

    said (D, 4), scores (D,), true (G, 4), crowd (G,) bool.
    """
    said, true = np.reshape(said, (-1, 4)).astype(float), np.reshape(true, (-1, 4)).astype(float)
    scores = np.asarray(scores, dtype=float)
    crowd = np.zeros(len(true), dtype=bool) if crowd is None else np.asarray(crowd, dtype=bool)
    surest = np.argsort(-scores, kind="stable")[:MOST]
    found = overlaps(said[surest], true, crowd)
    hits = np.zeros((len(THRESHOLDS), len(surest)), dtype=bool)
    ignored = np.zeros_like(hits)
    for level, threshold in enumerate(THRESHOLDS):
        free = ~crowd
        for number in range(len(surest)):
            taken = _best(found[number], free, threshold)
            if taken is None:
                taken = _best(found[number], crowd, threshold)
                ignored[level, number] = taken is not None
            if taken is not None:
                hits[level, number] = True
                free[taken] = False
    return Matched(scores[surest], hits, ignored, int((~crowd).sum()))


def _best(values: Array, allowed: Array, threshold: float) -> int | None:
    """The last of the greatest values that are allowed and reach the threshold."""
    choice = np.flatnonzero(allowed & (values >= min(threshold, 1 - 1e-10)))
    return int(choice[len(choice) - 1 - np.argmax(values[choice][::-1])]) if len(choice) else None


def average_precision(pictures: Sequence[Matched]) -> float | None:
    """Of one category over pictures, mean over thresholds and recalls; None where there is no true box."""
    truths = sum(picture.truths for picture in pictures)
    if not truths:
        return None
    order = np.argsort(-np.concatenate([picture.scores for picture in pictures]), kind="stable")
    hits, ignored = (np.concatenate(parts, axis=1)[:, order] for parts in _columns(pictures))
    right = np.cumsum(hits & ~ignored, axis=1, dtype=float)
    wrong = np.cumsum(~hits & ~ignored, axis=1, dtype=float)
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = 0.0
    for recall, height in zip(right / truths, precision, strict=True):
        places = np.searchsorted(recall, RECALLS, side="left")
        total += height[places[places < len(recall)]].sum() / len(RECALLS)
    return float(total / len(THRESHOLDS))


def _columns(pictures: Sequence[Matched]) -> tuple[list[Array], list[Array]]:
    return [picture.hits for picture in pictures], [picture.ignored for picture in pictures]


def mean_average_precision(pictures: Sequence[Detected]) -> float | None:
    """Over the categories that have a true box in any of the pictures; None where none has."""
    categories: dict[str, list[Matched]] = {}
    for picture in pictures:
        for category, matched in picture.items():
            categories.setdefault(category, []).append(matched)
    values = [value for found in categories.values() if (value := average_precision(found)) is not None]
    return sum(values) / len(values) if values else None
