"""The loss that makes its gradients on the way forward: that of all logits at once, a few rows and words at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qwenvl.models.lora import add_lora
from qwenvl.train import head_loss as module
from qwenvl.train.head_loss import head_loss
from qwenvl.train.objectives import NextToken
from tests.fast.test_objectives import batch_of_two
from tests.fast.tiny import tiny_model

TOKENS, WIDTH, WORDS = 23, 16, 300


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows at a time, two of them in float32, 64 words a product."""
    monkeypatch.setattr(module, "HEAD_BYTES", 7 * WORDS * 4)
    monkeypatch.setattr(module, "FLOATS", 2 * WORDS)
    monkeypatch.setattr(module, "WORDS", 64)


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(rows, WIDTH, generator=generator).to(dtype).requires_grad_() for rows in (TOKENS, WORDS))
    return hidden, weight, torch.randint(0, WORDS, (TOKENS,), generator=generator), torch.rand(TOKENS, generator=generator)


def whole(hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    losses = F.cross_entropy(F.linear(hidden, weight).float(), labels, reduction="none")
    return (losses * weights).sum(), losses


def gradients(total: Tensor, *tensors: Tensor) -> list[Tensor]:
    return [gradient.float() for gradient in torch.autograd.grad(total * 3, tensors)]


def test_sum_losses_and_gradients_are_those_of_all_logits(pieces: None) -> None:
    hidden, weight, labels, weights = inputs()
    (total, losses), (its, each) = head_loss(hidden, weight, labels, weights), whole(hidden, weight, labels, weights)
    assert not losses.requires_grad
    torch.testing.assert_close(total, its)
    torch.testing.assert_close(losses, each)
    for mine, theirs in zip(gradients(total, hidden, weight), gradients(its, hidden, weight), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
def test_in_bfloat16_it_is_as_close_to_float32_as_all_logits_are(pieces: None, autocast: bool) -> None:
    hidden, weight, labels, weights = inputs(torch.float32 if autocast else torch.bfloat16)
    exact = inputs()
    right = gradients(whole(exact[0], exact[1], labels, weights)[0], *exact[:2])
    distances = []
    for loss in (head_loss, whole):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            total = loss(hidden, weight, labels, weights)[0]
        found = gradients(total, hidden, weight)
        distances.append([float((mine - its).norm() / its.norm()) for mine, its in zip(found, right, strict=True)])
    assert all(mine < 1.5 * its < 0.03 for mine, its in zip(*distances, strict=True)), distances


def test_what_is_frozen_gets_no_gradient(pieces: None) -> None:
    hidden, weight, labels, weights = inputs()
    head_loss(hidden, weight.detach(), labels, weights)[0].backward()
    assert hidden.grad is not None and weight.grad is None
    other = inputs()
    head_loss(other[0].detach(), weight, labels, weights)[0].backward()
    assert weight.grad is not None and other[0].grad is None
    with torch.no_grad():
        torch.testing.assert_close(head_loss(hidden, weight, labels, weights)[0], whole(hidden, weight, labels, weights)[0])


def test_gradients_are_given_once() -> None:
    hidden, weight, labels, weights = inputs()
    total, _ = head_loss(hidden, weight, labels, weights)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="its gradients were taken already"):
        total.backward()


def test_nothing_supervised_is_a_sum_of_zero() -> None:
    hidden, weight, labels, weights = inputs()
    total, losses = head_loss(hidden[:0], weight, labels[:0], weights[:0])
    total.backward()
    assert total == 0 and len(losses) == 0 and weight.grad is not None and not weight.grad.any()


def test_a_head_with_an_adapter_is_whole_in_the_loss() -> None:
    """B of an adapter is zero at first: the loss is that of the bare head, and B gets a gradient."""
    bare, adapted = tiny_model(), tiny_model()
    add_lora(adapted, ("decoder.lm_head",), rank=2, alpha=4)
    totals = [NextToken()(model, batch_of_two()).sums["next_token"] for model in (bare, adapted)]
    torch.testing.assert_close(totals[0], totals[1])
    totals[1].backward()
    assert adapted.decoder.lm_head is not None and adapted.decoder.lm_head.lora_b.grad.any()  # type: ignore[union-attr]
