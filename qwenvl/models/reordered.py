"""Linear layers of a finished model as a CPU computes them fastest for inference; what they compute, and their names, stay.

Decoding reads every weight once for a few rows, and a plain `F.linear` in bfloat16 does that at half a core's bandwidth or less.
Two ways are faster: kernels of our own (`few_rows`), which take the weight as it lies, and oneDNN's, which want it reordered: in
its place, or beside it for a tied head, whose embedding is looked up by rows (as much memory again as the embedding has). In
float32, oneDNN is faster than the library behind `F.linear` on many CPUs, for any number of rows, and needs no reordering.
Which is used is decided outside (inference/choice.py); this file applies it.

T rows of activations, N out, K in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.models.decoder import WAYS, DecoderLayer, SelfAttention, SwiGLU
from qwenvl.models.few_rows import FEW, FewRows, Weight
from qwenvl.models.layers import RMSNorm
from qwenvl.models.quick_layer import QuickLayer
from qwenvl.models.select import put_layer

FewKind = Literal["compiled", "reordered", "plain"]


@dataclass(frozen=True)
class Means:
    """How products are to be computed. compiled: the kernels for few rows, None where they are not to be had.

    few: what takes few rows, by the weight's dtype or kind ("float32", "bfloat16", "int8", "int4"); nothing said is "plain".
    onednn: whether oneDNN takes the other products of float32.
    """

    compiled: FewRows | None = None
    few: tuple[tuple[str, FewKind], ...] = ()
    onednn: bool = False

    def for_few(self, kind: str) -> FewKind:
        found = dict(self.few).get(kind, "plain")
        return "plain" if found == "compiled" and self.compiled is None else found

    def product_of(self, dtype: torch.dtype) -> Product | None:
        """That of plain weights of a dtype; None where there is nothing better than `F.linear`."""
        compiled = self.compiled if self.for_few(str(dtype).removeprefix("torch.")) == "compiled" else None
        onednn = self.onednn and dtype == torch.float32
        return Product(compiled, onednn, dtype) if compiled or onednn else None


class Product:
    """x W^T + b of weights of one dtype that lie as torch keeps them. Anything but inference on the CPU goes to `F.linear`."""

    def __init__(self, compiled: FewRows | None, onednn: bool, dtype: torch.dtype) -> None:
        self.compiled, self.onednn, self.dtype = compiled, onednn, dtype

    def __deepcopy__(self, memo: dict[int, Any]) -> Product:
        return self

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rows = x.numel() // weight.shape[1]
        if rows == 0 or not (x.dtype == weight.dtype == self.dtype) or not weight.is_contiguous() or not weight.is_cpu:
            return F.linear(x, weight, bias)
        gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        if gradient or torch.is_autocast_enabled("cpu"):
            return F.linear(x, weight, bias)
        if rows <= FEW and self.compiled is not None:
            return self.compiled.product(x, Weight.plain(weight, bias))
        return by_onednn(x, weight, bias) if self.onednn else F.linear(x, weight, bias)


class QuickLinear(nn.Linear):
    """An nn.Linear with the very parameters of another one, and a product of its own."""

    product: Product

    @classmethod
    def of(cls, linear: nn.Linear, product: Product) -> QuickLinear:
        with torch.device("meta"):
            layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        layer.weight, layer.bias = linear.weight, linear.bias
        layer.product = product
        return layer.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        parameters = self._parameters  # not by nn.Module's own look-up, which takes as long as a small product
        weight = parameters["weight"]
        assert weight is not None
        return self.product(x, weight, parameters["bias"])

    def told(self, dtype: torch.dtype) -> Weight | None:
        """This layer for the compiled kernels, where they take activations of a dtype."""
        weight = self._parameters["weight"]
        assert weight is not None
        right = dtype == weight.dtype == self.product.dtype and weight.is_contiguous() and weight.is_cpu
        return Weight.plain(weight, self._parameters["bias"]) if right and self.product.compiled is not None else None


class ReorderedLinear(nn.Module):
    """x (..., in) -> (..., out), with the weight as oneDNN lays it, which knows no gradient and cannot be moved or saved as it is;
    `weight` makes it plain again."""

    packed: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("packed", reordered(weight))
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """(N, K), a copy."""
        return self.packed.to_dense()

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == self.packed.dtype and not x.requires_grad:
            return by_onednn(x, self.packed, self.bias)
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., K) by a weight (N, K), plain or reordered."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def reordered(weight: Tensor) -> Tensor:
    """A weight (N, K) as oneDNN wants it for few rows."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
    return packed


def has_onednn(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN's products for a dtype and they are right, tried on a small one, also reordered."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(rows, 96, generator=generator).to(dtype) for rows in (70, 3))
    right = x.double() @ weight.double().t()
    try:
        found = [by_onednn(x, form, None) for form in (weight, reordered(weight))]
        same = torch.equal(reordered(weight).to_dense(), weight)
    except (AttributeError, RuntimeError):
        return False
    bound = 1e-5 if dtype == torch.float32 else 1e-2
    return same and all(bool((y.double() - right).norm() < bound * right.norm()) for y in found)


def reorder_for_inference(model: Any, means: Means) -> list[str]:
    """Have the linear layers of a finished vision-language model on the CPU computed by `means`, in place: tower, connector,
    decoder and head. The names of the layers that are computed in another way than before.

    Parameters stay what and where they are, but for weights that are reordered: of the decoder's layers, and a copy of the tied
    embedding as the head.
    """
    from qwenvl.models.packed import PackedLinear

    decoder, done = model.decoder, []
    _quicken(decoder, means.compiled)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, PackedLinear):
            layer.use(means.compiled if means.for_few(layer.kind) == "compiled" else None)
            done += [name] * (layer.few is not None)
        elif type(layer) is nn.Linear and layer.weight.device.type == "cpu":
            better = _better(layer, means, name.startswith("decoder."))
            if better is not None:
                put_layer(model, name, better)
                done.append(name)
    if decoder.lm_head is None:
        weight = decoder.embed_tokens.weight
        if means.for_few(str(weight.dtype).removeprefix("torch.")) == "reordered":
            decoder.lm_head = ReorderedLinear(weight)
            done.append("decoder.lm_head")
        elif (product := means.product_of(weight.dtype)) is not None:
            decoder.product = product
            done.append("decoder.embed_tokens")
    return done


def _quicken(decoder: nn.Module, kernels: FewRows | None) -> None:
    """What stands between the products, for few rows: one call for what torch does in many."""
    for layer in decoder.modules():
        if isinstance(layer, RMSNorm):
            layer.quick = None if kernels is None else kernels.rms_norm
        elif isinstance(layer, SelfAttention | SwiGLU):
            layer.ways = WAYS if kernels is None else kernels
        elif isinstance(layer, DecoderLayer):
            layer.quick = None if kernels is None else QuickLayer(kernels)


def _better(layer: nn.Linear, means: Means, decodes: bool) -> nn.Module | None:
    if decodes and means.for_few(str(layer.weight.dtype).removeprefix("torch.")) == "reordered":
        return ReorderedLinear(layer.weight, layer.bias)
    product = means.product_of(layer.weight.dtype)
    return None if product is None else QuickLinear.of(layer, product)
