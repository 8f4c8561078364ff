"""Linear layers stored in int8 or int4 for inference: torch's kernels where they are right, a plain product elsewhere.

int8: a row of the weight has one scale. int4: 32 numbers of a row that follow each other (or as many as a checkpoint has) share a
scale and an offset. Only weights are rounded; the product is that of the activations' dtype. T rows of activations, N out, K in, G
numbers of a group. `models.quantised` holds the layers that QLoRA trains on; these here know no gradient.

Which product is used follows from the machine, the dtype and the number of rows, so that an answer is the same on every start; our
own kernels for few rows (`use`) come in by a measurement that is kept on disk for the same reason. Torch's were measured on one
core of a Zen 5 (4864 x 896, CPU time), where a plain bfloat16 layer takes 0.7 ms at one row and 1.2 at 32: its int8 kernel takes
0.35 and 2.4, its int4 kernel 0.16 and 2.1; a product of whole numbers takes 0.7 and 1.4; making the weight whole first costs 0.5 ms
in int8 and 4 in int4. In float32 torch's kernels run at 0.9 GB/s and are not used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.models.few_rows import FEW as COMPILED_FEW
from qwenvl.models.few_rows import FewRows, Weight, computes_alone, fits, in_memory, watched
from qwenvl.models.packed_layout import cuda_tiles, half_block, join_halves, pack, unpack, whole_blocks
from qwenvl.models.quantised import QuantisedLinear, not_zero
from qwenvl.models.reordered import ReorderedLinear
from qwenvl.models.select import LayerError, linear_layers, replace_layers

PackedKind = Literal["int8", "int4"]

GROUP = 32
LEVELS = 127
"""Of int8 on either side of zero."""
FEW = {"int8": 8, "int4": 64}
"""Up to so many rows torch's kernels are the fastest."""
SOME = 96
"""Up to so many rows of bfloat16 a product of whole numbers is faster than the whole weight and a plain product."""
PIECE = 128
"""Rows of a product of whole numbers at once: its sums stay in the cache."""
WIDE = 64
"""Rows of a block of int4 codes that our own kernel reads."""
FINE = 254
"""Parts that the second code of an activation cuts a step of the first into."""

TOWER = ("vision_tower.blocks.*",)
BASES = (nn.Linear, QuantisedLinear, ReorderedLinear)


class PackedLinear(nn.Module):
    """x (..., in) -> (..., out).

    int8: codes (N, K) and scales (N,). int4: codes as `packed_layout` lays them, and scales (K / G, N', 2), s and z of a group, a
    weight being (code - 8) * s + z. order (K,): where given, the inputs are taken in this order first, as a checkpoint whose groups
    are not neighbours needs it. A layer stays on the device that it was made on.
    """

    codes: Tensor
    scales: Tensor
    order: Tensor | None
    tiles: Tensor | None
    bias: Tensor | None

    def __init__(
        self, kind: PackedKind, size: tuple[int, int], codes: Tensor, scales: Tensor, bias: Tensor | None = None,
        order: Tensor | None = None, tiles: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.out_features, self.in_features = size
        self.kind = kind
        self.few: FewRows | None = None
        """What takes rows of bfloat16, up to FEW of theirs; see `use`."""
        buffers = {"codes": codes, "scales": scales, "bias": bias, "order": order, "tiles": tiles}
        for name, tensor in buffers.items():
            self.register_buffer(name, None if tensor is None else tensor.detach())

    @classmethod
    def of(cls, linear: nn.Linear | QuantisedLinear, kind: PackedKind) -> PackedLinear:
        """Rounded from a layer that is there. Raises LayerError for a width that int4's groups do not fill, and for weights that
        are not finite."""
        size, weight = (linear.out_features, linear.in_features), linear.weight.detach()
        if not torch.isfinite(weight).all():
            raise LayerError(f"a layer of {size[0]} x {size[1]} has weights that are not finite; the checkpoint is damaged")
        if kind == "int8":
            codes, scales = _to_int8(weight)
            return cls(kind, size, codes, scales.to(weight.dtype), linear.bias)
        if linear.in_features % GROUP:
            raise LayerError(f"a layer of width {linear.in_features} cannot be stored in int4, whose groups have {GROUP}; use int8")
        codes, scales, offsets = _to_int4(weight)
        return cls.from_codes(codes, scales.to(weight.dtype), offsets.to(weight.dtype), linear.bias)

    @classmethod
    def from_codes(
        cls, codes: Tensor, scales: Tensor, offsets: Tensor, bias: Tensor | None = None, order: Tensor | None = None
    ) -> PackedLinear:
        """int4 from codes (N, K) from 0 to 15, scales and offsets (N, K / G)."""
        pairs = whole_blocks(torch.stack([scales.t(), offsets.t()], dim=-1), dim=1).contiguous()
        return cls("int4", (codes.shape[0], codes.shape[1]), pack(codes), pairs, bias, order, cuda_tiles(codes))

    @property
    def weight(self) -> Tensor:
        """(N, K) in float32, rounded."""
        if self.kind == "int8":
            return self.codes.float() * self.scales.float()[:, None]
        rows = join_halves(unpack(self.codes, self.scales.float()))[:, : self.out_features].t()
        return rows if self.order is None else rows[:, torch.argsort(self.order)]

    @property
    def size(self) -> int:
        """Bytes that the weight takes, its scales included."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.codes, self.scales, self.tiles) if tensor is not None)

    def forward(self, x: Tensor) -> Tensor:
        if not x.ndim or x.shape[-1] != self.in_features:
            return F.linear(x, self.weight.to(x.dtype))  # which says what does not fit
        rows = x if x.ndim == 2 else x.reshape(-1, self.in_features)
        order = self._buffers["order"]
        rows = rows if order is None else rows.index_select(1, order)
        if self.few is not None and 0 < rows.shape[0] <= COMPILED_FEW and (weight := self._told_for(rows)) is not None:
            y = self.few.product(rows, weight)
            return y if x.ndim == 2 else y.view(*x.shape[:-1], self.out_features)
        y = self._product(rows.contiguous())
        y = y[:, : self.out_features].reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def use(self, kernels: FewRows | None) -> None:
        """Have few rows of bfloat16 on the CPU computed by kernels of our own, where they know the layout; or not any more."""
        known = self.kind == "int8" or half_block()[0] == WIDE // 2
        self.few = kernels if kernels is not None and kernels.here and known and self._told() is not None else None

    def told(self, dtype: torch.dtype) -> Weight | None:
        """This layer for our own kernels, where they may take activations of a dtype as they come."""
        own = self.few is not None and self.few.here and dtype == torch.bfloat16 and self._buffers["order"] is None
        return self._told() if own else None

    def _told_for(self, rows: Tensor) -> Weight | None:
        """For rows (T, K) as they are; None where they or this layer are not for our own kernels."""
        buffers = self._buffers
        if self.few is None or not self.few.here or rows.dtype != torch.bfloat16 or rows.shape[1] != self.in_features:
            return None
        return self._told() if computes_alone(rows, buffers["codes"], buffers["scales"], buffers["bias"]) else None

    def _told(self) -> Weight | None:
        """None where what it holds is not in memory, or of another dtype than our own kernels take."""
        buffers = self._buffers  # not by nn.Module's own look-up, which takes as long as a small product
        codes, scales, bias = buffers.get("codes"), buffers.get("scales"), buffers.get("bias")
        if codes is None or scales is None or scales.dtype != torch.bfloat16 or not fits(bias, self.out_features, scales.dtype):
            return None
        if not (in_memory(codes) and in_memory(scales) and (bias is None or in_memory(bias))):
            return None
        if self.kind == "int8":
            return Weight.int8(codes, scales, bias)
        return Weight.int4(codes, scales, bias, self.out_features, self.in_features)

    def _product(self, rows: Tensor) -> Tensor:
        """(T, K) -> (T, N'), without the bias."""
        device, dtype = rows.device.type, rows.dtype
        # The others know no gradient, and are not for who only looks at what is computed.
        if watched() or (torch.is_grad_enabled() and (rows.requires_grad or self.scales.requires_grad)):
            return _many_rows(self, rows)
        if len(rows) <= FEW[self.kind] and has_kernel(self.kind, device, dtype) and (y := _few_rows(self, rows)) is not None:
            return y
        if self.kind == "int8" and (dtype == torch.float32 or len(rows) <= SOME) and has_whole_numbers(device):
            return torch.cat([_whole_numbers(self, piece) for piece in rows.split(PIECE)]) if len(rows) else _many_rows(self, rows)
        return _many_rows(self, rows)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.kind}"


def _few_rows(layer: PackedLinear, rows: Tensor) -> Tensor | None:
    """By torch's kernels; None where they have no such shape."""
    scales = layer.scales.to(rows.dtype)
    if layer.kind == "int8":
        return torch._weight_int8pack_mm(rows, layer.codes, scales)
    group = layer.in_features // len(scales)
    if rows.device.type == "cpu":
        return torch._weight_int4pack_mm_for_cpu(rows, layer.codes, group, scales)
    if layer.tiles is None:
        return None
    return torch._weight_int4pack_mm(rows, layer.tiles, group, scales[:, : layer.out_features].contiguous())


def _whole_numbers(layer: PackedLinear, rows: Tensor) -> Tensor:
    """Of int8: each row of activations in two codes of eight bits, x = s * (a + b / FINE), whose products with the weight's codes
    are sums of whole numbers. Exact to 3e-5, what is left of x; and a row's product is the same to the bit in any company."""
    exact = rows.float()
    scale = not_zero(exact.abs().amax(dim=1, keepdim=True) / LEVELS)
    steps = exact / scale
    coarse = steps.round()
    fine = ((steps - coarse) * FINE).round()
    sums = torch._int_mm(torch.cat([coarse, fine]).to(torch.int8), layer.codes.t()).float()
    y = sums[: len(rows)].add_(sums[len(rows) :], alpha=1 / FINE).mul_(scale).mul_(layer.scales)
    return y.to(rows.dtype)


def _many_rows(layer: PackedLinear, rows: Tensor) -> Tensor:
    """The weight is made whole for this product, in the activations' dtype."""
    scales = layer.scales.to(rows.dtype)
    if layer.kind == "int8":
        return F.linear(rows, layer.codes.to(rows.dtype)) * scales
    first, second = unpack(layer.codes, scales)
    return join_halves((rows @ first, rows @ second))


def quantise_for_inference(model: Any, kind: PackedKind, *, head: bool = True, tower: bool = False) -> list[str]:
    """Store the linear layers of a finished vision-language model in `kind`, in place; the names of those that are stored so.

    The decoder's layers, but for those whose width int4's groups do not fill and those that are stored so already; with `head` the
    head too, always in int8 (a tied one gets weights of its own beside the embedding); with `tower` the vision tower's blocks,
    always in int8, which saves memory and costs time. Norms, embeddings and the connector stay as they are. The model is on its
    device, in the dtype that it computes in: bfloat16 has the fast kernels.
    """
    layers = linear_layers(model.decoder.layers, ("*",), (*BASES, PackedLinear))
    plain = {f"decoder.layers.{name}": layer for name, layer in layers.items() if isinstance(layer, BASES)}
    fitting = [name for name, layer in plain.items() if kind == "int8" or layer.in_features % GROUP == 0]
    done = replace_layers(model, fitting, lambda layer: PackedLinear.of(layer, kind), BASES)
    if tower:
        done += replace_layers(model, TOWER, lambda layer: PackedLinear.of(layer, "int8"), BASES)
    if head:
        decoder = model.decoder
        decoder.lm_head = PackedLinear.of(_linear_of((decoder.lm_head or decoder.embed_tokens).weight), "int8")
        done.append("decoder.lm_head")
    return done


def _linear_of(weight: Tensor) -> nn.Linear:
    """A layer of this weight and no bias."""
    with torch.device("meta"):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return linear


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (N, K) and scales (N,), which bfloat16 holds exactly: rounding them afterwards would cost as much as the codes do."""
    scales = _exact(not_zero(weight.float().abs().amax(dim=1) / LEVELS))
    return (weight.float() / scales[:, None]).round().clamp(-LEVELS, LEVELS).to(torch.int8), scales


def _to_int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (N, K) from 0 to 15, and scales and offsets (N, K / G), which bfloat16 holds exactly."""
    groups = weight.float().unflatten(1, (-1, GROUP))
    low, high = groups.aminmax(dim=-1)
    scales = _exact(not_zero((high - low) / 15))
    offsets = _exact(torch.where(high > low, low + 8 * scales, low))
    codes = ((groups - offsets[..., None]) / scales[..., None]).round() + 8
    return codes.clamp(0, 15).to(torch.uint8).flatten(1), scales, offsets


def _exact(values: Tensor) -> Tensor:
    return values.to(torch.bfloat16).float()


@lru_cache
def has_whole_numbers(device: str) -> bool:
    """Whether products of int8 are exact there, also where every sum of two is beyond sixteen bits."""
    if device != "cpu" or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randint(-LEVELS, LEVELS + 1, (rows, 256), generator=generator, dtype=torch.int8) for rows in (5, 64))
    one[0], other[0], other[1] = LEVELS, LEVELS, -LEVELS
    try:
        return torch.equal(torch._int_mm(one, other.t()).double(), one.double() @ other.double().t())
    except (AttributeError, RuntimeError):
        return False


@lru_cache
def has_kernel(kind: PackedKind, device: str, dtype: torch.dtype) -> bool:
    """Whether torch has a kernel there that is worth using and gives the right product, tried on a small one.

    On CUDA these kernels have not been run by whoever wrote this; where they fail, or give another product, they are not used.
    """
    if dtype != torch.bfloat16 or device not in ("cpu", "cuda"):
        return False
    if device == "cpu" and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    if kind == "int4" and device == "cpu" and not half_block()[1]:
        return False
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(rows, 128, generator=generator).to(device, dtype) for rows in (64, 3))
    layer = PackedLinear.of(_linear_of(weight), kind)
    try:
        y = _few_rows(layer, x)
    except (AttributeError, RuntimeError):
        return False
    right = x.float() @ layer.weight.t()
    return y is not None and bool((y.float() - right).norm() < 0.01 * right.norm())
