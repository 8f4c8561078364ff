"""Context parallel: ranks that read the same rows share out their tokens, and inside of attention their heads.

Everything but attention works on each token alone, so each rank does that for its piece of the packed axis. Around attention two
all-to-all exchanges turn pieces of all heads into all tokens of a piece of the heads, and back (arXiv 2309.14509, section 3.1).
The tower runs on every rank: a row's pictures are few beside what a long decoder keeps of its tokens.

T packed tokens, n ranks, t = ceil(T / n) tokens of a piece, H heads, d head_dim, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.config import ConfigError, ModelConfig
from qwenvl.models.attention import PackedLayout
from qwenvl.models.rope import Rotary
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.parallel import World
from qwenvl.types import IGNORE_INDEX, Batch


@dataclass(frozen=True, slots=True)
class Piece:
    """Which tokens of a packed axis are this rank's, and the group that has the others'."""

    group: Any
    rank: int
    size: int
    total: int
    """T"""

    @property
    def length(self) -> int:
        return -(-self.total // self.size)

    @property
    def bounds(self) -> tuple[int, int]:
        """First token of this rank's own, and the one after its last; the last ranks may have fewer than `length`, or none."""
        first = min(self.rank * self.length, self.total)
        return first, min(first + self.length, self.total)

    def own(self, x: Tensor) -> Tensor:
        """(T, ...) -> (t, ...), with zeros behind the last token."""
        first, end = self.bounds
        return _padded(x[first:end], self.length)

    def put_back(self, x: Tensor) -> Tensor:
        """(t, ...) -> (T, ...), zero where other ranks' tokens are."""
        first, end = self.bounds
        return F.pad(x[: end - first], (0, 0) * (x.dim() - 1) + (first, self.total - end))

    def to_heads(self, x: Tensor) -> Tensor:
        """(t, H, d) of this rank's tokens -> (T, H / n, d) of its heads."""
        heads: Tensor = _ToHeads.apply(x, self.group, self.size)
        return heads[: self.total]

    def to_tokens(self, x: Tensor) -> Tensor:
        """(T, H / n, d) of this rank's heads -> (t, H, d) of its tokens."""
        tokens: Tensor = _ToTokens.apply(_padded(x, self.length * self.size), self.group, self.size)
        return tokens


class _ToHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any, size: int) -> Tensor:
        ctx.group, ctx.size = group, size
        return _to_heads(x, group, size)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _to_tokens(grads[0], ctx.group, ctx.size), None, None


class _ToTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any, size: int) -> Tensor:
        ctx.group, ctx.size = group, size
        return _to_tokens(x, group, size)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _to_heads(grads[0], ctx.group, ctx.size), None, None


def _to_heads(x: Tensor, group: Any, size: int) -> Tensor:
    """(t, H, d) -> (n t, H / n, d)"""
    return _exchange(x.unflatten(1, (size, -1)).transpose(0, 1), group).flatten(0, 1)


def _to_tokens(x: Tensor, group: Any, size: int) -> Tensor:
    """(n t, H / n, d) -> (t, H, d)"""
    return _exchange(x.unflatten(0, (size, -1)), group).transpose(0, 1).flatten(1, 2)


def _exchange(x: Tensor, group: Any) -> Tensor:
    """x (n, ...): its j-th part goes to rank j, whose part for this rank takes that place."""
    x = x.contiguous()
    out = torch.empty_like(x)
    dist.all_to_all_single(out, x, group=group)
    return out


def _padded(x: Tensor, length: int) -> Tensor:
    return F.pad(x, (0, 0) * (x.dim() - 1) + (0, length - len(x)))


def share_tokens(model: VisionLanguageModel, world: World) -> None:
    """Let the decoder of this rank work on its piece of every row, from outside, and give back hidden states (T, D) that are zero
    where the tokens are others'. Raises ConfigError for heads that cannot be shared out."""
    _check_heads(model.config, world)
    group = _group_of(world)

    def enter(decoder: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x, table, layout, *rest = inputs
        if not decoder.training:
            return None  # an evaluation: every rank answers questions of its own
        assert isinstance(layout, PackedLayout)
        piece = Piece(group, world.context_rank, world.context, len(x))
        return piece.own(x), _own_table(table, piece), replace(layout, piece=piece), *rest

    def leave(decoder: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        piece = getattr(inputs[2], "piece", None)
        return None if piece is None else piece.put_back(output)

    # Hooks run in this order around what FSDP2 hooks to the decoder's layers; the decoder itself is no unit of it.
    model.decoder.register_forward_pre_hook(enter)
    model.decoder.register_forward_hook(leave)


def own_labels(batch: Batch, world: World) -> Batch:
    """The batch, supervised on this rank's piece alone, so that sums and counts over all ranks are those of whole rows."""
    first, end = Piece(None, world.context_rank, world.context, len(batch.labels)).bounds
    labels = torch.full_like(batch.labels, IGNORE_INDEX)
    labels[first:end] = batch.labels[first:end]
    return replace(batch, labels=labels)


def _own_table(table: Rotary, piece: Piece) -> Rotary:
    scale = None if table.query_scale is None else piece.own(table.query_scale)
    return Rotary(piece.own(table.cos), piece.own(table.sin), scale)


def _group_of(world: World) -> Any:
    """All ranks must make all groups, in the same order."""
    mine = None
    for first in range(0, world.size, world.context * world.tensor):
        for beside in range(world.tensor):
            ranks = [first + beside + step * world.tensor for step in range(world.context)]
            group = dist.new_group(ranks)
            if world.rank in ranks:
                mine = group
    return mine


def _check_heads(config: ModelConfig, world: World) -> None:
    heads, shares = config.decoder.num_key_value_heads, world.context * world.tensor
    if heads % shares:
        told = "parallel.context" if world.tensor == 1 else "parallel.context times parallel.tensor"
        raise ConfigError(f"{told} {shares}: the {heads} key-value heads of the decoder are no multiple of it; choose a divisor")
