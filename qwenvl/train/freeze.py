"""Which weights train at which step, by parts or by patterns of their names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from qwenvl.config import ConfigError
from qwenvl.train.sections import PARTS

FIXED = ("position_table",)
"""Parameters that are part of the published files and are never trained (the resampler's sin-cos table)."""


def matches(name: str, pattern: str) -> bool:
    """Whether a parameter belongs to a part, or its name matches an fnmatch pattern."""
    return name.startswith(f"{pattern}.") if pattern in PARTS else fnmatchcase(name, pattern)


def trains_at(name: str, step: int, frozen: Sequence[str], unfreeze_after: Mapping[str, int]) -> bool:
    if name.rpartition(".")[2] in FIXED or any(matches(name, pattern) for pattern in frozen):
        return False
    return all(step >= first for pattern, first in unfreeze_after.items() if matches(name, pattern))


def apply_freezing(model: nn.Module, step: int, frozen: Sequence[str], unfreeze_after: Mapping[str, int]) -> bool:
    """Set requires_grad of every parameter of the model for this step; whether that changed any. What is frozen still passes
    gradients on to what lies before it. Raises ConfigError for a pattern that names nothing."""
    parameters = dict(model.named_parameters())
    check_frozen(parameters, frozen, unfreeze_after)
    before = [parameter.requires_grad for parameter in parameters.values()]
    for name, parameter in parameters.items():
        parameter.requires_grad_(trains_at(name, step, frozen, unfreeze_after))
    return before != [parameter.requires_grad for parameter in parameters.values()]


def check_frozen(names: Collection[str], frozen: Iterable[str], unfreeze_after: Iterable[str]) -> None:
    """Raises ConfigError for a pattern that names none of these parameters."""
    for key, patterns in {"frozen": frozen, "unfreeze_after": unfreeze_after}.items():
        for pattern in patterns:
            if not any(matches(name, pattern) for name in names):
                raise ConfigError(f"train.{key}: {pattern!r} names no weight of the model; known parts: {', '.join(PARTS)}")


def trained_whole(names: Collection[str], patterns: Iterable[str]) -> list[str]:
    """Those of a model's parameters, named as without adapters, that `lora.whole` means, by their own names or by their layers'.

    Raises ConfigError for a pattern that names none.
    """
    found: set[str] = set()
    for pattern in patterns:
        named = {name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)}
        if not named:
            raise ConfigError(f"lora.whole: {pattern!r} names no layer of the model that can train; decoder.embed_tokens is one")
        found |= named
    return [name for name in names if name in found and name.rpartition(".")[2] not in FIXED]


GROUPS = ("vision_tower", "connector", "decoder.embed_tokens", "decoder.layers", "decoder.norm", "decoder.lm_head")
"""What the table of a run lists, whichever of them a model has."""


def freeze_table(model: nn.Module, trainable: Iterable[str], scales: Mapping[str, tuple[float, float]]) -> list[tuple[str, ...]]:
    """Rows (group, weights, of which train, learning rate) for the terminal.

    `scales`: least and greatest factor of the learning rate by group, of what trains.
    """
    wanted = set(trainable)
    rows: list[tuple[str, ...]] = []
    for group in GROUPS:
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters() if name.startswith(f"{group}.")}
        if not sizes:
            continue
        trained = sum(size for name, size in sizes.items() if name in wanted)
        low, high = scales.get(group, (0.0, 0.0))
        rate = "" if not trained else f"x {high:g}" if low == high else f"x {low:.3g} … {high:g}"
        rows.append((group, f"{sum(sizes.values()):,}", f"{trained:,}" if trained else "frozen", rate))
    return rows
