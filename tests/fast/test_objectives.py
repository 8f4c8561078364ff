"""Losses are sums over what is supervised, each divided by its own global count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qwenvl.data.packing import share_prefix
from qwenvl.models.attention import PackedLayout
from qwenvl.processing.collate import collate
from qwenvl.train import objectives
from qwenvl.train.objectives import DensePatches, NextToken, build_objective
from qwenvl.train.sections import ObjectiveRecipe
from qwenvl.types import IGNORE_INDEX, Batch
from tests.fast.test_packing import QUESTIONS, encoded
from tests.fast.tiny import tiny_model


def batch_of_two() -> Batch:
    row = share_prefix([encoded(question, answer, 1) for question, answer in QUESTIONS])
    other = encoded("Why so?", " because", 2)
    return collate([row, other.with_(loss_weights=np.full(len(other), 3.0, np.float32))])


def test_next_token_is_the_weighted_sum_over_supervised_tokens_alone() -> None:
    model, batch = tiny_model(), batch_of_two()
    terms = NextToken()(model, batch)
    hidden = model(
        batch.input_ids, batch.position_ids, PackedLayout.of(batch.document_ids, batch.branch_ids),
        patches=batch.patches, grids=batch.grids, visual_slots=batch.visual_slots,
    )  # fmt: skip
    losses = F.cross_entropy(model.logits(hidden), batch.labels, ignore_index=IGNORE_INDEX, reduction="none")
    torch.testing.assert_close(terms.sums["next_token"], (losses * batch.loss_weights).sum())
    assert NextToken().counts(batch)["next_token"] == batch.loss_weights[batch.labels != IGNORE_INDEX].sum().item()


def test_chunked_head_has_the_same_loss_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for chunk in (4096, 2):
        monkeypatch.setattr(objectives, "HEAD_CHUNK", chunk)
        model = tiny_model()
        NextToken()(model, batch_of_two()).sums["next_token"].backward()
        found.append(model.decoder.embed_tokens.weight.grad)
    torch.testing.assert_close(found[0], found[1])


def test_loss_by_task_adds_up() -> None:
    batch = batch_of_two()
    batch.extra["task_ids"] = batch.document_ids
    by_task = NextToken(tasks=2)(tiny_model(), batch).by_task
    assert by_task is not None
    assert by_task[:, 1].tolist() == [((batch.labels != IGNORE_INDEX) & (batch.document_ids == d)).sum().item() for d in (0, 1)]


def dense_batch() -> Batch:
    batch = batch_of_two()
    patches = len(batch.patches)
    batch.extra = {"patch_classes": torch.arange(patches) % 3, "patch_boxes": torch.full((patches, 4), 0.25)}
    return batch


def test_dense_loss_counts_boxes_on_things_alone() -> None:
    batch = dense_batch()
    objective = build_objective(ObjectiveRecipe(kind="dense_patches", dense_weight=1.0), 16, 3, 0, seed=0)
    counts = objective.counts(batch)
    assert counts == {"patch_class": len(batch.patches), "patch_box": (batch.extra["patch_classes"] != 0).sum().item()}
    terms = objective(tiny_model(), batch)
    batch.extra["patch_boxes"][batch.extra["patch_classes"] == 0] = 9.0
    torch.testing.assert_close(objective(tiny_model(), batch).sums, terms.sums)


def test_auxiliary_dense_loss_adds_its_gradient_to_the_tower() -> None:
    batch = dense_batch()
    dense = DensePatches(16, 3, weight=0.4)
    objective = NextToken(dense)
    assert objective.coefficients == {"next_token": 1.0, "patch_class": 0.4, "patch_box": 0.8}
    gradients = []
    for names in (["next_token"], ["patch_class", "patch_box"], list(objective.coefficients)):
        model = tiny_model()
        sums = objective(model, batch).sums
        torch.stack([sums[name] for name in names]).sum().backward()
        gradients.append(model.vision_tower.patch_embed.weight.grad)
    torch.testing.assert_close(gradients[0] + gradients[1], gradients[2], atol=1e-4, rtol=1e-4)
    assert gradients[1].abs().max() > 0


def test_batch_without_pictures_has_no_dense_loss() -> None:
    batch = collate([encoded(question, answer) for question, answer in QUESTIONS])
    objective = NextToken(DensePatches(16, 3))
    assert set(objective(tiny_model().train(), batch).sums) == {"next_token"}
    assert objective.counts(batch)["patch_class"] == 0.0
