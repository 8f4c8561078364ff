"""LoRA adapters in PEFT's files: adapter_config.json and adapter_model.safetensors, which others load and we load of others.

The format: docs/source/developer_guides/checkpoint.md of huggingface/peft. A layer's tensors are named
base_model.model.LAYER.lora_A.weight and .lora_B.weight, LAYER as transformers calls it in memory. What trained beside adapters has
its full name, base_model.model.LAYER.bias: see `beside_adapters`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.weights.beside_adapters import Names, beside, check_beside, layer_of
from qwenvl.weights.maps import Entry, WeightsError
from qwenvl.weights.write import whole_or_nothing

if TYPE_CHECKING:
    import torch

    from qwenvl.models.lora import LoraLinear
    from qwenvl.models.vlm import VisionLanguageModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
UNSUPPORTED = {"use_dora": False, "use_rslora": False, "fan_in_fan_out": False, "lora_bias": False}
"""Keys of adapter_config.json that change what an adapter computes, with the values that ours has."""
BIASES = ("none", "all", "lora_only")
REPEATED = (".modules_to_save", ".original_module")
"""Layers under whose names PEFT, with `bias` "all", repeats biases of layers that the file has whole under their own names."""

_TENSOR = re.compile(r"(?P<layer>.+)\.lora_(?P<part>[AB])(?:\.default)?\.weight")


def save_adapter(model: VisionLanguageModel, folder: str | Path, base: str, trained_whole: Sequence[str] = ()) -> None:
    """Write the model's adapters. `base`: the name or folder of the model that they belong to; `trained_whole`: our names of
    parameters that trained beside them, as of a model without adapters: decoder.embed_tokens.weight. A folder that did not exist
    appears whole or not at all.

    Raises WeightsError for a model without adapters, and for a name that is no parameter.
    """
    from safetensors.torch import save_file

    from qwenvl.models.lora import adapters

    layers, names = adapters(model), Names.of(model.config)
    if not layers:
        raise WeightsError("the model has no adapters; add_lora makes them")
    if unknown := set(trained_whole) - {ours for entry in names.entries.values() for ours in entry.ours}:
        raise WeightsError(f"{min(unknown)!r} is no parameter of the model; decoder.embed_tokens.weight is one")
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for name, entry in names.entries.items():
        ours = [own.removesuffix(".weight") for own in entry.ours]
        if any(own in layers for own in ours):
            theirs = layer_of(name)
            a, b, alpha = _joined([layers.get(own) for own in ours], [shape[0] for shape in entry.our_shapes])
            tensors |= {f"{PREFIX}{theirs}.lora_A.weight": a, f"{PREFIX}{theirs}.lora_B.weight": b}
            ranks[theirs], alphas[theirs] = len(a), alpha
    own_weights, told = beside(model, names, ranks, trained_whole)
    tensors |= {f"{PREFIX}{name}": tensor for name, tensor in own_weights.items()}
    first = next(iter(layers.values()))
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": first.rank, "lora_alpha": first.alpha, "lora_dropout": first.dropout.p, "target_modules": sorted(ranks),
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != first.rank},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != first.alpha},
        "init_lora_weights": True, **told, **UNSUPPORTED,
    }  # fmt: skip
    with whole_or_nothing(Path(folder)) as scratch:
        save_file(tensors, str(scratch / WEIGHTS), metadata={"format": "pt"})
        (scratch / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_adapter(model: VisionLanguageModel, folder: str | Path) -> list[str]:
    """Adapt the model as the folder says, in place; the names of the adapted layers.

    Raises WeightsError for a model that is adapted already, for files that are no such adapter, and for a tensor that is missing or
    does not fit, by its name. The model is then as it was.
    """
    from qwenvl.models.lora import LoraLinear, adapters
    from qwenvl.models.select import put_layer

    if adapters(model):
        raise WeightsError(f"{folder}: the model has adapters already; merge or remove them first")
    folder, names = Path(folder), Names.of(model.config)
    config, tensors = _read(folder)
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    whole: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if layer_of(name).endswith(REPEATED):
            continue
        found = _TENSOR.fullmatch(name.removeprefix(PREFIX))
        own = names.known(f"{found['layer']}.weight" if found else name.removeprefix(PREFIX))
        if own not in names.entries and (found or own not in names.tied):
            raise WeightsError(f"{folder}: {name!r} belongs to no layer of the model; the adapter is another model's")
        if found:
            pairs.setdefault(layer_of(own), {})[found["part"]] = tensor
        else:
            whole[own] = tensor
    check_beside(folder, names, config, pairs, whole)
    held = {own: _held(model, folder, own) for name in whole for own in names.entries[name].ours}
    dropout, made = float(config.get("lora_dropout", 0.0)), {}
    for theirs, pair in pairs.items():
        entry = names.entries[f"{theirs}.weight"]
        a, b = _checked(folder, entry, pair)
        alpha = _pattern(config.get("alpha_pattern"), theirs, config["lora_alpha"])
        for name, rows in zip(entry.ours, b.split([shape[0] for shape in entry.our_shapes]), strict=True):
            name = name.removesuffix(".weight")
            layer = LoraLinear(model.get_submodule(name), len(a), alpha, dropout)  # type: ignore[arg-type]
            layer.lora_a.data.copy_(a)
            layer.lora_b.data.copy_(rows)
            made[name] = layer
    for name, tensor in whole.items():
        # Assigned, not copied: another model may share what was there before.
        ours = {own: value.to(held[own]).clone() for own, value in names.entries[name].to_ours(tensor).items()}
        model.load_state_dict(ours, strict=False, assign=True)
    for name, layer in made.items():
        put_layer(model, name, layer)
    return list(made)


def _held(model: VisionLanguageModel, folder: Path, name: str) -> torch.Tensor:
    """What a model has under a parameter's name. Raises WeightsError where it is stored in another way."""
    layer, _, kind = name.rpartition(".")
    found = model.get_submodule(layer).state_dict().get(kind)
    if found is None:
        raise WeightsError(f"{folder}: {name!r} is whole there, but stored in fewer bits here; load the model without quantize")
    return found


def _joined(parts: Sequence[LoraLinear | None], rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A (R, in), B (out, R) and alpha of the layer whose rows are those of our layers, one after the other.

    Several adapters are one of the sum of their ranks: each has its own columns of B in its own rows. One A that all of them share,
    as in a file that was read from PEFT, stays one.
    """
    import torch

    found = [part for part in parts if part is not None]
    scale = found[0].alpha / found[0].rank
    if any(part.alpha / part.rank != scale for part in found):
        raise WeightsError("adapters of one layer have several scales (alpha / rank); PEFT's files have one")
    shared = len(found) == len(parts) and all(torch.equal(part.lora_a, found[0].lora_a) for part in found)
    if shared:
        a: torch.Tensor = found[0].lora_a
        b = torch.cat([part.lora_b for part in found])
    else:
        a = torch.cat([part.lora_a for part in found])
        blocks = [a.new_zeros(size, 0) if part is None else part.lora_b for part, size in zip(parts, rows, strict=True)]
        b = torch.block_diag(*blocks)
    return a.detach().cpu().contiguous(), b.detach().cpu().contiguous(), scale * len(a)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(str(folder / WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{folder}: no adapter in PEFT's format ({error}); give a folder with {CONFIG} and {WEIGHTS}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise WeightsError(f"{folder}: an adapter of the kind {kind!r}; LORA alone is supported")
    _check_config(folder / CONFIG, config)
    return config, tensors


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    for key, ours in UNSUPPORTED.items():
        if config.get(key, ours) != ours:
            raise WeightsError(f"{path}: {key} {config[key]!r} is not supported; merge the adapter with PEFT first")
    if config.get("bias", "none") not in BIASES:
        raise WeightsError(f"{path}: bias {config['bias']!r} is not known; it is one of {', '.join(BIASES)}")
    numbers = {"lora_alpha": config.get("lora_alpha"), "lora_dropout": config.get("lora_dropout", 0.0)}
    for name, value in {**numbers, **(config.get("alpha_pattern") or {})}.items():
        if not isinstance(value, int | float):
            said = "is missing" if value is None else f"{value!r} is no number"
            raise WeightsError(f"{path}: {name} {said}; write there what the adapter was trained with")


def _checked(folder: Path, entry: Entry, pair: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    if set(pair) != {"A", "B"}:
        raise WeightsError(f"{folder}: {entry.published!r} has lora_{'A' if 'A' in pair else 'B'} alone; the file is not whole")
    a, b = pair["A"], pair["B"]
    if a.ndim != 2 or b.shape != (entry.shape[0], len(a)) or entry.shape[1:] != a.shape[1:]:
        shapes = f"lora_A {tuple(a.shape)}, lora_B {tuple(b.shape)}"
        raise WeightsError(f"{folder}: {entry.published!r} has {shapes}, but the layer is {entry.shape}")
    return a, b


def _pattern(patterns: Mapping[str, float] | None, layer: str, default: float) -> float:
    """PEFT's patterns are regular expressions for the end of a layer's name."""
    return next((value for pattern, value in (patterns or {}).items() if re.fullmatch(rf"(.*\.)?({pattern})", layer)), default)
