"""Checkpoints in GPTQ's layout load as their weights say, whole and packed: the packer here knows nothing of the reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from qwenvl.config import DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.models.attention import PackedLayout
from qwenvl.models.packed import PackedLinear, quantise_for_inference
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.weights.files import WHOLE_SAFETENSORS, open_tensors
from qwenvl.weights.io import load_model, read_config, save_model
from qwenvl.weights.maps import WeightsError
from qwenvl.weights.repack import repack
from tests.fast.checkpoints import edit_config, random_model, rewrite

LAYERS = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")
"""Of a decoder's block, in the published checkpoint."""
IDS = torch.arange(1, 20)


def config() -> ModelConfig:
    """Like `checkpoints.tiny_config`, with widths that groups fill."""
    return ModelConfig(
        family="qwen_vl",
        vision=VisionConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=1, num_attention_heads=3, image_size=56, position_grid=4,
            input_norm=True,
        ),
        connector=ResamplerConfig(num_queries=4, hidden_size=128, num_attention_heads=2),
        decoder=DecoderConfig(
            vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, head_dim=64, trained_length=64,
        ),
        image_start_id=61, image_end_id=62, image_pad_id=63,
    )  # fmt: skip


def pack_words(codes: np.ndarray) -> np.ndarray:
    """(n, m) from 0 to 15 -> (n / 8, m) int32: digits of base 16, the first row's the lowest."""
    words = np.zeros((len(codes) // 8, codes.shape[1]), dtype=np.int64)
    for row, values in enumerate(codes.astype(np.int64)):
        words[row // 8] += values * 16 ** (row % 8)
    return words.astype(np.uint32).view(np.int32)


def gptq(weight: Tensor, group: int, act_order: bool, seed: int, less: int = 1) -> tuple[dict[str, Tensor], np.ndarray]:
    """The parts that a checkpoint has for a weight (N, K), and the weight that they mean."""
    values, draws = weight.double().numpy(), np.random.default_rng(seed)
    rows, columns = values.shape
    g_idx = np.arange(columns) // group
    if act_order:
        g_idx = draws.permutation(g_idx)
    codes, meant = np.zeros((rows, columns), dtype=np.int64), np.zeros((rows, columns))
    scales, zeros = np.zeros((rows, columns // group), np.float16), np.zeros((rows, columns // group), np.int64)
    for index in range(columns // group):
        inside = g_idx == index
        scales[:, index] = np.float16(np.abs(values[:, inside]).max(axis=1) / 7)
        zeros[:, index] = draws.integers(6, 10, rows)
        scale, zero = scales[:, index, None].astype(np.float64), zeros[:, index, None]
        codes[:, inside] = np.clip(np.round(values[:, inside] / scale) + zero, 0, 15)
        meant[:, inside] = (codes[:, inside] - zero) * scale
    stored = {
        "qweight": pack_words(codes.T),
        "qzeros": pack_words(zeros - less).T.copy(),
        "scales": scales.T.copy(),
        "g_idx": g_idx.astype(np.int32),
        "bias": np.zeros(rows, np.float16),
    }
    return {part: torch.from_numpy(array) for part, array in stored.items()}, meant


def write_checkpoint(folder: Path, group: int = 32, act_order: bool = False, version: int = 1) -> VisionLanguageModel:
    """A checkpoint in the published layout; the model that its weights mean, in float32."""
    model = random_model(config())
    with torch.no_grad():
        for parameter in model.decoder.layers.parameters():
            parameter.mul_(0.1)  # as trained ones are: attention that is all on one token would enlarge every error
    save_model(model, folder, dtype=torch.float16)
    tensors = load_file(folder / WHOLE_SAFETENSORS)
    meant = dict(tensors)
    for seed, name in enumerate(f"transformer.h.{layer}.{part}" for layer in range(2) for part in LAYERS):
        weight = tensors.pop(f"{name}.weight")
        parts, values = gptq(weight, group, act_order, seed, less=2 - version)
        meant[f"{name}.weight"] = torch.from_numpy(values)
        # A bias that the model has stays; every other layer gets one of zeros.
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items() if f"{name}.{part}" not in tensors}
    plain = folder.parent / f"{folder.name}-meant"
    save_model(model, plain)
    rewrite(plain, {name: tensor.float().contiguous() for name, tensor in meant.items()})
    rewrite(folder, {name: tensor.contiguous() for name, tensor in tensors.items()})
    published = {"bits": 4, "group_size": group, "desc_act": act_order, "sym": False, "quant_method": "gptq"}
    edit_config(folder, quantization_config=published | ({"checkpoint_format": "gptq_v2"} if version == 2 else {}))
    return load_model(plain, device="cpu")


def logits(model: VisionLanguageModel) -> Tensor:
    with torch.no_grad():
        hidden = model(IDS, torch.arange(len(IDS)).expand(3, -1), PackedLayout.of(torch.zeros_like(IDS)))
        return model.logits(hidden).float()


CASES = [(32, False, 1), (128, False, 1), (64, True, 1), (32, False, 2), (16, False, 1)]


@pytest.mark.parametrize(("group", "act_order", "version"), CASES)
def test_logits_are_those_of_the_weights_that_are_meant(tmp_path: Path, group: int, act_order: bool, version: int) -> None:
    right = logits(write_checkpoint(tmp_path / "q", group, act_order, version))
    whole = load_model(tmp_path / "q", device="cpu", dtype=torch.float32)
    packed = load_model(tmp_path / "q", device="cpu", dtype=torch.float32, packed=True)
    # A whole weight is rounded to the file's float16 once more.
    assert (logits(whole) - right).abs().max() < 3e-3 * right.abs().max()
    assert (logits(packed) - right).abs().max() < 1e-5 * right.abs().max()
    names = {name for name, layer in packed.named_modules() if isinstance(layer, PackedLinear)}
    assert len(names) == 2 * 7 and all(name.startswith("decoder.layers.") for name in names)


def test_packed_is_bfloat16_unless_asked(tmp_path: Path) -> None:
    right = logits(write_checkpoint(tmp_path / "q", 128))
    packed = load_model(tmp_path / "q", device="cpu", packed=True)
    assert packed.decoder.embed_tokens.weight.dtype == torch.bfloat16
    assert (logits(packed) - right).norm() < 0.05 * right.norm()
    assert load_model(tmp_path / "q", device="cpu").decoder.embed_tokens.weight.dtype == torch.float16


def test_what_is_packed_already_stays_so(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "q", 128)
    packed = load_model(tmp_path / "q", device="cpu", packed=True)
    codes = packed.decoder.layers[0].mlp.up_proj.codes
    assert quantise_for_inference(packed, "int8") == ["decoder.lm_head"]
    assert packed.decoder.layers[0].mlp.up_proj.codes is codes


def test_biases_of_queries_keys_and_values_are_kept(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "q")
    packed = load_model(tmp_path / "q", device="cpu", dtype=torch.float32, packed=True)
    mine, theirs = model.decoder.layers[1].self_attn, packed.decoder.layers[1].self_attn
    for name in ("q_proj", "k_proj", "v_proj"):
        assert torch.equal(getattr(mine, name).bias, getattr(theirs, name).bias)
        torch.testing.assert_close(getattr(theirs, name).weight, getattr(mine, name).weight, rtol=1e-6, atol=1e-6)
    assert theirs.o_proj.bias is None


def test_a_quantised_checkpoint_converts_to_a_plain_one(tmp_path: Path) -> None:
    right = logits(write_checkpoint(tmp_path / "q"))
    repack(tmp_path / "q", tmp_path / "plain", dtype=torch.float32)
    assert "quantization_config" not in read_config(tmp_path / "plain")[0]
    assert (logits(load_model(tmp_path / "plain", device="cpu")) - right).abs().max() < 3e-3 * right.abs().max()


def test_names_are_those_of_the_published_checkpoint(tmp_path: Path) -> None:
    """1461 tensors for 32 blocks (model.safetensors.index.json of x1ngzai/Qwen-VL-Chat-Int4 @ 1cd721a): 853, and for every block 20
    parts in the place of 5 weights, and 4 biases more."""
    write_checkpoint(tmp_path / "q")
    names = set(open_tensors(tmp_path / "q"))
    block = {name.removeprefix("transformer.h.0.") for name in names if name.startswith("transformer.h.0.")}
    parts = {f"{layer}.{part}" for layer in LAYERS for part in ("qweight", "qzeros", "scales", "g_idx", "bias")}
    assert block == parts | {"ln_1.weight", "ln_2.weight"}
    assert 853 + 32 * (20 - 5 + 4) == 1461


@pytest.mark.parametrize(("change", "told"), [
    ("part missing", "'transformer.h.0.mlp.w1.qzeros' is missing"),
    ("shape", "as the others ask"),
    ("bias", "'transformer.h.0.mlp.w1.bias' is not zero, but the model has no bias there"),
    ("group", "names a group of 4 that is not there"),
    ("unequal", "of unequal sizes"),
])  # fmt: skip
def test_a_damaged_checkpoint_is_told_by_its_tensor(tmp_path: Path, change: str, told: str) -> None:
    write_checkpoint(tmp_path / "q")
    tensors = load_file(tmp_path / "q" / WHOLE_SAFETENSORS)
    name = "transformer.h.0.mlp.w1"
    if change == "part missing":
        del tensors[f"{name}.qzeros"]
    elif change == "shape":
        tensors[f"{name}.scales"] = tensors[f"{name}.scales"][:, :-8].contiguous()
    elif change == "bias":
        tensors[f"{name}.bias"][3] = 1
    elif change == "group":
        tensors[f"{name}.g_idx"][3] = 4
    else:
        tensors[f"{name}.g_idx"][3] = 1
    rewrite(tmp_path / "q", tensors)
    with pytest.raises(WeightsError, match=told) as raised:
        load_model(tmp_path / "q", device="cpu", packed=True)
    assert "\n" not in str(raised.value)
