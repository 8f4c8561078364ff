"""Places moved by less than a pixel, so that whole pixels of the source do not favour some coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qwenvl.types import CoordinatesPart, Part, Region, RegionPart, Sample


def jitter_regions(sample: Sample, pixels: float, frames: Sequence[tuple[int, int]], rng: np.random.Generator) -> Sample:
    """The sample with every corner moved by U(-pixels, pixels) either way; a region that would degenerate stays.

    `frames`: (width, height) that each picture of the sample is resized to, whose pixels are meant.
    """
    if not pixels:
        return sample
    amounts = [(pixels / width, pixels / height) for width, height in frames]

    def moved(part: Part) -> Part:
        if isinstance(part, RegionPart):
            return replace(part, regions=tuple(_jitter(region, amounts, rng) for region in part.regions))
        return replace(part, region=_jitter(part.region, amounts, rng)) if isinstance(part, CoordinatesPart) else part

    return replace(sample, messages=tuple(replace(turn, parts=tuple(map(moved, turn.parts))) for turn in sample.messages))


def _jitter(region: Region, amounts: Sequence[tuple[float, float]], rng: np.random.Generator) -> Region:
    most = np.asarray(amounts[region.image])
    points = np.clip(np.asarray(region.points) + rng.uniform(-most, most, (len(region.points), 2)), 0.0, 1.0)
    swapped = region.kind == "box" and not (points[0] < points[1]).all()
    return region if swapped else replace(region, points=tuple((float(x), float(y)) for x, y in points))
