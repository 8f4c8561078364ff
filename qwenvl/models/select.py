"""Linear layers of a finished model by the patterns of their names, and others put in their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from qwenvl.types import QwenVLError

Kinds = tuple[type[nn.Module], ...]


class LayerError(QwenVLError, ValueError):
    """A pattern that names no layer, or a layer that cannot be what is asked for."""


def linear_layers(model: nn.Module, targets: Sequence[str], kinds: Kinds = (nn.Linear,)) -> dict[str, Any]:
    """Name -> layer of those whose names match one of the fnmatch patterns, in the model's order.

    Raises LayerError for a pattern that matches none.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}
    for pattern in targets:
        if not any(fnmatchcase(name, pattern) for name in layers):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
            raise LayerError(f"{pattern!r} names no linear layer of the model; their names end in {known}")
    return {name: layer for name, layer in layers.items() if any(fnmatchcase(name, pattern) for pattern in targets)}


def replace_layers(
    model: nn.Module, targets: Sequence[str], make: Callable[[Any], nn.Module], kinds: Kinds = (nn.Linear,)
) -> list[str]:
    """Put `make(layer)` in the place of every layer that matches; their names. Raises as `linear_layers` and `make` do, before any
    layer is replaced."""
    made = {name: make(layer) for name, layer in linear_layers(model, targets, kinds).items()}
    for name, layer in made.items():
        put_layer(model, name, layer)
    return list(made)


def put_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
