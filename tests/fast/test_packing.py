"""Packing shares what can be shared and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from qwenvl.data.packing import PackingError, interleave, isolate, prefix_length, share_prefix
from qwenvl.families import get_family
from qwenvl.models.attention import PackedLayout
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.processing.encode import Processor
from qwenvl.types import IGNORE_INDEX, Encoded, ImagePart, Message, Sample
from tests.fast.tiny import picture, tiny_config, tiny_model
from tests.small_text import small_tokenizer

QUESTIONS = (("What?", " a dog"), ("How many?", " three"), ("Where is it? Say so.", " left"))


def encoded(question: str, answer: str, *pictures: int, task: str = "vqa") -> Encoded:
    """A question about the pictures drawn from these seeds, and its answer."""
    processor = Processor(tiny_config(), get_family("qwen_vl"), small_tokenizer())
    parts = [ImagePart(picture(seed)) for seed in pictures]
    sample = Sample((Message.of("user", *parts, question), Message.of("assistant", answer)), question, task)
    return processor.encode(sample, "raw")


def hidden(model: VisionLanguageModel, documents: Sequence[Encoded]) -> torch.Tensor:
    batch = collate(documents)
    with torch.no_grad():
        return model(
            batch.input_ids, batch.position_ids, PackedLayout.of(batch.document_ids, batch.branch_ids),
            patches=batch.patches, grids=batch.grids, visual_slots=batch.visual_slots,
        )  # fmt: skip


@pytest.mark.parametrize("pictures", [(1,), ()], ids=["about one picture", "without a picture"])
def test_shared_prefix_equals_separate(pictures: tuple[int, ...]) -> None:
    samples = [encoded(question, answer, *pictures) for question, answer in QUESTIONS]
    length = prefix_length(samples[0])
    row = share_prefix(samples)
    assert len(row) == length + sum(len(sample) - length for sample in samples)
    assert len(row.grids) == len(pictures)
    together = hidden(tiny_model(), [row])
    at = length
    for sample in samples:
        alone = hidden(tiny_model(), [sample])
        own = len(sample) - length
        torch.testing.assert_close(together[at : at + own], alone[length:], atol=1e-5, rtol=1e-5)
        at += own


def test_shared_prefix_supervises_what_the_samples_do() -> None:
    samples = [encoded(question, answer, 1) for question, answer in QUESTIONS]
    weights = [np.full(len(sample), place + 1, np.float32) for place, sample in enumerate(samples)]
    row = share_prefix([sample.with_(loss_weights=weight) for sample, weight in zip(samples, weights, strict=True)])
    batch, alone = collate([row]), collate(samples)
    assert batch.labels[batch.labels != IGNORE_INDEX].tolist() == alone.labels[alone.labels != IGNORE_INDEX].tolist()
    counts = [(collate([sample]).labels != IGNORE_INDEX).sum().item() for sample in samples]
    assert batch.loss_weights.sum().item() == counts[0] + 2 * counts[1] + 3 * counts[2]


def test_other_pictures_or_other_starts_cannot_share() -> None:
    with pytest.raises(PackingError, match="pictures differ"):
        share_prefix([encoded("What?", "x", 1), encoded("What?", "x", 2)])
    with pytest.raises(PackingError, match="pictures differ"):
        share_prefix([encoded("What?", "x", 1), encoded("What?", "x", 1, 1)])
    sample = encoded("What?", "x", 1)
    with pytest.raises(PackingError, match="text up to the end"):
        share_prefix([sample, sample.with_(input_ids=np.concatenate([sample.input_ids[:1] + 1, sample.input_ids[1:]]))])


def test_supervised_start_cannot_share() -> None:
    sample = encoded("", "at once", 1)
    with pytest.raises(PackingError, match="supervised"):
        share_prefix([sample, sample])


def test_interleaved_is_one_document_with_attention_across() -> None:
    samples = [encoded(question, answer, seed) for seed, (question, answer) in enumerate(QUESTIONS)]
    row = interleave(samples, 1000)
    assert row.branch_ids is None and len(row) == sum(map(len, samples))
    assert row.position_ids[0].tolist() == list(range(len(row)))
    assert (row.input_ids[row.visual_slots] == tiny_config().image_pad_id).all() and len(row.visual_slots) == 3 * 4
    first, other = encoded("Why?", " no", 0), len(samples[0])
    moved = interleave([first, *samples[1:]], 1000)
    # A later sample reads the earlier one: with another first sample its hidden states differ.
    last = len(samples[2])
    assert not torch.allclose(hidden(tiny_model(), [row])[-last:], hidden(tiny_model(), [moved])[-last:], atol=1e-3)
    assert len(moved) == len(row) - other + len(first)


def test_isolated_documents_do_not_meet() -> None:
    samples = [encoded(question, answer, seed) for seed, (question, answer) in enumerate(QUESTIONS)]
    together = hidden(tiny_model(), isolate(samples, 1000))
    alone = torch.cat([hidden(tiny_model(), [sample]) for sample in samples])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_budget_leaves_out_whole_samples() -> None:
    samples = [encoded(question, answer, 1) for question, answer in QUESTIONS]
    two = len(samples[0]) + len(samples[1])
    assert isolate(samples, two) == samples[:2]
    assert len(interleave(samples, two + len(samples[2]) - 1)) == two
    with pytest.raises(PackingError, match="budget of 5"):
        isolate(samples, 5)


def test_pixels_of_stills_and_clips_are_interleaved_and_numbers_are_not() -> None:
    sample = encoded("What?", "x", 1)
    count = len(sample.patches)
    still, clip = (np.full((count, 3, frames, 4), frames, np.uint8) for frames in (1, 2))
    row = interleave([sample.with_(patches=still), sample.with_(patches=clip)], 1000)
    assert row.patches.shape == (2 * count, 3, 2, 4) and (row.patches[:count] == 1).all()
    with pytest.raises(ValueError, match="some patches are pixels and some numbers"):
        interleave([sample.with_(patches=still), sample.with_(patches=np.zeros((count, 12), np.float32))], 1000)
