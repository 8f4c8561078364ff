"""Cross entropy over a large vocabulary without its logits: a few rows at a time, whose gradients are made on the way forward.

S tokens, D hidden_size, V vocabulary. Logits of S tokens, their float32 and the gradients of both are S V numbers four times over,
and autograd keeps some of them until the backward pass. Here as many rows exist as HEAD_BYTES hold. What a token's loss is weighed
with is known beforehand, and so are the gradients of a row as soon as it is there; they go into those of hidden states and weight
at once, and nothing is computed twice. Source: section 3.2 of arXiv 2410.10989 (FusedLinearCrossEntropy).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

HEAD_BYTES = 1 << 26
"""Of logits that exist at one time, in the dtype of products. 220 rows of 152k words in bfloat16."""
FLOATS = 1 << 21
"""Logits that are float32 at one time on the CPU, where they should stay in its caches; on a GPU all of HEAD_BYTES are."""
WORDS = 8192
"""Words of the vocabulary in one product, so that neither the weight's cast nor a part of its gradient exists whole."""


def head_loss(hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """hidden (S, D), weight (V, D), labels (S,), weights (S,) float32 -> the sum of weights times cross entropies, which has
    gradients, and the cross entropies (S,) float32, which have none.

    Products are in autocast's dtype, else in that of `hidden`. The sum may be differentiated once.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        total, losses = _HeadLoss.apply(hidden, weight, labels, weights, dtype, torch.is_grad_enabled())
    return total, losses


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor, dtype: torch.dtype, wanted: bool
    ) -> tuple[Tensor, Tensor]:
        reads, learns = (wanted and needs for needs in ctx.needs_input_grad[:2])
        x, losses = hidden.to(dtype), torch.empty(len(labels), device=hidden.device)
        wide = torch.promote_types(dtype, torch.float32)
        x_gradient = torch.zeros(hidden.shape, dtype=wide, device=hidden.device) if reads else None
        weight_gradient = torch.zeros_like(weight) if learns else None
        words, step = range(0, len(weight), WORDS), max(HEAD_BYTES // (len(weight) * dtype.itemsize), 1)
        for start in range(0, len(labels), step):
            part = slice(start, start + step)
            logits = torch.empty(len(labels[part]), len(weight), dtype=dtype, device=hidden.device)
            for word in words:
                torch.mm(x[part], weight[word : word + WORDS].to(dtype).t(), out=logits[:, word : word + WORDS])
            losses[part] = _into_gradients(logits, labels[part], weights[part], reads or learns)
            for word in words:
                gradient = logits[:, word : word + WORDS]
                if x_gradient is not None:
                    x_gradient[part] += gradient @ weight[word : word + WORDS].to(dtype)
                if weight_gradient is not None:
                    weight_gradient[word : word + WORDS] += gradient.t() @ x[part]
        ctx.gradients = (None if x_gradient is None else x_gradient.to(hidden.dtype), weight_gradient)
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum(), losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("head_loss: its gradients were taken already; keep them, or compute the loss again")
        found, ctx.gradients = ctx.gradients, None
        return (*(None if gradient is None else gradient.mul_(factor) for gradient in found), None, None, None, None)


def _into_gradients(logits: Tensor, labels: Tensor, weights: Tensor, wanted: bool) -> Tensor:
    """logits (s, V), labels (s,), weights (s,) -> cross entropies (s,). If `wanted`, logits become the gradients of their weighted
    sum, in place: softmax less one at the label."""
    step = max(FLOATS // logits.shape[1], 1) if logits.device.type == "cpu" else len(logits)
    losses = []
    for rows, targets, factors in zip(logits.split(step), labels[:, None].split(step), weights[:, None].split(step), strict=True):
        logs = F.log_softmax(rows, dim=-1, dtype=torch.float32)
        losses.append(-logs.gather(1, targets)[:, 0])
        if wanted:
            slopes = logs.exp_().scatter_add_(1, targets, torch.full_like(factors, -1.0)).mul_(factors)
            rows.copy_(slopes)
    return torch.cat(losses)
