"""A tiny random Qwen-VL for tests of checkpoints, and ways to look into one and to spoil it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from qwenvl.config import DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.models.vlm import VisionLanguageModel

WEIGHTS = "model.safetensors"


def tiny_config(tied: bool = False) -> ModelConfig:
    return ModelConfig(
        family="qwen_vl",
        vision=VisionConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, image_size=56, position_grid=4,
            input_norm=True,
        ),
        connector=ResamplerConfig(num_queries=4, hidden_size=32, num_attention_heads=2),
        decoder=DecoderConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, head_dim=16, trained_length=64, tie_word_embeddings=tied,
        ),
        image_start_id=61, image_end_id=62, image_pad_id=63,
    )  # fmt: skip


def tiny_model(tied: bool = False, dtype: torch.dtype = torch.float32) -> VisionLanguageModel:
    return random_model(tiny_config(tied), dtype)


def random_model(config: ModelConfig, dtype: torch.dtype = torch.float32) -> VisionLanguageModel:
    model = VisionLanguageModel(config).to(dtype).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.state_dict().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


def edit_config(folder: Path, **changes: object) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | changes))


def copy_of(folder: Path, copy: Path) -> Path:
    """The files of a model folder again, in `copy`."""
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy
