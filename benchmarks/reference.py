"""The model that most rows measure: a Qwen2.5-VL of 384 million weights, random, in files as a user has them.

12 layers of width 896 (14 heads, 2 of keys and values) with tied embeddings of 151,936 words, and a tower of 12 blocks of width 640
of which four see the whole picture. It is written once, in bfloat16, as transformers saves it; ours comes out of the very files by
`qwenvl.load`, so that whatever loading prepares for inference is measured, and transformers' by `from_pretrained`.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import qwenvl
from qwenvl.config import ModelConfig
from qwenvl.families import get_family
from qwenvl.inference.model import QwenVL, Storage
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.encode import assemble, ready_picture, visual_slots_of
from qwenvl.types import Encoded
from qwenvl.weights.maps import hub_name, name_table

FILES = Path(__file__).parents[1] / "runs" / "benchmarks" / "models"
"""Where models are kept between runs; not in git."""
STD = 0.02
BOUNDS = (4 * 784, 16384 * 784)
"""Smallest and largest area of the published preprocessor_config.json; the class of the peer has others."""


@dataclass(frozen=True)
class Size:
    """sections: frequencies of a head that follow time, height and width."""

    hidden: int = 896
    layers: int = 12
    heads: int = 14
    key_values: int = 2
    intermediate: int = 4864
    vocabulary: int = 151936
    sections: tuple[int, int, int] = (8, 12, 12)
    width: int = 640
    depth: int = 12
    vision_heads: int = 10
    vision_intermediate: int = 1712
    full_blocks: tuple[int, ...] = (2, 5, 8, 11)
    longest: int = 8192

    @property
    def special(self) -> list[int]:
        """Ids of start, end and the two pads: the last of the vocabulary."""
        return list(range(self.vocabulary - 4, self.vocabulary))

    @property
    def text_weights(self) -> int:
        """Weights that a decoded token needs: those of the layers, and the head once."""
        head = self.hidden // self.heads
        attention = self.hidden * (2 * self.hidden + 2 * self.key_values * head)
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + self.hidden * self.vocabulary

    @property
    def key_value_bytes(self) -> int:
        """Of a token in bfloat16."""
        return self.layers * 2 * self.key_values * self.hidden // self.heads * 2


SIZE = Size()
TINY = Size(
    hidden=128, layers=2, heads=2, key_values=1, intermediate=160, vocabulary=600, width=128, depth=2, vision_heads=2,
    vision_intermediate=112, full_blocks=(1,), longest=2048,
)  # fmt: skip
"""For tests, and --tiny."""


def hub_config(size: Size) -> dict[str, Any]:
    """What transformers' configuration takes."""
    start, end, pad, video_pad = size.special
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(size.sections)}
    text = {
        "vocab_size": size.vocabulary, "hidden_size": size.hidden, "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers, "num_attention_heads": size.heads, "num_key_value_heads": size.key_values,
        "rms_norm_eps": 1e-6, "rope_parameters": rope, "max_position_embeddings": size.longest, "bos_token_id": None,
        "eos_token_id": None, "tie_word_embeddings": True,
    }  # fmt: skip
    vision = {
        "depth": size.depth, "num_heads": size.vision_heads, "hidden_size": size.width, "out_hidden_size": size.hidden,
        "intermediate_size": size.vision_intermediate, "fullatt_block_indexes": list(size.full_blocks), "window_size": 112,
        "tokens_per_second": 2,
    }  # fmt: skip
    return {
        "text_config": text, "vision_config": vision, "tie_word_embeddings": True, "vision_start_token_id": start,
        "vision_end_token_id": end, "image_token_id": pad, "video_token_id": video_pad,
    }  # fmt: skip


def build_peer(size: Size = SIZE) -> Any:
    """transformers' model in float32, its weights drawn from a fixed seed."""
    import transformers

    peer = transformers.Qwen2_5_VLForConditionalGeneration(transformers.Qwen2_5_VLConfig(**hub_config(size)))
    generator = torch.Generator().manual_seed(0)
    for parameter in peer.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0.0, STD, generator=generator)
    return peer


@cache
def folder(size: Size = SIZE) -> Path:
    """The model's folder, written where it is not there yet."""
    name = hashlib.sha256(json.dumps(asdict(size)).encode()).hexdigest()[:12]
    target = FILES / f"reference-{name}"
    if not (target / "config.json").is_file():
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        build_peer(size).to(torch.bfloat16).save_pretrained(draft)
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    return target


@cache
def ours(dtype: str | None = None, quantize: Storage | None = None, size: Size = SIZE) -> QwenVL:
    """As `qwenvl.load` makes it for inference on a CPU. Without a dtype: bfloat16, which the file holds."""
    return qwenvl.load(folder(size), device="cpu", dtype=dtype, quantize=quantize)


@cache
def theirs(dtype: str = "bfloat16", size: Size = SIZE) -> Any:
    """As `from_pretrained` makes it."""
    import transformers

    kind = transformers.Qwen2_5_VLForConditionalGeneration
    return kind.from_pretrained(folder(size), dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()


def forget() -> None:
    """Let go of the models in memory; their files stay."""
    ours.cache_clear()
    theirs.cache_clear()
    gc.collect()


def random_ids(count: int, size: Size = SIZE, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, size.special[0], count)


def noise(width: int, height: int, seed: int = 2) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def photo(width: int, height: int, seed: int = 2) -> Image.Image:
    """Noise of all sizes, which a JPEG file holds as it holds a photograph."""
    random, whole = np.random.default_rng(seed), np.zeros((height, width, 3))
    for step in (256, 64, 16, 4):
        small = random.integers(0, 256, (height // step + 1, width // step + 1, 3), dtype=np.uint8)
        whole += np.asarray(Image.fromarray(small).resize((width, height)), dtype=np.float64) / 4
    return Image.fromarray(whole.astype(np.uint8))


def picture_prompt(config: ModelConfig, pictures: list[Image.Image], words: np.ndarray[Any, Any]) -> Encoded:
    """Pictures, then random words: from pixels to what a loaded model takes."""
    spec = get_family(config.family)
    visuals = [ready_picture(config, spec, one, f"picture {n}", *BOUNDS, pixels=True) for n, one in enumerate(pictures, 1)]
    counts = [spec.visual_tokens(config, visual.grid) for visual in visuals]
    start, end, pad = config.image_start_id, config.image_end_id, config.image_pad_id
    spans = [np.concatenate([[start], np.full(count, pad), [end]]) for count in counts]
    ids = np.concatenate([*spans, words]).astype(np.int64)
    return assemble(config, spec, ids, visual_slots_of(ids, config, counts), visuals)


def peer_inputs(config: ModelConfig, ids: np.ndarray[Any, Any], patches: Tensor, grids: Tensor) -> dict[str, Tensor]:
    """The same prompt as transformers takes it. patches: its own processor's."""
    kinds = torch.from_numpy(ids == config.image_pad_id)[None].int()
    return {
        "input_ids": torch.from_numpy(ids)[None], "mm_token_type_ids": kinds, "pixel_values": patches, "image_grid_thw": grids,
    }  # fmt: skip


def peer_processor() -> Any:
    """That of PIL, which needs no torchvision."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(min_pixels=BOUNDS[0], max_pixels=BOUNDS[1])


def ours_over(peer: Any) -> VisionLanguageModel:
    """Our model over the very tensors of a transformers model, by the names and layout of the published files."""
    family = peer.config.model_type
    with torch.device("meta"):
        model = VisionLanguageModel(get_family(family).parse_config(peer.config.to_dict()))
    shapes = {parameter: tuple(tensor.shape) for parameter, tensor in model.state_dict().items()}
    table = {entry.published: entry for entry in name_table(model.config, shapes)}
    state: dict[str, Tensor] = {}
    for parameter, tensor in peer.state_dict().items():
        if not (model.config.decoder.tie_word_embeddings and parameter == "lm_head.weight"):
            state |= table[hub_name(family, parameter)].to_ours(tensor)
    model.load_state_dict(state, strict=True, assign=True)
    return model
