"""Encoding pictures: the vision tower against transformers' CLIPVisionModel of equal shape, both with random weights.

Both start from normalised pixels (n, C, H, W): ours cuts them into patches inside the measured call. The peer carries a class token
(one row more than ours) and has a position table of the picture's own grid, where ours is interpolated at every call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.harness import Case
from qwenvl.config import VisionConfig
from qwenvl.families import find_preset
from qwenvl.models.vision_tower import VisionTower

MID_SIZE = VisionConfig(
    hidden_size=640, intermediate_size=2560, num_hidden_layers=12, num_attention_heads=10,
    patch_size=14, image_size=448, position_grid=16, input_norm=True,
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    name: str
    config: VisionConfig
    pictures: int
    dtype: torch.dtype
    repeats: int


def cases(quick: bool) -> Iterator[Case]:
    nano = find_preset("qwen-vl-nano").config.vision
    shapes = [
        Shape("encode, nano, 1 picture, float32", nano, 1, torch.float32, 20),
        Shape("encode, nano, 8 pictures, float32", nano, 8, torch.float32, 3),
        Shape("encode, mid-size, 448 px, float32", MID_SIZE, 1, torch.float32, 1),
        Shape("encode, mid-size, 448 px, bfloat16", MID_SIZE, 1, torch.bfloat16, 1),
    ]
    for shape in shapes[:1] + shapes[2:3] if quick else shapes:
        yield compare(shape)


def compare(shape: Shape) -> Case:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config, size = shape.config, shape.config.image_size
    assert size is not None  # a tower of squares, as the peer's
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(shape.pictures, config.in_channels, size, size, generator=generator).to(shape.dtype)
    tower = VisionTower(config).to(shape.dtype).eval()
    for parameter in tower.parameters():
        if parameter.ndim > 1:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    side = size // config.patch_size
    grids = torch.tensor([[1, side, side]] * shape.pictures)
    peer_config = CLIPVisionConfig(
        hidden_size=config.hidden_size, intermediate_size=config.intermediate_size, num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads, image_size=size, patch_size=config.patch_size, hidden_act="gelu",
        attn_implementation="sdpa",
    )  # fmt: skip
    peer = CLIPVisionModel(peer_config).to(shape.dtype).eval()

    @torch.inference_mode()
    def ours() -> Tensor:
        return tower(patchify(pixels, config.patch_size), grids)

    @torch.inference_mode()
    def theirs() -> Tensor:
        return peer(pixel_values=pixels).last_hidden_state

    variants = {"qwenvl": ours, "transformers CLIPVisionModel": theirs}
    return Case(shape.name, "picture", variants, units=shape.pictures, repeats=shape.repeats)


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """(n, C, H, W) -> (n * H/p * W/p, C * p * p), row-major patches with columns in the order channel, row, column."""
    n, channels, height, width = pixels.shape
    grid = pixels.view(n, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels * patch * patch)
