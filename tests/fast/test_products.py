"""Every way to compute a linear layer for inference: the same answers within the bound of its kind, alone and in company.

VARIANTS lists them all: dtype, kind of weight, what computes few rows and what many; and how far each may lie from the plain layer
of its own (rounded) weights, root mean square, and how far a row may lie from the same row alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qwenvl
from qwenvl.families import get_family
from qwenvl.families.spec import Markup
from qwenvl.inference import choice, compiled
from qwenvl.inference.cache import KVCache
from qwenvl.inference.compiled import cpu_flags, few_rows
from qwenvl.inference.session import Session
from qwenvl.models.attention import PackedLayout, batched_attention
from qwenvl.models.decoder import WAYS, Decoder
from qwenvl.models.few_rows import FEW
from qwenvl.models.layers import RMSNorm
from qwenvl.models.lora import add_lora
from qwenvl.models.packed import PackedKind, PackedLinear, quantise_for_inference
from qwenvl.models.reordered import FewKind, Means, QuickLinear, ReorderedHead, has_onednn, reorder_for_inference
from qwenvl.models.rope import Rotary
from qwenvl.models.vlm import VisionLanguageModel
from tests.fast.tiny import native_config, random_prompt


@dataclass(frozen=True)
class Variant:
    """few: what takes few rows; product: bound of a product; company: bound of a row beside others, 0 where it is the same to the
    bit; logits: bound of a small model's logits against those of the same model in float32, which tells what rounding costs."""

    dtype: torch.dtype
    few: FewKind
    product: float
    company: float
    logits: float
    stored: PackedKind | None = None
    onednn: bool = False

    @property
    def name(self) -> str:
        parts = [str(self.dtype).removeprefix("torch."), self.stored or "", self.few, "onednn" * self.onednn]
        return " ".join(part for part in parts if part)

    def means(self) -> Means:
        kind = self.stored or str(self.dtype).removeprefix("torch.")
        return Means(few_rows() if self.few == "compiled" else None, ((kind, self.few),), self.onednn)


SINGLE, HALF = torch.float32, torch.bfloat16
VARIANTS = [
    Variant(SINGLE, "plain", 1e-6, 1e-6, 1e-6),
    Variant(SINGLE, "plain", 1e-6, 1e-6, 1e-5, onednn=True),
    Variant(SINGLE, "reordered", 1e-6, 1e-6, 1e-5),
    Variant(SINGLE, "compiled", 1e-6, 0.0, 1e-5),
    Variant(SINGLE, "compiled", 1e-6, 0.0, 1e-5, onednn=True),
    Variant(HALF, "plain", 8e-3, 1e-2, 0.05),
    Variant(HALF, "reordered", 8e-3, 1e-2, 0.05),
    Variant(HALF, "compiled", 8e-3, 0.0, 0.05),
    Variant(SINGLE, "plain", 1e-4, 1e-6, 0.05, "int8"),
    Variant(HALF, "plain", 8e-3, 1e-2, 0.06, "int8"),
    Variant(HALF, "compiled", 8e-3, 0.0, 0.06, "int8"),
    Variant(SINGLE, "plain", 1e-4, 1e-6, 0.45, "int4"),
    Variant(HALF, "plain", 8e-3, 1e-2, 0.45, "int4"),
    Variant(HALF, "compiled", 8e-3, 0.0, 0.45, "int4"),
]
SIZES = [(64, 64), (100, 96), (7, 32), (33, 160), (192, 256)]
"""Out and in, odd ones among them."""


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.name)
def variant(request: pytest.FixtureRequest) -> Variant:
    found: Variant = request.param
    if found.few == "compiled" and few_rows() is None:
        pytest.skip("no compiler, or no CPU with AVX-512, VNNI and VBMI")
    if (found.few == "reordered" or found.onednn) and not has_onednn(found.dtype):
        pytest.skip("this torch has no oneDNN")
    return found


def apart(found: Tensor, right: Tensor) -> float:
    """Relative, root mean square."""
    return float((found.double() - right.double()).norm() / right.double().norm())


class Holder(nn.Module):
    """As little of a vision-language model as `reorder_for_inference` looks at."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.layer, self.decoder.lm_head = layer, nn.Identity()


def layer_of(variant: Variant, size: tuple[int, int], bias: bool = True) -> nn.Module:
    linear = nn.Linear(size[1], size[0], bias=bias).to(variant.dtype).requires_grad_(False)
    holder = Holder(PackedLinear.of(linear, variant.stored) if variant.stored else linear)
    changed = reorder_for_inference(holder, variant.means())
    assert bool(changed) == (variant.few != "plain" or variant.onednn)
    found = holder.decoder.layer
    assert isinstance(found, nn.Module)
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_product_is_that_of_the_weight(variant: Variant, size: tuple[int, int], bias: bool) -> None:
    layer = layer_of(variant, size, bias)
    weight, added = layer.weight.double(), 0.0 if layer.bias is None else layer.bias.double()
    for rows in (1, 2, 3, 4, 5, 7, FEW, FEW + 1, 40):
        x = torch.randn(rows, size[1]).to(variant.dtype)
        y = layer(x)
        assert y.dtype == variant.dtype and y.shape == (rows, size[0])
        assert apart(y, x.double() @ weight.t() + added) < variant.product
    assert layer(x[:0]).shape == (0, size[0])
    assert layer(x[0]).shape == (size[0],)
    assert apart(layer(x[:6].view(2, 3, -1)), layer(x[:6]).view(2, 3, -1)) <= variant.company
    assert apart(layer(x.t().contiguous().t()[:4]), layer(x[:4])) <= variant.company  # rows that do not lie in one piece


def test_a_row_is_what_it_is_alone(variant: Variant) -> None:
    layer = layer_of(variant, (192, 256))
    x = torch.randn(FEW, 256).to(variant.dtype)
    together = layer(x)
    for row in range(FEW):
        alone = layer(x[row : row + 1])[0]
        assert torch.equal(together[row], alone) if variant.company == 0.0 else apart(together[row], alone) <= variant.company


# Torch's products of codes do not keep this promise.
@pytest.mark.parametrize(
    "variant", [one for one in VARIANTS if not one.stored or one.few == "compiled"], ids=lambda one: one.name, indirect=True
)
def test_what_is_not_finite_stays_so_and_stays_in_its_row(variant: Variant) -> None:
    layer = layer_of(variant, (100, 96))
    for bad in (float("nan"), float("inf")):
        x = torch.randn(3, 96).to(variant.dtype)
        right = layer(x)
        x[1, 5] = bad
        y = layer(x)
        assert torch.equal(y[0], right[0]) and torch.equal(y[2], right[2]) and not torch.isfinite(y[1]).any()
    assert torch.isfinite(layer(torch.zeros(2, 96, dtype=variant.dtype))).all()


def small_model(tied: bool) -> VisionLanguageModel:
    torch.manual_seed(1)
    config = native_config("qwen2_vl")
    decoder = config.decoder.model_copy(update={"tie_word_embeddings": tied})
    model = VisionLanguageModel(config.model_copy(update={"decoder": decoder}))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


def logits(model: VisionLanguageModel, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        hidden = model(ids, torch.arange(len(ids)).expand(3, -1), PackedLayout.of(torch.zeros_like(ids)))
        return model.logits(hidden).float()


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_answers_as_in_float32_and_alone_as_in_company(variant: Variant, tied: bool) -> None:
    model = small_model(tied)
    right = [logits(model, torch.arange(1, 1 + length)) for length in (5, 40)]
    model.to(variant.dtype)
    if variant.stored:
        quantise_for_inference(model, variant.stored)
    changed = reorder_for_inference(model, variant.means())
    assert bool(changed) == (variant.few != "plain" or variant.onednn)
    for length, expected in zip((5, 40), right):
        assert apart(logits(model, torch.arange(1, 1 + length)), expected) < variant.logits
    if variant.dtype == SINGLE:  # the promise of token for token
        whole = qwenvl.QwenVL(model, get_family("qwen2_vl"), Markup())
        prompts = [random_prompt(model.config, length, seed=length) for length in (3, 9, 20, 4, 15)]
        together = [reply.tokens for reply in whole.generate(prompts, max_new_tokens=8)]
        assert together == [whole.generate([prompt], max_new_tokens=8)[0].tokens for prompt in prompts]


@pytest.fixture(params=["compiled", "reordered"])
def means(request: pytest.FixtureRequest) -> Iterator[Means]:
    if request.param == "compiled" and few_rows() is None:
        pytest.skip("no kernels of our own here")
    yield Means(few_rows(), (("float32", request.param),), onednn=has_onednn(SINGLE))


def test_weights_stay_where_they_are(means: Means) -> None:
    """By our own kernels: the very parameters under the very names, so that they can be saved, trained and adapted."""
    model = small_model(tied=True)
    before = model.state_dict(keep_vars=True)
    reorder_for_inference(model, means)
    after = model.state_dict(keep_vars=True)
    if means.for_few("float32") == "compiled":
        assert {name: id(tensor) for name, tensor in after.items()} == {name: id(tensor) for name, tensor in before.items()}
        assert model.decoder.lm_head is None
    else:
        assert list(after) and set(after) == set(before) and isinstance(model.decoder.product, ReorderedHead)
        assert torch.equal(model.decoder.layers[0].mlp.up_proj.weight, before["decoder.layers.0.mlp.up_proj.weight"])
    assert not [name for name, layer in model.named_modules() if type(layer) is nn.Linear and name.startswith("decoder.")]
    assert reorder_for_inference(model, Means()) == []


def test_gradients_take_the_plain_product() -> None:
    if few_rows() is None:
        pytest.skip("no kernels of our own here")
    linear = nn.Linear(32, 8)
    layer = QuickLinear.of(linear, Means(few_rows(), (("float32", "compiled"),)).product_of(SINGLE))  # type: ignore[arg-type]
    assert layer.weight is linear.weight
    x = torch.randn(2, 32, requires_grad=True)
    layer(x).sum().backward()
    expected = torch.autograd.grad(linear(x).sum(), [x, linear.weight])
    assert linear.weight.grad is not None and x.grad is not None
    assert torch.equal(x.grad, expected[0]) and torch.equal(linear.weight.grad, expected[1])
    with torch.autocast("cpu", dtype=HALF), torch.no_grad():
        assert layer(x).dtype == HALF


def test_adapters_and_quantising_come_after_too(means: Means) -> None:
    model = small_model(tied=False)
    ids = torch.arange(1, 20)
    add_lora(model, ("*.q_proj",), rank=2, alpha=4)
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            nn.init.normal_(parameter)
    right = logits(model, ids)
    reorder_for_inference(model, means)
    assert apart(logits(model, ids), right) < 1e-5
    assert not isinstance(model.decoder.layers[0].self_attn.q_proj.base, PackedLinear)
    copied = copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
    assert torch.equal(logits(copied, ids), logits(model, ids))
    quantise_for_inference(model, "int8")
    assert apart(logits(model, ids), right) < 0.05


def test_a_small_model_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "means", lambda: pytest.fail("measured for a small model"))
    assert choice.apply_choice(small_model(tied=True)) == []


def test_a_choice_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENVL_CACHE", str(tmp_path))
    told = {kind: {"compiled": 1.0, "plain": 2.0} for kind in (*choice.KINDS, choice.MANY_NAME)}
    told[choice.MANY_NAME] = {"onednn": 3.0, "plain": 1.0}
    told["bfloat16"] = {"compiled": 1.05, "reordered": 1.0, "plain": 9.0}  # not clearly slower
    told["int4"] = {"compiled": 1.2, "plain": 1.0}
    calls: list[int] = []
    monkeypatch.setattr(choice, "measure", lambda: calls.append(1) or told)
    for _ in range(2):
        found = choice.means()
        assert found.few == (("float32", "compiled"), ("bfloat16", "compiled"), ("int8", "compiled"), ("int4", "plain"))
        assert not found.onednn and found.compiled is few_rows()
    assert len(calls) == 1 and choice.told(anew=True) == told and len(calls) == 2
    (kept,) = tmp_path.glob("products-*.json")
    for broken in ("{", "{}", '{"int8": 3}'):
        kept.write_text(broken)
        assert choice.told() == told
    assert len(calls) == 5


def test_without_a_compiler_torch_does_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENVL_CACHE", str(tmp_path))
    for name, value in (("CXX", "no-such-compiler"), ("CXX", "false")):
        monkeypatch.setenv(name, value)
        assert compiled.few_rows.__wrapped__() is None
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(compiled, "cpu_flags", lambda: frozenset({"avx2"}))
    assert compiled.few_rows.__wrapped__() is None


@pytest.mark.skipif(few_rows() is None, reason="no kernels of our own here")
def test_kernels_that_are_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = few_rows()
    assert kernels is not None and compiled.is_right(kernels) and cpu_flags() >= compiled.WANTED
    right = kernels.product
    for kind in range(4):
        with monkeypatch.context() as patched:
            patched.setattr(kernels, "product", lambda x, weight, kind=kind: right(x, weight) * (weight.kind != kind))
            assert not compiled.is_right(kernels)
    assert copy.deepcopy(kernels) is kernels


@pytest.mark.parametrize("keys", [1, 40, 300])
def test_few_queries_in_bfloat16_are_as_exact_as_in_float32(keys: int) -> None:
    """Decoding: one query of each row; what is forbidden stays so."""
    q, k, v = (torch.randn(3, heads, length, 16).bfloat16() for heads, length in ((6, 1), (2, keys), (2, keys)))
    blocked = torch.arange(keys) > torch.tensor([keys - 1, keys // 2, 0])[:, None, None, None]
    y = batched_attention(q, k, v, blocked)
    right = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=~blocked, enable_gqa=True)
    assert y.dtype == HALF and apart(y, right) < 4e-3


def test_a_tied_head_is_that_of_the_embedding() -> None:
    decoder = Decoder(native_config("qwen2_vl").decoder.model_copy(update={"tie_word_embeddings": True}))
    x = torch.randn(2, decoder.config.hidden_size)
    assert torch.equal(decoder.logits(x), F.linear(x, decoder.embed_tokens.weight))


@pytest.mark.skipif(few_rows() is None, reason="no kernels of our own here")
@pytest.mark.parametrize("dtype", [SINGLE, HALF])
def test_norms_are_those_of_torch(dtype: torch.dtype) -> None:
    kernels = few_rows()
    assert kernels is not None
    norm, bound = RMSNorm(100, 1e-6).to(dtype).requires_grad_(False), 1e-6 if dtype == SINGLE else 4e-3
    nn.init.normal_(norm.weight)
    x = torch.randn(FEW, 100).to(dtype) * 30
    right = norm(x)
    norm.quick = kernels.rms_norm
    assert apart(norm(x), right) < bound
    assert torch.equal(norm(x)[2:3], norm(x[2:3])) and norm(x).dtype == dtype
    assert torch.equal(norm(x.repeat(2, 1))[:FEW], right)  # many rows go the old way, and so does what has a gradient
    assert norm(x.requires_grad_()).requires_grad


@torch.inference_mode()
def test_parts_of_a_layer_in_one_call_are_those_of_torch(variant: Variant) -> None:
    """Three products, gated ones and one that is added to something: of the same rounded weights, by torch and by what is used."""
    layers = [layer_of(variant, size) for size in ((64, 96), (33, 96), (33, 96), (96, 64))]
    plain = [nn.Linear(layer.in_features, layer.out_features).to(variant.dtype) for layer in layers]  # type: ignore[arg-type]
    for linear, layer in zip(plain, layers):
        linear.weight, linear.bias = nn.Parameter(layer.weight.to(variant.dtype)), nn.Parameter(layer.bias)  # type: ignore[arg-type]
    ways = few_rows() if variant.few == "compiled" else WAYS
    assert ways is not None
    for rows in (1, 3, FEW, FEW + 1):
        x, rest = torch.randn(rows, 96).to(variant.dtype), torch.randn(rows, 64).to(variant.dtype)
        for found, right in zip(ways.each(x, layers[:3]), WAYS.each(x, plain[:3])):
            assert apart(found, right) < 2 * variant.product
        assert apart(ways.gated(x, *layers[1:3]), WAYS.gated(x, *plain[1:3])) < 3 * variant.product
        assert apart(ways.onto(rest, layers[0], x), WAYS.onto(rest, plain[0], x)) < 2 * variant.product
        if rows <= FEW and variant.company == 0.0:
            assert torch.equal(ways.gated(x, *layers[1:3])[:1], ways.gated(x[:1], *layers[1:3]))
            assert torch.equal(ways.each(x, layers[:3])[1], layers[1](x))
    called: list[int] = []
    layers[1].register_forward_hook(lambda *_: called.append(1))
    ways.gated(x[:1], layers[1], layers[2])
    ways.each(x[:1], layers[:3])
    assert len(called) == 2  # who wants to see a layer's product sees it


@pytest.mark.skipif(few_rows() is None, reason="no kernels of our own here")
@pytest.mark.parametrize("dtype", [SINGLE, HALF])
@pytest.mark.parametrize(
    ("heads", "kept", "size", "scaled"), [(6, 2, 16, False), (7, 1, 64, True), (14, 2, 40, False), (4, 4, 128, True)]
)
@torch.inference_mode()
def test_a_step_of_attention_is_that_of_torch(dtype: torch.dtype, heads: int, kept: int, size: int, scaled: bool) -> None:
    kernels, config = few_rows(), native_config("qwen2_vl").decoder
    assert kernels is not None
    update = {"num_attention_heads": heads, "num_key_value_heads": kept, "hidden_size": heads * size, "head_dim": size}
    config = config.model_copy(update=update | {"num_hidden_layers": 2})
    cache = KVCache(config, 3, 70, dtype=dtype)
    cache.extend([1, 17, 66])
    for held in (*cache.keys, *cache.values):
        held.normal_()
    other = copy.deepcopy(cache)
    for _ in range(3):
        layout = cache.extend([1, 1, 1])
        assert layout.steps
        q, k, v = (torch.randn(3, n * size).to(dtype) for n in (heads, kept, kept))
        table = Rotary(torch.randn(3, size // 2), torch.randn(3, size // 2), torch.rand(3) + 1 if scaled else None)
        found = kernels.attend(q, k, v, size, table, layout, cache, 1)
        right = WAYS.attend(q, k, v, size, table, layout, other, 1)
        assert found.dtype == dtype and apart(found, right) < (1e-5 if dtype == SINGLE else 8e-3)
        for mine, theirs in zip((*cache.keys, *cache.values), (*other.keys, *other.values)):
            assert apart(mine, theirs) < (1e-6 if dtype == SINGLE else 1e-3)
        alone = KVCache(config, 1, 70, dtype=dtype)
        alone.lengths = [cache.lengths[1] - 1]
        for mine, theirs in zip((*alone.keys, *alone.values), (*cache.keys, *cache.values)):
            mine.copy_(theirs[1:2])
        row = Rotary(*(None if x is None else x[1:2] for x in table))  # type: ignore[arg-type]
        assert torch.equal(kernels.attend(q[1:2], k[1:2], v[1:2], size, row, alone.extend([1]), alone, 1), found[1:2])
    for bad in (float("nan"), float("inf")):
        cache.extend([0, 0, 0])
        cache.lengths = [2, 17, 60]
        cache.keys[1][1, :, 3], cache.values[1][0, :, 50:] = bad, bad  # seen in one row, hidden in another
        y = kernels.attend(q, k, v, size, table, cache.extend([1, 1, 1]), cache, 1)
        assert torch.isfinite(y[[0, 2]]).all() and not torch.isfinite(y[1]).all()
        if bad != bad:
            assert torch.isnan(y[1]).all()


@pytest.mark.parametrize("tied", [True, False])
def test_steps_by_layers_in_one_call_are_those_of_torch(variant: Variant, tied: bool) -> None:
    """Three answers of different lengths, some steps each, by layers as they are and as they are computed fastest."""
    model = small_model(tied).to(variant.dtype)
    if variant.stored:
        quantise_for_inference(model, variant.stored)
    plain = copy.deepcopy(model)
    reorder_for_inference(model, variant.means())
    prompts = [random_prompt(model.config, length, seed=length) for length in (3, 20, 9)]
    ours, theirs, alone = Session(model, prompts, room=9), Session(plain, prompts, room=9), Session(model, prompts[1:2], room=9)
    for session in (ours, theirs, alone):
        session.prefill()
    called: list[Tensor | None] = []
    if variant.few == "compiled":
        for layer in model.decoder.layers:
            quick = layer.quick
            layer.quick = lambda *given, quick=quick: called.append(quick(*given)) or called[-1]
    for token in (5, 6, 7):
        found = ours.step([token] * 3)
        assert apart(found, theirs.step([token] * 3)) < variant.logits
        assert apart(alone.step([token])[0], found[1]) < (1e-4 if variant.dtype == SINGLE else variant.logits)
    assert bool(called) == (variant.few == "compiled")
    assert variant.stored == "int4" or all(y is not None for y in called)  # int4's groups do not fill all widths of this model
    seen: list[int] = []
    model.decoder.layers[0].mlp.up_proj.register_forward_hook(lambda *_: seen.append(1))
    assert apart(ours.step([8] * 3), theirs.step([8] * 3)) < variant.logits and seen == [1]


@pytest.mark.skipif(few_rows() is None, reason="no kernels of our own here")
def test_a_layer_in_one_call_notices_what_has_changed() -> None:
    """Tensors that are elsewhere, other tensors in their place, adapters, another kind of weight, and means taken away again."""
    model, kernels = small_model(tied=False), few_rows()
    plain = copy.deepcopy(model)
    reorder_for_inference(model, Means(kernels, (("float32", "compiled"), ("int8", "compiled"))))
    prompts = [random_prompt(model.config, 7)]
    ours, theirs = Session(model, prompts, room=20), Session(plain, prompts, room=20)
    ours.prefill(), theirs.prefill()

    def moved(one: VisionLanguageModel) -> None:
        layer = one.decoder.layers[0]
        layer.mlp.up_proj.weight.data = layer.mlp.up_proj.weight.data * 2
        layer.input_layernorm.weight = nn.Parameter(layer.input_layernorm.weight * 3, requires_grad=False)

    def assigned(one: VisionLanguageModel) -> None:
        one.load_state_dict({name: tensor * 0.9 for name, tensor in one.state_dict().items()}, assign=True)

    def adapted(one: VisionLanguageModel) -> None:
        add_lora(one, ("*.v_proj",), rank=2, alpha=4)
        for name, parameter in one.named_parameters():
            if "lora_b" in name:
                nn.init.constant_(parameter, 0.3)

    for change in (lambda _: None, moved, assigned, adapted):
        change(model), change(plain)
        for _ in range(2):
            assert apart(ours.step([5]), theirs.step([5])) < 1e-4
    copied = copy.deepcopy(model)
    assert copied.decoder.layers[0].quick is not model.decoder.layers[0].quick
    reorder_for_inference(model, Means())
    assert model.decoder.layers[0].quick is None and model.decoder.norm.quick is None
    assert apart(ours.step([5]), theirs.step([5])) < 1e-4


def test_steps_are_told_from_other_layouts() -> None:
    cache = KVCache(native_config("qwen2_vl").decoder, 2, 8, dtype=SINGLE)
    assert [cache.extend(new).steps for new in ([1, 1], [2, 1], [1, 0], [1, 1])] == [True, False, False, True]
