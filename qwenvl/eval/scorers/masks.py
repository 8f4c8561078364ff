"""Masks as plain data: run lengths along the rows, so that a prediction holds what its scorer needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qwenvl.types import Point

THRESHOLD = 127
"""A pixel is in the mask if any of its channels is brighter: `load_mask` in model_evaluator.py, pointarena/pointarena @ dcd82f2."""


def runs_of(pixels: np.ndarray) -> dict[str, Any]:
    """Of a picture (H, W) or (H, W, C) of 0 to 255: {"size": [W, H], "runs": lengths of 0s, 1s, 0s, … row by row}."""
    inside = np.asarray(pixels > THRESHOLD)
    if inside.ndim == 3:
        inside = np.asarray(inside.any(axis=2))
    flat = np.concatenate([[False], inside.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], edges, [inside.size]]))
    return {"size": [int(inside.shape[1]), int(inside.shape[0])], "runs": runs.tolist()}


def in_mask(point: Point, mask: Mapping[str, Any], size: Sequence[int]) -> bool:
    """Whether the pixel that a point in fractions of a picture of `size` falls into is in the mask.

    One beyond the picture is not, nor one beyond the mask: some of PointBench's are smaller than their pictures.
    """
    column, row = int(point[0] * size[0]), int(point[1] * size[1])
    width, height = (min(sides) for sides in zip(mask["size"], size, strict=True))
    if not (0 <= column < width and 0 <= row < height):
        return False
    ends = np.cumsum(mask["runs"])
    return bool(np.searchsorted(ends, row * mask["size"][0] + column, side="right") % 2)


def all_in_mask(points: Sequence[Point], mask: Mapping[str, Any], size: Sequence[int]) -> bool:
    """Whether there are points, and none beside the mask."""
    return bool(points) and all(in_mask(point, mask, size) for point in points)
