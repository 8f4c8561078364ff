"""Low-rank adapters beside the linear layers of a finished model (LoRA, arXiv 2106.09685). What they stand beside stays as it is.

r rank. An adapted layer gives base(x) + alpha / r * B A dropout(x), with A (r, in) drawn and B (out, r) zero: at the start it gives
what it gave before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.models.quantised import QuantisedLinear
from qwenvl.models.reordered import ReorderedLinear
from qwenvl.models.select import LayerError, put_layer, replace_layers

Base = nn.Linear | QuantisedLinear


class LoraLinear(nn.Module):
    """x (..., in) -> (..., out). The base may be quantised; the adapter is float32 unless the model is moved to another dtype."""

    def __init__(self, base: Base, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = base
        self.rank, self.alpha = rank, alpha
        self.dropout = nn.Dropout(dropout)
        device = next(iter(base.state_dict().values())).device
        self.lora_a = nn.Parameter(torch.zeros(rank, base.in_features, device=device))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        self.on = True

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> nn.Parameter | None:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        if not self.on:
            return y
        low = F.linear(self.dropout(x).to(self.lora_a.dtype), self.lora_a)
        return y + (F.linear(low, self.lora_b) * (self.alpha / self.rank)).to(y.dtype)

    def difference(self) -> Tensor:
        """What the adapter adds to the weight: (out, in), float32."""
        return self.lora_b.float() @ self.lora_a.float() * (self.alpha / self.rank)


def add_lora(model: nn.Module, targets: Sequence[str], rank: int, alpha: float, dropout: float = 0.0, seed: int = 0) -> list[str]:
    """Adapt the linear layers whose names match (fnmatch patterns), in place; their names.

    A is uniform within 1 / sqrt(in), as PEFT draws it (kaiming_uniform_ with a = sqrt(5)). Raises LayerError for a pattern that
    matches none, and where there is an adapter already.
    """
    if any(isinstance(layer, LoraLinear) for layer in model.modules()):
        raise LayerError("the model has adapters already; merge or remove them first")
    generator = torch.Generator().manual_seed(seed)

    def adapted(base: Base | ReorderedLinear) -> LoraLinear:
        layer = LoraLinear(base.plain() if isinstance(base, ReorderedLinear) else base, rank, alpha, dropout)
        drawn = torch.rand(layer.lora_a.shape, generator=generator) * 2 - 1
        layer.lora_a.data.copy_(drawn / base.in_features**0.5)
        return layer

    return replace_layers(model, targets, adapted, (nn.Linear, QuantisedLinear, ReorderedLinear))


def adapters(model: nn.Module) -> dict[str, LoraLinear]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLinear)}


def is_adapter(name: str) -> bool:
    """Whether a parameter of that name is an adapter's."""
    return name.rpartition(".")[2] in ("lora_a", "lora_b")


def plain_name(name: str) -> str:
    """What a parameter of an adapted model is called in the model without adapters."""
    return name.replace(".base.", ".")


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add every adapter to its weight and take it away. A quantised base becomes a plain layer of its rounded weights,
    and a reordered one becomes plain."""
    for name, layer in adapters(model).items():
        base = layer.base
        if isinstance(base, QuantisedLinear):
            plain = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device=base.codes.device)
            plain.weight.copy_(base.weight)
            plain.register_parameter("bias", base.bias)
            base = plain
        elif isinstance(base, ReorderedLinear):
            base = base.plain()
        base.weight += layer.difference().to(base.weight.dtype)
        put_layer(model, name, base)


@torch.no_grad()
def unmerge_lora(model: nn.Module, kept: dict[str, LoraLinear]) -> None:
    """Undo merge_lora, up to rounding: subtract what was added, and put the adapters back. `kept`: what `adapters` gave before."""
    for name, layer in kept.items():
        base = model.get_submodule(name)
        if not isinstance(base, nn.Linear):
            raise LayerError(f"{name}: is no plain layer; nothing was merged into it")
        base.weight -= layer.difference().to(base.weight.dtype)
        layer.base = base
        put_layer(model, name, layer)


@contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """The model as it was before it was adapted: the reference of DPO."""
    layers = adapters(model).values()
    for layer in layers:
        layer.on = False
    try:
        yield
    finally:
        for layer in layers:
            layer.on = True

