"""Which parts train at which step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn


def trains_at(part: str, step: int, frozen: Sequence[str], unfreeze_after: Mapping[str, int]) -> bool:
    return part not in frozen and step >= unfreeze_after.get(part, 0)


def apply_freezing(model: nn.Module, step: int, frozen: Sequence[str], unfreeze_after: Mapping[str, int]) -> None:
    """Set requires_grad of every parameter of the model's parts for this step. Tables that never train (position_table) stay so.

    A frozen part still passes gradients on to what lies before it.
    """
    for part, module in model.named_children():
        trains = trains_at(part, step, frozen, unfreeze_after)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(trains and name not in FIXED)


FIXED = ("position_table",)
"""Parameters that are part of the published files and are never trained (the resampler's sin-cos table)."""
