"""AdamW for weights in bfloat16 whose float32 masters take two bytes more, not four: exact, at 12 bytes a weight and its state.

A master is split: its nearest bfloat16 is the weight that the model computes with, and the difference of their bit patterns, which
fits 16 bits, is kept beside it. Bits of both together are those of the float32 number, so that a step is the one that
torch.optim.AdamW takes on float32 weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

CHUNK = 1 << 24
"""Numbers that are float32 at one time."""


class SplitAdamW(torch.optim.Optimizer):
    """As torch.optim.AdamW (decoupled weight decay, bias correction). Weights in float32 are their own masters."""

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("SplitAdamW takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def blank_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """What is kept of a weight before its first step."""
        state = {"step": torch.zeros((), dtype=torch.int64)}
        state |= {key: torch.zeros_like(parameter, dtype=torch.float32) for key in ("exp_avg", "exp_avg_sq")}
        return state | ({"low": torch.zeros_like(parameter, dtype=torch.int16)} if parameter.dtype == torch.bfloat16 else {})

    def begin_with(self, parameter: Tensor, low: Tensor) -> None:
        """Make the master one that is not its weight rounded; `low`: what `split` gave beside it, this rank's part."""
        self.state[parameter]["low"] = torch.zeros_like(parameter, dtype=torch.int16)
        on_local(self.state[parameter]["low"]).copy_(low)

    def master_pieces(self, parameter: Tensor) -> Iterator[Tensor]:
        """The master, flat and in pieces, float32: of a weight that is cut among ranks, this rank's part."""
        pieces = on_local(parameter.detach()).reshape(-1).split(CHUNK)
        low = self.state[parameter].get("low") if parameter in self.state else None
        if low is None:
            yield from (piece.float() for piece in pieces)
        else:
            yield from map(join, pieces, on_local(low).view(-1).split(CHUNK))

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "step" not in state:
            state.update({**self.blank_state(parameter), **state})
        state["step"] += 1
        step, gradient = int(state["step"]), parameter.grad
        assert gradient is not None
        whole = [on_local(tensor) for tensor in (parameter.data, gradient, state["exp_avg"], state["exp_avg_sq"])]
        pieces = zip(*(tensor.view(-1).split(CHUNK) for tensor in whole), strict=True)
        lows = on_local(state["low"]).view(-1).split(CHUNK) if "low" in state else [None] * (1 + (whole[0].numel() - 1) // CHUNK)
        for (weight, slope, exp_avg, exp_avg_sq), rest in zip(pieces, lows, strict=True):
            master = weight if rest is None else join(weight, rest)
            adamw(master, slope.float(), exp_avg, exp_avg_sq, step, group)
            if rest is not None:
                high, differences = split(master)
                weight.copy_(high)
                rest.copy_(differences)


@torch.no_grad()
def halve(model: nn.Module, trained: Collection[str]) -> dict[str, Tensor]:
    """Cast a float32 model to bfloat16 in place; of the parameters named, the lower halves (`split`)."""
    low: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if name in trained:
            high = torch.empty_like(parameter, dtype=torch.bfloat16)
            low[name] = torch.empty_like(parameter, dtype=torch.int16)
            for pieces in zip(*(tensor.view(-1).split(CHUNK) for tensor in (parameter.data, high, low[name])), strict=True):
                for to, half in zip(pieces[1:], split(pieces[0]), strict=True):
                    to.copy_(half)
            parameter.data = high
    # Tables of angles and the like are computed from the configuration, in float32, so all that a model holds may be cast.
    model.to(torch.bfloat16)
    return low


def adamw(master: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, group: dict[str, Any]) -> None:
    """One step in place, all in float32, operation for operation as torch's single-tensor AdamW, whose rounding it has."""
    beta1, beta2 = group["betas"]
    master.mul_(1 - group["lr"] * group["weight_decay"])
    exp_avg.lerp_(gradient, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    root = (1 - beta2**step) ** 0.5
    denominator = (exp_avg_sq.sqrt() / root).add_(group["eps"])
    master.addcdiv_(exp_avg, denominator, value=-group["lr"] / (1 - beta1**step))


def on_local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor that is cut among ranks; any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def split(master: Tensor) -> tuple[Tensor, Tensor]:
    """float32 -> its nearest bfloat16, halves rounded up in magnitude, and the difference of the bit patterns, int16."""
    bits = master.view(torch.int32)
    high = (bits + 0x8000) >> 16  # not to even: then a difference could be +32768, which int16 does not have
    return high.to(torch.int16).view(torch.bfloat16), (bits - (high << 16)).to(torch.int16)


def join(high: Tensor, differences: Tensor) -> Tensor:
    """The float32 numbers that `split` was given."""
    return ((high.view(torch.int16).to(torch.int32) << 16) + differences.to(torch.int32)).view(torch.float32)
