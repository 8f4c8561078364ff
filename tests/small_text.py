"""Small tokenizers and a small model configuration that several test files share."""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from qwenvl.config import DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.families import get_family
from qwenvl.processing.tokenizer import Tokenizer, train_tokenizer

DATA = Path(__file__).parent / "data"

CORPUS = [
    "There is a red circle and a dog. How many? Answer: two, 2. Where is it? (012,345),(678,999)",
    "图中有一个红色的圆形和一只狗。多少个?两个。",
    "You are a helpful assistant.\nPicture 1: Describe the picture in English: a dog on a blue background",
]


@lru_cache
def small_tokenizer(family: str = "qwen_vl") -> Tokenizer:
    """A trained tokenizer of 320 ids, and one more in the families that take videos."""
    return train_tokenizer(CORPUS, 320).of_family(get_family(family))


def golden_ranks() -> dict[bytes, int]:
    """The part of the published qwen.tiktoken that can play a role in golden_tokens.json.

    Every token whose bytes occur inside one word of a golden text, with its own rank, all single bytes, and the highest rank, after
    which the special ids begin. No other token can be met while those texts are merged.
    """
    lines = (DATA / "golden_ranks.tiktoken").read_text().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}


@lru_cache(1)
def golden_tokenizer() -> Tokenizer:
    """The published tokenizer, as far as the golden texts go."""
    return Tokenizer.from_ranks(golden_ranks())


@lru_cache(1)
def golden_tokens() -> dict[str, Any]:
    """Texts and the ids that the published tokenizer gives: `plain`, `specials` and `image_span`."""
    return json.loads((DATA / "golden_tokens.json").read_text(encoding="utf-8"))


def small_config(tokenizer: Tokenizer, num_queries: int = 4, context: int = 512) -> ModelConfig:
    """A Qwen-VL of 28-pixel pictures whose special ids are the tokenizer's."""
    return ModelConfig(
        family="qwen_vl",
        vision=VisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, position_grid=2,
            input_norm=True,
        ),
        connector=ResamplerConfig(num_queries=num_queries, hidden_size=16, num_attention_heads=2),
        decoder=DecoderConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, head_dim=8, trained_length=context, max_position_embeddings=context,
        ),
        image_start_id=tokenizer.special("<img>"),
        image_end_id=tokenizer.special("</img>"),
        image_pad_id=tokenizer.special("<imgpad>"),
    )  # fmt: skip
