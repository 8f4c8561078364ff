"""What a recipe does to a finished model from outside, and how its gradients are added up and its run is kept.

Order: adapters and quantised weights, dtype and device, tensor and context parallel, activation checkpointing, compile, FSDP2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qwenvl.models.lora import add_lora, is_adapter, plain_name
from qwenvl.models.quantised import quantise
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.context import share_tokens
from qwenvl.train.freeze import apply_freezing, trained_whole
from qwenvl.train.keepers import FileKeeper, FolderKeeper, Keeper
from qwenvl.train.optim import named_trainables
from qwenvl.train.parallel import GradientBuffer, Gradients, World
from qwenvl.train.recipe import Recipe
from qwenvl.train.sharded import ShardedGradients, checkpoint_activations, compile_blocks, fill, mesh_of, shard, share_layers
from qwenvl.train.split_adamw import halve
from qwenvl.weights.io import build_meta

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from qwenvl.train.objectives import Objective


def has_whole(recipe: Recipe, world: World) -> bool:
    """Whether this rank wants a whole model to start from. The others take their parts of the leading one's."""
    # A copy that rewards are measured from is made of it, on every rank.
    copies = recipe.objective.kind == "dpo" and recipe.objective.reference == "copy"
    return recipe.parallel.data != "fsdp" or world.leads or copies


class Engine:
    """One of two ways, chosen by parallel.data: every rank has all weights, or each its part."""

    def __init__(self, recipe: Recipe, world: World) -> None:
        self.recipe, self.world = recipe, world
        self.sharded = recipe.parallel.data == "fsdp"
        self.mesh: DeviceMesh | None = mesh_of(world) if self.sharded else None
        self.keeper: Keeper = FolderKeeper(world) if self.sharded else FileKeeper(world)
        self.low: dict[str, Tensor] = {}
        """With split masters: what the weights that train lose in bfloat16 (`split`), this rank's part of it."""

    def prepare(self, model: VisionLanguageModel, objective: Objective, read: bool = True) -> VisionLanguageModel:
        """The model that trains. Where every rank has all weights it is the one given, changed in place. Otherwise it is another,
        which takes its weights from the leading rank's part by part, leaving nothing there; of the other ranks' only the
        configuration counts. read: False leaves its weights undefined, for a checkpoint to be read into.

        Raises LayerError and ConfigError for what the model cannot be.
        """
        recipe, device = self.recipe, self.world.device
        objective.to(device)
        split = recipe.optim.masters == "split"
        if self.mesh is None:
            self._change(model)
            if split:
                self.low = halve(model, self._trained(model))
            model.to(device)
            self._share(model)
            return model
        # Never whole on any rank but the leading one: in shapes alone until it is cut.
        cut = build_meta(model.config)
        self._change(cut)
        trained = self._trained(cut)
        if split:
            cut.to(torch.bfloat16)
        self._share(cut)
        shard(cut, self.mesh, recipe.train.precision == "bf16")
        cut.to_empty(device=device)
        if read:
            if self.world.leads:
                self._change(model)
            self.low = fill(cut, model if self.world.leads else None, device, trained if split else ())
        return cut

    def _change(self, model: VisionLanguageModel) -> None:
        if self.recipe.lora is not None:
            adapt(model, self.recipe)
        else:
            apply_freezing(model, 0, self.recipe.train.frozen, self.recipe.train.unfreeze_after)

    def _trained(self, model: VisionLanguageModel) -> set[str]:
        return {name for name, _ in named_trainables(model, nn.Module(), self.recipe.train.unfreeze_after)}

    def _share(self, model: VisionLanguageModel) -> None:
        if self.mesh is not None and self.world.tensor > 1:
            share_layers(model, self.mesh)
        if self.world.context > 1:
            share_tokens(model, self.world)
        if self.recipe.train.activation_checkpointing:
            checkpoint_activations(model)
        if self.recipe.train.compile:
            compile_blocks(model)

    def gradients(self, parameters: Iterable[nn.Parameter]) -> Gradients:
        return GradientBuffer(parameters) if self.mesh is None else ShardedGradients(parameters, self.mesh)


def adapt(model: VisionLanguageModel, recipe: Recipe) -> None:
    """Put adapters beside the layers that recipe.lora names, over weights stored as it says, and freeze all else but `whole`."""
    lora = recipe.lora
    assert lora is not None
    if lora.base != "full":
        quantise(model, lora.targets, lora.base)
    add_lora(model, lora.targets, lora.rank, lora.alpha, lora.dropout, recipe.seed)
    model.requires_grad_(False)
    parameters = {plain_name(name): parameter for name, parameter in model.named_parameters()}
    own = [name for name in parameters if is_adapter(name)]
    for name in [*own, *trained_whole(parameters.keys() - own, lora.whole)]:
        parameters[name].requires_grad_(True)
