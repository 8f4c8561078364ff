"""Rows packed from a stream: whole samples only, nearly full, the same for any ranks and workers, and gone on with exactly."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qwenvl.config import ConfigError
from qwenvl.data.loader import Row, RowStream
from qwenvl.data.packed_rows import PackedRows, PackRules, StreamError
from qwenvl.data.sources import BadSample
from qwenvl.data.stream import SampleStream
from qwenvl.families import family_of_preset, find_preset
from qwenvl.models.initialise import initialise
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.processing.encode import Processor
from qwenvl.processing.measure import TooLong, fit, measure
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.train.build import TOKENIZER
from qwenvl.train.objectives import NextToken
from qwenvl.types import IGNORE_INDEX, Encoded, ImagePart, Message, Region, RegionPart, Sample, VideoPart

NANOS = ("qwen-vl-nano", "qwen2-vl-nano", "qwen2.5-vl-nano")


@lru_cache
def processor(name: str = "qwen2-vl-nano") -> Processor:
    preset = find_preset(name)
    spec = family_of_preset(preset)
    return Processor(preset.config, spec, Tokenizer.from_folder(TOKENIZER).of_family(spec), preset.markup)


@dataclass
class Captions:
    """Endless samples of ragged length, some about a picture; every `bad`-th is refused, every `damaged`-th breaks when decoded."""

    name: str = "captions"
    size: int | None = None
    bad: int = 0
    damaged: int = 0

    def sample(self, index: int) -> Sample:
        if self.bad and index % self.bad == 0:
            raise BadSample(f"{self.name}/{index}", "its box is empty")
        rng = np.random.default_rng(index)
        words = ["a", "red", "dog", "and", "two", "blue", "circles", "on", "a", "table"]
        said = " ".join(rng.choice(words, int(rng.lognormal(2.5, 0.8)) + 1))
        picture = ImagePart(Image.new("RGB", (int(rng.integers(60, 200)), int(rng.integers(60, 200))), "red"))
        if self.damaged and index % self.damaged == 0:
            picture = ImagePart(damaged())
        asked = [picture, "Describe the image in English:"] if index % 3 else ["Say:"]
        return Sample((Message.of("user", *asked), Message.of("assistant", said)), f"{self.name}/{index}", f"task{index % 2}")


@lru_cache
def damaged() -> bytes:
    """A PNG file with a whole header and half of its pixels."""
    import io

    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)).save(file, "png")
    return file.getvalue()[: len(file.getvalue()) // 2]


def packed(rules: PackRules | None = None, name: str = "qwen2-vl-nano", **source: Any) -> PackedRows:
    stream = SampleStream([Captions(**source), Captions("others")], [2, 1], seed=5)
    return PackedRows(stream, processor(name), rules or PackRules("raw", tokens=400, patches=2000, pool=16))


def ids(row: Row) -> list[str]:
    return [document.sample_id for document in row.documents]


def rows_of(streams: RowStream | list[RowStream], steps: range) -> list[list[int]]:
    """input_ids of every row in the order of their numbers; each stream is that of one rank."""
    ranks = streams if isinstance(streams, list) else [streams]
    rows = []
    for step in steps:
        shares = [stream.batches(step, rank, len(ranks), 1) for rank, stream in enumerate(ranks)]
        rows += [batch.input_ids.tolist() for row in zip(*shares, strict=True) for batch in row]
    return rows


def test_rows_hold_whole_samples_and_are_nearly_full() -> None:
    lane = packed().lane(0, 1, 0, None)
    rows = list(itertools.islice(iter(lane.next, None), 40))
    lengths = [sum(len(document) for document in row.documents) for row in rows]
    assert max(lengths) <= 400 and sum(lengths) / (40 * 400) >= 0.98
    assert max(sum(len(document.patches) for document in row.documents) for row in rows) <= 2000
    seen = [name for row in rows for name in ids(row)]
    assert len(seen) == len(set(seen)) > 200
    alone = processor().encode(Captions().sample(int(seen[0].split("/")[1])), "raw")
    first = rows[0].documents[0]
    np.testing.assert_array_equal(first.input_ids, alone.input_ids)
    assert (first.labels != IGNORE_INDEX).any()


def test_interleaved_rows_are_one_document_of_one_task() -> None:
    lane = packed(PackRules("raw", tokens=400, interleave=True, pool=16)).lane(0, 1, 0, None)
    for row in itertools.islice(iter(lane.next, None), 20):
        (document,) = row.documents
        numbers = [int(name.split("/")[1]) for name in document.sample_id.split("+")]
        assert len({number % 2 for number in numbers}) == 1
        assert 390 <= len(document) <= 400


@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_ranks_share_the_rows_and_change_nothing(lanes: int) -> None:
    """With fewer lanes than rows, as many, and more."""
    whole = rows_of(RowStream(packed(), 4, lanes), range(5))
    assert len(whole) == 20
    assert rows_of([RowStream(packed(), 4, lanes) for _ in range(2)], range(5)) == whole


@pytest.mark.parametrize("lanes", [2, 8])
def test_resumed_is_uninterrupted_on_other_ranks_too(lanes: int) -> None:
    whole = rows_of(RowStream(packed(bad=7), 4, lanes), range(8))
    first = RowStream(packed(bad=7), 4, lanes)
    head = rows_of(first, range(3))
    states = {int(lane): state for lane, state in json.loads(json.dumps(first.states())).items()}
    ranks = [RowStream(packed(bad=7), 4, lanes) for _ in range(2)]
    for rank in ranks:
        rank.seek(3, states)
    assert head + rows_of(ranks, range(3, 8)) == whole


def test_bad_samples_are_left_out_counted_and_named() -> None:
    stream = RowStream(packed(bad=5, damaged=7), 2)
    for step in range(10):
        stream.batches(step, 0, 1, 2)
    assert stream.refused.counts["captions: BadSample"] > 10
    assert stream.refused.counts["captions: ImageError"] > 5
    assert "captions: sample 'captions/0': its box is empty" in stream.refused.named
    assert any("damaged or truncated" in line and "'captions/7'" in line for line in stream.refused.named)


def test_a_source_of_which_nothing_is_good_stops_the_run() -> None:
    source = PackedRows(SampleStream([Captions(bad=1)], [1], 0), processor(), PackRules("raw", 400, pool=4))
    with pytest.raises(StreamError, match="1000 samples in a row were refused, the last one: captions: sample 'captions/"):
        source.lane(0, 1, 0, None).next()
    with pytest.raises(StreamError, match="resume from a checkpoint"):
        source.lane(0, 1, 3, None)
    with pytest.raises(ConfigError, match=r"data.lanes 3: must divide"):
        RowStream(source, 4, lanes=3)


# Lengths before pixels


@pytest.mark.parametrize("name", NANOS)
@pytest.mark.parametrize("style", ["raw", "chat"])
def test_measured_is_what_encoding_gives(name: str, style: Any) -> None:
    ours = processor(name)
    region = RegionPart("the dog", (Region.box(0.1, 0.2, 0.5, 0.6),))
    picture = ImagePart(Image.new("RGB", (190, 120)))
    samples = [Captions().sample(1), Sample((Message.of("user", picture, picture, "Where?"), Message.of("assistant", region)))]
    if name != "qwen-vl-nano":
        clip = VideoPart([Image.new("RGB", (90, 60))] * 5, fps=2.0)
        samples.append(Sample((Message.of("user", clip, "When?"), Message.of("assistant", "now"))))
    for sample in samples:
        encoded, size = ours.encode(sample, style), measure(ours, sample, style)
        assert size[:3] == (len(encoded), len(encoded.visual_slots), len(encoded.patches))


def test_a_picture_too_large_is_seen_smaller_and_a_text_too_long_refused() -> None:
    ours = processor()
    sample = Sample((Message.of("user", ImagePart(Image.new("RGB", (900, 700))), "What?"), Message.of("assistant", "a dog")), "big")
    whole = measure(ours, sample, "raw")
    fitted, size = fit(ours, sample, "raw", tokens=whole.tokens // 3)
    assert whole.tokens // 6 < size.tokens <= whole.tokens // 3
    assert len(ours.encode(fitted, "raw")) == size.tokens
    _, size = fit(ours, sample, "raw", tokens=10_000, patches=whole.patches // 2)
    assert size.patches <= whole.patches // 2
    with pytest.raises(TooLong, match=r"sample 'big': .* in a row of 5, .* raise the budget or leave it out"):
        fit(ours, sample, "raw", tokens=5)
    with pytest.raises(TooLong):
        fit(processor("qwen-vl-nano"), replace(sample, id="big"), "raw", tokens=20)


# Rows in a model


@pytest.mark.parametrize("name", NANOS)
def test_r11_loss_of_a_packed_row_is_that_of_its_samples_alone(name: str) -> None:
    """Pictures and texts of the real stream, packed by their real lengths: summed loss and gradients, nothing leaks."""
    ours = processor(name)
    model = VisionLanguageModel(ours.config)
    initialise(model, 3)
    row = packed(PackRules("raw", tokens=500, pool=16), name).lane(0, 1, 0, None).next()
    assert len(row.documents) > 2 and sum(bool(len(document.grids)) for document in row.documents) > 1
    together = summed_loss(model, row.documents)
    gradients = gradients_of(model, together)
    alone = torch.stack([summed_loss(model, [document]) for document in row.documents]).sum()
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)
    for one, other in zip(gradients, gradients_of(model, alone), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def summed_loss(model: VisionLanguageModel, documents: list[Encoded]) -> torch.Tensor:
    return NextToken()(model, collate(documents)).sums["next_token"]


def gradients_of(model: VisionLanguageModel, loss: torch.Tensor) -> list[torch.Tensor]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [gradient for gradient in torch.autograd.grad(loss, trained, allow_unused=True) if gradient is not None]
