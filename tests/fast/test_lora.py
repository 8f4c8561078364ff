"""Adapters and quantised layers: what they compute, what trains, and that merging changes nothing but the layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qwenvl.models.lora import adapters, add_lora, merge_lora, unmerge_lora, without_lora
from qwenvl.models.quantised import BLOCK, NF4, QuantisedLinear, quantise
from qwenvl.models.select import LayerError


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q_proj, self.o_proj = nn.Linear(128, 96), nn.Linear(96, 32, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o_proj(self.q_proj(x).relu())


def adapted(model: nn.Module, rank: int = 4, dropout: float = 0.0) -> nn.Module:
    """With adapters that matter."""
    add_lora(model, ["*_proj"], rank, alpha=8.0, dropout=dropout, seed=1)
    for number, layer in enumerate(adapters(model).values()):
        nn.init.normal_(layer.lora_b, std=0.3, generator=torch.Generator().manual_seed(number))
    return model


X = torch.randn(5, 128, generator=torch.Generator().manual_seed(2))


def test_an_adapter_starts_at_nothing_and_adds_b_a_x() -> None:
    model = Small()
    before = model(X)
    assert add_lora(model, ["q_proj"], rank=4, alpha=8.0) == ["q_proj"]
    torch.testing.assert_close(model(X), before, rtol=0, atol=0)
    layer = adapters(model)["q_proj"]
    assert layer.lora_a.abs().max() <= 128**-0.5 and layer.lora_a.std() > 0.4 * 128**-0.5
    nn.init.normal_(layer.lora_b)
    expected = layer.base(X) + X @ layer.lora_a.T @ layer.lora_b.T * 2
    torch.testing.assert_close(layer(X), expected)


def test_merged_equals_unmerged_and_back() -> None:
    model = adapted(Small()).eval()
    before, kept = model(X), adapters(model)
    plain = {name: layer.base.weight.clone() for name, layer in kept.items()}
    merge_lora(model)
    assert not adapters(model) and type(model.q_proj) is nn.Linear
    torch.testing.assert_close(model(X), before, rtol=0, atol=1e-5)
    unmerge_lora(model, kept)
    torch.testing.assert_close(model(X), before, rtol=0, atol=1e-5)
    for name, layer in adapters(model).items():
        torch.testing.assert_close(layer.base.weight, plain[name], rtol=0, atol=1e-6)


def test_without_adapters_the_model_is_what_it_was() -> None:
    before = Small()(X)
    model = adapted(Small())
    assert not torch.allclose(model(X), before)
    with without_lora(model), pytest.raises(KeyError):
        torch.testing.assert_close(model(X), before, rtol=0, atol=0)
        raise KeyError
    assert not torch.allclose(model(X), before)


def test_patterns_that_name_nothing_are_refused_before_anything_changes() -> None:
    model = Small()
    with pytest.raises(LayerError, match=r"'\*\.c_attn' names no linear layer of the model; their names end in o_proj, q_proj"):
        add_lora(model, ["q_proj", "*.c_attn"], 4, 8.0)
    assert not adapters(model)
    add_lora(model, ["q_proj"], 4, 8.0)
    with pytest.raises(LayerError, match="has adapters already"):
        add_lora(model, ["o_proj"], 4, 8.0)


def test_the_levels_of_nf4_are_those_of_their_definition() -> None:
    """arXiv 2305.14314, appendix E: quantiles of the normal distribution on both sides of an exact zero, the outermost at +-1."""
    outermost = 0.9677083  # the probability of bitsandbytes' create_normal_map, bitsandbytes/functional.py

    def side(count: int) -> torch.Tensor:
        return torch.special.ndtri(torch.linspace(outermost, 0.5, count, dtype=torch.float64)[:-1])

    levels = torch.cat([-side(8), torch.zeros(1, dtype=torch.float64), side(9)]).sort().values
    torch.testing.assert_close(levels / levels.abs().max(), torch.tensor(NF4, dtype=torch.float64), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.01), ("nf4", 0.12)])
def test_quantised_layers_are_near_and_pass_the_gradient_of_their_input(kind: str, error: float) -> None:
    linear = Small().q_proj
    layer = QuantisedLinear.of(linear, kind)  # type: ignore[arg-type]
    assert (layer.weight - linear.weight).norm() / linear.weight.norm() < error
    if kind == "nf4":
        levels, scales = torch.tensor(NF4), layer.scales[..., None]
        distances = (linear.weight.detach().unflatten(1, (-1, BLOCK)) / scales)[..., None] - levels
        assert torch.equal(layer.weight.unflatten(1, (-1, BLOCK)), levels[distances.abs().argmin(-1)] * scales)
    assert sum(buffer.nbytes for buffer in layer.buffers()) < linear.weight.nbytes * (0.27 if kind == "int8" else 0.15)
    x = X.clone().requires_grad_()
    layer(x).square().sum().backward()
    y = X.clone().requires_grad_()
    nn.functional.linear(y, layer.weight, linear.bias).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(X).dtype == torch.bfloat16


def test_adapters_train_on_a_quantised_base_that_stays() -> None:
    model = Small()
    assert quantise(model, ["*_proj"], "int8") == ["q_proj", "o_proj"]
    adapted(model)
    codes = model.q_proj.base.codes.clone()
    names = [name for name, parameter in model.named_parameters() if ".base." not in name and parameter.requires_grad]
    assert names == ["q_proj.lora_a", "q_proj.lora_b", "o_proj.lora_a", "o_proj.lora_b"]
    optimiser = torch.optim.Adam([dict(model.named_parameters())[name] for name in names], lr=0.03)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        losses.append(loss := (model(X) - 1).square().mean())
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0] and torch.equal(model.q_proj.base.codes, codes)
    before = model(X)
    merge_lora(model)
    torch.testing.assert_close(model(X), before, rtol=0, atol=1e-4)


def test_nf4_refuses_a_width_that_its_blocks_do_not_fill() -> None:
    with pytest.raises(LayerError, match="width 96 cannot be stored in nf4, whose blocks have 64; use int8"):
        quantise(Small(), ["*_proj"], "nf4")
