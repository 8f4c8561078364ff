"""Rows are a pure function of (seed, epoch, index), whoever reads them; their tokens weigh what the recipe says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from qwenvl.config import ConfigError
from qwenvl.data.jitter import jitter_regions
from qwenvl.data.loader import NumberedRows, RowStream, row_generator
from qwenvl.data.row_recipe import LossWeights
from qwenvl.data.scene_recipe import SceneRecipe, WeightedScenes, draw
from qwenvl.data.scene_rows import SceneRows
from qwenvl.data.synth.spec import SceneSpec
from qwenvl.data.token_weights import TokenWeights
from qwenvl.families import find_preset, get_family
from qwenvl.processing.encode import Processor
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.train.build import TOKENIZER
from qwenvl.types import IGNORE_INDEX, Batch, Message, Region, RegionPart, Sample

needs_fonts = pytest.mark.usefixtures("scene_sources")

PRESET = find_preset("qwen-vl-nano")
TASKS = {"caption": 2.0, "referring": 3.0, "yes_no": 2.0, "count": 1.0}


def processor() -> Processor:
    return Processor(PRESET.config, get_family("qwen_vl"), Tokenizer.from_folder(TOKENIZER), PRESET.markup)


def stream(rows_per_step: int = 4, dense: bool = False, seed: int = 3, **recipe: object) -> RowStream:
    data = SceneRecipe.model_validate({"tasks": TASKS, "per_picture": {"referring": 2}, "rows_per_step": rows_per_step, **recipe})
    return RowStream(NumberedRows(SceneRows(data, processor(), dense), seed=seed), rows_per_step)


def tokens(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.input_ids for batch in batches]).tolist()


@needs_fonts
@pytest.mark.parametrize("packing", ["share_prefix", "interleave", "isolate", "pictures"])
def test_stream_is_the_same_for_any_number_of_ranks_and_micro_batches(packing: str) -> None:
    whole = stream(packing=packing, row_tokens=200, box_jitter=0.5).batches(7, 0, 1, 4)
    shares = [stream(packing=packing, row_tokens=200, box_jitter=0.5).batches(7, rank, 2, 1) for rank in (0, 1)]
    parts = [batch for pair in zip(*shares, strict=True) for batch in pair]
    assert tokens(parts) == tokens(whole)
    assert len(parts) == 4 and len(whole) == 1
    torch.testing.assert_close(torch.cat([batch.patches for batch in parts]), whole[0].patches)


@needs_fonts
def test_steps_and_seeds_differ() -> None:
    ours = stream()
    assert tokens(ours.batches(0, 0, 1, 4)) != tokens(ours.batches(1, 0, 1, 4))
    assert tokens(ours.batches(0, 0, 1, 4)) != tokens(stream(seed=4).batches(0, 0, 1, 4))


def test_rows_that_cannot_be_shared_evenly_are_refused() -> None:
    with pytest.raises(ConfigError, match="rows_per_step 4"):
        RowStream(source=None, rows_per_step=4).batches(0, 0, 3, 4)  # type: ignore[arg-type]


@needs_fonts
def test_row_keeps_its_budget_and_its_limits_per_picture() -> None:
    ours = stream(row_tokens=124)
    for index in range(40):
        (document,) = ours.source.source.row(1, 0, index).documents
        assert document.branch_ids is not None
        asked = Counter(document.task.split("+"))
        assert asked["referring"] <= 2 and max(asked[task] for task in ("caption", "yes_no", "count")) <= 1
        behind = int((document.branch_ids > 0).sum())
        assert behind <= 124 or len(asked) == 1
        assert (document.branch_ids == 0).sum() == PRESET.config.connector.num_queries + 2


@needs_fonts
def test_every_label_knows_its_task() -> None:
    ours = stream(text_rows=0.3)
    for batch in ours.batches(0, 0, 1, 4):
        supervised = batch.labels != IGNORE_INDEX
        assert (batch.extra["task_ids"][supervised] >= 0).all()
        assert batch.extra["task_ids"].shape == batch.input_ids.shape


@needs_fonts
def test_dense_targets_lie_along_the_patches() -> None:
    for packing in ("share_prefix", "interleave", "pictures"):
        for batch in stream(dense=True, packing=packing, row_tokens=300, text_rows=0.0).batches(0, 0, 1, 2):
            assert len(batch.extra["patch_classes"]) == len(batch.patches) == len(batch.extra["patch_boxes"])


@needs_fonts
def test_scene_kinds_may_have_tasks_of_their_own() -> None:
    group = WeightedScenes(spec=SceneSpec(kind="text"), tasks={"ocr": 1.0})
    ours = stream(scenes=[group.model_dump()], per_picture={"ocr": 2})
    seen = {task for index in range(5) for task in ours.source.source.row(1, 0, index).documents[0].task.split("+")}
    assert seen == {"ocr"} and "ocr" in ours.tasks


def test_unknown_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="captoin"):
        stream(tasks={"captoin": 1})


def test_draw_follows_the_weights() -> None:
    rng = row_generator(0, 0, 0)
    counts = Counter(draw({"a": 3.0, "b": 0.0, "c": 1.0}, rng) for _ in range(2000))
    assert counts["b"] == 0 and counts["a"] / 2000 == pytest.approx(0.75, abs=0.04)


def test_jitter_moves_corners_by_at_most_its_amount() -> None:
    region = Region.box(0.2, 0.3, 0.6, 0.995)
    sample = Sample((Message.of("assistant", RegionPart("a dog", (region,))),))
    for frame in ((100, 100), (400, 50)):
        (part,) = jitter_regions(sample, 1.0, [frame], np.random.default_rng(0)).messages[0].parts
        assert isinstance(part, RegionPart)
        moved = (np.asarray(part.regions[0].points) - np.asarray(region.points)) * frame
        assert (np.abs(moved).max(axis=0) > 0.05).all() and np.abs(moved).max() <= 1.0 and part.regions[0].points[1][1] <= 1.0
    assert jitter_regions(sample, 0.0, [(100, 100)], np.random.default_rng(0)) is sample


def test_weights_of_coordinates_fall_from_hundreds_to_units() -> None:
    ours = processor()
    recipe = LossWeights(coordinate_digits=(2.5, 1.2, 0.25), box_punctuation=0.05, tasks={"referring": 2.0})
    sample = Sample(
        (
            Message.of("user", RegionPart("12 dogs")),
            Message.of("assistant", RegionPart(None, (Region.box(0.012, 0.345, 0.678, 0.9),)), " 345"),
        ),
        task="referring",
    )
    encoded = ours.encode(sample, "raw")
    weights = TokenWeights(recipe, ours.tokenizer, ours.markup).of(encoded)
    pieces = [ours.tokenizer.decode([int(index)]) for index in encoded.input_ids]
    start, end = pieces.index("<box>"), pieces.index("</box>")
    assert (np.delete(weights, np.arange(start + 1, end + 1)) == 2.0).all()
    inside = list(zip(pieces[start + 1 : end + 1], weights[start + 1 : end + 1], strict=True))
    digits = [weight for piece, weight in inside if piece.isdigit()]
    assert digits == pytest.approx([5.0, 2.4, 0.5] * 4)
    assert {float(weight) for piece, weight in inside if not piece.isdigit()} == {np.float32(0.1)}


def test_weights_are_one_unless_set() -> None:
    ours = processor()
    encoded = ours.encode(Sample((Message.of("assistant", RegionPart(None, (Region.box(0.1, 0.2, 0.3, 0.4),))),)), "raw")
    assert set(TokenWeights(LossWeights(), ours.tokenizer, ours.markup).of(encoded)) == {1.0}
