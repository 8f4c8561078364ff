"""One step of ours, packed, against one of transformers, padded: the loss that both report, and the gradients that it gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from qwenvl.processing.collate import collate
from qwenvl.train.objectives import NextToken
from qwenvl.types import IGNORE_INDEX, Encoded
from qwenvl.weights.maps import hub_name
from tests.fast.tiny import NATIVE, Visual, document
from tests.oracle.test_qwen2_vl import Pair, build_pair, entries_of, their_inputs

MIXES = ((3, Visual((1, 10, 6)), 9), (2, Visual((1, 4, 6)), 4, Visual((1, 4, 4)), 14))


@pytest.fixture(params=NATIVE)
def pair(request: pytest.FixtureRequest) -> Pair:
    return build_pair(request.param)


def supervised(pair: Pair, seed: int) -> Encoded:
    """A document whose last tokens are supervised, of each another number."""
    one = document(pair.ours.config, MIXES[seed], seed)
    labels = np.full_like(one.labels, IGNORE_INDEX)
    labels[-3 - 4 * seed :] = one.input_ids[-3 - 4 * seed :]
    return one.with_(labels=labels)


def their_loss(pair: Pair, documents: list[Encoded]) -> Tensor:
    inputs = [their_inputs(one, explicit=False) for one in documents]
    longest = max(len(one) for one in documents)

    def padded(rows: list[Tensor], value: int = 0) -> Tensor:
        return torch.cat([pad(row, (0, longest - row.shape[1]), value=value) for row in rows])

    mask = torch.stack([(torch.arange(longest) < len(one)).long() for one in documents])
    pixels = {name: torch.cat([one[name] for one in inputs]) for name in ("pixel_values", "image_grid_thw")}
    text = {name: padded([one[name] for one in inputs]) for name in ("input_ids", "mm_token_type_ids")}
    labels = padded([torch.from_numpy(one.labels)[None] for one in documents], IGNORE_INDEX)
    pair.peer.model.rope_deltas = None
    loss: Tensor = pair.peer(**text, **pixels, attention_mask=mask, labels=labels).loss
    return loss


def test_loss_and_gradients_of_a_packed_step_equal_those_of_a_padded_one(pair: Pair) -> None:
    ours, peer = pair
    documents = [supervised(pair, seed) for seed in range(len(MIXES))]
    batch, objective = collate(documents), NextToken()
    mine = objective(ours, batch).sums["next_token"] / objective.counts(batch)["next_token"]
    theirs = their_loss(pair, documents)
    assert objective.counts(batch)["next_token"] == 3 + 7
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    for model, loss in ((ours, mine), (peer, theirs)):
        model.zero_grad()
        loss.backward()
    table, left = entries_of(ours), dict(ours.named_parameters())
    for name, parameter in peer.named_parameters():
        for our_name, gradient in table[hub_name(ours.config.family, name)].to_ours(parameter.grad).items():
            assert gradient.abs().max() > 0, name
            torch.testing.assert_close(left.pop(our_name).grad, gradient, atol=1e-5, rtol=1e-3)
    assert not left
