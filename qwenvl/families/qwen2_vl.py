"""Qwen2-VL (arXiv 2409.12191): native resolution, 2-D rotary positions in the tower, M-RoPE in the decoder.

Sizes: examples/qwen2_vl of alibaba/Pai-Megatron-Patch. The paper's 675M vision encoder is the tower with the merger of the 7B.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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

FAMILY = "qwen2_vl"
REQUIRED_VISION = (
    "depth", "embed_dim", "mlp_ratio", "num_heads", "hidden_size", "patch_size", "spatial_merge_size", "temporal_patch_size",
)  # fmt: skip


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Read config.json, flat or nested. `vision_config.hidden_size` is the width of a visual token here, not the tower's."""
    flat = flatten(raw)
    vision = require(flat, REQUIRED_VISION, "Qwen2-VL")
    expect(vision, "hidden_act", "quick_gelu", "vision_config.")
    tower = {
        "hidden_size": vision["embed_dim"],
        "intermediate_size": int(vision["embed_dim"] * vision["mlp_ratio"]),
        "num_hidden_layers": vision["depth"],
        "num_attention_heads": vision["num_heads"],
        "patch_size": vision["patch_size"],
        "temporal_patch_size": vision["temporal_patch_size"],
        "in_channels": vision.get("in_chans", 3),
        "merge_size": vision["spatial_merge_size"],
        "norm": "layer",
        "mlp": "quick_gelu",
    }
    return assemble(FAMILY, flat, tower, vision["hidden_size"], "hidden_size")


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The hub's config.json of a model. Raises ConfigError for a setting that it has no key for."""
    vision = config.vision
    # Rounded up, because the reader truncates width * mlp_ratio.
    ratio = math.ceil(vision.intermediate_size / vision.hidden_size * 1e4) / 1e4
    return write_flat(
        config,
        "Qwen2VLForConditionalGeneration",
        {
            "depth": vision.num_hidden_layers,
            "embed_dim": vision.hidden_size,
            "mlp_ratio": whole_number(ratio),
            "num_heads": vision.num_attention_heads,
            "in_chans": vision.in_channels,
            "hidden_size": config.connector.hidden_size,
            "patch_size": vision.patch_size,
            "spatial_merge_size": vision.merge_size,
            "spatial_patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
        },
        parse_config,
    )


def read_markup(raw: Mapping[str, Any]) -> Markup:
    """Thousandths between tags. `coordinate_digits` is a key of ours; the published files do not have it."""
    return region_markup("tags", raw.get("coordinate_digits", 1))


def _tower(width: int, intermediate: int, layers: int, heads: int) -> VisionConfig:
    return VisionConfig(
        hidden_size=width, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads, patch_size=14,
        temporal_patch_size=2, rotary_theta=VISION_ROTARY_THETA, norm="layer", mlp="quick_gelu", merge_size=2, qkv_layout="stacked",
    )  # fmt: skip


TOWER = _tower(1280, 5120, 32, 16)
QWEN2_VL_2B = model_of(FAMILY, TOWER, decoder_of(1536, 8960, 28, 12, 2, 151936, 32768, tied=True))
QWEN2_VL_7B = model_of(FAMILY, TOWER, decoder_of(3584, 18944, 28, 28, 4, 152064, 32768))
QWEN2_VL_72B = model_of(FAMILY, TOWER, decoder_of(8192, 29568, 80, 64, 8, 152064, 32768))
QWEN2_VL_NANO = model_of(FAMILY, _tower(192, 768, 6, 3), NANO_DECODER, ids=NANO_IDS)

MARKUP = region_markup("tags")
NANO_MARKUP = region_markup("tags", digits=3)
NANO = Preset("qwen2-vl-nano", QWEN2_VL_NANO, NANO_MARKUP, "Qwen2-VL in seven million parameters", NANO_IMAGES, NANO_VIDEOS)

QWEN2_VL = FamilySpec(
    name=FAMILY,
    model_types=("qwen2_vl",),
    images=IMAGES,
    image_tokens=IMAGE_TOKENS,
    chat=CHAT,
    special_tokens=SPECIAL_TOKENS,
    videos=VIDEOS,
    positions="mrope",
    parse_config=parse_config,
    write_config=write_config,
    visual_tokens=visual_tokens,
    read_markup=read_markup,
    presets=(
        Preset("qwen2-vl-2b", QWEN2_VL_2B, MARKUP, "Qwen2-VL-2B as published: 2.2B parameters"),
        Preset("qwen2-vl-7b", QWEN2_VL_7B, MARKUP, "Qwen2-VL-7B as published: 8.3B parameters"),
        Preset("qwen2-vl-72b", QWEN2_VL_72B, MARKUP, "Qwen2-VL-72B as published: 73.4B parameters"),
        NANO,
    ),
    flatten=flatten,
)
