"""A layer of the decoder in one compiled call, for one new token of each row: what models/decoder.py says, without Python between.

After the weights of a layer have passed, the caches are cold, and a line of Python costs a microsecond. So where all weights lie is
found out once, and again when a part of the layer, a tensor or a tensor's place in memory has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from qwenvl.models.attention import CachedLayout, LayerCache, Layout
from qwenvl.models.decoder import DecoderLayer, SelfAttention, SwiGLU
from qwenvl.models.few_rows import FEW, GLOBAL_HOOKS, FewRows, in_memory
from qwenvl.models.layers import RMSNorm
from qwenvl.models.rope import Rotary

PARTS = ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
PRODUCTS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
TYPES = (SelfAttention, SwiGLU, RMSNorm, RMSNorm)
SETTINGS = ("eps", "few", "product", "head_dim", "index", "forward")
"""Of a part, beside its own parts and tensors, on which a plan rests; most parts have none or one of them."""
TOGETHER = (PRODUCTS[:3], PRODUCTS[3:4], PRODUCTS[4:6], PRODUCTS[6:])
"""Products of the same activations, whose weights have to be of one sort."""


class QuickLayer:
    """(layer, x (T, D), table, layout, cache) -> (T, D); None where it is not inference on the CPU, not one new token of each of a
    few rows, or where a part of the layer is adapted, watched by a hook, or not computed by these kernels."""

    def __init__(self, kernels: FewRows) -> None:
        self.kernels = kernels
        self._plan: _Plan | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> QuickLayer:
        return QuickLayer(self.kernels)

    def __reduce__(self) -> tuple[Any, ...]:
        return QuickLayer, (self.kernels,)

    def __call__(self, layer: DecoderLayer, x: Tensor, table: Rotary, layout: Layout, cache: LayerCache | None) -> Tensor | None:
        if cache is None or not isinstance(layout, CachedLayout) or not layout.steps or torch.compiler.is_compiling():
            return None
        if x.ndim != 2 or not 0 < x.shape[0] <= FEW:
            return None
        plan = self._plan
        if plan is None or plan.dtype != x.dtype or not plan.holds():
            plan = self._plan = _Plan.of(self.kernels, layer, x.dtype)
        call = plan.call
        if call is None or x.shape[1] != call.width:
            return None
        step = self.kernels.step((x,), call.sizes, table, layout, cache, call.index)
        if step is None:
            return None
        y, keys, values = torch.empty_like(x), cache.keys[call.index], cache.values[call.index]
        places = keys.data_ptr(), values.data_ptr()
        self.kernels.layers[x.dtype](y.data_ptr(), x.data_ptr(), *call.given, *places, step, torch.get_num_threads())
        return y


@dataclass(frozen=True, slots=True)
class _Call:
    """What the call of a layer is given; sizes: heads, those of keys and values, numbers of each."""

    given: tuple[Any, ...]
    sizes: tuple[int, int, int]
    width: int
    index: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """The call, or None where there can be none, and what that rests on: `kept` is what stood in `places`, which are modules' own
    tables, `pointers` and `shapes` are those of the tensors in memory among them; `hooks` are tables that stay empty, or stay
    not empty."""

    dtype: torch.dtype
    call: _Call | None
    places: list[tuple[dict[str, Any], str]]
    kept: list[Any]
    tensors: list[Tensor]
    pointers: list[int]
    shapes: list[torch.Size]
    hooks: list[dict[int, Any]]
    hooked: list[bool]

    def holds(self) -> bool:
        return (
            all(map(is_, [table.get(name) for table, name in self.places], self.kept))
            and [tensor.data_ptr() for tensor in self.tensors] == self.pointers
            and [tensor.shape for tensor in self.tensors] == self.shapes
            and list(map(bool, self.hooks)) == self.hooked
        )

    @classmethod
    def of(cls, kernels: FewRows, layer: DecoderLayer, dtype: torch.dtype) -> _Plan:
        found = [_part(layer, name) for name in (*PARTS, *PRODUCTS)]
        parts = [part for part in found if part is not None]
        hooks: list[Any] = [table for part in parts for table in (part._forward_hooks, part._forward_pre_hooks)]
        hooks += GLOBAL_HOOKS
        hooked = [bool(table) for table in hooks]
        places = [place for part in (layer, *parts) for place in _places(part)]
        places += [(part.__dict__, name) for part in parts for name in SETTINGS if name == "forward" or name in part.__dict__]
        kept = [table.get(name) for table, name in places]
        tensors = [held for held in kept if isinstance(held, Tensor) and in_memory(held)]
        whole = len(parts) == len(found) and not any(hooked) and not any("forward" in part.__dict__ for part in parts)
        call = _call(kernels, layer, dtype) if whole and tuple(map(type, found[:4])) == TYPES else None
        pointers = [tensor.data_ptr() for tensor in tensors]
        return cls(dtype, call, places, kept, tensors, pointers, [tensor.shape for tensor in tensors], hooks, hooked)


def _call(kernels: FewRows, layer: DecoderLayer, dtype: torch.dtype) -> _Call | None:
    """Of a layer whose parts are all there and do what their classes say."""
    sorts = [kernels.weights([layer.get_submodule(name) for name in names], dtype) for names in TOGETHER]
    flat = [weight for some in sorts for weight in some or ()]
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    size = layer.self_attn.head_dim
    if len(flat) != len(PRODUCTS) or not all(in_memory(norm.weight) and norm.weight.dtype == dtype for norm in norms):
        return None
    q, k, v, out, gate, up, down = flat
    width = q.width
    fit = out.width == q.size and k.size == v.size and gate.size == up.size == down.width and gate.width == width
    if not fit or out.size != width or down.size != width or any(norm.weight.shape != (width,) for norm in norms):
        return None
    given = (*(norm.weight.data_ptr() for norm in norms), *(norm.eps for norm in norms), *flat)
    return _Call(given, (q.size // size, k.size // size, size), width, layer.self_attn.index)


def _part(layer: nn.Module, name: str) -> nn.Module | None:
    try:
        return layer.get_submodule(name)
    except AttributeError:
        return None


def _places(part: nn.Module) -> list[tuple[dict[str, Any], str]]:
    tables: tuple[Any, ...] = (part._modules, part._parameters, part._buffers)
    return [(table, name) for table in tables for name in table]
