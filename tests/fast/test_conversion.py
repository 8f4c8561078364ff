"""Checkpoints in another storage, a start from pretrained parts, and the command that shows and converts."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from qwenvl.cli.main import main
from qwenvl.config import ModelConfig, VisionConfig
from qwenvl.families import find_preset, get_family
from qwenvl.models.vision_tower import VisionTower
from qwenvl.weights.convert import decoder_from_qwen, start_from_pretrained, tower_from_openclip
from qwenvl.weights.io import build_meta, load_model, parameter_shapes, save_model
from qwenvl.weights.maps import WeightsError, name_table
from qwenvl.weights.quantize import dequantize_rows, quantize_rows
from qwenvl.weights.repack import repack
from tests.fast.checkpoints import WEIGHTS, assert_same_weights, copy_of, edit_config, rewrite, tiny_config, tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(tiny_model(), folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved model that a test may spoil."""
    return copy_of(saved, tmp_path / "tiny")


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
        width, eps = config.hidden_size, config.norm_eps
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


def test_model_info_builds_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = Mock(wraps=build_meta)
    monkeypatch.setattr("qwenvl.weights.summary.build_meta", built)
    assert main(["model", "info", "qwen2-vl-2b"]) == 0
    built.assert_called_once_with(find_preset("qwen2-vl-2b").config)


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
