"""Layers that several parts share. P patches, C channels, g side of a square table, m merge_size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Normalised in float32 (rms_norm does so inside), cast back, then weighted: the published order, which decides what bfloat16
    gives."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.quick: Callable[[Tensor, Tensor, float], Tensor | None] | None = None
        """The same at once for few rows, None where it cannot: for inference (models/reordered.py)."""

    def forward(self, x: Tensor) -> Tensor:
        if self.quick is not None and (y := self.quick(x, self.weight, self.eps)) is not None:
            return y
        return F.rms_norm(x, (x.shape[-1],), eps=self.eps) * self.weight


def make_norm(kind: Literal["layer", "rms"], size: int, eps: float) -> nn.Module:
    return nn.LayerNorm(size, eps) if kind == "layer" else RMSNorm(size, eps)


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the approximation of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


def square_order(height: int, width: int, merge_size: int) -> Tensor:
    """Row-major indices (height * width,) of a frame's patches in packed order: squares of m x m in rows, and so within each."""
    index = torch.arange(height * width).view(height // merge_size, merge_size, width // merge_size, merge_size)
    return index.transpose(1, 2).flatten()


def places_of(grids: Tensor, merge_size: int) -> Tensor:
    """Row and column (P, 2) of every patch of the grids (n, 3), packed; every frame of a grid has the same."""
    pieces = []
    for frames, height, width in grids.tolist():
        order = square_order(height, width, merge_size)
        pieces.append(torch.stack([order // width, order % width], dim=1).repeat(frames, 1))
    return torch.cat(pieces)


def resize_table(table: Tensor, height: int, width: int) -> Tensor:
    """A table of positions (g * g, C), row-major, resampled bicubically to (height * width, C).

    The published visual.py does this at every forward, in float32, for the tower's positions and for the resampler's keys.
    """
    side = int(len(table) ** 0.5)
    if (height, width) == (side, side):
        return table
    grid = table.float().view(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).flatten(0, 2).to(table.dtype)


def resize_table_to(table: Tensor, grids: Tensor, merge_size: int = 1) -> Tensor:
    """The table at the grids (n, 3) of all pictures, packed: (P, C). Every frame of a grid gets the same positions."""
    resized: dict[tuple[int, int], Tensor] = {}
    pieces: list[Tensor] = []
    for frames, height, width in grids.tolist():
        if (height, width) not in resized:
            at_grid = resize_table(table, height, width)
            order = square_order(height, width, merge_size)
            resized[height, width] = at_grid if merge_size == 1 else at_grid.index_select(0, order.to(table.device))
        pieces += [resized[height, width]] * frames
    return torch.cat(pieces)


def sincos_table(side: int, size: int, base: float) -> Tensor:
    """2-D sin-cos positions of a side x side grid, row-major: (side * side, size), float32.

    First half from the column, second half from the row, each [sin | cos], as get_2d_sincos_pos_embed of the published visual.py.
    """
    omega = base ** -(torch.arange(size // 4, dtype=torch.float64) / (size // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * omega
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns = line.repeat(side, 1)
    rows = line.repeat_interleave(side, 0)
    return torch.cat([columns, rows], dim=1).float()
