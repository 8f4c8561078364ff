"""AdamW for weights in bfloat16 whose float32 masters take two bytes more, not four: exact, at 12 bytes a weight and its state.

A master is split: its nearest bfloat16 is the weight that the model computes with, and the difference of their bit patterns, which
fits 16 bits, is kept beside it. Bits of both together are those of the float32 number, so that a step is the one that
torch.optim.AdamW takes on float32 weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch would cast the moments to the weights' bfloat16."""
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, stored in state_dict["state"].items():
            parameter = parameters[number]
            tensors = {name: value for name, value in stored.items() if torch.is_tensor(value)}
            self.state[parameter] |= {name: value.to(parameter.device, copy=True) for name, value in tensors.items()}

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter, dtype=torch.float32)
            state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=torch.float32)
            if parameter.dtype == torch.bfloat16:
                state["low"] = torch.zeros_like(parameter, dtype=torch.int16)
        state["step"] += 1
        whole = [parameter.data, parameter.grad, state["exp_avg"], state["exp_avg_sq"]]
        low = state.get("low")
        pieces = zip(*(tensor.view(-1).split(CHUNK) for tensor in whole), strict=True)
        lows = low.view(-1).split(CHUNK) if low is not None else [None] * (1 + (parameter.numel() - 1) // CHUNK)
        for (weight, gradient, exp_avg, exp_avg_sq), rest in zip(pieces, lows, strict=True):
            master = weight if rest is None else join(weight, rest)
            adamw(master, gradient.float(), exp_avg, exp_avg_sq, state["step"], group)
            if rest is not None:
                high, differences = split(master)
                weight.copy_(high)
                rest.copy_(differences)


def adamw(master: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, group: dict[str, Any]) -> None:
    """One step in place, all in float32, operation for operation as torch's single-tensor AdamW, whose rounding it has."""
    beta1, beta2 = group["betas"]
    master.mul_(1 - group["lr"] * group["weight_decay"])
    exp_avg.lerp_(gradient, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    root = (1 - beta2**step) ** 0.5
    denominator = (exp_avg_sq.sqrt() / root).add_(group["eps"])
    master.addcdiv_(exp_avg, denominator, value=-group["lr"] / (1 - beta1**step))


def split(master: Tensor) -> tuple[Tensor, Tensor]:
    """float32 -> its nearest bfloat16, halves rounded up in magnitude, and the difference of the bit patterns, int16."""
    bits = master.view(torch.int32)
    high = (bits + 0x8000) >> 16  # not to even: then a difference could be +32768, which int16 does not have
    return high.to(torch.int16).view(torch.bfloat16), (bits - (high << 16)).to(torch.int16)


def join(high: Tensor, differences: Tensor) -> Tensor:
    """The float32 numbers that `split` was given."""
    return ((high.view(torch.int16).to(torch.int32) << 16) + differences.to(torch.int32)).view(torch.float32)
