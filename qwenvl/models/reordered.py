"""Linear layers of a finished model as a CPU computes them fastest for inference; what they compute, and their names, stay.

Decoding reads every weight once for a few rows, and a plain `F.linear` in bfloat16 does that at half a core's bandwidth or less.
Two ways are faster: kernels of our own (`few_rows`), which take the weight as it lies, and oneDNN's, which want it reordered: in
its place, or beside it for a tied head, whose embedding is looked up by rows (as much memory again as the embedding has). In
float32, oneDNN is faster than the library behind `F.linear` on many CPUs, for any number of rows, and needs no reordering.
Which is used is decided outside (inference/choice.py); this file applies it.

T rows of activations, N out, K in.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.models.decoder import WAYS, DecoderLayer, SelfAttention, SwiGLU
from qwenvl.models.few_rows import FEW, FewRows, Weight, computes_alone, fits, in_memory
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
        if not (x.dtype == weight.dtype == self.dtype and computes_alone(x, weight, bias)):
            return F.linear(x, weight, bias)
        if not (x.ndim and weight.ndim == 2 and x.shape[-1] == weight.shape[1] and fits(bias, weight.shape[0], weight.dtype)):
            return F.linear(x, weight, bias)
        rows = x.numel() // max(1, weight.shape[1])
        if 0 < rows <= FEW and self.compiled is not None and self.compiled.here:
            return self.compiled.product(x, Weight.plain(weight, bias))
        return by_onednn(x, weight, bias) if rows and self.onednn else F.linear(x, weight, bias)


class ReorderedHead:
    """The product of a tied head with the embedding, which is reordered beside it when it is first wanted, and again when it has
    changed. In a copy of a model that has the same embedding it is the same."""

    def __init__(self) -> None:
        self.held: tuple[Tensor, tuple[int, ...], Tensor] | None = None
        """The embedding, what tells that it is as it was, and its reordered numbers."""

    def __deepcopy__(self, memo: dict[int, Any]) -> ReorderedHead:
        copied = type(self)()
        copied.held = self.held
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.dtype != weight.dtype or not computes_alone(x, weight) or not can_reorder(weight):
            return F.linear(x, weight)
        if not x.numel() or not x.ndim or x.shape[-1] != weight.shape[1]:
            return F.linear(x, weight)
        held, state = self.held, _state_of(weight)
        if held is None or held[0] is not weight or held[1] != state:
            held = self.held = (weight, state, reordered(weight))
        return by_onednn(x, held[2], None)


def _state_of(weight: Tensor) -> tuple[int, ...]:
    return weight.data_ptr(), weight.numel(), 0 if weight.is_inference() else weight._version


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
        weight = parameters.get("weight")
        if weight is None:  # pruned or computed of others
            return super().forward(x)
        return self.product(x, weight, parameters["bias"])

    def told(self, dtype: torch.dtype) -> Weight | None:
        """This layer for the compiled kernels, where they take activations of a dtype."""
        parameters, compiled = self._parameters, self.product.compiled
        weight, bias = parameters.get("weight"), parameters.get("bias")
        if weight is None or compiled is None or not compiled.here or not dtype == weight.dtype == self.product.dtype:
            return None
        lies = weight.ndim == 2 and in_memory(weight) and (bias is None or in_memory(bias))
        return Weight.plain(weight, bias) if lies and fits(bias, weight.shape[0], dtype) else None


class ReorderedLinear(nn.Module):
    """x (..., in) -> (..., out), with the weight as oneDNN lays it. Outside it is a layer with a weight: it is saved, loaded,
    moved, shared and pickled as one, and lies plainly where it cannot be reordered (elsewhere than on the CPU, in other dtypes,
    in memory that processes share). The weight knows no gradient; `plain` gives a layer that can be trained."""

    packed: Tensor
    """(N, K), reordered or not; never changed in place, so that copies of the layer share it."""

    def __init__(self, weight: Tensor, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.packed = _packed(weight.detach())
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """(N, K), a copy where it is reordered."""
        return self.packed.to_dense() if self.packed.is_mkldnn else self.packed

    def plain(self) -> nn.Linear:
        """A layer of this weight, which is made whole again, and the very bias."""
        with torch.device("meta"):
            linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        linear.weight, linear.bias = nn.Parameter(self.weight, requires_grad=False), self.bias  # type: ignore[assignment]
        return linear.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        if self.packed.is_mkldnn and x.dtype == self.packed.dtype and computes_alone(x, self.bias):
            fitting = x.numel() and x.ndim and x.shape[-1] == self.in_features
            if fitting and fits(self.bias, self.out_features, x.dtype):
                return by_onednn(x, self.packed, self.bias)
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))

    def _apply(self, fn: Any, recurse: bool = True) -> ReorderedLinear:
        super()._apply(fn, recurse)
        before = self.weight
        after = fn(before)
        if after is not before or after.is_shared():
            self.packed = _packed(after)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str], unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:  # fmt: skip
        key, given = f"{prefix}weight", (state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        super()._load_from_state_dict(*given)
        weight = state_dict.get(key)
        if key in unexpected_keys:
            unexpected_keys.remove(key)
        if weight is None:
            missing_keys += [key] * strict
        elif weight.shape != (self.out_features, self.in_features):
            wanted = (self.out_features, self.in_features)
            error_msgs.append(f"{key} has the shape {tuple(weight.shape)}, but the layer's is {wanted}")
        else:
            own, assigned = weight.detach(), local_metadata.get("assign_to_params_buffers", False)
            self.packed = _packed(own if assigned else own.to(self.packed.device, self.packed.dtype, copy=True))

    def __deepcopy__(self, memo: dict[int, Any]) -> ReorderedLinear:
        copied: ReorderedLinear = type(self).__new__(type(self))
        memo[id(self)] = copied
        shared = {"packed": self.packed} if self.packed.is_mkldnn else {}
        others = {name: own for name, own in self.__dict__.items() if name not in shared}
        copied.__dict__.update(copy.deepcopy(others, memo), **shared)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"packed": self.weight}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.packed = _packed(self.packed)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


def can_reorder(weight: Tensor) -> bool:
    """Whether oneDNN's order is for this weight, and not for memory that others see too."""
    known = weight.dtype in (torch.float32, torch.bfloat16) and _knows(weight.dtype)
    return known and in_memory(weight) and not weight.is_shared()


@cache
def _knows(dtype: torch.dtype) -> bool:
    return has_onednn(dtype)


def _packed(weight: Tensor) -> Tensor:
    return reordered(weight) if can_reorder(weight) else weight


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

    Parameters stay what and where they are, but for weights of the decoder's layers that are reordered.
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
            decoder.product = ReorderedHead()
            done.append("decoder.embed_tokens")
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
