"""Adapters of Qwen-VL in PEFT's files: its published code has one layer for queries, keys and values, ours has three."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from qwenvl.families import get_family
from qwenvl.families.spec import Markup
from qwenvl.inference.model import QwenVL
from qwenvl.inference.session import run_model
from qwenvl.models.attention import PackedLayout
from qwenvl.models.lora import adapters, add_lora, merge_lora, plain_name
from qwenvl.models.quantised import Kind, quantise
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


WHOLE = (
    "decoder.embed_tokens.weight", "connector.query", "connector.attention.in_proj_weight", "connector.attention.in_proj_bias",
    "connector.output_proj", "connector.query_norm.bias", "connector.attention.out_proj.weight", "vision_tower.position_embedding",
    "vision_tower.patch_embed.weight", "decoder.layers.1.self_attn.k_proj.bias", "decoder.layers.0.mlp.up_proj.weight",
)  # fmt: skip


def beside(model: VisionLanguageModel, names: Sequence[str], seed: int = 1) -> VisionLanguageModel:
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if plain_name(name) in names:
            weight.data += torch.randn(weight.shape, generator=generator)
    return model


@pytest.mark.parametrize("base", ["full", "int8"])
def test_every_parameter_that_trained_beside_adapters_comes_back(base: Kind | Literal["full"], tmp_path: Path) -> None:
    """Of layers with and without adapters, of none, and of a third of one that the file joins."""
    model = tiny_model()
    if base != "full":
        quantise(model, ["decoder.layers.*.self_attn.?_proj"], base)
    beside(model, WHOLE)
    add_lora(model, ["decoder.*.self_attn.?_proj", "decoder.layers.0.mlp.up_proj"], rank=2, alpha=4.0)
    save_adapter(model, tmp_path, "base", WHOLE)
    again = tiny_model()
    load_adapter(again, tmp_path)
    mine, theirs = ({plain_name(key): value for key, value in one.named_parameters()} for one in (model, again))
    assert all(torch.equal(mine[name], theirs[name]) for name in WHOLE)
    start = dict(tiny_model().named_parameters())
    assert not any(torch.equal(start[name], theirs[name]) for name in WHOLE)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-5 if base == "full" else 0.5)
    told = json.loads((tmp_path / CONFIG).read_text())
    assert "transformer.wte" in told["modules_to_save"] and "transformer.visual.attn_pool.attn" not in told["modules_to_save"]
    assert "base_model.model.transformer.h.0.mlp.w1.base_layer.weight" in load_file(tmp_path / WEIGHTS)


def refused(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, object], told: str) -> None:
    save_file(dict(tensors), folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=told) as caught:
        load_adapter(model, folder)
    assert not adapters(model) and len(str(caught.value).splitlines()) == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_a_file_announces_and_does_not_have_is_told_by_name(tmp_path: Path) -> None:
    model = adapted("decoder.*.self_attn.?_proj")
    save_adapter(model, tmp_path, "base", ["connector.key_value_norm.weight", "decoder.layers.0.self_attn.q_proj.bias"])
    tensors, config = load_file(tmp_path / WEIGHTS), json.loads((tmp_path / CONFIG).read_text())
    assert config["bias"] == "lora_only" and config["modules_to_save"] == ["transformer.visual.attn_pool.ln_kv"]
    for lost in ("transformer.visual.attn_pool.ln_kv.bias", "transformer.h.1.attn.c_attn.base_layer.bias"):
        left = {name: tensor for name, tensor in tensors.items() if not name.endswith(lost)}
        refused(tmp_path, left, config, rf"'{lost.replace('.base_layer', '')}' is missing \(1 in all\)")
    left = {name: tensor for name, tensor in tensors.items() if "h.0.attn.c_attn.lora" not in name}
    refused(tmp_path, left, config, "the adapter of 'transformer.h.0.attn.c_attn' is missing")
    without = {key: value for key, value in config.items() if key != "lora_alpha"}
    refused(tmp_path, tensors, without, "adapter_config.json: lora_alpha is missing")
    refused(tmp_path, tensors, config | {"alpha_pattern": {"w1": "x"}}, "w1 'x' is no number")
    refused(tmp_path, tensors, config | {"bias": "some"}, "bias 'some' is not known")
    bias = "base_model.model.transformer.visual.attn_pool.ln_kv.bias"
    refused(tmp_path, tensors | {bias: torch.zeros(3)}, config, r"ln_kv.bias' has the shape \(3,\)")


def test_a_model_without_adapters_and_a_folder_without_one_say_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has no adapters"):
        save_adapter(tiny_model(), tmp_path / "x", "base")
    with pytest.raises(WeightsError, match="no adapter in PEFT's format"):
        load_adapter(tiny_model(), tmp_path)
    save_adapter(adapted("decoder.*.up_proj"), tmp_path, "base")
    with pytest.raises(WeightsError, match="has adapters already"):
        load_adapter(adapted("decoder.*.up_proj"), tmp_path)
    with pytest.raises(WeightsError, match=r"'decoder\.norm' is no parameter"):
        save_adapter(adapted("decoder.*.up_proj"), tmp_path, "base", ["decoder.norm"])


def test_several_adapters_stand_on_one_set_of_weights(tmp_path: Path) -> None:
    """Each by its name, beside the model without; what an adapter brings whole is its own."""
    adapter = adapted("decoder.*.up_proj")
    with torch.no_grad():
        adapter.decoder.norm.weight.add_(1.0)
    save_adapter(adapter, tmp_path, "base", trained_whole=("decoder.norm.weight",))
    base = QwenVL(tiny_model(), get_family("qwen_vl"), Markup(), name="base")
    before = logits(base.model)
    held = sum(tensor.nbytes for tensor in base.model.parameters())
    one = base.with_adapter(tmp_path, "one")
    torch.testing.assert_close(logits(one.model), logits(adapter), rtol=0, atol=1e-5)
    assert torch.equal(logits(base.model), before) and (logits(one.model) - before).abs().max() > 0.1
    theirs = {tensor.data_ptr() for tensor in base.model.parameters()}
    own = sum(tensor.nbytes for tensor in one.model.parameters() if tensor.data_ptr() not in theirs)
    assert own < held / 10
    with pytest.raises(WeightsError, match="has adapters already"):
        one.with_adapter(tmp_path, "two")
