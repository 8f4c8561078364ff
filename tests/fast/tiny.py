"""A tiny random Qwen-VL as a model folder, with a trained tokenizer, for tests of everything that uses a model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qwenvl.config import DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.models.layers import sincos_table
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import Encoded
from qwenvl.weights.io import save_model
from tests.small_text import small_tokenizer

TRAINED_LENGTH = 48
CONTEXT = 320


def tiny_config(tokenizer: Tokenizer | None = None) -> ModelConfig:
    """28-pixel pictures of 4 visual tokens; NTK and logn act beyond 48 tokens; a context of 320."""
    tokenizer = tokenizer or small_tokenizer()
    return ModelConfig(
        family="qwen_vl",
        vision=VisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, position_grid=2
        ),
        connector=ResamplerConfig(num_queries=4, hidden_size=32, num_attention_heads=2),
        decoder=DecoderConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, head_dim=16, trained_length=TRAINED_LENGTH, max_position_embeddings=CONTEXT,
        ),
        image_start_id=tokenizer.special("<img>"),
        image_end_id=tokenizer.special("</img>"),
        image_pad_id=tokenizer.special("<imgpad>"),
    )  # fmt: skip


def tiny_model(config: ModelConfig | None = None, seed: int = 0) -> VisionLanguageModel:
    """Random weights of a size at which neither attention nor the output is flat."""
    model = VisionLanguageModel(config or tiny_config()).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.state_dict().items():
            scale = 1.2 * parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.2
            centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            parameter.copy_(centre + scale * torch.randn(parameter.shape, generator=generator))
        connector = model.connector
        side = int(connector.config.num_queries**0.5)
        connector.position_table.copy_(sincos_table(side, connector.config.hidden_size, connector.config.position_base))
    return model


def write_tiny(
    folder: Path, *, chat_format: str = "chatml", tokenizer: bool = True, seed: int = 0, **generation: Any
) -> Path:
    """Save a tiny model as a folder that `qwenvl.load` takes, and return it."""
    save_model(tiny_model(seed=seed), folder, extra_config={})
    if tokenizer:
        small_tokenizer().save(folder)
    text = json.dumps({"chat_format": chat_format, "max_new_tokens": 8, **generation})
    (folder / "generation_config.json").write_text(text, encoding="utf-8")
    return folder


def picture(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Noise, so that every part of it matters."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def random_prompt(config: ModelConfig, length: int, seed: int = 0) -> Encoded:
    """A text prompt of `length` ids that are no special ones."""
    ids = np.random.default_rng(seed).integers(0, config.image_start_id - 20, length)
    none = np.zeros((0, 3), dtype=np.int64)
    patches = np.zeros((0, 3 * config.vision.patch_size**2), dtype=np.float32)
    return Encoded(ids, ids, np.tile(np.arange(length), (3, 1)), patches, none, none[:, 0])


def ids_of(text: str, tokenizer: Tokenizer | None = None) -> list[int]:
    """Ids of a text whose special tokens are written by name."""
    tokenizer = tokenizer or small_tokenizer()
    ids: list[int] = []
    while text:
        found = [(text.find(name), name) for name in tokenizer.specials if name in text]
        place, name = min(found, default=(len(text), ""))
        ids += tokenizer.encode(text[:place]) + ([tokenizer.special(name)] if name else [])
        text = text[place + len(name) :]
    return ids


def make_it_say(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Let models answer these texts, one after the other, instead of what their weights say."""

    def script() -> Iterable[int]:
        for answer in answers:
            yield from ids_of(answer + "<|im_end|>")

    tokens = iter(script())
    monkeypatch.setattr("qwenvl.inference.session.choose_token", lambda *_: next(tokens))
