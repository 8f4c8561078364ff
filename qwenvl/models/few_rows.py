"""Products of few rows of activations, and what stands between them, by the compiled kernels of inference/few_rows.cpp; weights lie
as torch keeps them.

T rows of activations, N out, K in, G numbers of a group. A row of a product is the same to the bit in any company.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from qwenvl.models.rope import Rotary, apply_rotary

FEW = 8
"""Up to so many rows these kernels are used."""

_POINTER, _SIZE, _COUNT, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
SIGNATURES = {
    "linear_float32": [_POINTER] * 4 + [_SIZE] * 3 + [_COUNT],
    "linear_bfloat16": [_POINTER] * 4 + [_SIZE] * 3 + [_COUNT],
    "norm_float32": [_POINTER] * 3 + [_SIZE] * 2 + [_REAL],
    "norm_bfloat16": [_POINTER] * 3 + [_SIZE] * 2 + [_REAL],
    "turn_float32": [_POINTER] * 4 + [_SIZE] * 3,
    "turn_bfloat16": [_POINTER] * 4 + [_SIZE] * 3,
    "linear_int8": [_POINTER] * 5 + [_SIZE] * 3 + [_COUNT],
    "linear_int4": [_POINTER] * 5 + [_SIZE] * 5 + [_COUNT],
}
"""Name of a function of the library -> its arguments; none returns anything."""


class FewRows:
    """The functions of a library that was built of few_rows.cpp. A copy of a model shares them.

    All take rows on the CPU, at least one and at most FEW, and weights that lie in one piece.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        functions: dict[str, Any] = {}
        for name, arguments in SIGNATURES.items():
            functions[name] = getattr(library, name)
            functions[name].argtypes, functions[name].restype = arguments, None
        self._plain = {torch.float32: functions["linear_float32"], torch.bfloat16: functions["linear_bfloat16"]}
        self._norm = {torch.float32: functions["norm_float32"], torch.bfloat16: functions["norm_bfloat16"]}
        self._turn = {torch.float32: functions["turn_float32"], torch.bfloat16: functions["turn_bfloat16"]}
        self._int8, self._int4 = functions["linear_int8"], functions["linear_int4"]

    def __deepcopy__(self, memo: dict[int, Any]) -> FewRows:
        return self

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x (..., K) by weight (N, K), both float32 or both bfloat16 -> (..., N)."""
        size, width = weight.shape
        x = x.contiguous()
        y = x.new_empty((*x.shape[:-1], size))
        self._plain[x.dtype](
            y.data_ptr(), x.data_ptr(), weight.data_ptr(), None if bias is None else bias.data_ptr(),
            x.numel() // width, size, width, torch.get_num_threads(),
        )  # fmt: skip
        return y

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor | None:
        """As RMSNorm of `layers`, of x (T, K); None for what is not for these kernels."""
        if not self._takes(x, self._norm) or weight.dtype != x.dtype or (torch.is_grad_enabled() and weight.requires_grad):
            return None
        y = torch.empty_like(x)
        self._norm[x.dtype](y.data_ptr(), x.data_ptr(), weight.data_ptr(), len(x), x.shape[1], eps)
        return y

    def rotate(self, x: Tensor, table: Rotary) -> Tensor:
        """As `apply_rotary` of rope, which takes what is not for these kernels."""
        cos, sin = table.cos, table.sin
        if not (self._takes(x, self._turn) and cos.dtype == torch.float32 and cos.is_contiguous() and sin.is_contiguous()):
            return apply_rotary(x, table)
        y = torch.empty_like(x)
        self._turn[x.dtype](y.data_ptr(), x.data_ptr(), cos.data_ptr(), sin.data_ptr(), *x.shape)
        return y

    @staticmethod
    def _takes(x: Tensor, functions: dict[torch.dtype, Any]) -> bool:
        gradient = x.requires_grad and torch.is_grad_enabled()
        return len(x) <= FEW and x.dtype in functions and x.device.type == "cpu" and x.is_contiguous() and not gradient

    def int8(self, rows: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
        """rows (T, K) by codes (N, K) with scales (N,), all but the codes bfloat16 -> (T, N)."""
        size, width = codes.shape
        rows = rows.contiguous()
        y = rows.new_empty((len(rows), size))
        self._int8(
            y.data_ptr(), rows.data_ptr(), codes.data_ptr(), scales.data_ptr(), None if bias is None else bias.data_ptr(),
            len(rows), size, width, torch.get_num_threads(),
        )  # fmt: skip
        return y

    def int4(self, rows: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None, size: int) -> Tensor:
        """rows (T, K) by codes in blocks of 64 rows (`packed_layout.pack`) with scales (K / G, N', 2), all but the codes bfloat16:
        (T, N), N being `size`."""
        groups, stored, _ = scales.shape
        rows = rows.contiguous()
        y = rows.new_empty((len(rows), size))
        width = rows.shape[1]
        self._int4(
            y.data_ptr(), rows.data_ptr(), codes.data_ptr(), scales.data_ptr(), None if bias is None else bias.data_ptr(),
            len(rows), size, width, stored, width // groups, torch.get_num_threads(),
        )  # fmt: skip
        return y
