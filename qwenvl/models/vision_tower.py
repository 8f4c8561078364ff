"""The vision tower: a pre-norm ViT over packed patches of any number of pictures.

P patches, C channels, p patch_size, W hidden_size. Source: VisionTransformer in the published visual.py of Qwen-VL
(repository wangjl1993/extract_human_attri @ fc9525f, Qwen-VL/visual.py).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.config import VisionConfig
from qwenvl.models.attention import PackedLayout, attention
from qwenvl.models.layers import resize_table_to


class VisionTower(nn.Module):
    """forward(patches (P, C * p * p), grids (n, 3)) -> (P, W). There is no class token; every picture attends within itself."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.patch_embed = nn.Linear(config.in_channels * config.patch_size**2, width, bias=False)
        self.position_embedding = nn.Parameter(self.patch_embed.weight.new_zeros(config.position_grid**2, width))
        self.pre_norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.num_hidden_layers))

    def forward(self, patches: Tensor, grids: Tensor) -> Tensor:
        x = self.patch_embed(patches) + resize_table_to(self.position_embedding, grids)
        x = self.pre_norm(x)
        # One segment per frame: grids (n, 3) hold time, height, width.
        layout = PackedLayout.full((grids[:, 1] * grids[:, 2]).repeat_interleave(grids[:, 0]).to(x.device))
        for block in self.blocks:
            x = block(x, layout)
        return x


class VisionBlock(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.attention = VisionAttention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        x = x + self.attention(self.norm1(x), layout)
        return x + self.mlp(self.norm2(x))


class VisionAttention(nn.Module):
    """`qkv_layout` says how the fused projection's rows are ordered; either way it is only a view."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.per_head = config.qkv_layout == "per_head"
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        fused = self.qkv(x)
        if self.per_head:
            q, k, v = fused.unflatten(-1, (self.heads, 3, -1)).unbind(2)
        else:
            q, k, v = fused.unflatten(-1, (3, self.heads, -1)).unbind(1)
        return self.proj(attention(q, k, v, layout).flatten(1))


class VisionMLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))
