"""Split masters are float32 from end to end: as drawn, as an earlier run left them, averaged, and summed over ranks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qwenvl.models.initialise import initialise
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.train import parallel
from qwenvl.train.build import build_trainer
from qwenvl.train.optim import MovingAverage
from qwenvl.train.parallel import GradientBuffer, World, join_world, leave_world, norm64
from qwenvl.train.recipe import Recipe
from qwenvl.train.split_adamw import SplitAdamW, on_local, split
from qwenvl.train.trainer import Trainer
from qwenvl.train.whole import whole_model

pytestmark = pytest.mark.usefixtures("scene_sources")


def recipe_of(run: Path, parallel: str = "replicate", **sections: Any) -> Recipe:
    one = {"num_hidden_layers": 1}
    return Recipe.model_validate({
        "name": "masters", "run": str(run), "seed": 5,
        "model": {"config": {"vision": one, "decoder": one}},
        "data": {"tasks": {"caption": 1}, "rows_per_step": 1, "row_tokens": 80, "text_rows": 1.0},
        "optim": {"lr": 1e-4, "masters": "split"} | sections.pop("optim", {}),
        "train": {"steps": 2, "micro_batch_rows": 1} | sections.pop("train", {}),
        "parallel": {"data": parallel}, **sections,
    })  # fmt: skip


@pytest.fixture(params=["replicate", "fsdp"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param
    leave_world(World())


def started(recipe: Recipe) -> Trainer:
    made, _ = build_trainer(recipe, join_world(recipe.parallel))
    made.start(False)
    made.model.train()
    return made


def masters(one: Trainer) -> dict[str, Tensor]:
    assert isinstance(one.optimiser, SplitAdamW)
    return {name: torch.cat(list(one.optimiser.master_pieces(weight))).view(weight.shape) for name, weight in one.named}


def drawn(one: Trainer) -> dict[str, Tensor]:
    model = VisionLanguageModel(one.model.config)
    initialise(model, one.recipe.seed)
    return dict(model.named_parameters())


def test_masters_begin_with_what_is_drawn_in_float32(way: str, tmp_path: Path) -> None:
    one = started(recipe_of(tmp_path / "run", way, train={"unfreeze_after": {} if way == "fsdp" else {"decoder": 1}}))
    theirs, found = drawn(one), masters(one)
    assert all(torch.equal(found[name], theirs[name]) for name in found)
    assert all(on_local(weight).dtype == torch.bfloat16 for _, weight in one.named)
    assert any(not torch.equal(on_local(weight.detach()).float(), theirs[name]) for name, weight in one.named)
    one.close()


def test_the_next_stage_begins_with_the_masters_of_the_last(way: str, tmp_path: Path) -> None:
    one = started(recipe_of(tmp_path / "run", way))
    assert one.fit() == "finished"
    left = masters(one)
    one.close()
    sources = dict.fromkeys(("vision_tower", "connector", "decoder"), str(tmp_path / "run"))
    then = started(recipe_of(tmp_path / "next", way, init_from=sources))
    found = masters(then)
    then.close()
    assert left.keys() == found.keys() and all(torch.equal(found[name], left[name]) for name in left)
    assert any(not torch.equal(value, value.bfloat16().float()) for value in left.values())


def test_masters_that_have_not_trained_yet_are_resumed(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "run", train={"unfreeze_after": {"decoder": 5}, "steps": 1})
    one = started(recipe)
    assert one.fit() == "finished"
    left = masters(one)
    one.close()
    again, _ = build_trainer(recipe, World())
    again.start(True)
    again.close()
    assert all(torch.equal(value, left[name]) for name, value in masters(again).items())


def test_the_average_is_of_masters(way: str, tmp_path: Path) -> None:
    one = started(recipe_of(tmp_path / "run", way, optim={"ema": 0.9}))
    average = one.average
    assert average is not None
    wanted = masters(one)
    for step in range(2):
        one._do_step()
        one.step = step + 1
        wanted = {name: wanted[name].lerp(master, 1 - 0.9) for name, master in masters(one).items()}
    one.close()
    assert all(torch.equal(on_local(average.average[name]), value) for name, value in wanted.items())


def test_an_average_of_float32_weights_needs_no_masters() -> None:
    weight = nn.Parameter(torch.linspace(-1, 1, 50))
    average = MovingAverage([("a", weight)], 0.75)
    first = weight.detach().clone()
    weight.data += 1
    average.update()
    assert torch.equal(average.average["a"], first.lerp(weight.detach(), 0.25))


class ThreeRanks(World):
    """Three ranks; the others have what `others` holds."""

    def __init__(self, others: list[Tensor]) -> None:
        super().__init__(0, 3)
        object.__setattr__(self, "others", others)

    def sum(self, values: Tensor) -> Tensor:
        for other in self.others:  # type: ignore[attr-defined]
            values += other[: len(values)].to(values.dtype)
            object.__setattr__(self, "others", [*self.others[1:], other[len(values) :]])  # type: ignore[attr-defined]
        return values


def test_gradients_in_bfloat16_are_summed_over_ranks_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CHUNK", 64)
    weight = nn.Parameter(torch.zeros(200, dtype=torch.bfloat16))
    buffer = GradientBuffer([weight])
    buffer.clear()
    mine, *others = (torch.randn(200, generator=torch.Generator().manual_seed(seed)).bfloat16() for seed in range(3))
    assert weight.grad is not None
    weight.grad.copy_(mine)
    buffer.sum_over(ThreeRanks(others))
    assert torch.equal(weight.grad, (mine.float() + others[0].float() + others[1].float()).bfloat16())
    assert not torch.equal(weight.grad, mine + others[0] + others[1])


@pytest.mark.parametrize("micro_batches, bound", [(8, 0.005), (32, 0.01), (128, 0.02)])
def test_gradients_of_micro_batches_in_bfloat16_are_off_by_what_the_recipe_says(micro_batches: int, bound: float) -> None:
    weight = nn.Parameter(torch.zeros(5000, dtype=torch.bfloat16))
    buffer, exact, generator = GradientBuffer([weight]), torch.zeros(5000), torch.Generator().manual_seed(0)
    buffer.clear()
    for _ in range(micro_batches):
        share = torch.randn(5000, generator=generator).bfloat16()
        (weight * share).sum().backward()
        exact += share.float()
    assert weight.grad is not None
    error = (weight.grad.float() - exact).norm() / exact.norm()
    assert bound / 3 < error < bound


@pytest.mark.parametrize("lora", [None, {"rank": 4}, {"rank": 4, "base": "int8"}, {"rank": 4, "base": "nf4"}])
def test_a_cut_model_begins_as_a_whole_one(lora: dict[str, Any] | None, tmp_path: Path) -> None:
    states = []
    for way in ("replicate", "fsdp"):
        one = started(recipe_of(tmp_path / way, way, optim={"masters": "whole"}, **({"lora": lora} if lora else {})))
        states.append({name: on_local(value) for name, value in one.model.state_dict().items()})
        states.append({name: weight.requires_grad for name, weight in one.model.named_parameters()})
        one.close()
    leave_world(World())
    whole, wanted, cut, trains = states
    assert wanted == trains and whole.keys() == cut.keys()
    assert all(torch.equal(cut[name], value) and cut[name].dtype == value.dtype for name, value in whole.items())


class Largest(TorchDispatchMode):
    """The most numbers of a float64 tensor that an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.dtype == torch.float64:
            self.found = max(self.found, made.numel())
        if kwargs and kwargs.get("dtype") == torch.float64:  # a kernel's own copy
            self.found = max(self.found, *(one.numel() for one in args if isinstance(one, Tensor)))
        return made


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_norm_is_exact_and_copies_no_gradient(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CHUNK", 1 << 16)
    values = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(device)
    with Largest() as largest:
        norm = norm64(values)
    assert 0 < largest.found <= 1 << 18
    if device == "cpu":
        assert float(norm) == pytest.approx(float(values.double().square().sum().sqrt()), rel=1e-12)


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_leading_rank_of_a_cut_model_builds_it_whole(rank: int, tmp_path: Path) -> None:
    one, _ = build_trainer(recipe_of(tmp_path / "run", "fsdp", data={"tasks": {"caption": 1}, "rows_per_step": 2}), World(rank, 2))
    assert all(weight.is_meta == (rank > 0) for weight in one.model.parameters())


def test_only_the_leading_rank_gathers_what_is_exported(tmp_path: Path) -> None:
    one = started(recipe_of(tmp_path / "run", "fsdp"))
    led = whole_model(one)
    one.world = World(1, 1)
    other = whole_model(one)
    one.close()
    leave_world(World())
    assert all(weight.is_meta for weight in other.parameters())
    rounded = {name: split(weight.detach())[0] for name, weight in drawn(one).items()}
    trained = {name for name, _ in one.named}
    assert all(torch.equal(weight, rounded[name]) for name, weight in led.named_parameters() if name in trained)
