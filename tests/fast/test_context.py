"""Ranks that share out the tokens of a row: each computes its own, and together they are what one rank computes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from qwenvl.config import ConfigError
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.train import context
from qwenvl.train.context import Piece, own_labels, share_tokens
from qwenvl.train.objectives import NextToken
from qwenvl.train.parallel import World
from qwenvl.types import IGNORE_INDEX, Batch
from tests.fast.tiny import Visual, document, native_config, tiny_model

RANKS = 2


class Threads:
    """Stands for the ranks' group: each thread is a rank, and what one hands over the others take from a table."""

    def __init__(self) -> None:
        self.table: dict[int, Tensor] = {}
        self.barrier = threading.Barrier(RANKS, timeout=30)
        self.of_thread = threading.local()
        self.calls = 0

    def exchange(self, x: Tensor, group: Any) -> Tensor:
        rank = self.of_thread.rank
        self.table[rank] = x.detach().clone()
        self.calls += rank == 0
        self.barrier.wait()
        out = torch.stack([self.table[other][rank] for other in range(RANKS)])
        self.barrier.wait()
        return out

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        results: list[Any] = [None] * RANKS

        def one(rank: int) -> None:
            self.of_thread.rank = rank
            try:
                results[rank] = work(rank)
            except BaseException:
                self.barrier.abort()
                raise

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(RANKS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    ranks = Threads()
    monkeypatch.setattr(context, "_exchange", ranks.exchange)
    monkeypatch.setattr(context, "_group_of", lambda world: None)
    yield ranks


def two_headed() -> VisionLanguageModel:
    config = native_config("qwen2_5_vl")
    return tiny_model(config.model_copy(update={"decoder": config.decoder.model_copy(update={"num_key_value_heads": 2})}))


def batch_of(model: VisionLanguageModel, texts: tuple[int, ...]) -> Batch:
    """Documents with and without pictures, whose lengths do not divide by two; supervised in the middle, at times."""
    kinds = [(length, Visual((1, 4, 4)), 3) if length % 2 else (length,) for length in texts]
    documents = [document(model.config, kind, seed=kind[0]) for kind in kinds]
    return collate([one.with_(labels=one.input_ids.copy()) for one in documents])


def step(model: VisionLanguageModel, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    terms = NextToken()(model, batch)
    terms.sums["next_token"].backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return terms.sums["next_token"].detach(), gradients


@pytest.mark.parametrize("texts", [(5, 8, 3), (6,), (7, 2)])
def test_pieces_of_two_ranks_are_one_step(threads: Threads, texts: tuple[int, ...]) -> None:
    model = two_headed().train()
    batch = batch_of(model, texts)
    whole, gradients = step(model, batch)
    lengths = []

    def of_rank(rank: int) -> tuple[Tensor, dict[str, Tensor]]:
        world, mine = World(rank, RANKS, context=RANKS), copy.deepcopy(model)
        share_tokens(mine, world)
        mine.decoder.layers[0].register_forward_pre_hook(lambda _, inputs: lengths.append(len(inputs[0])))
        return step(mine, own_labels(batch, world))

    (one, its), (other, theirs) = threads.run(of_rank)
    assert lengths == [-(-len(batch.input_ids) // RANKS)] * RANKS, "each rank's layers see its own tokens alone"
    assert threads.calls == 2 * 4 * model.config.decoder.num_hidden_layers, "q, k, v and what comes out, forward and backward"
    torch.testing.assert_close(one + other, whole, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        apart = float((its[name] + theirs[name] - gradient).abs().max())
        assert apart < 1e-5 + 1e-4 * float(gradient.abs().max()), name


def test_labels_of_the_pieces_are_those_of_the_row_each_once() -> None:
    batch = batch_of(two_headed(), (5, 8, 3))
    owned = [own_labels(batch, World(rank, 3, context=3)).labels for rank in range(3)]
    assert (torch.stack(owned) != IGNORE_INDEX).sum(0).max() == 1
    assert torch.equal(torch.stack(owned).amax(0), batch.labels)


def test_a_row_of_fewer_tokens_than_ranks_leaves_some_with_none() -> None:
    pieces = [Piece(None, rank, 4, 2) for rank in range(4)]
    assert [piece.bounds for piece in pieces] == [(0, 1), (1, 2), (2, 2), (2, 2)]
    x = torch.arange(2.0)[:, None]
    assert torch.equal(sum((piece.put_back(piece.own(x)) for piece in pieces), torch.zeros(2, 1)), x)


def test_heads_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"parallel\.context 3: the 2 key-value heads"):
        share_tokens(two_headed(), World(0, 3, context=3))
