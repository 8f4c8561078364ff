"""Qwen-VL (arXiv 2308.12966): the published configuration, its presets and markup.

Facts from the published config.json and code (repository wangjl1993/extract_human_attri @ fc9525f, Qwen-VL/).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qwenvl.config import ConfigError, DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.families.spec import ChatRules, FamilySpec, ImageRules, ImageTokens, Markup, Preset, SpecialTokens, used_tokens

# Constants of visual.py that config.json does not carry.
POSITION_GRID = 16  # positional_embedding has 256 rows: the 16 x 16 grid of the 224-pixel stage
NUM_QUERIES = 256
CONNECTOR_HEAD_DIM = 128  # attn_pool has output_dim // 128 heads
POSITION_BASE = 10000.0

CHAT = ChatRules()
IMAGE_TOKENS = ImageTokens(start="<img>", end="</img>", pad="<imgpad>")

# In the published vocabulary 205 unused tokens follow the three of the chat (tokenization_qwen.py: ids 151646 to 151850).
USED = used_tokens(CHAT, Markup(), IMAGE_TOKENS)
SPECIAL_TOKENS = SpecialTokens(trained=USED, published=(*USED[:3], *(f"<|extra_{index}|>" for index in range(205)), *USED[3:]))

REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "visual")
REQUIRED_VISUAL = ("heads", "image_size", "image_start_id", "layers", "mlp_ratio", "output_dim", "patch_size", "width")


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Read the published config.json. Keys that say nothing about the mathematics are passed over, as transformers does."""
    visual = raw.get("visual") or {}
    missing = [key for key in REQUIRED if key not in raw] + [f"visual.{key}" for key in REQUIRED_VISUAL if key not in visual]
    if missing:
        raise ConfigError(f"config.json: missing {', '.join(missing)}; a Qwen-VL checkpoint has them")
    heads = raw["num_attention_heads"]
    output_dim = visual["output_dim"]
    trained_length = raw.get("seq_length", 2048)
    vision = VisionConfig(
        hidden_size=visual["width"],
        intermediate_size=int(visual["width"] * visual["mlp_ratio"]),
        num_hidden_layers=visual["layers"],
        num_attention_heads=visual["heads"],
        patch_size=visual["patch_size"],
        image_size=visual["image_size"],
        input_norm=True,
        position_grid=visual.get("position_grid", POSITION_GRID),
        window_size=visual.get("window_size"),
        full_attention_blocks=visual.get("full_attention_blocks", ()),
    )
    connector = ResamplerConfig(
        num_queries=visual.get("n_queries", NUM_QUERIES),
        hidden_size=output_dim,
        num_attention_heads=visual.get("connector_heads", max(output_dim // CONNECTOR_HEAD_DIM, 1)),
        position_base=visual.get("position_base", POSITION_BASE),
        initialisation=visual.get("connector_initialisation", "published"),
    )
    decoder = DecoderConfig(
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        intermediate_size=raw["intermediate_size"] // 2,
        num_hidden_layers=raw["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=raw.get("kv_channels", raw["hidden_size"] // max(heads, 1)),
        rms_norm_eps=raw.get("layer_norm_epsilon", 1e-6),
        rope_theta=raw.get("rotary_emb_base", 10000),
        trained_length=trained_length,
        max_position_embeddings=raw.get("max_position_embeddings", 8192),
        use_dynamic_ntk=raw.get("use_dynamic_ntk", True),
        use_logn_attn=raw.get("use_logn_attn", True),
        tie_word_embeddings=raw.get("tie_word_embeddings", False),
    )
    start = visual["image_start_id"]
    return ModelConfig(
        family="qwen_vl", vision=vision, connector=connector, decoder=decoder,
        image_start_id=start, image_end_id=start + 1, image_pad_id=start + 2,
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The published config.json of a model; keys of ours appear only where they differ from the published constant."""
    vision, connector, decoder = config.vision, _resampler(config), config.decoder
    visual: dict[str, Any] = {
        "heads": vision.num_attention_heads,
        "image_size": vision.image_size,
        "image_start_id": config.image_start_id,
        "layers": vision.num_hidden_layers,
        # Rounded up as the published 4.9231 is, because the reader truncates width * mlp_ratio.
        "mlp_ratio": math.ceil(vision.intermediate_size / vision.hidden_size * 1e4) / 1e4,
        "output_dim": connector.hidden_size,
        "patch_size": vision.patch_size,
        "width": vision.hidden_size,
    }
    published = {
        "position_grid": (vision.position_grid, POSITION_GRID),
        "n_queries": (connector.num_queries, NUM_QUERIES),
        "connector_heads": (connector.num_attention_heads, max(connector.hidden_size // CONNECTOR_HEAD_DIM, 1)),
        "position_base": (connector.position_base, POSITION_BASE),
        "connector_initialisation": (connector.initialisation, "published"),
        "window_size": (vision.window_size, None),
        "full_attention_blocks": (list(vision.full_attention_blocks), []),
    }
    visual |= {key: ours for key, (ours, theirs) in published.items() if ours != theirs}
    return {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.hidden_size,
        "num_hidden_layers": decoder.num_hidden_layers,
        "num_attention_heads": decoder.num_attention_heads,
        "kv_channels": decoder.head_dim,
        "intermediate_size": decoder.intermediate_size * 2,
        "seq_length": decoder.trained_length,
        "max_position_embeddings": decoder.max_position_embeddings,
        "layer_norm_epsilon": decoder.rms_norm_eps,
        "rotary_emb_base": decoder.rope_theta,
        "rotary_pct": 1.0,
        "use_dynamic_ntk": decoder.use_dynamic_ntk,
        "use_logn_attn": decoder.use_logn_attn,
        "no_bias": True,
        "tie_word_embeddings": decoder.tie_word_embeddings,
        "visual": visual,
    }


def visual_tokens(config: ModelConfig, grid: tuple[int, int, int]) -> int:
    """Always the number of queries, whatever the picture's grid."""
    return _resampler(config).num_queries


def _resampler(config: ModelConfig) -> ResamplerConfig:
    """The connector of every Qwen-VL. Raises ConfigError for a merger, which belongs to the later generations."""
    if not isinstance(config.connector, ResamplerConfig):
        raise ConfigError(f"{config.family}: connector.kind is {config.connector.kind!r}; this family has a resampler")
    return config.connector


def read_markup(raw: Mapping[str, Any]) -> Markup:
    """`coordinate_digits` is a key of ours; the published files do not have it."""
    return Markup(digits=raw.get("coordinate_digits", 1))


QWEN_VL_7B = ModelConfig(
    family="qwen_vl",
    vision=VisionConfig(
        hidden_size=1664, intermediate_size=8192, num_hidden_layers=48, num_attention_heads=16, patch_size=14, image_size=448,
        position_grid=POSITION_GRID, input_norm=True,
    ),
    connector=ResamplerConfig(num_queries=NUM_QUERIES, hidden_size=4096, num_attention_heads=32),
    decoder=DecoderConfig(
        vocab_size=151936, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=32, head_dim=128,
    ),
    image_start_id=151857, image_end_id=151858, image_pad_id=151859,
)

NANO_VOCAB = 1600
"""Rows of the nano's embedding; its last ids are the special tokens, in the order of SPECIAL_TOKENS.trained."""

QWEN_VL_NANO = ModelConfig(
    family="qwen_vl",
    vision=VisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=6, num_attention_heads=3,
        patch_size=14, image_size=112, position_grid=8, input_norm=True,
    ),
    connector=ResamplerConfig(
        num_queries=36, hidden_size=256, num_attention_heads=4, position_base=20.0, initialisation="aligned"
    ),
    decoder=DecoderConfig(
        vocab_size=NANO_VOCAB, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, head_dim=64, trained_length=512, max_position_embeddings=2048, tie_word_embeddings=True,
    ),
    image_start_id=NANO_VOCAB - 3, image_end_id=NANO_VOCAB - 2, image_pad_id=NANO_VOCAB - 1,
)

QWEN_VL = FamilySpec(
    name="qwen_vl",
    model_types=("qwen",),
    images=ImageRules(kind="square"),
    image_tokens=IMAGE_TOKENS,
    chat=CHAT,
    special_tokens=SPECIAL_TOKENS,
    videos=None,
    positions="line",
    parse_config=parse_config,
    write_config=write_config,
    visual_tokens=visual_tokens,
    read_markup=read_markup,
    presets=(
        Preset("qwen-vl-7b", QWEN_VL_7B, summary="Qwen-VL and Qwen-VL-Chat as published: 9.6B parameters"),
        Preset("qwen-vl-nano", QWEN_VL_NANO, Markup(digits=3), "the small model that ships with the package"),
    ),
)
