"""FLOPs that are predicted are those that torch counts, product by product, whatever trains; published sizes give known totals."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from qwenvl.config import ModelConfig
from qwenvl.data.packing import share_prefix
from qwenvl.families import find_preset
from qwenvl.models.lora import add_lora
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.train.freeze import trains_at
from qwenvl.train.objectives import DensePatches, NextToken
from qwenvl.train.planning.cost import Counter, Flops, Work, reference_pass, work_of, work_of_batch
from qwenvl.train.planning.operations import Attended, operations
from qwenvl.train.preference import Preference
from qwenvl.train.sections import ObjectiveRecipe
from qwenvl.types import IGNORE_INDEX, Batch, Encoded
from tests.fast.test_packing import QUESTIONS, encoded
from tests.fast.test_preference import pair
from tests.fast.tiny import NATIVE, Visual, document, native_config, tiny_config, tiny_model

FAMILIES = ("qwen_vl", *NATIVE)
FROZEN: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "tower": ("vision_tower",),
    "decoder": ("decoder",),
    "all but the connector": ("vision_tower", "decoder"),
    "all but the decoder": ("vision_tower", "connector"),
    "by pattern": ("vision_tower.blocks.0.*", "vision_tower.patch_embed.*", "decoder.embed_tokens.*", "decoder.layers.0.*"),
}


def config_of(family: str) -> ModelConfig:
    return tiny_config() if family == "qwen_vl" else native_config(family)


def pictured(config: ModelConfig) -> Encoded:
    """A document with two visuals of one size, so that nothing is padded."""
    if config.vision.image_size is None:
        return document(config, [5, Visual((1, 8, 8)), 7, Visual((1, 8, 8)), 6])
    first, second = (encoded(*QUESTIONS[0], image) for image in (1, 2))
    joined = np.concatenate([first.position_ids, second.position_ids + len(first)], axis=1)
    both = first.with_(position_ids=joined)
    for name in ("input_ids", "labels", "patches", "grids"):
        both = both.with_(**{name: np.concatenate([getattr(first, name), getattr(second, name)])})
    return both.with_(visual_slots=np.concatenate([first.visual_slots, second.visual_slots + len(first)]))


def batch_of(config: ModelConfig) -> Batch:
    return collate([pictured(config)])


def counted(model: VisionLanguageModel, objective: torch.nn.Module, batch: Batch) -> tuple[float, float]:
    """FLOPs of the forward and of the backward pass as torch counts them. The plain kernel makes attention visible as products."""
    model.train()
    with sdpa_kernel(SDPBackend.MATH):
        # Gradients of the head are made on the way forward, where there are any.
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            objective(model, batch)
        with FlopCounterMode(display=False) as both:
            torch.stack(list(objective(model, batch).sums.values())).sum().backward()
    return forward.get_total_flops(), both.get_total_flops() - forward.get_total_flops()


def unhalved(work: Work) -> Work:
    """The kernel computes all pairs of a row; those that causality hides are not in ours."""
    return work + Work(pairs=work.longest**2 - work.pairs)


@pytest.mark.parametrize("frozen", FROZEN.values(), ids=FROZEN)
@pytest.mark.parametrize("family", FAMILIES)
def test_flops_are_those_that_torch_counts(family: str, frozen: tuple[str, ...]) -> None:
    config = config_of(family)
    model, batch = tiny_model(config), batch_of(config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains_at(name, 0, frozen, {}))
    counter, work = Counter.of(model, config), unhalved(work_of_batch(config, batch))
    forward, backward = counted(model, NextToken(), batch)
    assert counter.forward(work).total == forward
    assert counter.training(work).total == forward + backward


@pytest.mark.parametrize("targets", [("decoder.layers.*",), ("decoder.layers.1.self_attn.[qv]_proj", "vision_tower.blocks.*")])
def test_flops_of_adapters_are_those_that_torch_counts(targets: tuple[str, ...]) -> None:
    config = native_config("qwen2_5_vl")
    model, batch = tiny_model(config), batch_of(config)
    model.requires_grad_(False)
    add_lora(model, targets, rank=3, alpha=1.0)
    counter, work = Counter.of(model, config), unhalved(work_of_batch(config, batch))
    forward, backward = counted(model, NextToken(), batch)
    assert (counter.forward(work).total, counter.training(work).total) == (forward, forward + backward)


@pytest.mark.parametrize("reference", ["copy", "adapters_off", "precomputed"])
def test_flops_of_pairs_have_those_of_their_reference_where_a_step_computes_it(reference: str) -> None:
    model = tiny_model(native_config("qwen2_vl"))
    config, objective = model.config, Preference(beta=0.1)
    batch = collate([pair(config, 0)])
    if reference == "copy":
        objective.keep_reference(model)
    model.requires_grad_(False)
    add_lora(model, ("decoder.layers.*",), rank=3, alpha=1.0)
    if reference == "precomputed":
        objective.note(batch, torch.zeros(1, 2))
    beside = reference_pass(ObjectiveRecipe.model_validate({"kind": "dpo", "reference": reference}), config)
    work = unhalved(work_of_batch(config, batch))
    assert Counter.of(model, config, beside=beside).training(work).total == sum(counted(model, objective, batch))
    assert bool(beside) == (reference != "precomputed") and not reference_pass(ObjectiveRecipe(), config)


def test_dense_heads_run_behind_the_tower_alone() -> None:
    config = native_config("qwen2_vl")
    model, batch = tiny_model(config), batch_of(config)
    patches = len(batch.patches)
    batch.extra = {"patch_classes": torch.ones(patches, dtype=torch.long), "patch_boxes": torch.rand(patches, 4)}
    work, width, boxes = work_of_batch(config, batch), config.vision.hidden_size, 4
    forward, backward = counted(model, DensePatches(width, 7), batch)
    counter = Counter.of(model, config, text=False, dense=7)
    of_boxes = 2.0 * work.patches * width * boxes  # torch counts them; they are too few to be in ours
    assert counter.forward(work).total == forward - of_boxes
    assert counter.training(work).total == forward + backward - 3 * of_boxes
    assert counter.forward(work).decoder == counter.forward(work).connector == 0


def test_every_name_that_is_asked_for_is_a_parameter() -> None:
    for family in FAMILIES:
        config = config_of(family)
        asked: set[str] = set()

        def trains(name: str, asked: set[str] = asked) -> bool:
            asked.add(name)
            return False

        operations(config, trains)
        known = {name for name, _ in VisionLanguageModel(config).named_parameters()}
        # Every parameter decides what must be computed; beside them, only what another family has is asked for.
        assert known - asked <= {"connector.position_table"}
        assert all(name.endswith((".bias", ".position_embedding")) for name in asked - known)


def test_tokens_of_a_batch_see_what_the_layout_lets_them_see() -> None:
    rows = [share_prefix([encoded(question, answer, 1) for question, answer in QUESTIONS]), encoded("Why so?", " because", 2)]
    batch = collate(rows)
    work = work_of_batch(tiny_config(), batch)
    assert batch.branch_ids is not None
    ids, branches = batch.document_ids.tolist(), batch.branch_ids.tolist()
    seen = sum(
        ids[j] == ids[i] and branches[j] in (0, branches[i]) for i in range(len(ids)) for j in range(i + 1)
    )
    assert (work.pairs, work.tokens, work.longest) == (seen, len(ids), max(map(len, rows)))
    assert work.supervised == (batch.labels != IGNORE_INDEX).sum()
    assert (work.patches, work.visual) == (len(batch.patches), len(batch.visual_slots))


def test_windows_and_frames_are_counted_apart() -> None:
    config = native_config("qwen2_5_vl")
    work = work_of(config, [100], [(2, 8, 12), (1, 4, 4)])
    assert work.frame_pairs == 2 * 96**2 + 16**2
    assert work.window_pairs == 2 * 6 * 16**2 + 16**2  # windows of 4 x 4 patches
    of_blocks = [op.pairs for op in operations(config, lambda name: False) if isinstance(op, Attended) and op.piece == "tower"]
    assert of_blocks == ["window_pairs", "frame_pairs"]


def test_work_and_flops_of_two_passes_add_up() -> None:
    config = config_of("qwen2_vl")
    first, second = work_of(config, [20, 30], [(1, 4, 4)], 11), work_of(config, [40], [(1, 8, 4)], 12)
    both = work_of(config, [20, 30, 40], [(1, 4, 4), (1, 8, 4)], 23)
    assert first + second == both + Work(passes=1)
    counter = Counter(operations(config, lambda name: True))
    assert counter.training(first) + counter.training(second) == counter.training(first + second)
    assert counter.training(first.times(3)).total == pytest.approx(counter.training(first).times(3).total)


def published(name: str, **vision: int) -> ModelConfig:
    config = find_preset(name).config
    return config.model_copy(update={"vision": config.vision.model_copy(update=vision)})


def training(config: ModelConfig, tokens: int, grid: tuple[int, int, int], trains: Callable[[str], bool]) -> Flops:
    """Of a row with one picture, every token of which is supervised, in units of 10^12."""
    counter = Counter(operations(config, trains))
    return counter.training(work_of(config, [tokens], [grid], tokens)).times(1e-12)


# Worked out by hand from the published shapes: 2 FLOPs a weight and token, 4 a pair and number of a head; backward as much for what
# trains and as much again for what lies above it.
@pytest.mark.parametrize(
    ("name", "side", "tokens", "frozen", "expected"),
    [
        ("qwen-vl-7b", 224, 512, ("decoder",), 17.7),
        ("qwen-vl-7b", 448, 2048, (), 103.2),
        ("qwen-vl-7b", 448, 2048, ("vision_tower",), 95.0),
        ("qwen2.5-vl-7b", None, 2048, ("vision_tower",), 94.8),
        ("qwen2.5-vl-7b", None, 2048, (), 105.6),
        ("qwen2.5-vl-3b", None, 2048, ("vision_tower",), 45.2),
        ("qwen2-vl-2b", None, 2048, (), 43.0),
    ],
)  # fmt: skip
def test_known_totals_of_published_sizes(
    name: str, side: int | None, tokens: int, frozen: tuple[str, ...], expected: float
) -> None:
    config = published(name, **({"image_size": side} if side else {}))
    grid = (1, side // 14, side // 14) if side else (1, 54, 74)  # 1036 x 756 pixels
    found = training(config, tokens, grid, lambda parameter: trains_at(parameter, 0, frozen, {}))
    assert found.total == pytest.approx(expected, rel=0.007)


def test_parts_of_qwen_vl_at_448_pixels() -> None:
    config = published("qwen-vl-7b")
    counter = Counter(operations(config, lambda name: False))
    found = counter.forward(work_of(config, [2048], [(1, 32, 32)], 1)).times(1e-12)
    assert found.tower == pytest.approx(4.11, abs=0.005) and found.connector == pytest.approx(0.113, abs=0.0005)
    assert found.decoder == pytest.approx(27.6, abs=0.05)
    # Adapters on all its layers: backward is little more than what passes gradients on, once the forward pass of the decoder.
    names = [f"decoder.layers.{layer}.{name}" for layer in range(32) for name in LAYER]
    adapted = Counter(operations(config, lambda name: False, dict.fromkeys(names, 64)))
    assert adapted.training(work_of(config, [2048], [(1, 32, 32)], 512)).total / 1e12 == pytest.approx(62, rel=0.03)
    assert all(fnmatchcase(name, "decoder.layers.*") for name in names)


LAYER = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
