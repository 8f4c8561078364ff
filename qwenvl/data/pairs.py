"""Pairs of answers as rows of DPO: one document each, branch 1 the chosen answer, branch 2 the rejected one, pictures once."""

from __future__ import annotations

from dataclasses import replace

from qwenvl.data.packing import share_prefix
from qwenvl.data.places import for_markup
from qwenvl.data.record import sample_to_preference
from qwenvl.processing.chat import render
from qwenvl.processing.encode import Processor
from qwenvl.processing.grid import frame_size
from qwenvl.processing.measure import Measure, fit, measure
from qwenvl.types import IGNORE_INDEX, Encoded, Sample, Style


def fit_pair(
    processor: Processor, sample: Sample, style: Style, tokens: int, patches: int | None = None
) -> tuple[Sample, Measure]:
    """The pair within a budget, its pictures seen smaller where they must be, and what it takes with both answers.

    Raises as `fit` does, and RecordError for a sample that is no pair.
    """
    sizes = [measure(processor, answered, style) for answered in _answered(processor, sample)]
    own = [size.tokens - size.prefix for size in sizes]
    longer = own.index(max(own))
    # What the other answer takes beside the shared pictures is text, and no picture makes it shorter.
    fitted, size = fit(processor, _answered(processor, sample)[longer], style, tokens - own[1 - longer], patches)
    return replace(sample, messages=(*fitted.messages[:-1], sample.messages[-1])), size._replace(
        tokens=size.tokens + own[1 - longer]
    )


def encode_pair(processor: Processor, sample: Sample, style: Style) -> Encoded:
    """Supervised are the two answers, and no turn before them, which is no part of what is compared.

    Raises PackingError for answers to different pictures, and what `encode` raises.
    """
    both = [_last_alone(processor, answered, processor.encode(answered, style), style) for answered in _answered(processor, sample)]
    return share_prefix(both).with_(sample_id=sample.id)


def _last_alone(processor: Processor, sample: Sample, encoded: Encoded, style: Style) -> Encoded:
    """The encoded conversation with the last message alone supervised."""
    before = replace(sample, messages=sample.messages[:-1])
    if not any(message.role == "assistant" for message in before.messages):
        return encoded
    config, spec = processor.config, processor.spec
    counts = [spec.visual_tokens(config, grid) for grid in _grids(encoded)]
    frames = [frame_size(grid, config.vision.patch_size) for grid in _grids(encoded)]
    rendered = render(before, processor.tokenizer, spec, style, counts, True, processor.markup, frames=frames)
    labels = encoded.labels.copy()
    labels[: len(rendered.input_ids)] = IGNORE_INDEX
    return encoded.with_(labels=labels)


def _grids(encoded: Encoded) -> list[tuple[int, int, int]]:
    return [(time, height, width) for time, height, width in encoded.grids.tolist()]


def _answered(processor: Processor, sample: Sample) -> tuple[Sample, Sample]:
    """The conversation with the chosen answer, and with the rejected one, as the family can write them."""
    chosen, rejected = sample_to_preference(sample).answered
    return for_markup(chosen, processor.markup), for_markup(rejected, processor.markup)
