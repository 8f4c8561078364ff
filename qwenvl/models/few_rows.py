"""Products of few rows of activations, and what stands between them, by the compiled kernels of inference/few_rows.cpp; weights lie
as torch keeps them.

One call does what torch does in several, which counts: between two products, whose weights push all else out of the caches, an
operation of torch takes ten times as long as by itself.

T rows of activations, N out, K in, G numbers of a group. A row of a product is the same to the bit in any company.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as modules

from qwenvl.models.attention import CachedLayout, LayerCache, Layout
from qwenvl.models.decoder import WAYS
from qwenvl.models.rope import Rotary

FEW = 8
"""Up to so many rows these kernels are used."""

GLOBAL_HOOKS: tuple[dict[int, Any], ...] = (modules._global_forward_hooks, modules._global_forward_pre_hooks)
"""Of all modules at once."""

_IN_MEMORY = (Tensor, nn.Parameter)
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


def watched() -> bool:
    """Whether torch does more just now than to compute: traces, compiles, exports, looks at or maps operations, differentiates
    forwards, or chooses dtypes itself."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch.is_autocast_enabled("cpu")
    )


def in_memory(tensor: Tensor) -> bool:
    """Whether its numbers lie where data_ptr says, in one piece: no subclass (fake ones), no other device or layout, no view that
    changes signs when it is read."""
    plain = type(tensor) in _IN_MEMORY and tensor.is_cpu and tensor.layout is torch.strided
    return plain and tensor.is_contiguous() and not tensor.is_neg()


def computes_alone(x: Tensor, *held: Tensor | None) -> bool:
    """Whether a product of x, in any order, with what a layer holds is a matter of numbers in memory and of nothing else: no
    gradient, nobody who watches."""
    if watched() or type(x) not in _IN_MEMORY or not x.is_cpu or x.layout is not torch.strided or x.is_neg():
        return False
    if not all(tensor is None or in_memory(tensor) for tensor in held):
        return False
    return not torch.is_grad_enabled() or not any(tensor is not None and tensor.requires_grad for tensor in (x, *held))


def fits(bias: Tensor | None, size: int, dtype: torch.dtype) -> bool:
    return bias is None or (bias.dtype == dtype and bias.shape == (size,))


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
    """The functions of a library that was built of few_rows.cpp. A copy of a model shares them; a model that is pickled finds
    those of the process that reads it, by `again`.

    As a decoder's LayerWays it does in one call what it can, for inference on the CPU, and leaves the rest to torch; without a
    library it leaves all to torch.
    """

    def __init__(self, library: ctypes.CDLL | None, again: Callable[[], FewRows] | None = None) -> None:
        functions: dict[str, Any] = {}
        self.again = again
        self.here = library is not None
        self._norm: dict[torch.dtype, Any] = {}
        self._attend: dict[torch.dtype, Any] = {}
        self.layers: dict[torch.dtype, Any] = {}
        if library is None:
            return
        for name, arguments in SIGNATURES.items():
            functions[name] = getattr(library, name)
            functions[name].argtypes, functions[name].restype = arguments, None
        self._product, self._three, self._gated = (functions[f"{name}product{end}"] for name, end in _PRODUCTS)
        self._norm = {torch.float32: functions["norm_float32"], torch.bfloat16: functions["norm_bfloat16"]}
        self._attend = {torch.float32: functions["attend_float32"], torch.bfloat16: functions["attend_bfloat16"]}
        self.layers = {torch.float32: functions["layer_float32"], torch.bfloat16: functions["layer_bfloat16"]}

    def __deepcopy__(self, memo: dict[int, Any]) -> FewRows:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (FewRows, (None,)) if self.again is None else (self.again, ())

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
        if x.dtype not in self._norm or x.ndim != 2 or not computes_alone(x, weight):
            return None
        if not 0 < x.shape[0] <= FEW or not x.is_contiguous() or not fits(weight, x.shape[1], x.dtype):
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
        if weights is None or rest.dtype != x.dtype or rest.shape != (x.shape[0], weights[0].size) or not in_memory(rest):
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
        if torch.is_grad_enabled() or dtype not in self._attend or slots.dtype != torch.int64 or watched():
            return False
        given = (*tokens, *(x for x in table if x is not None), slots)
        lies = keys.stride() == values.stride() and keys.stride()[2:] == (keys.shape[3], 1)
        single = all(x.dtype == torch.float32 for x in table if x is not None)
        same = all(x.dtype == dtype for x in (*tokens[1:], keys, values))
        where = type(keys) in _IN_MEMORY and type(values) in _IN_MEMORY and keys.is_cpu and values.is_cpu
        return lies and single and same and where and all(map(in_memory, given))

    def _weights(self, x: Tensor, layers: Sequence[nn.Module]) -> list[Weight] | None:
        """Of these layers, where one call can multiply x by all of them."""
        if torch.is_grad_enabled() or watched() or not in_memory(x) or x.ndim != 2 or not 0 < x.shape[0] <= FEW:
            return None
        weights = self.weights(layers, x.dtype)
        return weights if weights is not None and all(weight.width == x.shape[1] for weight in weights) else None

    def weights(self, layers: Sequence[nn.Module], dtype: torch.dtype) -> list[Weight] | None:
        """Of layers that take activations of a dtype in one call; None where one of them does not, or has a hook to be called, or
        a forward of its own."""
        if not self.here or any(GLOBAL_HOOKS):
            return None
        weights: list[Weight] = []
        for layer in layers:
            told = getattr(layer, "told", None)
            seen = layer._forward_hooks or layer._forward_pre_hooks or "forward" in layer.__dict__
            weight = None if told is None or seen else told(dtype)
            if weight is None or (weights and weight.sort != weights[0].sort):
                return None
            weights.append(weight)
        return weights


_PRODUCTS = (("", ""), ("three_", "s"), ("gated_", "s"))
