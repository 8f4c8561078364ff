"""Adapters of Qwen-VL in PEFT's files: its published code has one layer for queries, keys and values, ours has three."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from qwenvl.inference.session import run_model
from qwenvl.models.attention import PackedLayout
from qwenvl.models.lora import adapters, add_lora, merge_lora
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.weights.adapters import CONFIG, WEIGHTS, load_adapter, save_adapter
from qwenvl.weights.maps import WeightsError
from tests.fast.tiny import random_prompt, tiny_model

ATTENTION = "base_model.model.transformer.h.1.attn.c_attn"


@torch.no_grad()
def logits(model: VisionLanguageModel) -> Tensor:
    encoded = random_prompt(model.config, 12)
    return model.logits(run_model(model.eval(), [encoded], [1.0], PackedLayout.of(torch.zeros(len(encoded), dtype=torch.long))))


def adapted(*targets: str) -> VisionLanguageModel:
    model = tiny_model()
    add_lora(model, targets, rank=3, alpha=6.0)
    for number, layer in enumerate(adapters(model).values()):
        layer.lora_b.data = torch.randn(layer.lora_b.shape, generator=torch.Generator().manual_seed(number)) * 0.5
    return model


@pytest.mark.parametrize("targets", [("decoder.*.self_attn.?_proj", "decoder.*.up_proj"), ("decoder.*.self_attn.[qv]_proj",)])
def test_three_adapters_are_one_of_the_sum_of_their_ranks(targets: tuple[str, ...], tmp_path: Path) -> None:
    model = adapted(*targets)
    save_adapter(model, tmp_path, "base")
    tensors, config = load_file(tmp_path / WEIGHTS), json.loads((tmp_path / CONFIG).read_text())
    parts = 3 if "?" in targets[0] else 2
    assert tensors[f"{ATTENTION}.lora_A.weight"].shape == (3 * parts, 32)
    assert tensors[f"{ATTENTION}.lora_B.weight"].shape == (96, 3 * parts)
    assert config["rank_pattern"]["transformer.h.1.attn.c_attn"] == 3 * parts
    assert config["alpha_pattern"]["transformer.h.1.attn.c_attn"] == 6.0 * parts
    again = tiny_model()
    before = logits(again)
    load_adapter(again, tmp_path)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-5)
    assert (logits(again) - before).abs().max() > 0.1
    merge_lora(again)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-5)


def test_a_file_with_one_adapter_for_the_three_is_read_and_written_again(tmp_path: Path) -> None:
    """As finetune.py of QwenLM/Qwen-VL leaves it: targets c_attn, attn.c_proj, w1 and w2."""
    shapes = {"attn.c_attn": (96, 32), "attn.c_proj": (32, 32), "mlp.w1": (48, 32), "mlp.w2": (48, 32)}
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in (0, 1):
        for name, (rows, columns) in shapes.items():
            prefix = f"base_model.model.transformer.h.{layer}.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(2, columns, generator=generator)
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(rows, 2, generator=generator)
    save_file(tensors, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 16, "lora_dropout": 0.05}))
    model = tiny_model()
    names = load_adapter(model, tmp_path)
    assert {name.rpartition(".")[2] for name in names} == {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj"}
    layer = adapters(model)["decoder.layers.1.self_attn.k_proj"]
    expected = 8 * tensors[f"{ATTENTION}.lora_B.weight"][32:64] @ tensors[f"{ATTENTION}.lora_A.weight"]
    torch.testing.assert_close(layer.difference(), expected)
    save_adapter(model, tmp_path / "again", "base")
    again = load_file(tmp_path / "again" / WEIGHTS)
    assert again.keys() == tensors.keys() and all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_a_model_without_adapters_and_a_folder_without_one_say_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has no adapters"):
        save_adapter(tiny_model(), tmp_path / "x", "base")
    with pytest.raises(WeightsError, match="no adapter in PEFT's format"):
        load_adapter(tiny_model(), tmp_path)
