"""Bytes that are predicted are those of a run: what lasts exactly, what autograd keeps to a tenth."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qwenvl.config import ModelConfig, merged
from qwenvl.models.initialise import initialise
from qwenvl.models.select import LayerError
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.processing.collate import collate
from qwenvl.processing.grid import window_plan
from qwenvl.train.engine import Engine
from qwenvl.train.objectives import NextToken
from qwenvl.train.optim import MovingAverage, build_optimiser, named_trainables
from qwenvl.train.parallel import World
from qwenvl.train.planning.cost import work_of_batch
from qwenvl.train.planning.inventory import Inventory, take_inventory
from qwenvl.train.planning.memory import Memory, Precision, Ranks, activations, pass_memory, state_memory
from qwenvl.train.planning.operations import operations
from qwenvl.train.recipe import Recipe
from qwenvl.types import Batch, Encoded

PRESETS = ("qwen-vl-nano", "qwen2-vl-nano", "qwen2.5-vl-nano")
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER = SMALL | {"num_key_value_heads": 1, "head_dim": 32}
CASES: dict[str, dict[str, Any]] = {
    "bf16": {},
    "float32": {"train": {"precision": "float32"}},
    "split masters": {"optim": {"masters": "split"}},
    "frozen tower": {"train": {"frozen": ["vision_tower"]}},
    "frozen decoder": {"train": {"frozen": ["decoder"]}},
    "frozen by pattern": {"train": {"frozen": ["vision_tower.*", "decoder.layers.0.*", "*norm*"]}, "optim": {"ema": 0.99}},
    "lora": {"lora": {"rank": 8, "whole": ["decoder.embed_tokens"]}},
    "q-lora int8": {"lora": {"rank": 8, "base": "int8"}},
    "q-lora nf4": {"lora": {"rank": 8, "base": "nf4"}},
    "q-lora nf4, split": {"lora": {"rank": 8, "base": "nf4", "dropout": 0.0}, "optim": {"masters": "split"}},
}


def recipe_of(preset: str, changes: dict[str, Any]) -> Recipe:
    """A preset in small; all parts as wide as nf4's blocks ask for."""
    decoder: dict[str, Any] = DECODER | ({"mrope_section": [4, 6, 6]} if preset != PRESETS[0] else {"num_key_value_heads": 2})
    vision: dict[str, Any] = SMALL | ({"full_attention_blocks": [1]} if preset == PRESETS[2] else {})
    model = {"preset": preset, "config": {"vision": vision, "connector": {"hidden_size": 64}, "decoder": decoder}}
    sections: dict[str, Any] = {"model": model, "data": {}, "optim": {"lr": 1e-3}, "train": {"steps": 1}}
    return Recipe.model_validate({"name": "a", "run": "a"} | merged(sections, changes))


def prepared(recipe: Recipe, config: ModelConfig) -> VisionLanguageModel:
    model = VisionLanguageModel(config)
    initialise(model, 0)
    Engine(recipe, World()).prepare(model, NextToken())
    return model.train()


def batch_of(config: ModelConfig, documents: int = 3, text: int = 200) -> Batch:
    """Documents of a picture and random tokens, all of them supervised."""
    vision, connector, found = config.vision, config.connector, []
    side = vision.image_size // vision.patch_size if vision.image_size else 16
    visual = getattr(connector, "num_queries", side**2 // vision.merge_size**2)
    grids, slots = np.array([[1, side, side]]), np.arange(1, visual + 1)
    for seed in range(documents):
        random = np.random.default_rng(seed)
        ids = random.integers(0, 200, visual + 2 + text)
        patches = random.standard_normal((side**2, vision.patch_numbers)).astype(np.float32)
        positions = np.tile(np.arange(len(ids)), (3, 1))
        found.append(Encoded(ids, ids, positions, patches, grids, slots, windows=window_plan(grids, vision)))
    return collate(found)


def forward(model: VisionLanguageModel, batch: Batch, bf16: bool) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
        return NextToken()(model, batch).sums["next_token"]


def bytes_of(tensors: Any) -> int:
    """Of the storages, each once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


@pytest.mark.parametrize("case", CASES)
def test_what_lasts_is_what_a_run_allocates(case: str) -> None:
    recipe = recipe_of("qwen2.5-vl-nano", CASES[case])
    inventory = take_inventory(recipe)
    model = prepared(recipe, inventory.config)
    named = named_trainables(model, NextToken())
    optimiser = build_optimiser(named, recipe.optim, 2)
    gradients = Engine(recipe, World()).gradients(weight for _, weight in named)
    gradients.clear()
    forward(model, batch_of(inventory.config, 1, 8), recipe.train.precision == "bf16").backward()
    optimiser.step()
    predicted = state_memory(inventory, Ranks())
    # What a weight has of its own: AdamW's count of steps is a tensor of one number.
    states = [value for weight in optimiser.state.values() for value in weight.values() if torch.is_tensor(value) and value.ndim]
    assert predicted.weights == bytes_of([*model.parameters(), *model.buffers()])
    assert predicted.gradients == bytes_of(weight.grad for _, weight in named)
    assert predicted.optimiser == bytes_of(states)
    average = MovingAverage(named, 0.9).average.values() if recipe.optim.ema else ()
    assert predicted.average == bytes_of(average)
    assert inventory.count()[1] == sum(weight.numel() for _, weight in named)


def kept_by(model: VisionLanguageModel, batch: Batch, bf16: bool) -> int:
    """Bytes that autograd keeps of a forward pass, beside the model's own."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(model, batch, bf16)
    return bytes_of(kept)


def predicted_pass(inventory: Inventory, batch: Batch) -> tuple[Memory, tuple[float, float]]:
    found = operations(inventory.config, inventory.trained().__contains__, inventory.adapted)
    work = work_of_batch(inventory.config, batch)
    kept = activations(found, work, Precision.of(inventory, Ranks(), gpu=False), inventory)
    return pass_memory(found, inventory, Ranks(), work, gpu=False), kept


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("case", CASES)
def test_what_autograd_keeps_is_predicted(case: str, preset: str) -> None:
    recipe = recipe_of(preset, CASES[case])
    inventory = take_inventory(recipe)
    bf16 = recipe.train.precision == "bf16"
    model, batch = prepared(recipe, inventory.config), batch_of(inventory.config)
    whole, (kept, again) = predicted_pass(inventory, batch)
    head = model.decoder.embed_tokens if model.decoder.lm_head is None else model.decoder.lm_head
    supervised = int((batch.labels >= 0).sum())
    assert again == 0 and whole.logits > supervised * inventory.config.decoder.vocab_size * (2 if bf16 else 4)
    if isinstance(head.weight, torch.nn.Parameter) and head.weight.requires_grad:
        assert whole.logits > bytes_of([head.weight])  # and so is its gradient
    if not bf16:
        kept += bytes_of([batch.patches])  # the first product reads them as they are
    # Of layers that are stored in few bits a sixth too much is predicted, so small are the others here.
    assert kept + whole.copies == pytest.approx(kept_by(model, batch, bf16), rel=0.2 if inventory.quantised else 0.1)


@pytest.mark.parametrize("preset", PRESETS)
def test_checkpointing_keeps_what_enters_blocks(preset: str) -> None:
    recipe = recipe_of(preset, {"train": {"activation_checkpointing": True}, "optim": {"masters": "split"}})
    inventory = take_inventory(recipe)
    model, batch = prepared(recipe, inventory.config), batch_of(inventory.config)
    _, (kept, again) = predicted_pass(inventory, batch)
    assert kept == pytest.approx(kept_by(model, batch, True), rel=0.1)
    _, (whole, _) = predicted_pass(take_inventory(recipe_of(preset, {"optim": {"masters": "split"}})), batch)
    # One of four blocks is made again at a time.
    assert whole / 6 < again < whole / 2


def test_a_layer_that_nf4_cannot_hold_is_named() -> None:
    recipe = recipe_of("qwen-vl-nano", {"lora": {"base": "nf4"}, "model": {"config": {"decoder": {"intermediate_size": 96}}}})
    with pytest.raises(LayerError, match=r"decoder\.layers\.0\.mlp\.down_proj: a layer of width 96"):
        take_inventory(recipe)


def test_fsdp_cuts_what_lasts_among_its_ranks_and_tensor_parallel_what_is_in_blocks() -> None:
    changes: dict[str, Any] = {"optim": {"ema": 0.99}, "parallel": {"data": "fsdp"}}
    inventory = take_inventory(recipe_of("qwen-vl-nano", changes))
    whole, four = (state_memory(inventory, Ranks(size, 1, True)) for size in (1, 4))
    for kind in ("weights", "gradients", "optimiser", "average"):
        assert getattr(four, kind) == getattr(whole, kind) / 4
    blocks = ("decoder.layers", "vision_tower.blocks")
    inside = sum(size for name, size in inventory.sizes.items() if name.startswith(blocks) and "norm" not in name)
    outside = sum(inventory.sizes.values()) - inside
    assert state_memory(inventory, Ranks(4, 2, True)).weights == 4 * (inside / 4 + outside / 2)


def test_a_reference_copy_is_whole_on_every_rank() -> None:
    recipe = recipe_of("qwen-vl-nano", {"objective": {"kind": "dpo"}, "parallel": {"data": "fsdp"}})
    inventory = take_inventory(recipe)
    assert state_memory(inventory, Ranks(8, 1, True)).reference == 4 * inventory.count()[0]
