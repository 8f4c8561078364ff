"""Pairs of answers as rows of DPO: one document each, branch 1 the chosen answer, branch 2 the rejected one, pictures once."""

from __future__ import annotations

from dataclasses import replace

from qwenvl.data.packing import share_prefix
from qwenvl.data.places import for_markup
from qwenvl.data.record import sample_to_preference
from qwenvl.processing.encode import Processor
from qwenvl.processing.measure import Measure, fit, measure
from qwenvl.types import Encoded, Sample, Style


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
    """Raises PackingError for answers to different pictures, and what `encode` raises."""
    chosen, rejected = (processor.encode(answered, style) for answered in _answered(processor, sample))
    return share_prefix([chosen, rejected]).with_(sample_id=sample.id)


def _answered(processor: Processor, sample: Sample) -> tuple[Sample, Sample]:
    """The conversation with the chosen answer, and with the rejected one, as the family can write them."""
    chosen, rejected = sample_to_preference(sample).answered
    return for_markup(chosen, processor.markup), for_markup(rejected, processor.markup)
