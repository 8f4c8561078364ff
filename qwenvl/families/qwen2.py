"""What Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923) share: special tokens, chat, sizes of pictures and clips, the
shape of a decoder, and the parts of their nano members. Their config.json is read and written in qwen2_config.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from qwenvl.config import DecoderConfig, MergerConfig, ModelConfig, VisionConfig
from qwenvl.families.spec import ChatRules, ImageRules, ImageTokens, Markup, SpecialTokens, VideoRules, used_tokens

# Constants of modeling_qwen2_vl.py and modeling_qwen2_5_vl.py (huggingface/transformers 5.23) that config.json does not carry.
VISION_ROTARY_THETA = 10000.0
VISION_NORM_EPS = 1e-6

# Ids of the published vocabulary, the same in every size (special tokens of tokenizer.json).
PUBLISHED_IDS = {"image_start_id": 151652, "image_end_id": 151653, "image_pad_id": 151655, "video_pad_id": 151656}

IMAGE_TOKENS = ImageTokens(start="<|vision_start|>", end="<|vision_end|>", pad="<|image_pad|>", video_pad="<|video_pad|>")

# The chat_template of the published tokenizer_config.json writes one string, and numbers pictures only with add_vision_id.
CHAT = ChatRules(after_picture="", numbered=False, joined_header=True)

UNIT = 28 * 28
"""Pixels of one visual token: two patches of 14 each way."""

# Bounds of the published preprocessor_config.json; the ratio is MAX_RATIO of qwen-vl-utils (vision_process.py, QwenLM/Qwen2.5-VL,
# February 2025).
IMAGES = ImageRules(kind="native", min_pixels=4 * UNIT, max_pixels=16384 * UNIT, max_ratio=200)

# FPS, FPS_MIN_FRAMES, FPS_MAX_FRAMES, VIDEO_MIN_PIXELS, VIDEO_MAX_PIXELS and VIDEO_TOTAL_PIXELS of the same file.
VIDEOS = VideoRules(
    fps=2.0, min_frames=4, max_frames=768,
    min_pixels=128 * UNIT, max_pixels=768 * UNIT, total_pixels=int(128000 * UNIT * 0.9),
)  # fmt: skip


def region_markup(style: Literal["tags", "json"], digits: int = 1) -> Markup:
    """The tags of the published vocabulary. Those who write JSON have them too, unused."""
    return Markup(
        style=style,
        ref=("<|object_ref_start|>", "<|object_ref_end|>"),
        box=("<|box_start|>", "<|box_end|>"),
        quad=("<|quad_start|>", "<|quad_end|>"),
        quad_separator=",",
        digits=digits,
    )


# Published, they are ids 151643 to 151656 (tokenizer_config.json), where <|vision_pad|>, which nothing uses, stands before the
# last two.
USED = used_tokens(CHAT, region_markup("tags"), IMAGE_TOKENS)
SPECIAL_TOKENS = SpecialTokens(trained=USED, published=(*USED[:-2], "<|vision_pad|>", *USED[-2:]))


def visual_tokens(config: ModelConfig, grid: tuple[int, int, int]) -> int:
    """One for every square of merge_size x merge_size patches."""
    time, height, width = grid
    return time * height * width // config.vision.merge_size**2


def decoder_of(
    hidden: int, intermediate: int, layers: int, heads: int, key_values: int, vocabulary: int, context: int, tied: bool = False
) -> DecoderConfig:
    """A published decoder: heads of 128, M-RoPE sections 16, 24, 24.

    rms_norm_eps is 1e-6 in the files at hand; copies of the 72B models disagree. A checkpoint's own config.json decides.
    """
    return DecoderConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_values, head_dim=128, rms_norm_eps=1e-6, rope_theta=1e6,
        trained_length=context, max_position_embeddings=context, use_dynamic_ntk=False, use_logn_attn=False,
        mrope_section=(16, 24, 24), tie_word_embeddings=tied,
    )  # fmt: skip


def model_of(
    family: str, vision: VisionConfig, decoder: DecoderConfig, seconds: float | None = None,
    ids: Mapping[str, int] = PUBLISHED_IDS,
) -> ModelConfig:  # fmt: skip
    """The model of a tower and a decoder; its merger follows. seconds: positions that a second of video takes."""
    merger = MergerConfig(hidden_size=decoder.hidden_size, merge_size=vision.merge_size, norm=vision.norm, norm_eps=vision.norm_eps)
    return ModelConfig(family=family, vision=vision, connector=merger, decoder=decoder, tokens_per_second=seconds, **ids)


# The nano members: about seven million parameters as qwen-vl-nano has, with its decoder and its vocabulary of 1600, in which the
# special tokens are renamed in place; then comes <|video_pad|>, and rows to spare.
NANO_IDS = {"image_start_id": 1597, "image_end_id": 1598, "image_pad_id": 1599, "video_pad_id": 1600}
NANO_DECODER = DecoderConfig(
    vocab_size=1608, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=4, head_dim=64, trained_length=2048, max_position_embeddings=2048, use_dynamic_ntk=False,
    use_logn_attn=False, mrope_section=(8, 12, 12), tie_word_embeddings=True,
)  # fmt: skip

# A picture has at most 64 visual tokens, those of a square of 224 pixels; a clip at most 576, 16 for a pair of frames.
NANO_IMAGES = ImageRules(kind="native", min_pixels=4 * UNIT, max_pixels=64 * UNIT, max_ratio=200)
NANO_VIDEOS = VideoRules(
    fps=2.0, min_frames=4, max_frames=72, min_pixels=4 * UNIT, max_pixels=16 * UNIT, total_pixels=int(640 * UNIT * 0.9)
)
