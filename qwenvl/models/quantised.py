"""Linear layers whose weights are stored in int8 or in four bits and never train: what QLoRA's adapters stand on.

A weight is cut into blocks along its rows; each has one scale, the largest magnitude in it. int8 has one block a row and 255 even
levels. nf4 has blocks of 64 and the sixteen levels of QLoRA (arXiv 2305.14314, appendix E), the means of sixteen equally likely
parts of a normal distribution, with an exact zero; two codes share a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.models.select import LayerError, replace_layers

Kind = Literal["int8", "nf4"]

BLOCK = 64
"""Weights that share a scale in nf4 (arXiv 2305.14314, section 4)."""
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


class QuantisedLinear(nn.Module):
    """x (..., in) -> (..., out), as nn.Linear with the weight rounded. The weight is made again in the backward pass, not kept."""

    codes: Tensor
    scales: Tensor

    def __init__(self, in_features: int, out_features: int, kind: Kind, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.in_features, self.out_features, self.kind = in_features, out_features, kind
        per_row = 1 if kind == "int8" else in_features // BLOCK
        width, dtype = (in_features, torch.int8) if kind == "int8" else (in_features // 2, torch.uint8)
        self.register_buffer("codes", torch.zeros(out_features, width, dtype=dtype))
        self.register_buffer("scales", torch.ones(out_features, per_row))
        self.bias = bias

    @classmethod
    def of(cls, linear: nn.Linear, kind: Kind) -> QuantisedLinear:
        """Raises LayerError for a width that nf4's blocks do not fill."""
        if kind == "nf4" and linear.in_features % BLOCK:
            raise LayerError(f"a layer of width {linear.in_features} cannot be stored in nf4, whose blocks have {BLOCK}; use int8")
        layer = cls(linear.in_features, linear.out_features, kind, linear.bias)
        weight = linear.weight.detach()
        layer.codes, layer.scales = _to_int8(weight) if kind == "int8" else _to_nf4(weight)
        return layer

    @property
    def weight(self) -> Tensor:
        """(out, in) in float32, rounded."""
        return self.unpacked(torch.float32)

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        if self.kind == "int8":
            return self.codes.to(dtype) * self.scales.to(dtype)
        levels = torch.tensor(NF4, device=self.codes.device)
        numbers = torch.stack([self.codes >> 4, self.codes & 15], dim=-1).flatten(1)
        values = levels[numbers.long()].unflatten(1, (-1, BLOCK)) * self.scales[..., None]
        return values.flatten(1).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        x = x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
        y = _Product.apply(x, self)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """x W^T with no gradient for W, which both passes make anew from its codes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.unpacked(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.unpacked(gradient.dtype), None


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = not_zero(weight.float().abs().amax(dim=1, keepdim=True) / 127)
    return (weight.float() / scales).round().clamp(-127, 127).to(torch.int8), scales


def _to_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    blocks = weight.float().unflatten(1, (-1, BLOCK))
    scales = not_zero(blocks.abs().amax(dim=-1))
    levels = torch.tensor(NF4, device=weight.device)
    # The nearest level is told by the middles between neighbours.
    numbers = torch.bucketize(blocks / scales[..., None], (levels[1:] + levels[:-1]) / 2).flatten(1).to(torch.uint8)
    return numbers[:, ::2] << 4 | numbers[:, 1::2], scales


def not_zero(scales: Tensor) -> Tensor:
    return torch.where(scales > 0, scales, torch.ones_like(scales))


def quantise(model: nn.Module, targets: Sequence[str], kind: Kind) -> list[str]:
    """Store the linear layers whose names match (fnmatch patterns) in `kind`, in place; their names.

    Raises LayerError for a pattern that matches none.
    """
    return replace_layers(model, targets, lambda linear: QuantisedLinear.of(linear, kind))
