"""Weights in int8 and int4 for inference: every kernel gives the product of the rounded weight, and rounding costs what it may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qwenvl.inference.model import load
from qwenvl.models import packed
from qwenvl.models.attention import PackedLayout
from qwenvl.models.lora import add_lora
from qwenvl.models.packed import FEW, PIECE, SOME, PackedKind, PackedLinear, has_kernel, has_whole_numbers, quantise_for_inference
from qwenvl.models.packed_layout import half_block, join_halves, pack, unpack
from qwenvl.models.quantised import QuantisedLinear, quantise
from qwenvl.models.select import LayerError
from qwenvl.models.vlm import VisionLanguageModel
from tests.fast.tiny import native_config, write_tiny

KINDS: tuple[PackedKind, ...] = ("int8", "int4")
SIZES = [(64, 64), (100, 96), (7, 32), (1, 160), (192, 256)]
"""Rows and columns, odd numbers of rows among them."""
ROUNDING = {"int8": 0.01, "int4": 0.08}
"""Of a normal weight, root mean square: int8 has 255 levels for a row's extremes, int4 has 16 for a group's."""
PRODUCT = {torch.float32: 1e-4, torch.bfloat16: 8e-3}


def linear(rows: int, columns: int, dtype: torch.dtype = torch.float32, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(columns, rows, bias=bias)
    nn.init.normal_(layer.weight, std=columns**-0.5)
    return layer.to(dtype).requires_grad_(False)


def apart(found: Tensor, right: Tensor) -> float:
    """Relative, root mean square."""
    return float((found.float() - right.float()).norm() / right.float().norm())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_rounding_costs_what_the_levels_allow(kind: PackedKind, size: tuple[int, int]) -> None:
    layer = linear(*size)
    rounded = PackedLinear.of(layer, kind).weight
    assert rounded.shape == layer.weight.shape and rounded.dtype == torch.float32
    assert 0 < apart(rounded, layer.weight) < ROUNDING[kind]
    step = layer.weight.abs().amax() * (2 / 250 if kind == "int8" else 2 / 14.5)
    assert (rounded - layer.weight).abs().max() < step / 2 * 1.05


@pytest.mark.parametrize("dtype", PRODUCT)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_product_is_that_of_the_rounded_weight(kind: PackedKind, size: tuple[int, int], dtype: torch.dtype) -> None:
    """For one row and for many, on both sides of the number from which on the weight is made whole."""
    layer = linear(*size, dtype)
    stored = PackedLinear.of(layer, kind)
    weight = stored.weight
    for rows in (1, 2, 3, 5, FEW[kind], FEW[kind] + 1, SOME, SOME + 1, 2 * PIECE + 3):
        x = torch.randn(rows, size[1]).to(dtype)
        y = stored(x)
        assert y.dtype == dtype and y.shape == (rows, size[0])
        assert apart(y, x.float() @ weight.t() + layer.bias.float()) < PRODUCT[dtype]


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_what_it_is_alone(kind: PackedKind) -> None:
    """Of int8 in float32 to the bit, in batches of any size; else within rounding."""
    exact = kind == "int8" and has_whole_numbers("cpu")
    for dtype, bound in ((torch.float32, 0.0 if exact else 1e-6), (torch.bfloat16, 1e-2)):
        stored = PackedLinear.of(linear(96, 128, dtype), kind)
        x = torch.randn(2 * SOME, 128).to(dtype)
        together = stored(x)
        for row in (0, 1, len(x) - 1):
            assert apart(together[row], stored(x[row : row + 1])[0]) <= bound
        assert torch.equal(together, stored(x))  # the same twice


def test_whole_numbers_lose_less_than_bfloat16_does() -> None:
    """Also where one activation is a thousand times the others, as some are in language models."""
    if not has_whole_numbers("cpu"):
        pytest.skip("this CPU has no exact product of int8")
    stored = PackedLinear.of(linear(64, 128), "int8")
    x = torch.randn(20, 128)
    right = x.double() @ stored.weight.double().t() + stored.bias.double()
    assert apart(stored(x).double(), right) < 1e-4
    x[:, 5] *= 1000
    right = x.double() @ stored.weight.double().t() + stored.bias.double()
    assert apart(stored(x).double(), right) < 3e-4 < apart(linear_as(stored, torch.bfloat16)(x.bfloat16()), right)
    zeros = stored(torch.zeros(3, 128))
    assert torch.equal(zeros, stored.bias.expand(3, -1))


def linear_as(stored: PackedLinear, dtype: torch.dtype) -> nn.Linear:
    layer = linear(stored.out_features, stored.in_features, dtype)
    layer.weight.copy_(stored.weight)
    assert stored.bias is not None
    layer.bias.copy_(stored.bias)
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_leading_axes_and_no_rows(kind: PackedKind) -> None:
    stored = PackedLinear.of(linear(10, 64, torch.bfloat16), kind)
    x = torch.randn(2, 3, 64).bfloat16()
    assert torch.equal(stored(x), stored(x.view(6, 64)).view(2, 3, 10))
    assert stored(x[:0]).shape == (0, 3, 10)
    assert stored(x[0, 0]).shape == (10,)


@pytest.mark.parametrize("kind", KINDS)
def test_flat_and_empty_weights_stay_what_they_are(kind: PackedKind) -> None:
    layer = linear(3, 64, bias=False)
    layer.weight[0], layer.weight[1] = 0.0, 0.5
    rounded = PackedLinear.of(layer, kind).weight
    assert torch.equal(rounded[0], layer.weight[0])
    assert apart(rounded[1], layer.weight[1]) < 4e-3  # the scale has bfloat16's digits


def test_scales_are_what_bfloat16_holds() -> None:
    """A layer of a bfloat16 model has the codes of its scales as they are stored: rounding them later would cost more than int8."""
    for kind in KINDS:
        exact, stored = (PackedLinear.of(linear_of(0, dtype), kind) for dtype in (torch.float32, torch.bfloat16))
        assert torch.equal(exact.scales, exact.scales.bfloat16().float()) and stored.scales.dtype == torch.bfloat16


def linear_of(seed: int, dtype: torch.dtype) -> nn.Linear:
    torch.manual_seed(seed)
    return linear(64, 64, dtype)


def test_int4_takes_whole_groups_only() -> None:
    with pytest.raises(LayerError, match="a layer of width 48 cannot be stored in int4, whose groups have 32; use int8"):
        PackedLinear.of(linear(8, 48), "int4")


def test_weights_that_are_not_finite_are_refused() -> None:
    layer = linear(8, 64)
    layer.weight[3, 5] = float("nan")
    for kind in KINDS:
        with pytest.raises(LayerError, match="not finite"):
            PackedLinear.of(layer, kind)


def test_codes_are_unpacked_as_they_were_packed() -> None:
    codes = torch.randint(0, 16, (96, 64), dtype=torch.uint8)
    pairs = torch.stack([torch.ones(2, len(pack(codes))), torch.full((2, len(pack(codes))), 8.0)], dim=-1)
    assert torch.equal(join_halves(unpack(pack(codes), pairs))[:, :96].t(), codes.float())
    assert pack(codes).numel() == len(pack(codes)) * 32


@pytest.mark.parametrize("group", [32, 64, 128])
def test_codes_of_a_checkpoint_with_groups_of_its_own(group: int) -> None:
    codes, order = torch.randint(0, 16, (70, 128)), torch.randperm(128)
    scales, offsets = torch.rand(70, 128 // group) + 0.1, torch.randn(70, 128 // group)
    stored = PackedLinear.from_codes(codes, scales, offsets, torch.arange(70.0), order)
    meant = (codes - 8) * scales.repeat_interleave(group, 1) + offsets.repeat_interleave(group, 1)
    right = torch.empty_like(meant)
    right[:, order] = meant
    torch.testing.assert_close(stored.weight, right)
    x = torch.randn(3, 128)
    torch.testing.assert_close(stored(x), x @ right.t() + torch.arange(70.0), rtol=1e-4, atol=1e-4)
    stored16 = PackedLinear.from_codes(codes, scales.bfloat16(), offsets.bfloat16(), None, order)
    assert apart(stored16(x.bfloat16()), x @ stored16.weight.t()) < 1e-2


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="no kernels for this CPU")
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_older_machines_give_the_same_weights(capability: str) -> None:
    """The layout is the machine's own, and where torch has no kernel for it, the plain product is used."""
    script = (
        "import torch; from qwenvl.models.packed import PackedLinear, has_kernel; torch.manual_seed(0);"
        "layer = torch.nn.Linear(96, 70);"
        "x = torch.randn(2, 96); packed = [PackedLinear.of(layer, kind) for kind in ('int8', 'int4')];"
        "print(has_kernel('int4', 'cpu', torch.bfloat16), *(p.weight.double().sum().item() for p in packed),"
        " *(bool((p(x) - x @ p.weight.t() - layer.bias).abs().max() < 1e-3) for p in packed))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], env={"ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    torch.manual_seed(0)
    layer = nn.Linear(96, 70)
    sums = [float(PackedLinear.of(layer, kind).weight.double().sum()) for kind in KINDS]
    assert told[0] == str(capability == "avx2") and told[3:] == ["True", "True"]
    np.testing.assert_allclose([float(told[1]), float(told[2])], sums, rtol=1e-6, atol=1e-6)


def test_a_kernel_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    has_kernel.cache_clear()
    monkeypatch.setattr(packed, "_few_rows", lambda layer, rows: rows.new_zeros(len(rows), layer.out_features))
    assert not any(has_kernel(kind, "cpu", torch.bfloat16) for kind in KINDS)
    monkeypatch.undo()
    has_kernel.cache_clear()
    known = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    assert has_kernel("int8", "cpu", torch.bfloat16) == known
    assert has_kernel("int4", "cpu", torch.bfloat16) == (known and half_block()[1])
    assert not has_kernel("int8", "cpu", torch.float32)


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        hidden = model(ids, torch.arange(len(ids)).expand(3, -1), PackedLayout.of(torch.zeros_like(ids)))
        return model.logits(hidden).float()


def small_model(dtype: torch.dtype = torch.float32, tied: bool = False) -> VisionLanguageModel:
    config = native_config("qwen2_vl")
    decoder = config.decoder.model_copy(update={"tie_word_embeddings": tied})
    model = VisionLanguageModel(config.model_copy(update={"decoder": decoder}))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 else None
    return model.eval().requires_grad_(False).to(dtype)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_stored_in_place(kind: PackedKind, tied: bool) -> None:
    """The decoder and its head; widths that groups do not fill stay (48 of the MLP); the embedding is not touched."""
    ids, model = torch.arange(1, 40), small_model(tied=tied)
    right = logits(model, ids)
    embedding = model.decoder.embed_tokens.weight.clone()
    names = quantise_for_inference(model, kind)
    assert {name for name, layer in model.named_modules() if isinstance(layer, PackedLinear)} == set(names)
    per_layer = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"} | ({"down_proj"} if kind == "int8" else set())
    assert {name.rpartition(".")[2] for name in names} == per_layer | {"lm_head"}
    assert model.decoder.lm_head.kind == "int8" and torch.equal(model.decoder.embed_tokens.weight, embedding)
    assert not any(name.startswith("vision_tower") for name in names)
    assert 0 < apart(logits(model, ids), right) < {"int8": 0.05, "int4": 0.45}[kind]


def test_head_and_tower_are_for_the_caller_to_choose() -> None:
    model = small_model()
    names = quantise_for_inference(model, "int4", head=False, tower=True)
    assert "decoder.lm_head" not in names and isinstance(model.decoder.lm_head, nn.Linear)
    tower = [model.get_submodule(name) for name in names if name.startswith("vision_tower.blocks.")]
    assert tower and all(layer.kind == "int8" for layer in tower)
    assert isinstance(model.vision_tower.patch_embed, nn.Linear)


def test_adapters_stay_beside_a_base_that_is_stored_so() -> None:
    model = small_model()
    add_lora(model, ("*.q_proj",), rank=2, alpha=4)
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            nn.init.normal_(parameter)
    ids = torch.arange(1, 20)
    right = logits(model, ids)
    quantise_for_inference(model, "int8")
    assert isinstance(model.decoder.layers[0].self_attn.q_proj.base, PackedLinear)
    assert apart(logits(model, ids), right) < 0.05


def test_a_base_of_qlora_becomes_one_for_inference() -> None:
    model = small_model()
    quantise(model, ("decoder.layers.*",), "int8")
    ids = torch.arange(1, 20)
    right = logits(model, ids)
    quantise_for_inference(model, "int8", head=False)
    assert not any(isinstance(layer, QuantisedLinear) for layer in model.modules())
    assert apart(logits(model, ids), right) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_answers(kind: PackedKind, tmp_path: Path) -> None:
    """Through cache and batches, in float32: the same answer alone and among others."""
    model = load(write_tiny(tmp_path / "tiny"), device="cpu", dtype="float32")
    quantise_for_inference(model.model, kind)
    prompts = [model.encode([{"role": "user", "content": text}]) for text in ("a dog", "two red circles")]
    together = [reply.tokens for reply in model.generate(prompts, max_new_tokens=8)]
    assert together == [model.generate([prompt], max_new_tokens=8)[0].tokens for prompt in prompts]
