"""Checkpoints: whatever is missing, unknown or damaged is named in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qwenvl.config import ConfigError
from qwenvl.types import QwenVLError
from qwenvl.weights.io import load_model, save_model
from qwenvl.weights.maps import WeightsError
from tests.fast.checkpoints import WEIGHTS, assert_same_weights, copy_of, edit_config, rewrite, tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(tiny_model(), folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved model that a test may spoil."""
    return copy_of(saved, tmp_path / "tiny")


def test_r8_renamed_or_missing_tensors_are_named(folder: Path) -> None:
    """R8: a renamed key is never skipped in silence: the error names what is missing and what is unknown."""
    whole = load_file(folder / WEIGHTS)
    for name in ("transformer.h.1.mlp.w2.weight", "transformer.visual.attn_pool.pos_embed", "lm_head.weight"):
        rewrite(folder, {key: tensor for key, tensor in whole.items() if key != name})
        with pytest.raises(WeightsError, match=f"missing tensor '{name}'"):
            load_model(folder, device="cpu")
        rewrite(folder, {(f"model.{key}" if key == name else key): tensor for key, tensor in whole.items()})
        with pytest.raises(WeightsError, match=rf"missing tensor '{name}'.*unknown tensor 'model\.{name}'.*{WEIGHTS}"):
            load_model(folder, device="cpu")
    rewrite(folder, whole | {"lora.extra": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"unknown tensor 'lora\.extra'.*\(2,\)"):
        load_model(folder, device="cpu")


def test_a_misshapen_tensor_is_named_with_both_shapes(folder: Path) -> None:
    whole = load_file(folder / WEIGHTS)
    rewrite(folder, whole | {"transformer.h.0.attn.c_attn.weight": torch.zeros(95, 32)})
    with pytest.raises(WeightsError, match=rf"{WEIGHTS}: tensor 'transformer\.h\.0\.attn\.c_attn\.weight'.*\(95, 32\).*\(96, 32\)"):
        load_model(folder, device="cpu")
    rewrite(folder, whole | {"transformer.ln_f.weight": torch.ones(32, dtype=torch.int32)})
    with pytest.raises(WeightsError, match=r"transformer\.ln_f\.weight.*int32"):
        load_model(folder, device="cpu")


def test_a_tied_file_may_hold_both_but_not_two_different_ones(tmp_path: Path) -> None:
    model = tiny_model(tied=True)
    save_model(model, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / WEIGHTS)
    assert "lm_head.weight" not in tensors
    rewrite(tmp_path / "model", tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()})
    assert_same_weights(load_model(tmp_path / "model", device="cpu"), model)
    rewrite(tmp_path / "model", tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + 1})
    with pytest.raises(WeightsError, match=r"lm_head\.weight.*differs.*tie_word_embeddings"):
        load_model(tmp_path / "model", device="cpu")


def spoil(folder: Path, how: str) -> None:
    config, weights, index = folder / "config.json", folder / WEIGHTS, folder / "model.safetensors.index.json"
    if how == "no config":
        config.unlink()
    elif how == "broken json":
        config.write_text(config.read_text()[:40])
    elif how == "not an object":
        config.write_text("[1]")
    elif how == "unknown type":
        edit_config(folder, model_type="llama")
    elif how == "wrong type":
        edit_config(folder, hidden_size="wide")
    elif how == "visual no object":
        edit_config(folder, visual=3)
    elif how == "nested wrong type":
        edit_config(folder, visual=json.loads(config.read_text())["visual"] | {"layers": 1.5})
    elif how == "key missing":
        edit_config(folder, visual={"heads": 2})
    elif how == "no heads":
        edit_config(folder, num_attention_heads=0)
    elif how == "uneven heads":
        edit_config(folder, visual=json.loads(config.read_text())["visual"] | {"heads": 5})
    elif how == "queries no square":
        edit_config(folder, visual=json.loads(config.read_text())["visual"] | {"n_queries": 5})
    elif how == "two widths":
        edit_config(folder, visual=json.loads(config.read_text())["visual"] | {"output_dim": 64})
    elif how == "id outside":
        edit_config(folder, visual=json.loads(config.read_text())["visual"] | {"image_start_id": 62})
    elif how == "awq":
        edit_config(folder, quantization_config={"quant_method": "awq", "bits": 4})
    elif how == "gptq":
        edit_config(folder, quantization_config={"bits": 4})
    elif how == "gptq of 3 bits":
        edit_config(folder, quantization_config={"bits": 3})
    elif how == "no weights":
        weights.unlink()
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "empty":
        weights.write_bytes(b"")
    elif how == "shard missing":
        index.write_text(json.dumps({"weight_map": {"lm_head.weight": "model-00009.safetensors"}}))
    elif how == "index escapes":
        index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../secret.safetensors"}}))
    elif how == "index lies":
        names = [*load_file(weights), "transformer.extra"]
        index.write_text(json.dumps({"weight_map": dict.fromkeys(names, WEIGHTS)}))
    elif how == "broken index":
        index.write_text("{")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", "no config.json here"),
        ("broken json", "config.json: not valid JSON"),
        ("not an object", "expected a JSON object"),
        ("unknown type", "model_type 'llama' is not supported; supported: qwen"),
        ("wrong type", 'config.json: hidden_size is "wide"; expected a number'),
        ("visual no object", "config.json: visual is 3; expected an object"),
        ("nested wrong type", "VisionConfig: num_hidden_layers"),
        ("key missing", "missing visual.image_size"),
        ("no heads", "DecoderConfig: num_attention_heads: Input should be greater than 0"),
        ("uneven heads", "VisionConfig: hidden_size is 24, which num_attention_heads, 5, does not divide"),
        ("queries no square", "ResamplerConfig: num_queries is 5; queries stand on a square grid"),
        ("two widths", "ModelConfig: the connector's visual tokens have 64 numbers, the decoder's tokens 32"),
        ("id outside", "ModelConfig: image_pad_id is 64, outside the vocabulary of 64"),
        ("awq", "by awq are not supported"),
        ("gptq", "holds no qweight, but config.json has a quantization_config"),
        ("gptq of 3 bits", "by gptq in 3 bits are not supported"),
        ("no weights", "no weight file"),
        ("truncated", f"{WEIGHTS}: not a whole safetensors file"),
        ("empty", f"{WEIGHTS}: not a whole safetensors file"),
        ("shard missing", "model-00009.safetensors: this shard is missing"),
        ("index escapes", "is not a file name"),
        ("index lies", "'transformer.extra' is missing, but model.safetensors.index.json says"),
        ("broken index", "not a readable index"),
    ],
)
def test_a_bad_folder_gives_one_clear_line(folder: Path, how: str, message: str) -> None:
    spoil(folder, how)
    with pytest.raises(QwenVLError) as caught:
        load_model(folder, device="cpu")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_model(tmp_path / "nothing")
