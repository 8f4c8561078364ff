"""Rotary positions as plain data, made once per forward: attention receives tables, never a kind of RoPE.

T tokens, P patches, d head_dim. Sources: modeling_qwen.py of Qwen-VL (repository wangjl1993/extract_human_attri @ fc9525f);
section 2.1 of arXiv 2409.12191 (M-RoPE, and rotation of patches by row and column); arXiv 2309.00071 (YaRN).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qwenvl.config import YarnConfig


class Rotary(NamedTuple):
    """cos, sin (T, d / 2) float32, the same for both halves of a head; query_scale (T,) float32 or None."""

    cos: Tensor
    sin: Tensor
    query_scale: Tensor | None = None


def rotary(
    position_ids: Tensor,
    head_dim: int,
    theta: float,
    *,
    sections: Sequence[int] | None = None,
    yarn: YarnConfig | None = None,
    ntk_alpha: Tensor | None = None,
    logn_length: int | None = None,
) -> Rotary:
    """Tables for integer positions (3, T), rows time, height, width.

    sections: how many of the d / 2 frequencies, highest first, follow time, then height, then width; None: all follow row 0.
    ntk_alpha (T,) stretches the base per token (dynamic NTK, fixed for a sequence when it is prefilled). logn_length: queries at
    positions (row 0) beyond it are scaled by log_length(position + 1), so that attention does not spread as the context grows.
    """
    exponent = torch.arange(0, head_dim, 2, device=position_ids.device).float() / head_dim
    base = theta if ntk_alpha is None else theta * ntk_alpha[:, None].float() ** (head_dim / (head_dim - 2))
    frequencies = 1.0 / base**exponent
    if yarn is not None:
        frequencies = frequencies * yarn_stretch(yarn, head_dim, theta).to(frequencies.device)
    shares = frequencies.split([head_dim // 2] if sections is None else list(sections), dim=-1)
    angles = torch.cat([axis[:, None].float() * share for axis, share in zip(position_ids, shares)], dim=1)
    scale, line = None, position_ids[0]
    if logn_length is not None and len(line) and int(line.max()) >= logn_length:
        scale = ((line + 1).float().log() / math.log(logn_length)).clamp(min=1.0)
    size = 1.0 if yarn is None else yarn_attention_factor(yarn)
    return Rotary(angles.cos() * size, angles.sin() * size, scale)


def rotary_2d(places: Tensor, head_dim: int, theta: float) -> Rotary:
    """Tables (P, d / 2) for places (P, 2), row and column: the first half of the angles turns with the row, the second with the
    column, each with the same d / 4 frequencies."""
    half = head_dim // 2
    frequencies = 1.0 / theta ** (torch.arange(0, half, 2, device=places.device).float() / half)
    angles = (places[:, :, None].float() * frequencies).flatten(1)
    return Rotary(angles.cos(), angles.sin())


def apply_rotary(x: Tensor, table: Rotary) -> Tensor:
    """Rotate x (T, N, d) by halves, in the tables' float32, and cast back.

    In half precision the published decoder of Qwen2-VL rounds cos and sin to x's dtype first and rotates in that, which is less
    exact; its tower rotates in float32, as here. In float32 the two are the same.
    """
    # Of one dtype: products of two are several times slower on the CPU.
    first, second = x.to(torch.promote_types(x.dtype, table.cos.dtype)).chunk(2, dim=-1)
    cos, sin = table.cos[:, None], table.sin[:, None]
    turned = (first * cos).addcmul_(second, sin, value=-1), (second * cos).addcmul_(first, sin)
    return torch.cat(turned, dim=-1).to(x.dtype)


def ntk_alpha(length: int, trained_length: int) -> float:
    """Dynamic NTK's alpha for a prompt of `length` tokens: 1 up to the trained length, then 3, 7, 15 by doublings."""
    if length <= trained_length:
        return 1.0
    return max(2.0 ** math.ceil(math.log2(length / trained_length) + 1) - 1, 1.0)


def yarn_stretch(config: YarnConfig, head_dim: int, theta: float) -> Tensor:
    """What every frequency (d / 2,) is multiplied by: 1 where a wave turns beta_fast times or more within the original length,
    1 / factor where it turns beta_slow times or less, a straight line between (section 3.2 of arXiv 2309.00071).

    The bounds are whole numbers of frequencies, rounded outwards, as in the authors' code and in transformers.
    """
    waves, last = head_dim // 2, head_dim - 1

    def index_of(turns: float) -> float:
        """The frequency that turns so often within the original length, counted in pairs, with a fraction."""
        return waves * math.log(config.original_max_position_embeddings / (turns * 2 * math.pi)) / math.log(theta)

    low = max(math.floor(index_of(config.beta_fast)), 0)
    high = min(math.ceil(index_of(config.beta_slow)), last)
    width = max(high - low, 0.001)  # bounds that meet: a step
    slow = ((torch.arange(waves).float() - low) / width).clamp(0.0, 1.0)
    return slow / config.factor + (1.0 - slow)


def yarn_attention_factor(config: YarnConfig) -> float:
    """What queries and keys are multiplied by, through cos and sin: the root of 1 / t in section 3.4 of arXiv 2309.00071."""
    return 0.1 * math.log(config.factor) + 1.0
