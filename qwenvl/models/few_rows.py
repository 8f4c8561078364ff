"""Products of few rows of activations, and what stands between them, by the compiled kernels of inference/few_rows.cpp; weights lie
as torch keeps them.

One call does what torch does in several, which counts: between two products, whose weights push all else out of the caches, an
operation of torch takes ten times as long as by itself.

T rows of activations, N out, K in, G numbers of a group. A row of a product is the same to the bit in any company.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qwenvl.models.attention import CachedLayout, LayerCache, Layout
from qwenvl.models.decoder import WAYS
from qwenvl.models.rope import Rotary

FEW = 8
"""Up to so many rows these kernels are used."""

_POINTER, _SIZE, _COUNT, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float


class Weight(ctypes.Structure):
    """Where a weight and its bias lie, as the kernels want to be told; the tensors have to be kept elsewhere."""

    _fields_ = [(name, _POINTER) for name in ("codes", "scales", "bias")] + [
        (name, _SIZE) for name in ("kind", "size", "width", "stored", "group")
    ]

    @classmethod
    def plain(cls, weight: Tensor, bias: Tensor | None) -> Weight:
        """(N, K), float32 or bfloat16, with a bias of the same dtype."""
        size, width = weight.shape
        return cls(weight.data_ptr(), None, bias if bias is None else bias.data_ptr(), _KINDS[weight.dtype], size, width, 0, 0)

    @classmethod
    def int8(cls, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Weight:
        """codes (N, K) with scales (N,), all but the codes bfloat16."""
        size, width = codes.shape
        return cls(codes.data_ptr(), scales.data_ptr(), bias if bias is None else bias.data_ptr(), 2, size, width, 0, 0)

    @classmethod
    def int4(cls, codes: Tensor, scales: Tensor, bias: Tensor | None, size: int, width: int) -> Weight:
        """codes in blocks of 64 rows (`packed_layout.pack`) with scales (K / G, N', 2), all but the codes bfloat16; N is `size`."""
        groups, stored, _ = scales.shape
        own = bias if bias is None else bias.data_ptr()
        return cls(codes.data_ptr(), scales.data_ptr(), own, 3, size, width, stored, width // groups)

    @property
    def sort(self) -> tuple[int, int, int]:
        """What weights have to have in common to be multiplied in one call."""
        return self.kind, self.width, self.group


_KINDS = {torch.float32: 0, torch.bfloat16: 1}


class Step(ctypes.Structure):
    """One new token of each of T rows, and the cache that holds what came before; see few_rows.cpp."""

    _fields_ = [(name, _POINTER) for name in ("slots", "cos", "sin", "scales")] + [
        (name, _SIZE) for name in ("count", "heads", "kept", "size", "row", "head")
    ]


_WEIGHT, _STEP = ctypes.POINTER(Weight), ctypes.POINTER(Step)
_LAYER = [_POINTER] * 4 + [_REAL] * 2 + [_WEIGHT] * 7 + [_POINTER] * 2 + [_STEP, _COUNT]
_NORM, _ATTEND = [_POINTER] * 3 + [_SIZE] * 2 + [_REAL], [_POINTER] * 6 + [_STEP, _COUNT]
SIGNATURES = {
    "product": [_POINTER, _POINTER, _WEIGHT, _POINTER, _SIZE, _COUNT],
    "three_products": [_POINTER] * 4 + [_WEIGHT] * 3 + [_SIZE, _COUNT],
    "gated_products": [_POINTER, _POINTER, _WEIGHT, _WEIGHT, _SIZE, _COUNT],
    "norm_float32": _NORM,
    "norm_bfloat16": _NORM,
    "attend_float32": _ATTEND,
    "attend_bfloat16": _ATTEND,
    "layer_float32": _LAYER,
    "layer_bfloat16": _LAYER,
}
"""Name of a function of the library -> its arguments; none returns anything."""


class FewRows:
    """The functions of a library that was built of few_rows.cpp. A copy of a model shares them.

    As a decoder's LayerWays it does in one call what it can, for inference on the CPU, and leaves the rest to torch.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        functions: dict[str, Any] = {}
        for name, arguments in SIGNATURES.items():
            functions[name] = getattr(library, name)
            functions[name].argtypes, functions[name].restype = arguments, None
        self._product, self._three, self._gated = (functions[f"{name}product{end}"] for name, end in _PRODUCTS)
        self._norm = {torch.float32: functions["norm_float32"], torch.bfloat16: functions["norm_bfloat16"]}
        self._attend = {torch.float32: functions["attend_float32"], torch.bfloat16: functions["attend_bfloat16"]}
        self.layers = {torch.float32: functions["layer_float32"], torch.bfloat16: functions["layer_bfloat16"]}

    def __deepcopy__(self, memo: dict[int, Any]) -> FewRows:
        return self

    def product(self, x: Tensor, weight: Weight, onto: Tensor | None = None) -> Tensor:
        """x (..., K) on the CPU, of at least one row and at most FEW, of the weight's dtype or, for codes, bfloat16: (..., N), with
        `onto` (..., N), in one piece, that much more."""
        x = x.contiguous()
        y = x.new_empty((*x.shape[:-1], weight.size))
        added = None if onto is None else onto.data_ptr()
        self._product(y.data_ptr(), x.data_ptr(), weight, added, x.numel() // weight.width, torch.get_num_threads())
        return y

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor | None:
        """As RMSNorm of `layers`, of x (T, K); None for what is not for these kernels."""
        gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        lies = x.shape[0] <= FEW and x.is_cpu and x.is_contiguous()
        if gradient or not lies or x.dtype != weight.dtype or x.dtype not in self._norm:
            return None
        y = torch.empty_like(x)
        self._norm[x.dtype](y.data_ptr(), x.data_ptr(), weight.data_ptr(), *x.shape, eps)
        return y

    def each(self, x: Tensor, layers: Sequence[nn.Module]) -> list[Tensor]:
        weights = self._weights(x, layers) if len(layers) == 3 else None
        if weights is None:
            return WAYS.each(x, layers)
        rows = x.shape[0]  # len of a tensor takes a microsecond
        found = [x.new_empty((rows, weight.size)) for weight in weights]
        self._three(*(y.data_ptr() for y in found), x.data_ptr(), *weights, rows, torch.get_num_threads())
        return found

    def gated(self, x: Tensor, gate: nn.Module, up: nn.Module) -> Tensor:
        weights = self._weights(x, (gate, up))
        if weights is None or weights[0].size != weights[1].size:
            return WAYS.gated(x, gate, up)
        y = x.new_empty((x.shape[0], weights[0].size))
        self._gated(y.data_ptr(), x.data_ptr(), *weights, x.shape[0], torch.get_num_threads())
        return y

    def onto(self, rest: Tensor, layer: nn.Module, x: Tensor) -> Tensor:
        weights = self._weights(x, (layer,))
        if weights is None or rest.dtype != x.dtype or rest.shape != (x.shape[0], weights[0].size) or not rest.is_contiguous():
            return WAYS.onto(rest, layer, x)
        return self.product(x, weights[0], rest)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, size: int, table: Rotary, layout: Layout, cache: LayerCache | None, layer: int
    ) -> Tensor:  # fmt: skip
        step = self.step((q, k, v), (q.shape[1] // size, k.shape[1] // size, size), table, layout, cache, layer)
        if step is None or cache is None:
            return WAYS.attend(q, k, v, size, table, layout, cache, layer)
        y = torch.empty_like(q)
        places = (x.data_ptr() for x in (y, q, k, v, cache.keys[layer], cache.values[layer]))
        self._attend[q.dtype](*places, step, torch.get_num_threads())
        return y

    def step(
        self, tokens: Sequence[Tensor], sizes: tuple[int, int, int], table: Rotary, layout: Layout, cache: LayerCache | None,
        layer: int,
    ) -> Step | None:  # fmt: skip
        """Of tokens and a cache that are for these kernels. sizes: heads, those of keys and values, numbers of each."""
        if cache is None or not isinstance(layout, CachedLayout) or not layout.steps:
            return None
        keys, values = cache.keys[layer], cache.values[layer]
        if not self._attends(tokens, table, keys, values, layout.slots):
            return None
        scales, (row, head, _, _) = table.query_scale, keys.stride()
        return Step(
            layout.slots.data_ptr(), table.cos.data_ptr(), table.sin.data_ptr(), None if scales is None else scales.data_ptr(),
            tokens[0].shape[0], *sizes, row, head,
        )  # fmt: skip

    def _attends(self, tokens: Sequence[Tensor], table: Rotary, keys: Tensor, values: Tensor, slots: Tensor) -> bool:
        dtype = tokens[0].dtype
        if torch.is_grad_enabled() or dtype not in self._attend or torch.is_autocast_enabled("cpu") or slots.dtype != torch.int64:
            return False
        given = (*tokens, *(x for x in table if x is not None), slots)
        lies = keys.stride() == values.stride() and keys.stride()[2:] == (keys.shape[3], 1)
        single = all(x.dtype == torch.float32 for x in table if x is not None)
        same = all(x.dtype == dtype for x in (*tokens[1:], keys, values))
        return lies and single and same and keys.is_cpu and all(x.is_cpu and x.is_contiguous() for x in given)

    def _weights(self, x: Tensor, layers: Sequence[nn.Module]) -> list[Weight] | None:
        """Of these layers, where one call can multiply x by all of them."""
        if torch.is_grad_enabled() or not (x.is_cpu and x.is_contiguous() and x.ndim == 2 and 0 < x.shape[0] <= FEW):
            return None
        return None if torch.is_autocast_enabled("cpu") else self.weights(layers, x.dtype)

    @staticmethod
    def weights(layers: Sequence[nn.Module], dtype: torch.dtype) -> list[Weight] | None:
        """Of layers that take activations of a dtype in one call; None where one of them does not, or has a hook to be called."""
        weights: list[Weight] = []
        for layer in layers:
            told = getattr(layer, "told", None)
            weight = None if told is None or layer._forward_hooks or layer._forward_pre_hooks else told(dtype)
            if weight is None or (weights and weight.sort != weights[0].sort):
                return None
            weights.append(weight)
        return weights


_PRODUCTS = (("", ""), ("three_", "s"), ("gated_", "s"))
