"""Rotary positions as plain data, made once per forward: the decoder receives tables, never a kind of RoPE.

T tokens, d head_dim. Sources: modeling_qwen.py of Qwen-VL (repository wangjl1993/extract_human_attri @ fc9525f).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Rotary(NamedTuple):
    """cos, sin (T, d / 2) float32, the same for both halves of a head; query_scale (T,) float32 or None."""

    cos: Tensor
    sin: Tensor
    query_scale: Tensor | None = None


def rotary(
    positions: Tensor, head_dim: int, theta: float, *, ntk_alpha: Tensor | None = None, logn_length: int | None = None
) -> Rotary:
    """Tables for integer positions (T,).

    ntk_alpha (T,) stretches the base per token (dynamic NTK, fixed for a sequence when it is prefilled). logn_length: queries at
    positions beyond it are scaled by log_length(position + 1), so that attention does not spread as the context grows.
    """
    exponent = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    base = theta if ntk_alpha is None else theta * ntk_alpha[:, None].float() ** (head_dim / (head_dim - 2))
    angles = positions[:, None].float() * (1.0 / base**exponent)
    scale = None
    if logn_length is not None and len(positions) and int(positions.max()) >= logn_length:
        scale = ((positions + 1).float().log() / math.log(logn_length)).clamp(min=1.0)
    return Rotary(angles.cos(), angles.sin(), scale)


def apply_rotary(x: Tensor, table: Rotary) -> Tensor:
    """Rotate x (T, H, d) by halves, in the tables' float32, and cast back."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = table.cos[:, None], table.sin[:, None]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def ntk_alpha(length: int, trained_length: int) -> float:
    """Dynamic NTK's alpha for a prompt of `length` tokens: 1 up to the trained length, then 3, 7, 15 by doublings."""
    if length <= trained_length:
        return 1.0
    return max(2.0 ** math.ceil(math.log2(length / trained_length) + 1) - 1, 1.0)
