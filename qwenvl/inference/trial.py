"""Whether compiled kernels compute what torch does, tried on small products, and on a small layer, before they are used."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from qwenvl.config import DecoderConfig
from qwenvl.inference.cache import KVCache
from qwenvl.models.decoder import Decoder
from qwenvl.models.few_rows import FewRows, Weight
from qwenvl.models.packed import PackedKind, PackedLinear
from qwenvl.models.reordered import Means, reorder_for_inference
from qwenvl.models.rope import Rotary

SMALL = DecoderConfig(
    vocab_size=8, hidden_size=96, intermediate_size=160, num_hidden_layers=1, num_attention_heads=6, num_key_value_heads=2,
    head_dim=16, tie_word_embeddings=True,
)  # fmt: skip
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
KINDS: tuple[PackedKind, ...] = ("int8", "int4")


def is_right(kernels: FewRows) -> bool:
    """Whether their products, the attention of a step and a whole layer are those of torch up to rounding. Draws no number of
    torch's own generator, whatever device, gradients or dtypes of autocast are in force."""
    with torch.inference_mode(), torch.device("cpu"), torch.autocast("cpu", enabled=False):
        return _products(kernels) and all(_layer(kernels, dtype) for dtype in BOUNDS)


def _products(kernels: FewRows) -> bool:
    """Of float64, with sizes that are odd."""
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (torch.randn(*size, generator=generator) for size in ((70, 160), (70,), (3, 160)))
    for dtype, bound in BOUNDS.items():
        own = [part.to(dtype) for part in (weight, bias, x)]
        right = own[2].double() @ own[0].double().t() + own[1].double()
        if not _near(kernels.product(own[2], Weight.plain(own[0], own[1])), right, bound):
            return False
    with torch.device("meta"):
        linear = nn.Linear(160, 70)
    linear.weight, linear.bias = (nn.Parameter(part.bfloat16(), requires_grad=False) for part in (weight, bias))
    for kind in KINDS:
        layer, rows = PackedLinear.of(linear, kind), x.bfloat16()
        layer.use(kernels)
        assert layer.bias is not None
        if not _near(layer(rows), rows.double() @ layer.weight.double().t() + layer.bias.double(), 1e-2):
            return False
    return True


def _layer(kernels: FewRows, dtype: torch.dtype) -> bool:
    """Two steps of two rows, by a whole layer in one call, and by its parts, against torch."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        decoder = Decoder(SMALL).requires_grad_(False).eval()
    for parameter in (plain := decoder.to_empty(device="cpu")).parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    plain = plain.to(dtype)
    holder = nn.Module()
    holder.decoder = whole = copy.deepcopy(plain)
    reorder_for_inference(holder, Means(kernels, ((str(dtype).removeprefix("torch."), "compiled"),)))
    parts = copy.deepcopy(whole)
    for layer in parts.layers:
        layer.quick = None  # type: ignore[assignment]
    xs = torch.randn(2, 2, SMALL.hidden_size, generator=generator).to(dtype)
    angles = torch.randn(2, SMALL.head_dim // 2, generator=generator)
    right = _steps(plain, xs, angles)
    return all(_near(_steps(way, xs, angles), right, 2 * BOUNDS[dtype]) for way in (whole, parts))


def _steps(decoder: Decoder, xs: Tensor, angles: Tensor) -> Tensor:
    cache, seen = KVCache(SMALL, 2, 4, dtype=xs.dtype), []
    for number, x in enumerate(xs, start=1):
        turned = angles * number
        seen.append(decoder(x, Rotary(turned.cos(), turned.sin()), cache.extend([1, 1]), cache))
    return torch.cat(seen)


def _near(y: Tensor, right: Tensor, bound: float) -> bool:
    return bool((y.double() - right.double()).norm() < bound * right.double().norm())
