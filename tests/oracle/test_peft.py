"""Adapters that PEFT writes load here, and adapters that we write load there, with equal logits.

Drawn large: B starts at zero, and an adapter that is lost would not show.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from qwenvl.models.lora import adapters, add_lora, plain_name
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.weights.adapters import CONFIG, WEIGHTS, load_adapter, save_adapter
from qwenvl.weights.io import load_model
from qwenvl.weights.maps import WeightsError
from tests.fast.tiny import NATIVE
from tests.oracle.test_qwen2_files import KINDS, assert_equal_logits, our_logits, peer_logits, peer_of, transformers


@pytest.fixture(scope="module", params=NATIVE)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    peer_of(request.param).save_pretrained(folder)
    return request.param, folder


def fresh_peer(family: str, folder: Path) -> Any:
    return getattr(transformers, KINDS[family][1]).from_pretrained(folder, dtype=torch.float32).eval()


def draw(tensors: Any) -> None:
    generator = torch.Generator().manual_seed(9)
    for tensor in tensors:
        tensor.data = torch.randn(tensor.shape, generator=generator) * 0.15


def test_an_adapter_of_peft_loads_here(saved: tuple[str, Path], tmp_path: Path) -> None:
    """On both parts of the model, with another rank and alpha for one kind of layer, and the head trained whole."""
    family, folder = saved
    base = our_logits(load_model(folder, device="cpu"))
    settings = LoraConfig(
        r=4, lora_alpha=12, lora_dropout=0.1, target_modules=["q_proj", "down_proj", "qkv"], rank_pattern={"q_proj": 2},
        alpha_pattern={"down_proj": 3}, modules_to_save=["lm_head"], task_type="CAUSAL_LM",
    )  # fmt: skip
    peer = get_peft_model(fresh_peer(family, folder), settings).eval()
    draw(parameter for name, parameter in peer.named_parameters() if "lora_" in name or "modules_to_save" in name)
    peer.save_pretrained(tmp_path)
    model = load_model(folder, device="cpu")
    found = load_adapter(model, tmp_path)
    assert "decoder.layers.1.self_attn.q_proj" in found and "vision_tower.blocks.0.attention.qkv" in found
    assert adapters(model)["decoder.layers.0.self_attn.q_proj"].rank == 2
    assert adapters(model)["decoder.layers.0.mlp.down_proj"].alpha == 3
    assert_equal_logits(model.eval(), peer)
    assert (our_logits(model) - base).abs().max() > 1


def adapted(folder: Path) -> VisionLanguageModel:
    model = load_model(folder, device="cpu")
    targets = ["decoder.*.self_attn.*_proj", "decoder.*.mlp.up_proj", "vision_tower.blocks.*.attention.proj"]
    add_lora(model, targets, rank=3, alpha=6)
    draw(layer.lora_b for layer in adapters(model).values())
    return model.eval()


def test_our_adapter_loads_in_peft_and_again_here(saved: tuple[str, Path], tmp_path: Path) -> None:
    family, folder = saved
    model = adapted(folder)
    draw([model.decoder.lm_head.weight])  # type: ignore[union-attr]
    save_adapter(model, tmp_path / "adapter", "team/base", trained_whole=["decoder.lm_head.weight"])
    peer = PeftModel.from_pretrained(fresh_peer(family, folder), tmp_path / "adapter").eval()
    torch.testing.assert_close(peer_logits(peer, model), our_logits(model), atol=1e-4, rtol=1e-4)
    again = load_model(folder, device="cpu")
    load_adapter(again, tmp_path / "adapter")
    torch.testing.assert_close(our_logits(again.eval()), our_logits(model), rtol=0, atol=0)
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    assert config["base_model_name_or_path"] == "team/base" and config["modules_to_save"] == ["lm_head"]


@pytest.mark.parametrize("settings", [
    {"modules_to_save": ["merger", "norm1"]}, {"bias": "all"}, {"bias": "lora_only"}, {"bias": "all", "modules_to_save": ["mlp.0"]},
])  # fmt: skip
def test_biases_that_peft_trained_load_here(saved: tuple[str, Path], settings: dict[str, Any], tmp_path: Path) -> None:
    family, folder = saved
    chosen = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "attn.proj"], task_type="CAUSAL_LM", **settings)
    peer = get_peft_model(fresh_peer(family, folder), chosen).eval()
    draw(parameter for parameter in peer.parameters() if parameter.requires_grad)
    peer.save_pretrained(tmp_path)
    assert any(name.endswith("bias") for name in load_file(tmp_path / WEIGHTS))
    model = load_model(folder, device="cpu")
    load_adapter(model, tmp_path)
    assert_equal_logits(model.eval(), peer)


BESIDE = {
    "whole layers": (["connector.up.weight", "connector.up.bias", "vision_tower.patch_embed.weight"], "none"),
    "biases of adapted layers": ([f"decoder.layers.{n}.self_attn.{part}_proj.bias" for n in (0, 1) for part in "qkv"], "lora_only"),
    "other biases": (["vision_tower.blocks.1.attention.proj.bias", "vision_tower.blocks.1.attention.qkv.bias"], "all"),
    "a weight under its adapter": (["decoder.layers.1.self_attn.q_proj.weight"], "none"),
}


@pytest.mark.parametrize(("names", "bias"), BESIDE.values(), ids=BESIDE)
def test_what_trained_beside_our_adapters_loads_in_peft(
    saved: tuple[str, Path], names: list[str], bias: str, tmp_path: Path
) -> None:
    family, folder = saved
    model = adapted(folder)
    before, own = our_logits(model), {plain_name(name): weight for name, weight in model.named_parameters()}
    draw(own[name] for name in names)
    save_adapter(model, tmp_path, "base", trained_whole=names)
    peer = PeftModel.from_pretrained(fresh_peer(family, folder), tmp_path).eval()
    torch.testing.assert_close(peer_logits(peer, model), our_logits(model), atol=1e-4, rtol=1e-4)
    assert (our_logits(model) - before).abs().max() > 0.1, "what is compared has changed"
    assert json.loads((tmp_path / CONFIG).read_text())["bias"] == bias
    # As PEFT writes it: the same names again.
    peer.save_pretrained(tmp_path / "again")
    single = names[0].endswith("q_proj.weight")
    assert single or load_file(tmp_path / "again" / WEIGHTS).keys() == load_file(tmp_path / WEIGHTS).keys()


def test_an_embedding_that_is_the_head_too_stays_so(tmp_path: Path) -> None:
    family, folder = "qwen2_vl", tmp_path / "base"
    peer_of(family, tied=True).save_pretrained(folder)
    model = load_model(folder, device="cpu")
    add_lora(model, ["decoder.*.q_proj"], rank=2, alpha=4)
    draw([model.decoder.embed_tokens.weight])
    save_adapter(model, tmp_path / "ours", "base", trained_whole=["decoder.embed_tokens.weight"])
    peer = PeftModel.from_pretrained(fresh_peer(family, folder), tmp_path / "ours").eval()
    torch.testing.assert_close(peer_logits(peer, model), our_logits(model.eval()), atol=1e-4, rtol=1e-4)
    for together in (True, False):
        settings = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": together}
        chosen = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **settings)
        peer = get_peft_model(fresh_peer(family, folder), chosen).eval()
        draw(parameter for parameter in peer.parameters() if parameter.requires_grad)
        peer.save_pretrained(tmp_path / "theirs")
        again = load_model(folder, device="cpu")
        if together:
            load_adapter(again, tmp_path / "theirs")
            assert_equal_logits(again.eval(), peer)
        else:
            with pytest.raises(WeightsError, match="parts embedding and head"):
                load_adapter(again, tmp_path / "theirs")


def test_what_does_not_fit_is_refused_by_name(saved: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = saved
    save_adapter(adapted(folder), tmp_path, "base")
    tensors, config = load_file(tmp_path / WEIGHTS), json.loads((tmp_path / CONFIG).read_text())
    name = next(name for name in tensors if name.endswith("q_proj.lora_A.weight"))

    def refused(message: str, changed: dict[str, torch.Tensor], **settings: object) -> None:
        save_file(changed, tmp_path / WEIGHTS)
        (tmp_path / CONFIG).write_text(json.dumps(config | settings))
        model = load_model(folder, device="cpu")
        with pytest.raises(WeightsError, match=message):
            load_adapter(model, tmp_path)
        assert not adapters(model), "nothing is adapted by half"

    refused("q_proj.weight' has lora_B alone", {key: value for key, value in tensors.items() if key != name})
    refused(r"lora_A \(3, 7\).*but the layer is", tensors | {name: torch.zeros(3, 7)})
    foreign = "base_model.model.model.x.lora_A.weight"
    refused(f"'{foreign}' belongs to no layer", tensors | {foreign: torch.zeros(3, 7)})
    refused("use_dora True is not supported", tensors, use_dora=True)
    refused("an adapter of the kind 'IA3'", tensors, peft_type="IA3")
