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
from qwenvl.models.decoder import DecoderLayer
from qwenvl.models.few_rows import FEW, FewRows
from qwenvl.models.rope import Rotary

PARTS = ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
PRODUCTS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
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

    def __call__(self, layer: DecoderLayer, x: Tensor, table: Rotary, layout: Layout, cache: LayerCache | None) -> Tensor | None:
        if cache is None or not isinstance(layout, CachedLayout) or not layout.steps or x.shape[0] > FEW:
            return None
        plan = self._plan
        if plan is None or plan.dtype != x.dtype or not plan.holds():
            plan = self._plan = _Plan.of(self.kernels, layer, x.dtype)
        step = None if plan is None else self.kernels.step((x,), plan.sizes, table, layout, cache, plan.index)
        if plan is None or step is None:
            return None
        y, keys, values = torch.empty_like(x), cache.keys[plan.index], cache.values[plan.index]
        places = keys.data_ptr(), values.data_ptr()
        self.kernels.layers[x.dtype](y.data_ptr(), x.data_ptr(), *plan.given, *places, step, torch.get_num_threads())
        return y


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the call of a layer is given, and what that rests on: `kept` is what stood in `places`, which are modules' own tables;
    `hooks` are tables that have to stay empty."""

    dtype: torch.dtype
    given: tuple[Any, ...]
    sizes: tuple[int, int, int]
    index: int
    places: list[tuple[dict[str, Any], str]]
    kept: list[Any]
    tensors: list[Tensor]
    pointers: list[int]
    hooks: list[dict[int, Any]]

    def holds(self) -> bool:
        same = all(map(is_, [table[name] for table, name in self.places], self.kept))
        return same and [tensor.data_ptr() for tensor in self.tensors] == self.pointers and not any(self.hooks)

    @classmethod
    def of(cls, kernels: FewRows, layer: DecoderLayer, dtype: torch.dtype) -> _Plan | None:
        weights = [kernels.weights([layer.get_submodule(name) for name in names], dtype) for names in TOGETHER]
        norms = (layer.input_layernorm, layer.post_attention_layernorm)
        parts = [layer.get_submodule(name) for name in (*PARTS, *PRODUCTS)]
        hooks: list[Any] = [table for part in parts for table in (part._forward_hooks, part._forward_pre_hooks)]
        if None in weights or any(norm.weight.dtype != dtype for norm in norms) or any(hooks):
            return None
        given = (*(norm.weight.data_ptr() for norm in norms), *(norm.eps for norm in norms))
        flat = [weight for some in weights for weight in some or ()]
        size = layer.self_attn.head_dim
        places = [place for part in (layer, *parts) for place in _places(part)]
        kept = [table[name] for table, name in places]
        tensors = [held for held in kept if isinstance(held, Tensor)]
        return cls(
            dtype, (*given, *flat), (flat[0].size // size, flat[1].size // size, size), layer.self_attn.index,
            places, kept, tensors, [tensor.data_ptr() for tensor in tensors], hooks,
        )  # fmt: skip


def _places(part: nn.Module) -> list[tuple[dict[str, Any], str]]:
    tables: tuple[Any, ...] = (part._modules, part._parameters, part._buffers)
    return [(table, name) for table in tables for name in table]
