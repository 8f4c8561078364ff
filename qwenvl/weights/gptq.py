"""Checkpoints quantised by GPTQ, as AutoGPTQ stores them: Qwen-VL-Chat-Int4. N rows, K columns, groups of columns.

A linear layer `x` is stored as `x.qweight` (K / 8, N) int32, eight codes of a row's neighbouring columns in a number, the first in
its lowest bits; `x.qzeros` (groups, N / 8) int32, the codes of zero, less one, packed likewise along the rows; `x.scales`
(groups, N); and `x.g_idx` (K,), each column's group. A weight is scale * (code - zero). Every layer has an `x.bias`, zeros where
the model has none. Source: auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py (AutoGPTQ/AutoGPTQ @ 179776b) and the index of
x1ngzai/Qwen-VL-Chat-Int4 @ 1cd721a. The later format `gptq_v2` stores the codes of zero as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwenvl.config import ConfigError
from qwenvl.weights.files import StoredTensor
from qwenvl.weights.maps import Entry, WeightsError

if TYPE_CHECKING:
    import torch

    from qwenvl.models.vlm import VisionLanguageModel

KEY = "quantization_config"
PARTS = ("qweight", "qzeros", "scales", "g_idx")
CODES = 8
"""Of four bits, in one number of 32."""
KERNEL_GROUPS = (256, 128, 64, 32)
"""Sizes that kernels know: a larger group is stored as several that are alike."""


def zero_offset(raw: Mapping[str, Any], where: str) -> int | None:
    """What is added to a stored code of zero, from config.json's content; None for weights that are not quantised.

    Raises ConfigError naming `where` for what is not GPTQ in four bits.
    """
    if KEY not in raw:
        return None
    config = raw[KEY] if isinstance(raw[KEY], dict) else {}
    method, bits = config.get("quant_method", "gptq"), config.get("bits")
    if method != "gptq" or bits != 4:
        told = f"by {method}" if method != "gptq" else f"by gptq in {bits} bits"
        raise ConfigError(f"{where}: weights quantised {told} are not supported, only by gptq in 4; use the bfloat16 checkpoint")
    return 0 if config.get("checkpoint_format", "gptq") == "gptq_v2" else 1


@dataclass(frozen=True)
class Quantised:
    """A linear layer of a file. `codes` (N, K) are read when asked for."""

    name: str
    parts: Mapping[str, StoredTensor]
    offset: int

    def codes(self) -> torch.Tensor:
        """(N, K) from 0 to 15, uint8."""
        return _digits(self.parts["qweight"].read()).flatten(0, 1).t()

    def scales(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and offset of each group, (N, groups) float32: a weight is (code - 8) * scale + offset."""
        zeros = _digits(self.parts["qzeros"].read().t()).flatten(0, 1).float() + self.offset
        scales = self.parts["scales"].read().float().t()
        return scales, (8 - zeros) * scales

    def groups(self) -> torch.Tensor:
        """(K,) each column's group."""
        return self.parts["g_idx"].read().long()

    def weight(self) -> torch.Tensor:
        """(N, K) in the dtype of the scales."""
        scales, offsets = self.scales()
        groups = self.groups()
        values = (self.codes().float() - 8) * scales[:, groups] + offsets[:, groups]
        return values.to(self.parts["scales"].dtype)


def _digits(packed: torch.Tensor) -> torch.Tensor:
    """(rows, n) int32 -> (rows, 8, n) uint8, the lowest four bits first."""
    import torch

    shifts = torch.arange(0, 32, 32 // CODES, dtype=torch.int32)
    return (packed[:, None, :] >> shifts[:, None] & 15).to(torch.uint8)


def find_quantised(tensors: Mapping[str, StoredTensor], offset: int) -> dict[str, Quantised]:
    """The quantised layers among a file's tensors, by the name of the weight that each stands for.

    Raises WeightsError for one whose parts are missing or do not belong together.
    """
    found = {}
    for tensor in tensors.values():
        name, _, part = tensor.name.rpartition(".")
        if part != "qweight":
            continue
        layer = Quantised(name, {part: tensors[f"{name}.{part}"] for part in PARTS if f"{name}.{part}" in tensors}, offset)
        _check(layer, tensor)
        found[f"{name}.weight"] = layer
    return found


def _check(layer: Quantised, qweight: StoredTensor) -> None:
    for part in PARTS:
        if part not in layer.parts:
            raise WeightsError(f"{qweight.file}: tensor {f'{layer.name}.{part}'!r} is missing beside {qweight.name!r}")
    if len(qweight.shape) != 2:
        raise WeightsError(f"{qweight.file}: tensor {qweight.name!r} has the shape {qweight.shape}, not (K / 8, N)")
    columns, rows = qweight.shape[0] * CODES, qweight.shape[1]
    groups = layer.parts["scales"].shape[0]
    wanted = {"scales": (groups, rows), "qzeros": (groups, rows // CODES), "g_idx": (columns,)}
    for part, shape in wanted.items():
        tensor = layer.parts[part]
        if tensor.shape != shape:
            raise WeightsError(f"{tensor.file}: tensor {tensor.name!r} has the shape {tensor.shape}, not {shape} as the others ask")
    g_idx = layer.groups()
    if int(g_idx.min()) < 0 or int(g_idx.max()) >= groups:
        raise WeightsError(f"{qweight.file}: tensor {f'{layer.name}.g_idx'!r} names a group of {groups} that is not there")


def as_weights(tensors: Mapping[str, StoredTensor], offset: int, biased: frozenset[str]) -> dict[str, StoredTensor]:
    """The tensors with every quantised layer as one that reads as its weight. `biased`: the biases that the model has.

    Of the others those that are zero are left out. Raises WeightsError as `find_quantised`, and for one that is not zero.
    """
    layers = find_quantised(tensors, offset)
    if not layers:
        file = next(iter(tensors.values())).file
        raise WeightsError(f"{file}: holds no qweight, but config.json has a {KEY}; take it out if the weights are plain")
    joined = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in PARTS}
    for name, layer in layers.items():
        qweight = layer.parts["qweight"]
        shape = (qweight.shape[1], qweight.shape[0] * CODES)
        joined[name] = StoredTensor(name, qweight.file, shape, layer.parts["scales"].dtype, layer.weight)
        bias = joined.get(f"{layer.name}.bias")
        if bias is not None and bias.name not in biased:
            if bias.read().any():
                raise WeightsError(f"{bias.file}: tensor {bias.name!r} is not zero, but the model has no bias there")
            del joined[bias.name]
    return joined


def pack_layers(
    model: VisionLanguageModel, entries: list[Entry], layers: Mapping[str, Quantised], device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Put PackedLinear in the places of the model's layers that a file holds quantised; what they hold, by names of the model.

    The codes stay what they are; scales and offsets are rounded to `dtype`.
    """
    import torch

    from qwenvl.models.packed import PackedLinear
    from qwenvl.models.select import put_layer

    state: dict[str, torch.Tensor] = {}
    for entry in entries:
        layer = layers.get(entry.published)
        if layer is None:
            continue
        codes, (scales, offsets), order = layer.codes(), layer.scales(), _order(layer)
        codes = codes if order is None else codes[:, order]
        repeats = _repeats(codes.shape[1] // scales.shape[1])
        scales, offsets = (values.repeat_interleave(repeats, dim=1).to(device, dtype) for values in (scales, offsets))
        first = 0
        for name, shape in zip(entry.ours, entry.our_shapes, strict=True):
            rows = slice(first, first + shape[0])
            first += shape[0]
            place = name.removesuffix(".weight")
            # A bias comes later, with the other tensors.
            bias = torch.zeros(shape[0], device=device, dtype=dtype) if model.get_submodule(place).bias is not None else None
            taken = None if order is None else order.to(device)
            packed = PackedLinear.from_codes(codes[rows].to(device), scales[rows], offsets[rows], bias, taken)
            put_layer(model, place, packed)
            state |= {f"{place}.{key}": tensor for key, tensor in packed.state_dict().items() if key != "bias"}
    return state


def _order(layer: Quantised) -> torch.Tensor | None:
    """The order of the columns in which groups are neighbours; None where they are already. Raises WeightsError for groups of
    unequal sizes."""
    import torch

    groups = layer.groups()
    count = layer.parts["scales"].shape[0]
    even = torch.arange(len(groups)) // (len(groups) // count)
    if torch.equal(groups, even):
        return None
    order = torch.argsort(groups, stable=True)
    if not torch.equal(groups[order], even):
        raise WeightsError(f"{layer.parts['g_idx'].file}: the groups of {layer.name!r} are of unequal sizes; this is not supported")
    return order


def _repeats(group: int) -> int:
    """How many groups that kernels know make one of this size; 1 where none fits."""
    return next((group // size for size in KERNEL_GROUPS if group % size == 0), 1)
