"""Checkpoints: names, and what is saved is loaded."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import qwenvl
from qwenvl.families import family_of_preset, find_preset, get_family
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.weights.io import build_meta, load_model, parameter_shapes, read_config, save_model
from qwenvl.weights.maps import WeightsError, name_table
from qwenvl.weights.repack import repack
from tests.fast.checkpoints import WEIGHTS, assert_same_weights, copy_of, random_model, rewrite, tiny_model
from tests.fast.tiny import CONTEXT, NATIVE, Visual, document, native_config


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(tiny_model(), folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved model that a test may spoil."""
    return copy_of(saved, tmp_path / "tiny")


# Names


def test_names_equal_the_published_853(data_folder: Path) -> None:
    published = (data_folder / "qwen_vl_keys.txt").read_text().split()
    model = build_meta(find_preset("qwen-vl-7b").config)
    table = name_table(model.config, parameter_shapes(model))
    assert len(published) == 853
    assert [entry.published for entry in table] == published
    assert sum(torch.Size(entry.shape).numel() for entry in table) * 2 == 19_313_870_336  # total_size of the published index
    ours = [name for entry in table for name in entry.ours]
    assert sorted(ours) == sorted(parameter_shapes(model))


# What config.json of Qwen-VL and Qwen-VL-Chat says of the mathematics (repository wangjl1993/extract_human_attri @ fc9525f).
PUBLISHED_CONFIG = {
    "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "vocab_size": 151936, "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "kv_channels": 128, "intermediate_size": 22016, "seq_length": 2048, "max_position_embeddings": 8192,
    "layer_norm_epsilon": 1e-6, "rotary_emb_base": 10000, "rotary_pct": 1.0, "use_dynamic_ntk": True, "use_logn_attn": True,
    "no_bias": True, "tie_word_embeddings": False,
    "visual": {
        "heads": 16, "image_size": 448, "image_start_id": 151857, "layers": 48, "mlp_ratio": 4.9231, "output_dim": 4096,
        "patch_size": 14, "width": 1664,
    },
}  # fmt: skip


def test_the_published_config_is_the_preset_and_is_written_back_as_it_was() -> None:
    spec = get_family("qwen_vl")
    assert spec.parse_config(PUBLISHED_CONFIG) == find_preset("qwen-vl-7b").config
    assert spec.write_config(find_preset("qwen-vl-7b").config) == PUBLISHED_CONFIG
    for preset in spec.presets:
        assert spec.parse_config(spec.write_config(preset.config)) == preset.config


def test_saved_names_and_shapes_are_the_published_ones(saved: Path) -> None:
    tensors = load_file(saved / WEIGHTS)
    assert tensors["transformer.h.1.attn.c_attn.weight"].shape == (96, 32)
    assert tensors["transformer.visual.conv1.weight"].shape == (24, 3, 14, 14)
    assert tensors["transformer.visual.attn_pool.pos_embed"].shape == (4, 32)
    assert "lm_head.weight" in tensors
    with safe_open(saved / WEIGHTS, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_gate_is_w2_and_attention_rows_are_q_k_v(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    layer = load_model(folder, device="cpu").decoder.layers[1]
    assert torch.equal(layer.mlp.gate_proj.weight, tensors["transformer.h.1.mlp.w2.weight"])
    assert torch.equal(layer.mlp.up_proj.weight, tensors["transformer.h.1.mlp.w1.weight"])
    q, k, v = tensors["transformer.h.1.attn.c_attn.bias"].split(32)
    attention = layer.self_attn
    assert torch.equal(attention.q_proj.bias, q) and torch.equal(attention.k_proj.bias, k) and torch.equal(attention.v_proj.bias, v)


def test_splitting_and_flattening_do_not_copy(folder: Path) -> None:
    """The three projections of a layer are rows of one stretch of the file's memory."""
    attention = load_model(folder, device="cpu").decoder.layers[0].self_attn
    starts = [projection.weight.data_ptr() for projection in (attention.q_proj, attention.k_proj, attention.v_proj)]
    size = attention.q_proj.weight.nbytes
    assert starts == [starts[0], starts[0] + size, starts[0] + 2 * size]


# Saved and loaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_saved_then_loaded_is_bitwise_the_same(tmp_path: Path, tied: bool, dtype: torch.dtype) -> None:
    model = tiny_model(tied, dtype)
    save_model(model, tmp_path / "model", extra_config={"coordinate_digits": 3})
    loaded = load_model(tmp_path / "model", device="cpu")
    assert_same_weights(loaded, model)
    assert not loaded.training
    assert not loaded.connector.position_table.requires_grad
    raw, config, spec = read_config(tmp_path / "model")
    assert config == model.config
    assert raw["torch_dtype"] == str(dtype).removeprefix("torch.")
    assert spec.read_markup(raw).digits == 3
    assert not list(tmp_path.glob(".*"))


def test_shards_and_one_file_hold_the_same(tmp_path: Path) -> None:
    model = tiny_model()
    save_model(model, tmp_path / "model", max_shard_bytes=20_000)
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert len(files) > 2
    assert index["metadata"]["total_size"] == 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    assert_same_weights(load_model(tmp_path / "model", device="cpu"), model)
    # Saved again in one file: no shard of before is left to be read instead.
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    save_model(model, tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", WEIGHTS, "tokenizer.json"]
    assert_same_weights(load_model(tmp_path / "model", device="cpu"), model)


def test_a_model_can_be_saved_over_the_files_it_was_loaded_from(folder: Path) -> None:
    model = load_model(folder, device="cpu")
    with torch.no_grad():
        model.decoder.norm.weight += 1
    save_model(model, folder)
    assert_same_weights(load_model(folder, device="cpu"), model)


def test_training_a_loaded_model_leaves_the_file_alone(folder: Path) -> None:
    before = (folder / WEIGHTS).read_bytes()
    model = load_model(folder, device="cpu")
    with torch.no_grad():
        model.decoder.embed_tokens.weight.zero_()
    assert (folder / WEIGHTS).read_bytes() == before


def test_dtype_is_converted_only_when_asked(folder: Path) -> None:
    kept, asked = load_model(folder, device="cpu"), load_model(folder, device="cpu", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in kept.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in asked.parameters()} == {torch.bfloat16}


def test_a_file_with_an_unpadded_header_loads(folder: Path) -> None:
    """The format does not promise that numbers are aligned in the file."""
    expected = {name: tensor.clone() for name, tensor in load_model(folder, device="cpu").state_dict().items()}
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip()
    header += b" " * (length + 1 - len(header))
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    loaded = load_model(folder, device="cpu").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_published_bin_shards_load(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    shards = {"pytorch_model-00001-of-00002.bin": names[:20], "pytorch_model-00002-of-00002.bin": names[20:]}
    for file, part in shards.items():
        torch.save({name: tensors[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    expected = load_model(folder, device="cpu").state_dict()
    expected = {name: tensor.clone() for name, tensor in expected.items()}
    (folder / WEIGHTS).unlink()
    loaded = load_model(folder, device="cpu").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_pickled_code_is_not_run(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (folder / "pwned",))  # type: ignore[return-value]

    (folder / WEIGHTS).unlink()
    torch.save({"transformer.wte.weight": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
        load_model(folder, device="cpu")
    assert not (folder / "pwned").exists()


def test_nothing_is_left_behind_when_saving_fails(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.decoder.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"lm_head\.weight.*not finite"):
        save_model(model, tmp_path / "model", quantize="int8")
    assert not list(tmp_path.iterdir())


def test_what_is_written_follows_the_umask(tmp_path: Path) -> None:
    """As any file does: a server that runs as another user can read a model, and nobody more than the umask lets."""
    for umask, file_mode, folder_mode in ((0o022, 0o644, 0o755), (0o027, 0o640, 0o750)):
        target = tmp_path / f"{umask:o}"
        before = os.umask(umask)
        try:
            save_model(tiny_model(), target, max_shard_bytes=50_000)
            save_model(tiny_model(), target, max_shard_bytes=50_000)  # over what is there
        finally:
            os.umask(before)
        assert stat.S_IMODE(target.stat().st_mode) == folder_mode
        assert len(files := list(target.iterdir())) > 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {file_mode}


# Native resolution


NEWER = {"visual.": "model.visual.", "model.": "model.language_model."}
"""The hub's prefix -> what transformers calls it in memory since 4.52."""


def native_model(family: str, tied: bool = False) -> VisionLanguageModel:
    config = native_config(family)
    decoder = config.decoder.model_copy(update={"tie_word_embeddings": tied, "trained_length": CONTEXT})
    return random_model(config.model_copy(update={"decoder": decoder}))


def with_newer_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefixes = {name: next((hub for hub in NEWER if name.startswith(hub)), "") for name in tensors}
    return {NEWER.get(hub, "") + name.removeprefix(hub): tensors[name] for name, hub in prefixes.items()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", NATIVE)
def test_the_later_generations_load_by_either_naming(tmp_path: Path, family: str, tied: bool) -> None:
    model = native_model(family, tied)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path, device="cpu")
    assert_same_weights(loaded, model)
    assert loaded.config == model.config
    tensors = load_file(tmp_path / WEIGHTS)
    assert ("lm_head.weight" in tensors) is not tied
    assert tensors["visual.patch_embed.proj.weight"].shape == (16, 3, 2, 2, 2)
    newer = with_newer_names(tensors)
    assert "model.visual.merger.mlp.0.bias" in newer and "model.language_model.embed_tokens.weight" in newer
    rewrite(tmp_path, newer)
    assert_same_weights(load_model(tmp_path, device="cpu"), model)


@pytest.mark.parametrize("family", NATIVE)
def test_names_in_errors_are_those_of_the_file(tmp_path: Path, family: str) -> None:
    save_model(native_model(family), tmp_path)
    whole = with_newer_names(load_file(tmp_path / WEIGHTS))
    name = "model.visual.blocks.1.attn.proj.bias"
    rewrite(tmp_path, whole | {name: torch.zeros(3)})
    with pytest.raises(WeightsError, match=rf"tensor '{name}' has the shape \(3,\), but config\.json asks for \(16,\)"):
        load_model(tmp_path, device="cpu")
    rewrite(tmp_path, whole | {f"{name}s": torch.zeros(3)})
    with pytest.raises(WeightsError, match=rf"unknown tensor '{name}s', in {WEIGHTS}"):
        load_model(tmp_path, device="cpu")
    rewrite(tmp_path, {key: tensor for key, tensor in whole.items() if key != name})
    with pytest.raises(WeightsError, match=r"missing tensor 'visual\.blocks\.1\.attn\.proj\.bias'"):
        load_model(tmp_path, device="cpu")
    rewrite(tmp_path, whole | {"model.norm.weight": torch.ones(32)})
    with pytest.raises(WeightsError, match=r"'model\.(language_model\.)?norm\.weight' and .* are one tensor; keep one"):
        load_model(tmp_path, device="cpu")


def test_the_towers_of_two_generations_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    save_model(native_model("qwen2_vl"), tmp_path / "two")
    save_model(native_model("qwen2_5_vl"), tmp_path / "five")
    (tmp_path / "two" / "config.json").write_bytes((tmp_path / "five" / "config.json").read_bytes())
    with pytest.raises(WeightsError, match=r"missing tensors 'visual\.blocks\.0\.mlp\.down_proj\.bias'.*mlp\.fc1\.bias"):
        load_model(tmp_path / "two", device="cpu")


def test_sizes_of_pictures_travel_with_the_weights(tmp_path: Path) -> None:
    model, family = native_model("qwen2_vl"), get_family("qwen2_vl")
    save_model(model, tmp_path / "own", spec=family_of_preset(find_preset("qwen2-vl-nano")))
    save_model(model, tmp_path / "plain")
    spec = read_config(tmp_path / "own")[2]
    assert spec == family_of_preset(find_preset("qwen2-vl-nano")) != family
    assert read_config(tmp_path / "plain")[2] == family
    # Saved over what is there without a word about pictures, they stay.
    save_model(model, tmp_path / "own")
    assert read_config(tmp_path / "own")[2] == spec
    repack(tmp_path / "own", tmp_path / "half", dtype=torch.bfloat16)
    assert read_config(tmp_path / "half")[2] == spec


def test_an_int8_model_of_native_resolution_loads_by_either_naming(tmp_path: Path) -> None:
    model = native_model("qwen2_5_vl")
    save_model(model, tmp_path, quantize="int8")
    loaded = load_model(tmp_path, device="cpu")
    expected = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    rewrite(tmp_path, with_newer_names(load_file(tmp_path / WEIGHTS)))
    again = load_model(tmp_path, device="cpu").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())


def test_any_end_that_a_checkpoint_lists_ends_an_answer(tmp_path: Path) -> None:
    """generation_config.json of Qwen2-VL and Qwen2.5-VL names two."""
    model = native_model("qwen2_vl")
    save_model(model, tmp_path)
    prompt = document(model.config, (4, Visual((1, 2, 4)), 3))
    said = qwenvl.load(tmp_path, device="cpu").generate([prompt], max_new_tokens=3)[0].tokens
    assert len(said) == 3
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [79, said[1]]}))
    reply = qwenvl.load(tmp_path, device="cpu").generate([prompt], max_new_tokens=3)[0]
    assert reply.finish_reason == "stop" and len(reply.tokens) < 3
