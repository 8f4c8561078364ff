"""DPO: what a pair's loss is, whichever way the reference is had, and however pairs are packed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qwenvl.data.packing import share_prefix
from qwenvl.models.lora import adapters, add_lora
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.train.objectives import NextToken
from qwenvl.train.preference import Preference, answer_log_probs
from qwenvl.types import IGNORE_INDEX, Batch, Encoded
from tests.fast.tiny import NATIVE, Visual, document, native_config, tiny_model


def answered(config: object, seed: int, length: int, picture: bool) -> Encoded:
    """A prompt that depends on `seed // 2`, with a picture or without, and an answer of `length` tokens."""
    prompt = document(config, (3, Visual((1, 4, 4)), 4) if picture else (7,), seed=seed // 2)  # type: ignore[arg-type]
    answer = np.random.default_rng(seed).integers(0, 60, length)
    ids = np.concatenate([prompt.input_ids, answer])
    labels = np.concatenate([np.full(len(prompt), IGNORE_INDEX), answer])
    start = prompt.position_ids.max() + 1
    positions = np.concatenate([prompt.position_ids, np.tile(np.arange(start, start + length), (3, 1))], axis=1)
    return prompt.with_(input_ids=ids, labels=labels, position_ids=positions, sample_id=f"s{seed}", task="t")


def pair(config: object, number: int, swapped: bool = False) -> Encoded:
    both = [answered(config, 2 * number + side, 3 + number + 2 * side, picture=number % 2 == 0) for side in (0, 1)]
    return share_prefix(both[::-1] if swapped else both)


def batch_of(model: VisionLanguageModel, numbers: Sequence[int], swapped: bool = False) -> Batch:
    return collate([pair(model.config, number, swapped) for number in numbers])


@pytest.fixture(params=NATIVE)
def model(request: pytest.FixtureRequest) -> VisionLanguageModel:
    return tiny_model(native_config(request.param))


def changed(model: VisionLanguageModel, seed: int = 1) -> VisionLanguageModel:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    return model


def loss_of(objective: Preference, model: VisionLanguageModel, batch: Batch) -> Tensor:
    terms = objective(model, batch)
    return terms.sums["dpo"] / objective.counts(batch)["dpo"]


def test_the_log_probability_of_an_answer_is_that_of_it_alone(model: VisionLanguageModel) -> None:
    found = answer_log_probs(model, batch_of(model, (0, 1, 2)))
    for number in range(3):
        for side in (0, 1):
            alone = answered(model.config, 2 * number + side, 3 + number + 2 * side, picture=number % 2 == 0)
            single = answer_log_probs(model, collate([alone.with_(branch_ids=np.ones(len(alone), dtype=np.int64))]))
            torch.testing.assert_close(found[number, side], single[0, 0], rtol=1e-4, atol=1e-4)


def test_it_starts_at_ln_2_and_swapping_the_pair_flips_the_sign(model: VisionLanguageModel) -> None:
    objective = Preference(beta=0.1)
    objective.keep_reference(model)
    batch = batch_of(model, (0, 1, 2))
    assert loss_of(objective, model, batch).item() == pytest.approx(math.log(2), abs=1e-7)
    changed(model)
    one, other = objective(model, batch).logged, objective(model, batch_of(model, (0, 1, 2), swapped=True)).logged
    assert abs(float(one["margin"])) > 0.05
    assert float(one["margin"]) == pytest.approx(-float(other["margin"]), abs=1e-4)
    assert float(one["chosen_reward"]) == pytest.approx(float(other["rejected_reward"]), abs=1e-4)
    assert float(one["accuracy"]) + float(other["accuracy"]) == 3


def test_a_copy_the_adapters_and_numbers_with_the_batch_are_one_reference(model: VisionLanguageModel) -> None:
    batch = batch_of(model, (0, 1))
    plain, precomputed = Preference(0.3), Preference(0.3)
    plain.keep_reference(model)
    with torch.no_grad():
        precomputed.note(batch, answer_log_probs(model, batch))
    add_lora(model, ["decoder.*.self_attn.*_proj"], rank=2, alpha=4.0)
    adapted = Preference(0.3)
    adapted.keep_reference(model)
    assert not list(adapted.parameters()) and not list(plain.parameters()), "a reference is in no checkpoint"
    assert loss_of(adapted, model, batch).item() == pytest.approx(math.log(2), abs=1e-7)
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_b)
    asked = ((plain, batch), (adapted, batch), (precomputed, batch))
    losses = [loss_of(objective, model, of).item() for objective, of in asked]
    assert abs(losses[0] - math.log(2)) > 0.01
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)
    assert all(layer.on for layer in adapters(model).values())


def test_a_step_makes_the_chosen_answer_likelier(model: VisionLanguageModel) -> None:
    objective = Preference(beta=0.5)
    objective.keep_reference(model)
    batch = batch_of(model, (0, 1))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
    before = loss_of(objective, model, batch)
    before.backward()
    optimiser.step()
    terms = objective(model, batch)
    assert float(terms.sums["dpo"]) / 2 < float(before) - 0.01 and float(terms.logged["accuracy"]) == 2


def test_without_a_reference_it_says_so(model: VisionLanguageModel) -> None:
    with pytest.raises(ValueError, match="call keep_reference"):
        Preference(0.1)(model, batch_of(model, (0,)))


def test_the_chosen_answers_own_loss_is_that_of_next_token_per_pair(model: VisionLanguageModel) -> None:
    objective = Preference(beta=0.1, chosen_weight=0.5)
    objective.keep_reference(model)
    batch = batch_of(model, (0, 1, 2))
    terms, counts = objective(model, batch), objective.counts(batch)
    by_hand = 0.0
    for number in range(3):
        alone = collate([answered(model.config, 2 * number, 3 + number, picture=number % 2 == 0)])
        next_token = NextToken()
        by_hand += float(next_token(model, alone).sums["next_token"]) / next_token.counts(alone)["next_token"]
    assert objective.coefficients == {"dpo": 1.0, "chosen": 0.5} and counts == {"dpo": 3.0, "chosen": 3.0}
    assert float(terms.sums["chosen"]) == pytest.approx(by_hand, rel=1e-4)
    assert "chosen" not in Preference(beta=0.1).coefficients
