"""What surrounds the compiled kernels: where they are kept and what of it is trusted, what they leave to torch, what a model that
uses them, or oneDNN's order, can be asked besides to answer."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from qwenvl.inference import choice, compiled, kept
from qwenvl.inference.compiled import few_rows
from qwenvl.inference.session import Session
from qwenvl.models.few_rows import FewRows
from qwenvl.models.lora import add_lora, merge_lora
from qwenvl.models.packed import PackedKind, PackedLinear, quantise_for_inference
from qwenvl.models.quick_layer import _Plan
from qwenvl.models.reordered import Means, QuickLinear, ReorderedLinear, has_onednn, reorder_for_inference
from qwenvl.models.vlm import VisionLanguageModel
from qwenvl.weights.adapters import load_adapter, save_adapter
from qwenvl.weights.maps import WeightsError
from tests.fast.test_products import apart, logits, small_model
from tests.fast.tiny import random_prompt

SINGLE, HALF = torch.float32, torch.bfloat16
KERNELS = few_rows()
needs_kernels = pytest.mark.skipif(KERNELS is None, reason="no kernels of our own here")
needs_onednn = pytest.mark.skipif(not has_onednn(SINGLE), reason="this torch has no oneDNN")


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """One that copies the library that was built before, into an empty cache; how often it was called."""
    folder = kept.own_folder()
    libraries = sorted(folder.glob("few_rows-*-*.so")) if folder is not None else []
    if KERNELS is None or not libraries:
        pytest.skip("no kernels that were kept")
    newest = max(libraries, key=lambda path: path.stat().st_mtime)
    script, calls = tmp_path / "compiler", tmp_path / "calls"
    copies = f'echo >> {calls}\nfor last; do :; done\ncp {newest} "$last"\n'
    script.write_text(f'#!/bin/sh\ncase "$*" in *--version) echo 1.0; exit;; esac\n{copies}')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", f"{script} -DSOME='a b'")
    monkeypatch.setenv("QWENVL_CACHE", str(tmp_path / "cache"))
    return lambda: len(calls.read_text()) if calls.exists() else 0


def build() -> FewRows | None:
    found: FewRows | None = compiled.few_rows.__wrapped__()
    return found


def test_a_library_is_built_once_for_its_owner_alone(compiler: Callable[[], int], tmp_path: Path) -> None:
    mask = os.umask(0o002)
    try:
        assert build() and build() and compiler() == 1
    finally:
        os.umask(mask)
    (library,) = (tmp_path / "cache").iterdir()
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700 and kept.is_own(library)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_library_that_was_cut_off_is_built_again(compiler: Callable[[], int], tmp_path: Path, share: float) -> None:
    assert build()
    (library,) = (tmp_path / "cache").iterdir()
    whole = library.read_bytes()
    library.unlink()  # not written over: this process has it loaded
    library.write_bytes(whole[: int(share * len(whole))])
    assert build() and compiler() == 2
    (library,) = (tmp_path / "cache").iterdir()
    assert library.read_bytes() == whole and build() and compiler() == 2


def test_what_others_can_write_is_not_loaded(
    compiler: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert build()
    (library,) = (tmp_path / "cache").iterdir()
    library.chmod(0o777)
    assert build() and compiler() == 2
    (library,) = (tmp_path / "cache").iterdir()
    assert kept.is_own(library) and build() and compiler() == 2
    (tmp_path / "cache").chmod(0o777)
    kept.tell_once.cache_clear()
    for count in (3, 4):  # in a folder that vanishes
        assert build() and compiler() == count
    assert capfd.readouterr().err.count("\n") == 1 and [*(tmp_path / "cache").iterdir()] == [library]
    (tmp_path / "cache").chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert build() and compiler() == 5


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QWENVL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(choice, "in_turns", lambda ways: pytest.fail("measured what cannot be kept"))
    assert kept.cache_folder() is None and kept.own_folder() is None
    found = [choice.means() for _ in range(2)]
    assert found[0] == found[1] and found[0].for_few("float32") == ("plain" if few_rows() is None else "compiled")


def test_a_compiler_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "compiler"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    monkeypatch.setenv("QWENVL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "ASKED_SECONDS", 0.2)
    for named in (str(script), "'", " "):  # and a CXX that cannot be read
        monkeypatch.setenv("CXX", named)
        assert build() is None


def test_a_choice_without_kernels_is_not_that_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QWENVL_CACHE", str(tmp_path / "cache"))
    calls: list[int] = []
    monkeypatch.setattr(choice, "in_turns", lambda ways: calls.append(1) or dict.fromkeys(ways, 1.0))
    kept.tell_once.cache_clear()
    for kernels in (None, KERNELS, None, KERNELS):
        monkeypatch.setattr(choice, "few_rows", lambda kernels=kernels: kernels)
        monkeypatch.setattr(compiled, "few_rows", lambda kernels=kernels: kernels)
        assert choice.means().compiled is kernels
    assert len(calls) == 5 * (1 if KERNELS is None else 2)
    assert capfd.readouterr().err == "qwenvl: measuring once what is fastest on this CPU ...\n"
    if KERNELS is not None:  # as an earlier version may have kept it
        for path in (tmp_path / "cache").glob("products-*.json"):
            path.write_text(path.read_text().replace('"compiled"', '"other"'))
        assert choice.means().compiled is KERNELS and len(calls) == 15


def quick(bias: bool = True, dtype: torch.dtype = SINGLE) -> tuple[QuickLinear, nn.Linear]:
    linear = nn.Linear(32, 8, bias=bias).to(dtype).requires_grad_(False)
    product = Means(KERNELS, (("float32", "compiled"), ("bfloat16", "compiled"))).product_of(dtype)
    assert product is not None
    return QuickLinear.of(linear, product), linear


def packed(kind: PackedKind = "int8") -> PackedLinear:
    layer = PackedLinear.of(nn.Linear(32, 8).bfloat16().requires_grad_(False), kind)
    layer.use(KERNELS)
    return layer


@needs_kernels
@pytest.mark.filterwarnings("ignore")  # torch.jit.trace is old
def test_what_is_not_in_memory_goes_to_torch() -> None:
    (layer, linear), stored = quick(), [packed("int8"), packed("int4")]
    x = torch.randn(2, 32)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        assert layer(torch.ones(2, 32)).shape == layer(x).shape == (2, 8)
        assert all(own(torch.ones(2, 32, dtype=HALF)).shape == (2, 8) for own in stored)
    negative = torch._neg_view(x)
    assert negative.is_neg() and apart(layer(negative), linear(-x)) < 1e-6
    exported = torch.export.export(layer, (x,)).module()
    traced = torch.jit.trace(layer, x)
    other = torch.randn(2, 32)
    assert apart(exported(other), linear(other)) < 1e-6 and apart(traced(other), linear(other)) < 1e-6
    assert apart(torch.compile(layer, backend="eager", fullgraph=True)(x), linear(x)) < 1e-6
    assert apart(torch.vmap(layer)(x), linear(x)) < 1e-6
    for own in stored:
        assert own.to("meta")(torch.randn(2, 32, device="meta", dtype=HALF)).shape == (2, 8)
    assert layer.to("meta")(x.to("meta")).shape == (2, 8)


@needs_kernels
def test_what_does_not_fit_goes_to_torch() -> None:
    layer, _ = quick()
    for size in ((2, 16), (64,), (), (4, 8, 16)):
        for wrong in (layer, packed()):
            with pytest.raises(RuntimeError):
                wrong(torch.randn(size).to(HALF if wrong is not layer else SINGLE))
    layer.bias = nn.Parameter(layer.bias.double(), requires_grad=False)
    with pytest.raises(RuntimeError):
        layer(torch.randn(2, 32))
    half = packed()
    x = torch.randn(2, 32, dtype=HALF)
    right = half(x)
    assert apart(half.float()(x), right) < 1e-2  # the scales are not what the kernels take any more
    half.to(HALF).scales = half.scales.to("meta")
    assert half.told(HALF) is None


@needs_kernels
def test_gradients_of_a_bias_and_of_scales_are_kept() -> None:
    layer, linear = quick()
    layer.bias.requires_grad_()
    x = torch.randn(3, 32)
    layer(x).sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((8,), 3.0))
    half = packed()
    half.scales.requires_grad_()
    assert half.bias is not None and half(x.to(HALF)).requires_grad
    half.scales.requires_grad_(False), half.bias.requires_grad_()
    assert half(x.to(HALF)).requires_grad and packed()(x.to(HALF).requires_grad_()).requires_grad
    with forward_ad.dual_level(), torch.no_grad():
        tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
    assert tangent is not None and apart(tangent, F.linear(torch.ones_like(x), linear.weight)) < 1e-6


def compiled_model(dtype: torch.dtype = SINGLE) -> VisionLanguageModel:
    model = small_model(True).to(dtype)
    if dtype == HALF:
        quantise_for_inference(model, "int8")
    reorder_for_inference(model, Means(KERNELS, tuple((kind, "compiled") for kind in choice.KINDS)))  # type: ignore[misc]
    return model


def step(model: VisionLanguageModel) -> Tensor:
    session = Session(model, [random_prompt(model.config, 9, seed=1)], room=4)
    session.prefill()
    return session.step([5])


@needs_kernels
@pytest.mark.parametrize("change", ["eps", "forward", "few", "product", "smaller", "gone"])
def test_a_layer_in_one_call_rests_on_all_that_decides(change: str) -> None:
    model = compiled_model(HALF if change == "few" else SINGLE)
    before = step(model)
    layer = model.decoder.layers[0]
    assert layer.quick._plan.call is not None  # type: ignore[union-attr]
    if change == "eps":
        layer.input_layernorm.eps = 10.0
    elif change == "forward":
        layer.mlp.forward = lambda x, onto: onto * 0  # type: ignore[method-assign]
    elif change == "few":
        layer.mlp.up_proj.use(None)
    elif change == "product":
        layer.mlp.up_proj.product = Means(None, (), onednn=True).product_of(SINGLE)
    elif change == "smaller":  # at the same place
        half = layer.mlp.up_proj.weight.shape[0] // 2
        for part in (layer.mlp.up_proj, layer.mlp.gate_proj):
            part.weight.data = part.weight.data[:half]
        layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.data[:, :half].contiguous()
    else:
        layer.mlp = nn.Identity()
        layer.mlp.forward = lambda x, onto: onto  # type: ignore[method-assign]
    found = step(model)
    assert (layer.quick._plan.call is None) == (change in ("forward", "few", "product", "gone"))  # type: ignore[union-attr]
    layer.quick = None
    bound = 0.05 if change == "few" else 1e-4
    assert apart(found, step(model)) < bound and (change in ("few", "product") or apart(found, before) > bound)


@needs_kernels
def test_hooks_of_all_modules_see_the_parts() -> None:
    model, seen = compiled_model(), set()
    right = step(model)
    handle = nn.modules.module.register_module_forward_pre_hook(lambda module, _: seen.add(type(module).__name__))
    try:
        assert apart(step(model), right) < 1e-4
    finally:
        handle.remove()
    assert {"SwiGLU", "QuickLinear", "RMSNorm"} <= seen


@needs_kernels
def test_that_there_is_no_plan_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = compiled_model(), []
    add_lora(model, ("*.q_proj",), rank=2, alpha=4)
    right = _Plan.of
    monkeypatch.setattr(_Plan, "of", lambda *given: made.append(1) or right(*given))
    for _ in range(3):
        step(model)
    assert len(made) == len(model.decoder.layers)


@needs_kernels
def test_a_model_with_kernels_can_be_pickled() -> None:
    model = compiled_model()
    right = step(model)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(step(again), right) and again.decoder.layers[0].quick.kernels is KERNELS
    assert pickle.loads(pickle.dumps(packed())).few is KERNELS
    kernels = pickle.loads(pickle.dumps(FewRows(None)))  # a machine without them
    reorder_for_inference(again, Means(kernels, (("float32", "compiled"),)))
    assert apart(step(again), right) < 1e-4


def reordered_model(tied: bool = True, dtype: torch.dtype = SINGLE) -> VisionLanguageModel:
    model = small_model(tied).to(dtype)
    reorder_for_inference(model, Means(None, ((str(dtype).removeprefix("torch."), "reordered"),)))
    assert isinstance(model.decoder.layers[0].mlp.up_proj, ReorderedLinear)
    return model


@needs_onednn
@pytest.mark.parametrize("tied", [True, False])
def test_a_reordered_model_is_saved_moved_shared_and_copied_as_any_other(tied: bool) -> None:
    ids, model, plain = torch.arange(1, 6), reordered_model(tied), small_model(tied)
    right = logits(plain, ids)
    assert apart(logits(copy.deepcopy(model), ids), right) < 1e-5
    assert apart(logits(pickle.loads(pickle.dumps(model)), ids), right) < 1e-5
    assert apart(logits(reordered_model(tied).double(), ids), right) < 1e-5
    assert apart(logits(reordered_model(tied).to(HALF), ids), right) < 0.05
    assert apart(logits(reordered_model(tied).share_memory(), ids), right) < 1e-5
    assert reordered_model(tied).to("meta").decoder.layers[0].mlp.up_proj.weight.is_meta
    state = model.state_dict()
    assert set(state) == set(plain.state_dict()) and all(torch.equal(state[name], own) for name, own in plain.state_dict().items())
    for assign in (False, True):
        logits(model, ids)
        model.load_state_dict({name: own * 0.9 for name, own in plain.state_dict().items()}, assign=assign)
        other = small_model(tied)
        other.load_state_dict({name: own * 0.9 for name, own in plain.state_dict().items()})
        assert apart(logits(model, ids), logits(other, ids)) < 1e-5 and apart(logits(model, ids), right) > 1e-2
    state.pop("decoder.layers.0.mlp.up_proj.weight")
    with pytest.raises(RuntimeError, match=r"Missing.*up_proj\.weight"):
        model.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"up_proj\.weight has the shape"):
        model.load_state_dict(plain.state_dict() | {"decoder.layers.0.mlp.up_proj.weight": torch.zeros(2, 2)})


@needs_onednn
def test_a_reordered_model_is_adapted_and_merged() -> None:
    ids, model = torch.arange(1, 6), reordered_model()
    add_lora(model, ("*.up_proj",), rank=2, alpha=4)
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            nn.init.normal_(parameter)
    right = logits(model, ids)
    merge_lora(model)
    assert apart(logits(model, ids), right) < 1e-5
    layer = ReorderedLinear(torch.randn(8, 32), nn.Parameter(torch.zeros(8)))
    layer(torch.randn(2, 32)).sum().backward()
    assert layer.bias is not None and torch.equal(layer.bias.grad, torch.full((8,), 2.0))  # type: ignore[arg-type]


@needs_onednn
def test_an_adapter_with_a_head_of_its_own_fits_or_says_why_not(tmp_path: Path) -> None:
    ids, trained = torch.arange(1, 6), small_model(False)
    add_lora(trained, ("decoder.*.up_proj",), rank=2, alpha=4)
    trained.decoder.lm_head.weight.data *= 2  # type: ignore[union-attr]
    save_adapter(trained, tmp_path / "adapter", "base", trained_whole=["decoder.lm_head.weight"])
    model = reordered_model(False)
    load_adapter(model, tmp_path / "adapter")
    assert apart(logits(model, ids), logits(trained, ids)) < 1e-5
    stored = small_model(False)
    quantise_for_inference(stored, "int8")
    with pytest.raises(WeightsError, match="stored in fewer bits"):
        load_adapter(stored, tmp_path / "adapter")
