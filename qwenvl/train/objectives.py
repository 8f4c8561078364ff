"""What a step minimises. An objective turns a model and a batch into sums; the trainer divides them by global counts.

T tokens, P patches, W the tower's width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qwenvl.data.synth.dense import BACKGROUND
from qwenvl.models.attention import PackedLayout
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.head_loss import head_loss
from qwenvl.train.sections import ObjectiveRecipe
from qwenvl.types import IGNORE_INDEX, Batch

HEAD_CHUNK = 4096
"""Tokens whose logits exist at one time in `token_losses`; beyond it the backward pass makes them again."""


class Terms(NamedTuple):
    """sums: loss by name, not yet divided. by_task (tasks, 2): summed plain loss and count of supervised tokens, for the log.
    logged: sums of other numbers, divided in the log as the first loss is."""

    sums: dict[str, Tensor]
    by_task: Tensor | None = None
    logged: Mapping[str, Tensor] = {}


class Objective(nn.Module, ABC):
    """Heads of its own, if it has any, are trained and kept in checkpoints with it, never in the model.

    The loss of a step is the sum over names of coefficient * (sum over all ranks and micro-batches) / (counts over the same).
    """

    coefficients: Mapping[str, float]
    logged: tuple[str, ...] = ()
    """Names of what `Terms.logged` may hold."""

    @property
    @abstractmethod
    def dense_heads(self) -> DensePatches | None:
        """The part of this objective that has heads on the tower's patches."""

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, float]:
        """By what each named sum of this batch is divided, once added up globally. Known before the forward pass."""

    @abstractmethod
    def forward(self, model: VisionLanguageModel, batch: Batch) -> Terms:
        """Run the model on the batch and add up its losses."""


class DensePatches(Objective):
    """Supervises every patch of the tower: the class of the thing it lies on, and that thing's box.

    batch.extra: patch_classes (P,) int64 BACKGROUND where there is nothing, patch_boxes (P, 4) float32 in [0, 1] of the picture.
    """

    def __init__(self, width: int, classes: int, weight: float = 1.0, box_weight: float = 2.0) -> None:
        super().__init__()
        self.coefficients = {"patch_class": weight, "patch_box": weight * box_weight}
        self.norm = nn.LayerNorm(width)
        self.classes = nn.Linear(width, classes)
        self.boxes = nn.Linear(width, 4)

    @property
    def dense_heads(self) -> DensePatches:
        return self

    def counts(self, batch: Batch) -> dict[str, float]:
        if not len(batch.grids):
            return {"patch_class": 0.0, "patch_box": 0.0}
        classes = batch.extra["patch_classes"]
        return {"patch_class": float(len(classes)), "patch_box": float((classes != BACKGROUND).sum())}

    def forward(self, model: VisionLanguageModel, batch: Batch) -> Terms:
        return self.terms(model.vision_tower(batch.patches, batch.grids, batch.windows), batch)

    def terms(self, features: Tensor, batch: Batch) -> Terms:
        """features (P, W) of the tower."""
        targets = batch.extra["patch_classes"]
        features = self.norm(features)
        class_loss = F.cross_entropy(self.classes(features).float(), targets, reduction="sum")
        things = (targets != BACKGROUND).nonzero().flatten()
        predicted = self.boxes(features.index_select(0, things)).float() + 0.5
        box_loss = (predicted - batch.extra["patch_boxes"].index_select(0, things)).abs().mean(-1).sum()
        return Terms({"patch_class": class_loss, "patch_box": box_loss})


class NextToken(Objective):
    """Cross entropy of the supervised tokens, each times its weight; beside it, if wanted, the dense loss."""

    def __init__(self, dense: DensePatches | None = None, tasks: int = 0) -> None:
        super().__init__()
        self.dense = dense
        self.tasks = tasks
        self.coefficients = {"next_token": 1.0, **(dense.coefficients if dense else {})}

    @property
    def dense_heads(self) -> DensePatches | None:
        return self.dense

    def counts(self, batch: Batch) -> dict[str, float]:
        supervised = batch.labels != IGNORE_INDEX
        counts = {"next_token": float((batch.loss_weights * supervised).sum())}
        return counts | (self.dense.counts(batch) if self.dense else {})

    def forward(self, model: VisionLanguageModel, batch: Batch) -> Terms:
        wanted = self.dense is not None and len(batch.grids)
        features = model.vision_tower(batch.patches, batch.grids, batch.windows) if wanted else None
        hidden = hidden_states(model, batch, features)
        places = (batch.labels != IGNORE_INDEX).nonzero().flatten()
        labels, weights = batch.labels[places], batch.loss_weights[places]
        total, losses = weighted_loss(model, hidden.index_select(0, places), labels, weights)
        sums = {"next_token": total}
        if self.dense is not None and features is not None:
            sums |= self.dense.terms(features, batch).sums
        return Terms(sums, self._by_task(losses, batch, places))

    def _by_task(self, losses: Tensor, batch: Batch, places: Tensor) -> Tensor | None:
        if not self.tasks or "task_ids" not in batch.extra:
            return None
        pairs = torch.stack([losses, torch.ones_like(losses)], dim=1)
        return losses.new_zeros(self.tasks, 2).index_add_(0, batch.extra["task_ids"][places], pairs)


def hidden_states(model: VisionLanguageModel, batch: Batch, features: Tensor | None = None) -> Tensor:
    """(T, D) of the batch's packed tokens; `features` (P, W) of the tower, where they are there already."""
    hidden: Tensor = model(
        batch.input_ids,
        batch.position_ids,
        PackedLayout.of(batch.document_ids, batch.branch_ids),
        patches=batch.patches,
        grids=batch.grids,
        visual_slots=batch.visual_slots,
        patch_features=features,
        windows=batch.windows,
    )
    return hidden


def weighted_loss(model: VisionLanguageModel, hidden: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """hidden (S, D) at the supervised places, labels and weights (S,) -> the sum of weights times cross entropies, and these (S,)
    without gradients. A head that is more than a weight (with an adapter, or stored in few bits) goes through `token_losses`."""
    head = model.decoder.embed_tokens if model.decoder.lm_head is None else model.decoder.lm_head
    if type(head) in (nn.Embedding, nn.Linear) and getattr(head, "bias", None) is None:
        return head_loss(hidden, head.weight, labels, weights)
    losses = token_losses(model, hidden, labels)
    return (losses * weights).sum(), losses.detach()


def token_losses(model: VisionLanguageModel, hidden: Tensor, labels: Tensor) -> Tensor:
    """hidden (S, D) at the supervised places, labels (S,) -> cross entropy (S,) float32."""

    def head(rows: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model.logits(rows).float(), targets, reduction="none")

    if len(labels) <= HEAD_CHUNK:
        return head(hidden, labels)
    pieces = zip(hidden.split(HEAD_CHUNK), labels.split(HEAD_CHUNK), strict=True)
    return torch.cat([checkpoint(head, rows, targets, use_reentrant=False) for rows, targets in pieces])


def build_objective(recipe: ObjectiveRecipe, width: int, classes: int, tasks: int, seed: int) -> Objective:
    """width: of the tower; classes: of the dense targets, background included; tasks: names that task ids index."""
    if recipe.kind == "dpo":
        from qwenvl.train.preference import Preference

        return Preference(recipe.beta, recipe.chosen_weight)
    dense = _dense_heads(recipe, width, classes, seed) if recipe.kind == "dense_patches" or recipe.dense_weight else None
    return dense if dense is not None and recipe.kind == "dense_patches" else NextToken(dense, tasks)


def _dense_heads(recipe: ObjectiveRecipe, width: int, classes: int, seed: int) -> DensePatches:
    dense = DensePatches(width, classes, recipe.dense_weight or 1.0, recipe.box_loss_weight)
    generator = torch.Generator().manual_seed(seed)
    for head in (dense.classes, dense.boxes):
        head.weight.data.copy_(torch.randn(head.weight.shape, generator=generator) * 0.02)
        head.bias.data.zero_()
    return dense
