"""The model's shapes and parts: published counts, the adapter against torch, the tower on text-only batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qwenvl.config import DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.families import find_preset
from qwenvl.models.attention import PackedLayout
from qwenvl.models.initialise import initialise
from qwenvl.models.layers import places_of, resize_table, resize_table_to, sincos_table
from qwenvl.models.merger import Merger
from qwenvl.models.resampler import Resampler
from qwenvl.models.rope import ntk_alpha, rotary, rotary_2d
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.processing.grid import by_squares, window_plan
from qwenvl.train.objectives import NextToken
from qwenvl.types import Batch, Windows
from tests.fast.tiny import NATIVE, Visual, document, native_config, tiny_model

TINY = ModelConfig(
    family="qwen_vl",
    vision=VisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, patch_size=2, image_size=8,
        position_grid=4, input_norm=True,
    ),
    connector=ResamplerConfig(num_queries=4, hidden_size=48, num_attention_heads=3),
    decoder=DecoderConfig(
        vocab_size=60, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, head_dim=12, trained_length=32,
    ),
    image_start_id=57, image_end_id=58, image_pad_id=59,
)
GRIDS = torch.tensor([[1, 4, 4], [1, 4, 4]])


def large_model(seed: int = 1) -> VisionLanguageModel:
    """Weights large enough that a wrong path moves the result."""
    model = VisionLanguageModel(TINY)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        spread = parameter.shape[-1] ** -0.5 * 1.5 if parameter.dim() > 1 else 0.3
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread + (parameter.dim() == 1)
    return model


def run(
    model: VisionLanguageModel, ids: torch.Tensor, documents: torch.Tensor, positions: torch.Tensor, **pictures: torch.Tensor
) -> torch.Tensor:
    return model.logits(model(ids, positions.expand(3, -1), PackedLayout.of(documents), **pictures))


def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        model = VisionLanguageModel(find_preset("qwen-vl-7b").config)

    def count(*modules: nn.Module | nn.Parameter) -> int:
        parameters = [[part] if isinstance(part, nn.Parameter) else part.parameters() for part in modules]
        return sum(parameter.numel() for some in parameters for parameter in some)

    output = count(model.connector.output_norm, model.connector.output_proj)
    assert count(model.decoder) == 7_721_324_544
    assert count(model.vision_tower) + output == 1_859_556_096
    assert count(model.connector) - output == 76_054_528
    assert count(model) == 9_656_935_168


def test_sincos_table_has_the_published_values() -> None:
    """Values of the published table at (16 x 16, 4096), read from the code's output."""
    table = sincos_table(16, 4096, 10000.0)
    assert table[1, 0].item() == pytest.approx(0.841471, abs=1e-6) and table[1, 2048].item() == 0.0
    assert table[16, 0].item() == 0.0 and table[16, 2048].item() == pytest.approx(0.841471, abs=1e-6)
    assert table[17, 5].item() == pytest.approx(0.8169048, abs=1e-6)
    assert table[200, 1500].item() == pytest.approx(0.9938912, abs=1e-6)
    assert table.double().sum().item() == pytest.approx(479124.475, abs=0.5)


def test_adapter_attention_equals_multihead_attention() -> None:
    resampler = Resampler(ResamplerConfig(num_queries=4, hidden_size=48, num_attention_heads=3), vision_width=32)
    oracle = nn.MultiheadAttention(48, 3, batch_first=True)
    generator = torch.Generator().manual_seed(0)
    for parameter in resampler.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    oracle.load_state_dict(resampler.attention.state_dict())
    features = torch.randn(32, 32, generator=generator)
    x = resampler.key_value_norm(resampler.key_value_proj(features)).view(2, 16, 48)
    table = nn.functional.interpolate(
        resampler.position_table.view(1, 2, 2, 48).permute(0, 3, 1, 2), size=(4, 4), mode="bicubic", align_corners=False
    ).flatten(2).transpose(1, 2)
    queries = (resampler.query_norm(resampler.query) + resampler.position_table).expand(2, -1, -1)
    expected = resampler.output_norm(oracle(queries, x + table, x)[0]) @ resampler.output_proj
    torch.testing.assert_close(resampler(features, GRIDS), expected.flatten(0, 1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_pictures_of_one_batch_do_not_see_each_other() -> None:
    model = large_model()
    patches = torch.randn(32, 12, generator=torch.Generator().manual_seed(3))
    together = model.visual(patches, GRIDS)
    alone = torch.cat([model.visual(patches[:16], GRIDS[:1]), model.visual(patches[16:], GRIDS[1:])])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_pictures_of_different_grids_share_a_batch() -> None:
    model = large_model()
    patches = torch.randn(22, 12, generator=torch.Generator().manual_seed(3))
    grids = torch.tensor([[1, 4, 4], [1, 2, 3]])
    alone = torch.cat([model.visual(patches[:16], grids[:1]), model.visual(patches[16:], grids[1:])])
    torch.testing.assert_close(model.visual(patches, grids), alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_branches_equal_separate_documents() -> None:
    """Questions that share a picture's prefix get the logits they would get alone."""
    model = large_model()
    patches, grids = torch.randn(16, 12, generator=torch.Generator().manual_seed(3)), GRIDS[:1]
    prefix, first, second = torch.tensor([57, 59, 59, 59, 59, 58]), torch.tensor([3, 9, 4]), torch.tensor([8, 2])
    pictures = {"patches": patches, "grids": grids, "visual_slots": torch.arange(1, 5)}
    ids = torch.cat([prefix, first, second])
    positions = torch.cat([torch.arange(9), torch.arange(6, 8)])
    branches = torch.tensor([0] * 6 + [1] * 3 + [2] * 2)
    layout = PackedLayout.of(torch.zeros(11, dtype=torch.long), branches)
    shared = model.logits(model(ids, positions.expand(3, -1), layout, **pictures))
    for branch, rows in ((first, slice(6, 9)), (second, slice(9, 11))):
        alone = torch.cat([prefix, branch])
        expected = run(model, alone, torch.zeros(len(alone), dtype=torch.long), torch.arange(len(alone)), **pictures)
        torch.testing.assert_close(shared[rows], expected[6:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["qwen_vl", *NATIVE])
def test_text_only_training_step_runs_the_tower_with_weight_zero(family: str) -> None:
    """A rank without pictures must still take part in the tower's collective calls, and must not move it."""
    model = (large_model() if family == "qwen_vl" else tiny_model(native_config(family))).train()
    ids, documents = torch.arange(6), torch.zeros(6, dtype=torch.long)
    run(model, ids, documents, torch.arange(6)).sum().backward()
    for part in (model.vision_tower, model.connector):
        trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
        assert all(parameter.grad is not None and parameter.grad.abs().max() == 0.0 for parameter in trained)
    run(model.eval(), ids, documents, torch.arange(6))


@torch.no_grad()
def test_placeholders_that_differ_from_visual_tokens_name_both_numbers() -> None:
    model = large_model()
    with pytest.raises(ValueError, match="3 placeholders in the text, 4 visual tokens"):
        run(model, torch.arange(6), torch.zeros(6, dtype=torch.long), torch.arange(6),
            patches=torch.zeros(16, 12), grids=GRIDS[:1], visual_slots=torch.arange(3))  # fmt: skip


@pytest.mark.parametrize(("length", "alpha"), [(1, 1), (2048, 1), (2049, 3), (4096, 3), (4097, 7), (8192, 7), (8193, 15)])
def test_dynamic_ntk_alpha(length: int, alpha: float) -> None:
    assert ntk_alpha(length, 2048) == alpha


def test_logn_scales_queries_beyond_the_trained_length_only() -> None:
    scale = rotary(torch.tensor([0, 2047, 2048, 4095]).expand(3, -1), 8, 1e4, logn_length=2048).query_scale
    assert scale is not None and scale[:2].tolist() == [1.0, 1.0] and scale[3].item() == pytest.approx(1.0909, abs=1e-4)
    assert 1.0 < scale[2].item() < 1.0001


def test_initialisation_is_a_function_of_its_seed() -> None:
    first, second, other = (VisionLanguageModel(TINY) for _ in range(3))
    for model, seed in ((first, 4), (second, 4), (other, 5)):
        initialise(model, seed)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(first.decoder.embed_tokens.weight, other.decoder.embed_tokens.weight)


def test_aligned_start_reads_the_queries_own_place() -> None:
    """Mean of the largest attention weight: near 1/64 for the published start, above a third for the aligned one."""
    largest = {}
    for start in ("published", "aligned"):
        config = find_preset("qwen-vl-nano").config
        config = config.model_copy(update={"connector": config.connector.model_copy(update={"initialisation": start})})
        model = VisionLanguageModel(config)
        initialise(model, 0)
        connector = model.connector
        features = torch.randn(64, 192, generator=torch.Generator().manual_seed(0))
        keys = connector.key_value_norm(connector.key_value_proj(features))
        keys = keys + resize_table(connector.position_table, 8, 8)
        queries = connector.query_norm(connector.query) + connector.position_table
        w_q, w_k, _ = connector.attention.in_proj_weight.chunk(3)
        q, k = ((x @ w.T).unflatten(-1, (4, 64)).transpose(0, 1) for x, w in ((queries, w_q), (keys, w_k)))
        largest[start] = (q @ k.transpose(1, 2) / 8).softmax(-1).amax(-1).mean().item()
    assert largest["published"] < 0.1 and largest["aligned"] > 0.33


# Native resolution


def batch_of(config: ModelConfig, *grids: tuple[int, int, int], seed: int = 0) -> Batch:
    return collate([document(config, [Visual(grid) for grid in grids], seed)])


@pytest.mark.parametrize("merge", [1, 2, 3])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 5), (4, 3)])
def test_the_model_has_the_order_in_which_patches_are_cut(rows: int, columns: int, merge: int) -> None:
    """A model may not import `processing`: what each says of the packed order must be one."""
    height, width = rows * merge, columns * merge
    cut = by_squares(np.stack(np.indices((height, width)), axis=-1), merge)
    assert places_of(torch.tensor([[2, height, width]]), merge).tolist() == [*cut.tolist(), *cut.tolist()]


def test_patches_of_a_square_lie_together() -> None:
    places = places_of(torch.tensor([[1, 2, 4], [2, 2, 2]]), 2).tolist()
    first = [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert places == [*first, [0, 2], [0, 3], [1, 2], [1, 3], *first, *first]
    assert places_of(torch.tensor([[1, 2, 3]]), 1).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    table = torch.arange(16.0)[:, None]
    packed = resize_table_to(table, torch.tensor([[1, 4, 4]]), merge_size=2).flatten().tolist()
    assert packed == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]


def test_a_patch_turns_with_its_row_in_one_half_of_the_angles_and_its_column_in_the_other() -> None:
    table = rotary_2d(torch.tensor([[3, 5]]), 8, 100.0)
    torch.testing.assert_close(table.cos[0], torch.tensor([3.0, 0.3, 5.0, 0.5]).cos())
    torch.testing.assert_close(table.sin[0], torch.tensor([3.0, 0.3, 5.0, 0.5]).sin())


def test_sections_of_the_frequencies_follow_time_height_and_width() -> None:
    table = rotary(torch.tensor([[7], [11], [13]]), 8, 10.0**4, sections=(1, 2, 1))
    torch.testing.assert_close(table.sin[0], torch.tensor([7.0, 1.1, 0.11, 0.013]).sin())
    line = torch.arange(5).expand(3, -1)
    assert torch.equal(rotary(line, 8, 1e4, sections=(1, 2, 1)).cos, rotary(line, 8, 1e4).cos)


@torch.no_grad()
@pytest.mark.parametrize("family", NATIVE)
def test_native_pictures_and_frames_of_one_batch_do_not_see_each_other(family: str) -> None:
    config = native_config(family)
    tower = tiny_model(config).vision_tower
    batch = batch_of(config, (1, 6, 10), (3, 4, 2), (1, 8, 8))
    together = tower(batch.patches, batch.grids, batch.windows)
    alone, start = [], 0
    for frames, height, width in batch.grids.tolist():
        for _ in range(frames):
            grid = torch.tensor([[1, height, width]])
            plan = window_plan(grid.numpy(), config.vision)
            windows = plan and Windows(torch.from_numpy(plan.order), torch.from_numpy(plan.lengths))
            alone.append(tower(batch.patches[start : start + height * width], grid, windows))
            start += height * width
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("whole", [(), (1,)], ids=["windows", "and a full block"])
def test_a_patch_is_seen_in_its_window_and_by_a_full_block_in_its_frame(whole: tuple[int, ...]) -> None:
    """Features come back in the order of the patches, whatever order the windows are in."""
    config = native_config("qwen2_5_vl")
    config = config.model_copy(update={"vision": config.vision.model_copy(update={"full_attention_blocks": whole})})
    tower = tiny_model(config).vision_tower
    batch = batch_of(config, (2, 6, 10))
    before = tower(batch.patches, batch.grids, batch.windows)
    places = places_of(batch.grids, 2)
    frame = torch.arange(120) // 60
    for changed in (7, 59, 60, 101):
        patches = batch.patches.clone()
        patches[changed] += 1.0
        moved = (tower(patches, batch.grids, batch.windows) - before).abs().amax(1) > 1e-6
        window = torch.cat([frame[:, None], places // 4], dim=1)
        expected = frame == frame[changed] if whole else (window == window[changed]).all(1)
        assert torch.equal(moved, expected)


def test_a_tower_with_windows_asks_for_them() -> None:
    config = native_config("qwen2_5_vl")
    batch = batch_of(config, (1, 4, 4))
    with pytest.raises(ValueError, match="windows of 8 pixels"):
        tiny_model(config).visual(batch.patches, batch.grids)


@torch.no_grad()
def test_a_visual_token_is_made_of_its_own_square() -> None:
    model = tiny_model(native_config("qwen2_vl"))
    features, grids = torch.randn(24, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([[1, 4, 6]])
    before = model.connector(features, grids)
    assert before.shape == (6, 32)
    features[9] += 1.0
    assert (model.connector(features, grids) - before).abs().amax(1).nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("family", NATIVE)
def test_every_parameter_of_a_native_model_is_drawn(family: str) -> None:
    config = native_config(family)
    model = VisionLanguageModel(config)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    initialise(model, 0)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert isinstance(model.connector, Merger)
    batch = batch_of(config, (1, 8, 8))
    assert 0.3 < model.visual(batch.patches, batch.grids, windows=batch.windows).std() < 3.0


@pytest.mark.parametrize("family", NATIVE)
def test_native_packed_loss_equals_that_of_its_documents(family: str) -> None:
    """With a text-only document between, and a clip: neither pictures, nor text, nor windows of a neighbour are seen."""
    config = native_config(family)
    model, objective = tiny_model(config), NextToken()
    mixes = ((4, Visual((1, 6, 10)), 5), (7,), (2, Visual((5, 2, 4), 1.0), 1, Visual((1, 2, 2)), 6))
    documents = [document(config, mix, seed) for seed, mix in enumerate(mixes)]
    alone = [objective(model, collate([one])).sums["next_token"] for one in documents]
    packed = objective(model, collate(documents)).sums["next_token"]
    torch.testing.assert_close(packed, torch.stack(alone).sum(), atol=1e-3, rtol=1e-5)
    packed.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_windows_of_some_pictures_only_are_refused() -> None:
    config = native_config("qwen2_5_vl")
    one = document(config, (2, Visual((1, 4, 4))))
    with pytest.raises(ValueError, match="1 of 2 documents with pictures have windows"):
        collate([one, one.with_(windows=None)])
