"""int8 storage: one scale per row. Matrices shrink to a quarter of float32; vectors stay as they are.

`x` is stored as `q = round(x / s)` with `s = max|row| / 127` in float32, beside it as `<name>.scale`. Reading gives `q * s` back;
the error of a weight is at most half its row's scale. Storage only: the model computes with the dequantised values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SCALE_SUFFIX = ".scale"
LEVELS = 127
"""Symmetric: -127 … 127, so that zero stays exactly zero."""


def is_quantized_shape(shape: Sequence[int]) -> bool:
    """Matrices, embeddings and kernels are quantised; biases and norm weights are too few to matter and too touchy."""
    return len(shape) >= 2


def quantize_rows(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, ...) float -> int8 of the same shape and float32 scales (rows,). A row of zeros gets the scale 1."""
    import torch

    rows = tensor.detach().float().flatten(1)
    scale = rows.abs().amax(dim=1) / LEVELS
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    quantized = (rows / scale[:, None]).round().clamp(-LEVELS, LEVELS).to(torch.int8)
    return quantized.view(tensor.shape), scale


def dequantize_rows(quantized: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """int8 (rows, ...) and scales (rows,) -> float32 of the same shape."""
    return (quantized.flatten(1).float() * scale.float()[:, None]).view(quantized.shape)


def int8_bytes(shape: Sequence[int]) -> int:
    """Bytes that a tensor of that shape takes in an int8 file, its scales included."""
    numbers = math.prod(shape)
    return numbers + 4 * shape[0] if is_quantized_shape(shape) else 4 * numbers


def relative_error(original: torch.Tensor, stored: torch.Tensor) -> float:
    """Root mean square of the difference over that of the original."""
    original, stored = original.detach().float(), stored.detach().float()
    norm = original.norm().item()
    return (original - stored).norm().item() / norm if norm else 0.0
