"""Checkpoints: names, strictness, what is saved is loaded, int8, and a start from pretrained parts."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qwenvl.cli.main import main
from qwenvl.config import ConfigError, DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.families import find_preset, get_family
from qwenvl.models.vision_tower import VisionTower
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.types import QwenVLError
from qwenvl.weights.convert import decoder_from_qwen, start_from_pretrained, tower_from_openclip
from qwenvl.weights.io import build_meta, load_model, parameter_shapes, read_config, save_model
from qwenvl.weights.maps import WeightsError, name_table
from qwenvl.weights.quantize import dequantize_rows, quantize_rows
from qwenvl.weights.repack import repack

WEIGHTS = "model.safetensors"


def tiny_config(tied: bool = False) -> ModelConfig:
    return ModelConfig(
        family="qwen_vl",
        vision=VisionConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, image_size=56, position_grid=4
        ),
        connector=ResamplerConfig(num_queries=4, hidden_size=32, num_attention_heads=2),
        decoder=DecoderConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, head_dim=16, trained_length=64, tie_word_embeddings=tied,
        ),
        image_start_id=61, image_end_id=62, image_pad_id=63,
    )  # fmt: skip


def tiny_model(tied: bool = False, dtype: torch.dtype = torch.float32) -> VisionLanguageModel:
    model = VisionLanguageModel(tiny_config(tied)).to(dtype).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.state_dict().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(tiny_model(), folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved model that a test may spoil."""
    copy = tmp_path / "tiny"
    copy.mkdir()
    for file in saved.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


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


# Strictness


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


def edit_config(folder: Path, **changes: object) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | changes))


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
    elif how == "gptq":
        edit_config(folder, quantization_config={"bits": 4})
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
        ("gptq", "gptq are not supported"),
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


# int8


def test_int8_is_off_by_at_most_half_a_step() -> None:
    sizes = torch.tensor([1e-6, 1.0, 30.0, 1.0, 0.0]).view(5, 1, 1, 1)
    tensor = torch.randn(5, 3, 7, 7, generator=torch.Generator().manual_seed(1)) * sizes
    quantized, scale = quantize_rows(tensor)
    assert quantized.dtype == torch.int8 and quantized.shape == tensor.shape and scale.shape == (5,)
    error = (dequantize_rows(quantized, scale) - tensor).abs().flatten(1)
    assert (error <= scale[:, None] / 2 * 1.0001).all()
    assert torch.equal(dequantize_rows(quantized, scale)[4], tensor[4])


def test_int8_is_stable_small_and_loads_as_float32(tmp_path: Path) -> None:
    model = tiny_model(dtype=torch.bfloat16)
    save_model(model, tmp_path / "one", quantize="int8")
    stored = load_file(tmp_path / "one" / WEIGHTS)
    assert stored["transformer.wte.weight"].dtype == torch.int8
    assert stored["transformer.wte.weight.scale"].shape == (64,)
    assert stored["transformer.ln_f.weight"].dtype == torch.float32
    loaded = load_model(tmp_path / "one", device="cpu")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for name, tensor in model.state_dict().items():
        assert (loaded.state_dict()[name] - tensor.float()).norm() <= 0.02 * tensor.float().norm(), name
    # Quantised once, it stays as it is: saving again changes nothing.
    save_model(loaded, tmp_path / "two", quantize="int8")
    again = load_file(tmp_path / "two" / WEIGHTS)
    assert all(torch.equal(stored[name], again[name]) for name in stored if not name.endswith(".scale"))


def test_int8_without_its_scale_is_refused(tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "model", quantize="int8")
    tensors = load_file(tmp_path / "model" / WEIGHTS)
    del tensors["transformer.wte.weight.scale"]
    rewrite(tmp_path / "model", tensors)
    with pytest.raises(WeightsError, match=r"transformer\.wte\.weight\.scale' is missing"):
        load_model(tmp_path / "model", device="cpu")


# Conversion


def test_repacking_tells_what_it_costs(folder: Path, tmp_path: Path) -> None:
    edit_config(folder, coordinate_digits=3)
    (folder / "tokenizer.json").write_text("{}")
    same = repack(folder, tmp_path / "same")
    assert (same.mean_error, same.worst, same.bfloat16_error) == (0.0, "", None)
    assert_same_weights(load_model(tmp_path / "same", device="cpu"), load_model(folder, device="cpu"))
    small = repack(folder, tmp_path / "small", int8=True)
    assert small.bfloat16_error is not None and 0 < small.bfloat16_error < small.mean_error < small.worst_error < 0.02
    assert (tmp_path / "small" / "tokenizer.json").read_text() == "{}"
    assert json.loads((tmp_path / "small" / "config.json").read_text())["coordinate_digits"] == 3


class StackedTower(nn.Module):
    """A vision transformer of torch's own layers: an oracle for what OpenCLIP's weights mean, without its class token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.positions = nn.Parameter(torch.zeros(config.position_grid**2, width))
        self.ln_pre = nn.LayerNorm(width, eps)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.num_attention_heads, config.intermediate_size, 0.0, "gelu", eps, batch_first=True, norm_first=True
            )
            for _ in range(config.num_hidden_layers)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.ln_pre(self.conv1(pixels).flatten(2).transpose(1, 2) + self.positions)
        for block in self.blocks:
            x = block(x)
        return x

    def openclip_state(self) -> dict[str, Tensor]:
        """The same weights under OpenCLIP's names, among what else a CLIP model holds."""
        renamed = {"self_attn": "attn", "linear1": "mlp.c_fc", "linear2": "mlp.c_proj", "norm1": "ln_1", "norm2": "ln_2"}
        width = self.positions.shape[1]
        state = {
            "visual.class_embedding": torch.randn(width), "visual.proj": torch.randn(width, 8), "logit_scale": torch.ones(()),
            "visual.ln_post.weight": torch.ones(width), "visual.ln_post.bias": torch.ones(width),
            "transformer.resblocks.0.ln_1.weight": torch.ones(5), "token_embedding.weight": torch.ones(9, 5),
            "visual.positional_embedding": torch.cat([torch.full((1, width), 1e3), self.positions.detach()]),
        }  # fmt: skip
        for name, tensor in self.state_dict().items():
            if name.startswith("blocks."):
                _, number, part, *rest = name.split(".")
                state["visual." + ".".join(["transformer.resblocks", number, renamed[part], *rest])] = tensor
            elif name != "positions":
                state[f"visual.{name}"] = tensor
        return state


@pytest.fixture(scope="module")
def openclip() -> StackedTower:
    tower = StackedTower(tiny_config().vision).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return tower


def test_a_tower_from_openclip_sees_what_openclip_saw(openclip: StackedTower) -> None:
    """Its q, k, v rows are packed anew: the attention of torch's nn.MultiheadAttention is the oracle."""
    config = tiny_config().vision
    state = tower_from_openclip(openclip.openclip_state(), config)
    tower = VisionTower(config).eval()
    tower.load_state_dict({name.removeprefix("vision_tower."): tensor for name, tensor in state.items()}, strict=True)
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(4))
    patches = pixels.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).reshape(16, -1)
    with torch.no_grad():
        ours, theirs = tower(patches, torch.tensor([[1, 4, 4]])), openclip(pixels)[0]
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def test_a_model_starts_from_both_parts(openclip: StackedTower) -> None:
    source, model = tiny_model(), tiny_model()
    qwen = {
        entry.published: entry.to_published(source.state_dict()) * 2
        for entry in name_table(source.config, parameter_shapes(source))
        if ".visual." not in entry.published
    }
    connector = {name: tensor.clone() for name, tensor in model.connector.state_dict().items()}
    start_from_pretrained(model, openclip.openclip_state(), qwen)
    for name, tensor in model.decoder.state_dict().items():
        assert torch.equal(tensor, source.decoder.state_dict()[name] * 2), name
    assert torch.equal(model.vision_tower.position_embedding, openclip.positions)
    assert all(torch.equal(model.connector.state_dict()[name], tensor) for name, tensor in connector.items())


def test_pretrained_parts_that_do_not_fit_are_named(openclip: StackedTower) -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = openclip.openclip_state()
    del state["visual.transformer.resblocks.1.attn.in_proj_bias"]
    with pytest.raises(WeightsError, match=r"vision_tower\.blocks\.1\.attention\.qkv\.bias"):
        start_from_pretrained(model, state)
    with pytest.raises(WeightsError, match=r"visual\.trunk\.norm\.weight"):
        tower_from_openclip({"visual.trunk.norm.weight": torch.ones(2)}, model.config.vision)
    with pytest.raises(WeightsError, match=r"lm_head\.weight"):
        decoder_from_qwen({}, model.config, parameter_shapes(model))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


# The command


def test_model_info_counts_as_the_paper_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "info", "qwen-vl-7b", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["parameters"] == {
        "llm": 7_721_324_544,
        "vision_encoder": 1_859_556_096,
        "vision_encoder_vit": 1_842_770_688,
        "vision_encoder_output": 16_785_408,
        "adapter": 76_054_528,
        "total": 9_656_935_168,
    }
    assert summary["tensors"] == 853
    assert summary["bytes"]["bfloat16"] == 19_313_870_336
    assert ModelConfig.model_validate(summary["config"]) == find_preset("qwen-vl-7b").config
    assert main(["model", "info", "qwen-vl-7b"]) == 0
    table = capsys.readouterr().out
    for count in ("7,721,324,544", "1,859,556,096", "1,842,770,688", "16,785,408", "76,054,528", "9,656,935,168"):
        assert count in table


def test_model_info_of_a_folder_and_of_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"]["dtypes"] == ["float32"]
    assert main(["model", "info", str(folder / "nothing")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no such folder" in error


def test_model_convert_writes_a_model_that_loads(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "convert", str(folder), str(tmp_path / "out"), "--store", "int8"]) == 0
    assert "bfloat16" in capsys.readouterr().out
    assert load_model(tmp_path / "out", device="cpu").config == tiny_config()
    assert main(["model", "convert", str(folder), str(folder)]) == 1
    assert "is the source itself" in capsys.readouterr().err


def test_model_list_names_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "list", "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert names >= {preset.name for preset in get_family("qwen_vl").presets}
