"""How four-bit codes lie in bytes: as torch's kernels read them, and back to weights. N rows, K columns, G numbers of a group."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

TILES = 8
"""`inner_k_tiles` of torch's CUDA kernel."""


@lru_cache
def half_block() -> tuple[int, bool]:
    """Half the rows of a block as this machine's CPU kernel has them, and whether it has one: 32 with AVX-512, 16 with AVX2."""
    codes = torch.arange(128 * 32, dtype=torch.int32).remainder(977).mul(7).remainder(16).view(128, 32)
    try:
        theirs = torch._convert_weight_to_int4pack_for_cpu(codes, 1)
    except (AttributeError, RuntimeError):
        return 32, False
    for half in (32, 16):
        if torch.equal(theirs.flatten(), _lay(codes.to(torch.uint8), half).flatten()):
            return half, True
    return 32, False


def pack(codes: Tensor) -> Tensor:
    """Codes (N, K) from 0 to 15 -> bytes (N', K / 2), N' = N in whole blocks of 2 h rows.

    As torch's CPU kernel lays them (aten/src/ATen/native/cpu/int4mm_kernel.cpp): a block's bytes go column by column, h a column,
    the low half of a byte for a row of the block's first h, the high half for the row h below it.
    """
    codes = whole_blocks(codes.to(torch.uint8), dim=0)
    return _lay(codes, half_block()[0]).view(codes.shape[0], -1)


def _lay(codes: Tensor, half: int) -> Tensor:
    low, high = codes.view(-1, 2, half, codes.shape[1]).unbind(1)
    return (low | high << 4).transpose(1, 2).contiguous()


def whole_blocks(values: Tensor, dim: int) -> Tensor:
    """With zeros after the last row, so that rows come in whole blocks."""
    missing = -values.shape[dim] % (2 * half_block()[0])
    shape = list(values.shape)
    shape[dim] = missing
    return torch.cat([values, values.new_zeros(shape)], dim=dim) if missing else values


def unpack(packed: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """The weight's transpose in two parts, both (K, N' / 2): the rows of every block's first half, and those of its second.

    scales (K / G, N', 2), in the dtype of the weight: s and z of (code - 8) * s + z.
    """
    half = half_block()[0]
    columns, groups = packed.shape[1] * 2, len(scales)
    # Whole words are moved, not bytes: the pieces that stay together have only h of them.
    lines = packed.view(-1, columns, half).view(torch.int64).transpose(0, 1).contiguous().view(torch.uint8)
    of_half = scales.view(groups, -1, 2, half, 2)

    def part(codes: Tensor, index: int) -> Tensor:
        scale, offset = of_half[:, :, index].reshape(groups, 1, -1, 2).unbind(-1)
        values = codes.to(scales.dtype).view(groups, columns // groups, -1)
        return torch.addcmul(offset - 8 * scale, values, scale).flatten(0, 1)

    return part(lines & 15, 0), part(lines >> 4, 1)


def join_halves(parts: tuple[Tensor, Tensor]) -> Tensor:
    """Two (T, N' / 2) of the rows as `unpack` parts them -> (T, N') in their order."""
    return torch.stack([part.unflatten(1, (-1, half_block()[0])) for part in parts], dim=2).flatten(1)


def cuda_tiles(codes: Tensor) -> Tensor | None:
    """Codes (N, K) as torch's CUDA kernel reads them; None for a shape that it has not, and where it does not run."""
    if codes.device.type != "cuda" or codes.shape[0] % 8 or codes.shape[1] % (16 * TILES):
        return None
    pairs = codes.to(torch.uint8)
    try:
        return torch._convert_weight_to_int4pack(pairs[:, ::2] << 4 | pairs[:, 1::2], TILES)
    except (AttributeError, RuntimeError):
        return None
