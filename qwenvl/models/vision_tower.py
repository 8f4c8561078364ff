"""The vision tower: a pre-norm ViT over packed patches of any number of pictures and clips.

P patches, p patch_size, m merge_size, W hidden_size, H head_dim. What the generations differ in is chosen here once, from the
configuration: a learned position table or rotation by row and column, an input norm, the kind of norm and MLP, windows.

Sources: VisionTransformer in the published visual.py of Qwen-VL (repository wangjl1993/extract_human_attri @ fc9525f,
Qwen-VL/visual.py); section 2.1 of arXiv 2409.12191 (native resolution, 2-D rotary positions); section 2.1.1 of arXiv 2502.13923
(windows, RMSNorm, SwiGLU).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.config import VisionConfig
from qwenvl.models.attention import Layout, PackedLayout, attention
from qwenvl.models.layers import make_norm, places_of, quick_gelu, resize_table_to
from qwenvl.models.rope import Rotary, apply_rotary, rotary_2d
from qwenvl.types import PixelScale, Windows


class VisionTower(nn.Module):
    """forward(patches, grids (n, 3), windows) -> (P, W), in the order of the patches given: numbers (P, C * frames * p * p), or,
    where `pixel_scale` says how to read them, pixels (P, C, frames or 1, p * p) uint8.

    There is no class token; every frame of a picture or clip attends within itself, and in window blocks every window. Where m > 1
    the patches of a frame come square by square: squares in rows from the top left, and so the m * m patches of a square.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.pixel_scale: PixelScale | None = None
        self.patch_embed = nn.Linear(config.patch_numbers, width, bias=False)
        table = None if config.position_grid is None else self.patch_embed.weight.new_zeros(config.position_grid**2, width)
        self.position_embedding = None if table is None else nn.Parameter(table)
        self.pre_norm = make_norm(config.norm, width, config.norm_eps) if config.input_norm else None
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.num_hidden_layers))

    def forward(self, patches: Tensor, grids: Tensor, windows: Windows | None = None) -> Tensor:
        """Raises ValueError for a tower with windows that is given none, and for pixels that it cannot read."""
        x = self.patch_embed(self._numbers(patches))
        if self.position_embedding is not None:
            x = x + resize_table_to(self.position_embedding, grids, self.config.merge_size)
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        table = self._rotary(grids, x.device)
        # One segment per frame: grids (n, 3) hold time, height, width.
        frames = PackedLayout.full((grids[:, 1] * grids[:, 2]).repeat_interleave(grids[:, 0]).to(x.device))
        if self.config.window_size is None:
            return self._run(x, table, [frames] * len(self.blocks))
        if windows is None:
            raise ValueError(f"this tower attends in windows of {self.config.window_size} pixels: give them with the grids")
        # Patches of a window must lie together. Windows stay inside a frame, so frames are where they were: their segments hold in
        # either order. The order is undone here, by whole squares; the merger works square by square, so that undoing it after the
        # merger, as the published code does, gives the same.
        order = windows.order.to(x.device)
        table = None if table is None else Rotary(self._by_square(table.cos, order), self._by_square(table.sin, order))
        narrow = PackedLayout.full(windows.lengths.to(x.device))
        whole = set(self.config.full_attention_blocks)
        x = self._run(self._by_square(x, order), table, [frames if n in whole else narrow for n in range(len(self.blocks))])
        return self._by_square(x, order.argsort())

    def _numbers(self, patches: Tensor) -> Tensor:
        """Patches as normalised numbers (P, C * frames * p * p), computed in float32, in the weights' dtype."""
        dtype = self.patch_embed.weight.dtype
        if patches.dtype != torch.uint8:
            return patches.to(dtype)
        if self.pixel_scale is None:
            raise ValueError("patches are pixels, and this tower is not told their scale: set its pixel_scale, or give numbers")
        wanted = (self.config.in_channels, self.config.patch_size**2)
        if patches.ndim != 4 or (patches.shape[1], patches.shape[3]) != wanted:
            raise ValueError(f"patches of pixels are (P, {wanted[0]}, T, {wanted[1]}), not {tuple(patches.shape)}")
        mean, std = (patches.new_tensor(values, dtype=torch.float32)[:, None, None] for values in self.pixel_scale)
        numbers = patches.float().div_(255).sub_(mean).div_(std).to(dtype)
        return numbers.expand(-1, -1, self.config.temporal_patch_size, -1).flatten(1)

    def _run(self, x: Tensor, table: Rotary | None, layouts: list[Layout]) -> Tensor:
        for block, layout in zip(self.blocks, layouts, strict=True):
            x = block(x, table, layout)
        return x

    def _rotary(self, grids: Tensor, device: torch.device) -> Rotary | None:
        """Tables (P, H / 2) for every patch's row and column; None for a tower that does not rotate."""
        config = self.config
        if config.rotary_theta is None:
            return None
        places = places_of(grids, config.merge_size).to(device)
        return rotary_2d(places, config.hidden_size // config.num_attention_heads, config.rotary_theta)

    def _by_square(self, x: Tensor, order: Tensor) -> Tensor:
        """Rows (P, ...) rearranged in whole squares of m * m patches."""
        return x.unflatten(0, (-1, self.config.merge_size**2)).index_select(0, order).flatten(0, 1)


class VisionBlock(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = make_norm(config.norm, config.hidden_size, config.norm_eps)
        self.attention = VisionAttention(config)
        self.norm2 = make_norm(config.norm, config.hidden_size, config.norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, x: Tensor, table: Rotary | None, layout: Layout) -> Tensor:
        x = x + self.attention(self.norm1(x), table, layout)
        return x + self.mlp(self.norm2(x))


class VisionAttention(nn.Module):
    """`qkv_layout` says how the fused projection's rows are ordered; either way it is only a view."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.head_dim = width // config.num_attention_heads
        self.per_head = config.qkv_layout == "per_head"
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, table: Rotary | None, layout: Layout) -> Tensor:
        fused = self.qkv(x)
        if self.per_head:
            q, k, v = fused.unflatten(-1, (-1, 3, self.head_dim)).unbind(2)
        else:
            q, k, v = fused.unflatten(-1, (3, -1, self.head_dim)).unbind(1)
        if table is not None:
            q, k = apply_rotary(q, table), apply_rotary(k, table)
        return self.proj(attention(q, k, v, layout).flatten(1))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu, "swiglu": F.silu}


class VisionMLP(nn.Module):
    """down(act(up(x))), or down(silu(gate(x)) * up(x)); unlike the decoder's, every projection has a bias."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.activation = ACTIVATIONS[config.mlp]
        self.gate = nn.Linear(width, inner) if config.mlp == "swiglu" else None
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        return self.down(self.activation(up) if self.gate is None else self.activation(self.gate(x)) * up)
