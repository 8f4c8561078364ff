"""Attention in training: forward and backward of the path that the model takes, against torch's fused kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Case
from qwenvl.models.attention import batched_attention

# The nano's tower and decoder in training: name, documents, tokens of each, heads, head_dim, causal.
SHAPES = (("tower of nano", 32, 64, 3, 64, False), ("decoder of nano", 8, 256, 4, 64, True))
DTYPES = (torch.float32, torch.bfloat16)

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def cases(quick: bool) -> Iterator[Case]:
    for (name, *shape, causal), dtype in product(SHAPES[1:] if quick else SHAPES, DTYPES):
        generator = torch.Generator().manual_seed(0)
        inputs = [torch.randn(shape, generator=generator).to(dtype).transpose(1, 2).requires_grad_() for _ in range(3)]
        ours = partial(gradients, partial(batched_attention, causal=causal), inputs)
        fused = partial(gradients, partial(fused_attention, causal=causal), inputs)
        yield Case(
            f"attention forward and backward, {name}, {str(dtype).removeprefix('torch.')}",
            "step",
            {"qwenvl": ours, "torch scaled_dot_product_attention": fused},
            repeats=5,
            rounds=3,
            agreement=partial(largest_difference, ours, fused),
        )


def gradients(attention: Attention, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(attention(*inputs).square().sum(), inputs)


def largest_difference(ours: Callable[[], tuple[Tensor, ...]], theirs: Callable[[], tuple[Tensor, ...]]) -> float:
    """Largest difference of gradients over their largest size."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours(), theirs()))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """q, k, v (N, H, L, d), as batched_attention takes them."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
