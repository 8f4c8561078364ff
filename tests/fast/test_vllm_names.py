"""What we save has the names that vLLM's loader knows: every parameter of its modules is filled, and no name is left over.

vLLM itself does not run here. Its modules are written down below from vllm/model_executor/models/qwen2_vl.py of vllm-project/vllm
@ 7b4dd80 and qwen2_5_vl.py @ fb33ec8: how they are named, and which names are stacked into one parameter.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from qwenvl.config import ModelConfig
from qwenvl.weights.io import load_model, save_model

STACKED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
CLASSES = {"qwen2_vl": "Qwen2VLForConditionalGeneration", "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}
"""The classes in vLLM's registry, by `model_type`."""


def modules(config: ModelConfig) -> set[str]:
    """The names of the parameters of vLLM's modules, before the decoder is put behind a prefix."""
    newer = config.family == "qwen2_5_vl"
    layer = {"self_attn.qkv_proj.weight", "self_attn.qkv_proj.bias", "self_attn.o_proj.weight", "mlp.gate_up_proj.weight"}
    layer |= {"mlp.down_proj.weight", "input_layernorm.weight", "post_attention_layernorm.weight"}
    block = {f"attn.{name}.{part}" for name in ("qkv", "proj") for part in ("weight", "bias")}
    perceptron = ("gate_up_proj", "down_proj") if newer else ("fc1", "fc2")
    block |= {f"mlp.{name}.{part}" for name in perceptron for part in ("weight", "bias")}
    norm = {"weight"} if newer else {"weight", "bias"}
    block |= {f"{name}.{part}" for name in ("norm1", "norm2") for part in norm}
    merger = {f"mlp.{index}.{part}" for index in (0, 2) for part in ("weight", "bias")} | {f"ln_q.{part}" for part in norm}
    whole = {"model.embed_tokens.weight", "model.norm.weight", "visual.patch_embed.proj.weight"}
    whole |= set() if config.decoder.tie_word_embeddings else {"lm_head.weight"}
    whole |= {f"model.layers.{index}.{name}" for index in range(config.decoder.num_hidden_layers) for name in layer}
    whole |= {f"visual.blocks.{index}.{name}" for index in range(config.vision.num_hidden_layers) for name in block}
    return whole | {f"visual.merger.{name}" for name in merger}


@pytest.mark.parametrize("model", ["qwen2-vl-nano", "qwen2.5-vl-nano"])
def test_saved_names_fill_vllm_s_modules_and_nothing_is_left(model: str, tmp_path: Path) -> None:
    ours = load_model(Path("qwenvl/assets/models") / model, device="cpu")
    save_model(ours, tmp_path / "model")
    saved = {name for file in (tmp_path / "model").glob("*.safetensors") for name in safe_open(file, "pt").keys()}  # noqa: SIM118
    known = {".".join(STACKED.get(part, part) for part in name.split(".")) for name in saved}
    assert known == modules(ours.config)
    told = json.loads((tmp_path / "model" / "config.json").read_text())
    assert told["architectures"] == [CLASSES[told["model_type"]]]
