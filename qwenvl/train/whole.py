"""The model that a run leaves: whole, on the CPU, without adapters, the moving average where there is one."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch.distributed.tensor import DTensor

from qwenvl.models.lora import adapters, is_adapter, merge_lora, plain_name
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.checkpoint import CheckpointError
from qwenvl.train.engine import adapt
from qwenvl.train.trainer import Trainer
from qwenvl.weights.adapters import save_adapter
from qwenvl.weights.io import build_meta

PROBE = 16
"""Tokens whose logits are compared."""
CLOSE = 2e-3
"""Greatest difference of logits before and after, relative to the largest: what rounding to the weights' dtype may do."""


def whole_model(trainer: Trainer) -> VisionLanguageModel:
    """All ranks must call this; what it returns counts on the leading one. Where there are adapters they are saved in the run's
    folder `adapter`; a whole model of the trainer's own is changed by merging them.

    Raises CheckpointError if merging adapters changes the logits.
    """
    with trainer.average.in_place() if trainer.average else nullcontext():
        model = _copied(trainer) if trainer.engine.sharded or trainer.average else trainer.model
    if adapters(model) and trainer.world.leads:
        dtype = model.decoder.norm.weight.dtype
        # Compared in float32: in bfloat16 rounding alone moves logits by more than a fault might.
        _merge(trainer, model.cpu().eval().float())
        model.to(dtype)
    return model


def _copied(trainer: Trainer) -> VisionLanguageModel:
    """A model of the same tensors, those that are cut brought together one at a time; on ranks that do not lead, without memory."""
    model = build_meta(trainer.model.config)
    if trainer.recipe.lora is not None:
        adapt(model, trainer.recipe)
    own: dict[str, torch.Tensor] = {}
    for name, value in trainer.model.state_dict().items():
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if trainer.world.leads:
            own[name] = whole.to("cpu", copy=True)
    if own:
        model.load_state_dict(own, assign=True)
    return model


@torch.no_grad()
def _merge(trainer: Trainer, model: VisionLanguageModel) -> None:
    recipe = trainer.recipe
    save_adapter(model, trainer.run / "adapter", recipe.init_from.get("decoder", recipe.model.preset), _trained_whole(model))
    before = probe_logits(model)
    merge_lora(model)
    difference = float((probe_logits(model) - before).abs().max() / before.abs().max())
    if not difference < CLOSE:
        raise CheckpointError(f"{trainer.run}: merging the adapters changed the logits by {difference:.1g} of the largest")


def _trained_whole(model: VisionLanguageModel) -> list[str]:
    """Parameters that trained beside the adapters."""
    return [plain_name(name) for name, weight in model.named_parameters() if weight.requires_grad and not is_adapter(name)]


def probe_logits(model: VisionLanguageModel) -> torch.Tensor:
    """(PROBE, vocab) of a fixed row of tokens without a picture, in float32."""
    from qwenvl.models.attention import PackedLayout

    ids = torch.arange(PROBE) * 7919 % model.config.decoder.vocab_size
    positions = torch.arange(PROBE).expand(3, -1)
    hidden = model(ids, positions, PackedLayout.of(torch.zeros(PROBE, dtype=torch.long)))
    return model.logits(hidden).float()
