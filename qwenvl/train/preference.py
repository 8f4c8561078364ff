"""Direct preference optimisation (DPO, arXiv 2305.18290): of two answers to one prompt the chosen one is to become likelier.

A pair is one document of a batch: branch 1 is the chosen answer, branch 2 the rejected one, behind the pictures that they share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor

from qwenvl.models.lora import adapters, without_lora
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train.objectives import DensePatches, Objective, Terms, hidden_states, token_losses
from qwenvl.types import IGNORE_INDEX, Batch


class Preference(Objective):
    """Loss of a pair: -log sigmoid(margin), the margin being the chosen reward less the rejected one, and the reward of an answer
    beta times what the policy has added to its log-probability over the reference's (equation 7).

    The reference is, in this order: the log-probabilities that come with the batch (`extra["reference"]`, (pairs, 2)); the model
    without its adapters; the copy that `keep_reference` made.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.coefficients = {"dpo": 1.0}
        self._copy: tuple[VisionLanguageModel, ...] = ()  # in a tuple it is no part of this module, and so of no checkpoint

    @property
    def dense_heads(self) -> DensePatches | None:
        return None

    def keep_reference(self, model: VisionLanguageModel) -> None:
        """The model as it is now is what later rewards are measured from. One with adapters needs no copy."""
        if not adapters(model):
            self._copy = (deepcopy(model).eval().requires_grad_(False),)

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"dpo": float(_pairs(batch))}

    def forward(self, model: VisionLanguageModel, batch: Batch) -> Terms:
        policy = answer_log_probs(model, batch)
        reference = batch.extra.get("reference")
        if reference is None:
            with torch.no_grad(), self._reference(model) as other:
                reference = answer_log_probs(other, batch)
        rewards = self.beta * (policy - reference)
        margins = rewards[:, 0] - rewards[:, 1]
        with torch.no_grad():
            logged = {"margin": margins.sum(), "accuracy": (margins > 0).float().sum()}
            logged |= {"chosen_reward": rewards[:, 0].sum(), "rejected_reward": rewards[:, 1].sum()}
        return Terms({"dpo": -F.logsigmoid(margins).sum()}, logged=logged)

    @contextmanager
    def _reference(self, model: VisionLanguageModel) -> Iterator[VisionLanguageModel]:
        if self._copy:
            yield self._copy[0]
            return
        if not adapters(model):
            raise ValueError("no reference: neither adapters nor a copy; call keep_reference before training")
        with without_lora(model):
            yield model


def answer_log_probs(model: VisionLanguageModel, batch: Batch) -> Tensor:
    """(pairs, 2): the log-probability of all supervised tokens of the chosen answer, and of the rejected one."""
    assert batch.branch_ids is not None
    places = (batch.labels != IGNORE_INDEX).nonzero().flatten()
    losses = token_losses(model, hidden_states(model, batch).index_select(0, places), batch.labels[places])
    answer = 2 * batch.document_ids[places] + batch.branch_ids[places] - 1
    return -losses.new_zeros(2 * _pairs(batch)).index_add(0, answer, losses).view(-1, 2)


def _pairs(batch: Batch) -> int:
    return int(batch.document_ids[-1]) + 1
