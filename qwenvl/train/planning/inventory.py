"""What the tensors of a recipe's model are before there is a model: names, sizes, what trains when, what adapters stand beside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache

from qwenvl.config import ModelConfig
from qwenvl.models.quantised import BLOCK
from qwenvl.models.select import LayerError, linear_layers
from qwenvl.train.freeze import check_frozen, trained_whole, trains_at
from qwenvl.train.recipe import Recipe
from qwenvl.weights.io import build_meta

Shape = tuple[int, ...]
ALWAYS = 1 << 62
"""A step after which nothing is unfrozen any more."""


@dataclass(frozen=True)
class Inventory:
    """sizes: weights of every parameter, adapters left out. layers: (in, out) of linear layers. adapted: layer -> rank."""

    recipe: Recipe
    config: ModelConfig
    sizes: Mapping[str, int]
    layers: Mapping[str, tuple[int, int]]
    adapted: Mapping[str, int]

    @property
    def quantised(self) -> set[str]:
        """Names of the matrices that are stored in int8 or nf4."""
        lora = self.recipe.lora
        return {f"{layer}.weight" for layer in self.adapted} if lora is not None and lora.base != "full" else set()

    @property
    def adapters(self) -> dict[str, int]:
        """Weights of the adapter at each layer."""
        return {layer: rank * sum(self.layers[layer]) for layer, rank in self.adapted.items()}

    @cached_property
    def ever_trained(self) -> frozenset[str]:
        return self.trained()

    def trained(self, step: int = ALWAYS) -> frozenset[str]:
        """Parameters of the model that train at this step; adapters beside them always do."""
        train, lora = self.recipe.train, self.recipe.lora
        if lora is None:
            return frozenset(name for name in self.sizes if trains_at(name, step, train.frozen, train.unfreeze_after))
        return frozenset(trained_whole([name for name in self.sizes if name not in self.quantised], lora.whole))

    def phases(self) -> list[tuple[int, int]]:
        """(first step, steps) of the stretches over which the same weights train."""
        steps = self.recipe.train.steps
        starts = sorted({0, *(first for first in self.recipe.train.unfreeze_after.values() if first < steps)})
        return [(start, end - start) for start, end in zip(starts, [*starts[1:], steps], strict=True)]

    def count(self, prefix: str = "") -> tuple[int, int]:
        """Weights below `prefix`, adapters included, and how many of them ever train."""
        trained = self.ever_trained
        adapters = sum(size for layer, size in self.adapters.items() if layer.startswith(prefix))
        inside = {name: size for name, size in self.sizes.items() if name.startswith(prefix)}
        return sum(inside.values()) + adapters, sum(size for name, size in inside.items() if name in trained) + adapters


def take_inventory(recipe: Recipe) -> Inventory:
    """Raises ConfigError or LayerError for a pattern that names nothing, and for a layer that nf4 cannot hold."""
    config = recipe.model_config_of_stage()
    sizes, layers = _shapes(config)
    lora, adapted = recipe.lora, {}
    check_frozen(sizes, recipe.train.frozen, recipe.train.unfreeze_after)
    if lora is not None:
        if not all(any(fnmatchcase(layer, pattern) for layer in layers) for pattern in lora.targets):
            linear_layers(build_meta(config), lora.targets)  # says which one names nothing
        adapted = {layer: lora.rank for layer in layers if any(fnmatchcase(layer, pattern) for pattern in lora.targets)}
        for layer in adapted:
            if lora.base == "nf4" and layers[layer][0] % BLOCK:
                raise LayerError(f"{layer}: a layer of width {layers[layer][0]} cannot be stored in nf4; set lora.base: int8")
    inventory = Inventory(recipe, config, sizes, layers, adapted)
    inventory.trained()  # says which pattern of lora.whole names nothing
    return inventory


@lru_cache(maxsize=8)
def _shapes(config: ModelConfig) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    model = build_meta(config)
    sizes = {name: math.prod(parameter.shape) for name, parameter in model.named_parameters()}
    layers = {name: (layer.in_features, layer.out_features) for name, layer in linear_layers(model, ("*",)).items()}
    return sizes, layers
