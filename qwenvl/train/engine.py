"""What a recipe does to a finished model from outside, and how its gradients are added up and its run is kept.

Order: adapters and quantised weights, dtype and device, tensor parallel, activation checkpointing, compile, FSDP2.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import nn

from qwenvl.config import ConfigError
from qwenvl.models.lora import add_lora
from qwenvl.models.quantised import quantise
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.freeze import FIXED, apply_freezing
from qwenvl.train.keepers import FileKeeper, FolderKeeper, Keeper
from qwenvl.train.parallel import GradientBuffer, Gradients, World
from qwenvl.train.recipe import Recipe
from qwenvl.train.sharded import ShardedGradients, checkpoint_activations, compile_blocks, mesh_of, shard, share_layers

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from qwenvl.train.objectives import Objective

ADAPTERS = ("lora_a", "lora_b")


class Engine:
    """One of two ways, chosen by parallel.data: every rank has all weights, or each its part."""

    def __init__(self, recipe: Recipe, world: World) -> None:
        self.recipe, self.world = recipe, world
        self.sharded = recipe.parallel.data == "fsdp"
        self.mesh: DeviceMesh | None = mesh_of(world) if self.sharded else None
        self.keeper: Keeper = FolderKeeper(world) if self.sharded else FileKeeper(world)

    def prepare(self, model: VisionLanguageModel, objective: Objective) -> None:
        """Change the model, whose weights are there, in place. Raises LayerError and ConfigError for what it cannot be."""
        recipe = self.recipe
        if recipe.lora is not None:
            adapt(model, recipe)
        else:
            apply_freezing(model, 0, recipe.train.frozen, recipe.train.unfreeze_after)
        if recipe.optim.masters == "split":
            # Tables of angles and the like are computed from the configuration, in float32, so all parameters may be cast.
            model.to(torch.bfloat16)
        objective.to(self.world.device)
        if self.mesh is None:
            model.to(self.world.device)  # otherwise block by block, cut before it is moved
        if self.mesh is not None and self.world.tensor > 1:
            share_layers(model, self.mesh)
        if recipe.train.activation_checkpointing:
            checkpoint_activations(model)
        if recipe.train.compile:
            compile_blocks(model)
        if self.mesh is not None:
            shard(model, self.mesh, recipe.train.precision == "bf16")

    def gradients(self, parameters: Iterable[nn.Parameter]) -> Gradients:
        return GradientBuffer(parameters) if self.mesh is None else ShardedGradients(parameters, self.mesh)


def adapt(model: VisionLanguageModel, recipe: Recipe) -> None:
    """Put adapters beside the layers that recipe.lora names, over weights stored as it says, and freeze all else but `whole`."""
    lora = recipe.lora
    assert lora is not None
    if lora.base != "full":
        quantise(model, lora.targets, lora.base)
    add_lora(model, lora.targets, lora.rank, lora.alpha, lora.dropout, recipe.seed)
    for pattern in lora.whole:
        if not any(_named(name, pattern) for name, _ in model.named_parameters()):
            raise ConfigError(f"lora.whole: {pattern!r} names no layer of the model")
    for name, parameter in model.named_parameters():
        whole = any(_named(name, pattern) for pattern in lora.whole) and name.rpartition(".")[2] not in FIXED
        parameter.requires_grad_(name.rpartition(".")[2] in ADAPTERS or whole)


def _named(name: str, pattern: str) -> bool:
    """Whether the pattern names a weight, or the layer that it belongs to."""
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)
