"""The split optimiser's masters are torch's float32 weights, bit for bit."""

from __future__ import annotations

import pytest
import torch

from qwenvl.train import split_adamw
from qwenvl.train.split_adamw import SplitAdamW, join, split
from qwenvl.train.state import RunState


def test_a_master_comes_back_whole_and_its_weight_is_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(100_000, generator=generator) * torch.logspace(-30, 30, 100_000)
    bits = [0x3F808000, 0x3F818000, 0xBF808000 - (1 << 32), 0x3F807FFF, 0, 0x00008000]
    halves = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    for master in (numbers, halves):
        weight, rest = split(master)
        assert torch.equal(join(weight, rest).view(torch.int32), master.view(torch.int32))
        assert ((weight.float() - master).abs() <= (master.bfloat16().float() - master).abs()).all()


@pytest.mark.parametrize("chunk", [1 << 24, 100])
def test_steps_are_those_of_adamw_on_float32(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_adamw, "CHUNK", chunk)
    generator = torch.Generator().manual_seed(1)
    start = [torch.randn(shape, generator=generator) for shape in ((40, 30), (30,))]
    start = [join(*split(tensor)) for tensor in start]
    whole = [torch.nn.Parameter(tensor.bfloat16().float()) for tensor in start]
    halves = [torch.nn.Parameter(tensor.bfloat16()) for tensor in start]
    settings = {"lr": 3e-4, "betas": (0.9, 0.98), "eps": 1e-6}

    def groups(parameters: list[torch.nn.Parameter]) -> list[dict[str, object]]:
        return [{"params": [one], "weight_decay": decay} for one, decay in zip(parameters, (0.05, 0.0), strict=True)]

    theirs, ours = torch.optim.AdamW(groups(whole), **settings, foreach=False, fused=False), SplitAdamW(groups(halves), **settings)
    for step in range(50):
        for one, other in zip(whole, halves, strict=True):
            other.grad = (torch.randn(one.shape, generator=generator) * (0.1 if step % 2 else 3.0)).bfloat16()
            one.grad = other.grad.float()
        theirs.step()
        ours.step()
    for one, other in zip(whole, halves, strict=True):
        master = join(other.data, ours.state[other]["low"])
        assert torch.equal(master, one.data), "bit for bit"
        assert torch.equal(other.data, split(one.data)[0])
    assert (whole[0] - start[0]).abs().max() > 1e-3


def test_it_resumes_exactly_and_takes_ten_bytes_a_weight_of_state() -> None:
    """As a checkpoint keeps it (`state.RunState`)."""
    models = [torch.nn.Linear(100, 10, bias=False).bfloat16() for _ in range(2)]
    optimisers = [SplitAdamW(model.parameters(), lr=1e-3) for model in models]
    one, other = (
        RunState(model, torch.nn.Module(), optimiser, list(model.named_parameters()), None)  # type: ignore[arg-type]
        for model, optimiser in zip(models, optimisers, strict=True)
    )
    (weight, again), (first, second) = (model.weight for model in models), optimisers
    weight.grad = torch.randn(10, 100).bfloat16()
    first.step()
    assert sum(value.nbytes for value in first.state[weight].values() if value.ndim) == 10_000
    with torch.no_grad():
        other.load(one.tensors())
    for of, optimiser in ((weight, first), (again, second)):
        of.grad = torch.ones(10, 100, dtype=torch.bfloat16)
        optimiser.step()
    assert torch.equal(weight, again)
    assert all(torch.equal(value, second.state[again][key]) for key, value in first.state[weight].items())


def test_float32_weights_are_their_own_masters() -> None:
    one, other = (torch.nn.Parameter(torch.linspace(-1, 1, 100)) for _ in range(2))
    theirs, ours = torch.optim.AdamW([one], lr=1e-2, foreach=False, fused=False), SplitAdamW([other], lr=1e-2)
    for _ in range(5):
        one.grad = other.grad = torch.linspace(1, -1, 100)
        theirs.step()
        ours.step()
    assert torch.equal(one, other) and "low" not in ours.state[other]
