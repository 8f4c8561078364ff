"""How long a Sample will be for a model, before a pixel is decoded; and a Sample made to fit a budget by a smaller picture.

An encoded sample is never cut. One that is too long has its pictures and clips seen at a smaller size; if that does not do, it is
refused with the numbers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

from qwenvl.processing.chat import render
from qwenvl.processing.encode import Processor
from qwenvl.processing.grid import frame_size, image_grid, unit_side
from qwenvl.processing.image import picture_size
from qwenvl.processing.video import open_clip
from qwenvl.types import ImagePart, QwenVLError, Sample, Style, VideoPart, name_of

TRIES = 4


class TooLong(QwenVLError, ValueError):
    """A sample that fits no budget however small its pictures are."""


class Measure(NamedTuple):
    """tokens: all of them; visual: those of pictures and clips; patches: what the tower sees; frames: (width, height) that each
    picture and clip is resized to; prefix: tokens up to the one that closes the last picture."""

    tokens: int
    visual: int
    patches: int
    frames: tuple[tuple[int, int], ...] = ()
    prefix: int = 0


def measure(processor: Processor, sample: Sample, style: Style) -> Measure:
    """Counts of what `processor.encode(sample, style)` will give, from the headers of pictures and clips alone.

    Raises what `encode` raises, but for what only shows in the pixels.
    """
    config, spec = processor.config, processor.spec
    grids = [_grid(processor, part, name_of(sample.id)) for part in sample.visuals]
    counts = [spec.visual_tokens(config, grid) for grid in grids]
    frames = [frame_size(grid, config.vision.patch_size) for grid in grids]
    rendered = render(sample, processor.tokenizer, spec, style, counts, markup=processor.markup, frames=frames)
    slots = rendered.visual_slots
    prefix = int(slots[-1]) + 2 if len(slots) else 0
    return Measure(len(rendered.input_ids), sum(counts), sum(math.prod(grid) for grid in grids), tuple(frames), prefix)


def fit(
    processor: Processor, sample: Sample, style: Style, tokens: int, patches: int | None = None
) -> tuple[Sample, Measure]:
    """The sample within a budget of tokens and patches, its pictures and clips seen smaller where they must be, and its counts.

    Raises TooLong where no size of the pictures is small enough, and what `measure` raises.
    """
    size = measure(processor, sample, style)
    fitted = sample
    for _ in range(TRIES):
        over = size.tokens > tokens or (patches is not None and size.patches > patches)
        if not over:
            return fitted, size
        share = _share(size, tokens, patches)
        smaller = _shrunk(processor, fitted, share) if share > 0 and processor.config.vision.image_size is None else fitted
        if smaller == fitted:
            break
        fitted, size = smaller, measure(processor, smaller, style)
    limits = f"{size.tokens} tokens in a row of {tokens}, {size.visual} of them for pictures"
    limits += "" if patches is None else f", and {size.patches} patches of {patches}"
    raise TooLong(f"{name_of(sample.id)}: {limits}; raise the budget or leave it out")


def _share(size: Measure, tokens: int, patches: int | None) -> float:
    """To what part of their area the pictures must shrink; 0 or less where the text alone is too long."""
    if not size.visual:
        return 0.0
    by_tokens = (tokens - (size.tokens - size.visual)) / size.visual
    return min(by_tokens, 1.0 if patches is None else patches / size.patches)


def _shrunk(processor: Processor, sample: Sample, share: float) -> Sample:
    unit = unit_side(processor.config.vision) ** 2

    def smaller(part: Any) -> Any:
        if not isinstance(part, ImagePart | VideoPart):
            return part
        _, rows, columns = _grid(processor, part, name_of(sample.id))
        area = rows * columns * processor.config.vision.patch_size**2
        most = max(unit, math.floor(area * share))
        return replace(part, max_pixels=most, min_pixels=None if part.min_pixels is None else min(part.min_pixels, most))

    messages = tuple(replace(message, parts=tuple(map(smaller, message.parts))) for message in sample.messages)
    return replace(sample, messages=messages)


def _grid(processor: Processor, part: ImagePart | VideoPart, where: str) -> tuple[int, int, int]:
    config, spec = processor.config, processor.spec
    if isinstance(part, VideoPart):
        return open_clip(config, spec, part, where).grid
    return image_grid(config, spec, *picture_size(part.image), part.min_pixels, part.max_pixels)
