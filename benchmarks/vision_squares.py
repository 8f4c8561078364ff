"""C4: pictures of one square size through a tower of Qwen-VL's kind, and the adapter that makes 256 tokens of 1,024 patches,
against transformers' CLIPVisionModel of equal shape, which has no adapter; both with random weights.

Both start from normalised pixels (n, C, H, W): ours cuts them into patches inside the measured call. The peer carries a class token
(one row more than ours) and has a position table of the picture's own grid, where ours is interpolated at every call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Against, Case, Floor
from benchmarks.reference import STD
from qwenvl.config import DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig
from qwenvl.families import find_preset
from qwenvl.inference.choice import apply_choice
from qwenvl.models.vlm import VisionLanguageModel

MID_SIZE = ModelConfig(
    family="qwen_vl", image_start_id=1, image_end_id=2, image_pad_id=3,
    vision=VisionConfig(
        hidden_size=640, intermediate_size=2560, num_hidden_layers=12, num_attention_heads=10, patch_size=14, image_size=448,
        position_grid=16, input_norm=True,
    ),
    connector=ResamplerConfig(num_queries=256, hidden_size=896, num_attention_heads=7),
    decoder=DecoderConfig(
        vocab_size=32000, hidden_size=896, intermediate_size=3584, num_hidden_layers=1, num_attention_heads=14,
        num_key_value_heads=14, head_dim=64, tie_word_embeddings=True,
    ),
)  # fmt: skip
"""The decoder is not run; it is as large as what loading prepares for inference."""
SHALLOW = MID_SIZE.vision.model_copy(update={"num_hidden_layers": 2})
AT_TINY_SIZE = {"mid_size": MID_SIZE.model_copy(update={"vision": SHALLOW})}


@dataclass(frozen=True)
class Shape:
    name: str
    config: ModelConfig
    pictures: int
    dtype: torch.dtype
    repeats: int = 1
    goal: float | None = None


def cases(quick: bool, mid_size: ModelConfig = MID_SIZE) -> Iterator[Case]:
    nano = find_preset("qwen-vl-nano").config
    shapes = [
        Shape("448 px, bfloat16", mid_size, 1, torch.bfloat16, goal=1.2),
        Shape("448 px, float32", mid_size, 1, torch.float32),
        Shape("nano, 1 picture, float32", nano, 1, torch.float32, 10),
        Shape("nano, 8 pictures, float32", nano, 8, torch.float32, 3),
    ]
    for shape in shapes[:1] if quick else shapes:
        yield compare(shape)


def compare(shape: Shape) -> Case:
    config, size = shape.config.vision, shape.config.vision.image_size
    assert size is not None  # a tower of squares, as the peer's
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(shape.pictures, config.in_channels, size, size, generator=generator).to(shape.dtype)
    model = VisionLanguageModel(shape.config).to(shape.dtype).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * STD)
    apply_choice(model)  # what qwenvl.load does
    side = size // config.patch_size
    grids = torch.tensor([[1, side, side]] * shape.pictures)
    peer = build_peer(config).to(shape.dtype).eval()

    @torch.inference_mode()
    def ours() -> Tensor:
        return model.visual(patchify(pixels, config.patch_size), grids)

    @torch.inference_mode()
    def theirs() -> Tensor:
        states: Tensor = peer(pixel_values=pixels).last_hidden_state
        return states

    return Case(
        f"tower and adapter, {shape.name}", "picture", {"qwenvl": ours, "transformers CLIPVisionModel": theirs},
        units=shape.pictures, repeats=shape.repeats, rounds=3,
        against=[Against("qwenvl", "transformers CLIPVisionModel", shape.goal)],
        floors={"qwenvl": Floor(flops=flops(shape.config, side * side), dtype=str(shape.dtype).removeprefix("torch."))},
    )  # fmt: skip


def flops(config: ModelConfig, patches: int) -> float:
    """Of one picture."""
    vision, connector = config.vision, config.connector
    assert isinstance(connector, ResamplerConfig)
    width, hidden, queries = vision.hidden_size, connector.hidden_size, connector.num_queries
    block = 4 * width**2 + 2 * width * vision.intermediate_size
    tower = 2 * patches * (vision.num_hidden_layers * block + vision.patch_numbers * width)
    tower += vision.num_hidden_layers * 4 * patches**2 * width
    adapter = 2 * patches * (width * hidden + 2 * hidden**2) + 2 * queries * 2 * hidden**2 + 4 * queries * patches * hidden
    return float(tower + adapter + 2 * queries * hidden**2)


def build_peer(config: VisionConfig) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    shape = CLIPVisionConfig(
        hidden_size=config.hidden_size, intermediate_size=config.intermediate_size, num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads, image_size=config.image_size, patch_size=config.patch_size,
        hidden_act="gelu",
    )  # fmt: skip
    return CLIPVisionModel._from_config(shape, attn_implementation="sdpa")


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """(n, C, H, W) -> (n * H/p * W/p, C * p * p), row-major patches with columns in the order channel, row, column."""
    n, channels, height, width = pixels.shape
    grid = pixels.view(n, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels * patch * patch)
