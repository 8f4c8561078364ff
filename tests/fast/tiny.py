"""Tiny random models for tests of everything that uses a model: a Qwen-VL as a folder with a trained tokenizer; models of
native resolution, and documents of random patches for them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qwenvl.config import DecoderConfig, MergerConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.families import get_family
from qwenvl.families.spec import VideoRules
from qwenvl.models.layers import sincos_table
from qwenvl.models.resampler import Resampler
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.grid import window_plan
from qwenvl.processing.positions import mrope_positions
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
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, position_grid=2,
            input_norm=True,
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


NATIVE = ("qwen2_vl", "qwen2_5_vl")


def native_config(family: str) -> ModelConfig:
    """Patches of 2 pixels, merged two by two. The newer family's windows have 4 x 4 patches, but in block 1."""
    newer = family == "qwen2_5_vl"
    choices: dict[str, Any] = {"norm": "layer", "mlp": "quick_gelu"}
    if newer:
        choices = {"norm": "rms", "mlp": "swiglu", "window_size": 8, "full_attention_blocks": (1,)}
    return ModelConfig(
        family=family,
        vision=VisionConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, patch_size=2, temporal_patch_size=2,
            rotary_theta=10000.0, merge_size=2, qkv_layout="stacked", **choices,
        ),
        connector=MergerConfig(hidden_size=32, norm=choices["norm"]),
        decoder=DecoderConfig(
            vocab_size=80, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, rope_theta=1e4, use_dynamic_ntk=False, use_logn_attn=False, mrope_section=(2, 3, 3),
            max_position_embeddings=CONTEXT,
        ),
        image_start_id=76, image_end_id=77, image_pad_id=78, video_pad_id=79, tokens_per_second=2.0 if newer else None,
    )  # fmt: skip


@dataclass(frozen=True)
class Visual:
    """A picture, or (`seconds` given: those of a temporal patch) a clip; patches in time, height, width."""

    grid: tuple[int, int, int]
    seconds: float | None = None


def document(config: ModelConfig, mix: Iterable[int | Visual], seed: int = 0) -> Encoded:
    """So many random tokens of text, and visuals of random patches, in this order."""
    random = np.random.default_rng(seed)
    merge, visuals, ids = config.vision.merge_size, [], []
    for item in mix:
        if isinstance(item, Visual):
            visuals.append(item)
            pad = config.image_pad_id if item.seconds is None else config.video_pad_id
            ids += [config.image_start_id, *[pad] * (int(np.prod(item.grid)) // merge**2), config.image_end_id]
        else:
            ids += random.integers(0, config.image_start_id - 10, item).tolist()
    input_ids = np.array(ids, dtype=np.int64)
    slots = np.flatnonzero(np.isin(ids, [config.image_pad_id, config.video_pad_id]))
    grids = np.array([visual.grid for visual in visuals], dtype=np.int64).reshape(-1, 3)
    patches = random.standard_normal((int(grids.prod(1).sum()), config.vision.patch_numbers)).astype(np.float32)
    seconds = [visual.seconds for visual in visuals]
    positions = mrope_positions(len(ids), slots, grids, merge, seconds, config.tokens_per_second)
    windows = window_plan(grids, config.vision)
    return Encoded(input_ids, input_ids, positions, patches, grids, slots, windows=windows)


def tiny_model(config: ModelConfig | None = None, seed: int = 0) -> VisionLanguageModel:
    """Random weights of a size at which neither attention nor the output is flat."""
    model = VisionLanguageModel(config or tiny_config()).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.state_dict().items():
            scale = 1.2 * parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.2
            centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            parameter.copy_(centre + scale * torch.randn(parameter.shape, generator=generator))
        if isinstance(connector := model.connector, Resampler):
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


def write_tiny_native(folder: Path, family: str, *, context: int = 1024, **generation: Any) -> Path:
    """Save a tiny model of native resolution with the small vocabulary: 4 x 4 pixels a visual token, pictures of up to 64, clips of
    up to 8 frames. Return the folder."""
    tokenizer, config, spec = small_tokenizer(family), native_config(family), get_family(family)
    tokens, shape = spec.image_tokens, {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": context}
    names = {"image_start": tokens.start, "image_end": tokens.end, "image_pad": tokens.pad, "video_pad": str(tokens.video_pad)}
    changes: dict[str, Any] = {f"{key}_id": tokenizer.special(name) for key, name in names.items()}
    changes["decoder"] = config.decoder.model_copy(update={**shape, "trained_length": context})
    images = replace(spec.images, min_pixels=4 * 16, max_pixels=64 * 16)
    videos = VideoRules(fps=2.0, min_frames=4, max_frames=8, min_pixels=4 * 16, max_pixels=16 * 16, total_pixels=64 * 16)
    own = replace(spec, images=images, videos=videos)
    save_model(tiny_model(config.model_copy(update=changes)), folder, spec=own, extra_config={})
    tokenizer.save(folder)
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": 8, **generation}), encoding="utf-8")
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
