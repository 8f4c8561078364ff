"""Which weights train at which step, by parts or by patterns of their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def apply_freezing(model: nn.Module, step: int, frozen: Sequence[str], unfreeze_after: Mapping[str, int]) -> None:
    """Set requires_grad of every parameter of the model for this step. What is frozen still passes gradients on to what lies before
    it. Raises ConfigError for a pattern that names nothing."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in (*frozen, *unfreeze_after):
        if not any(matches(name, pattern) for name in names):
            raise ConfigError(f"train.frozen: {pattern!r} names no weight of the model; known parts: {', '.join(PARTS)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains_at(name, step, frozen, unfreeze_after))


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
