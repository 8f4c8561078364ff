"""Parameters that trained themselves beside adapters, in PEFT's files: their names there, and what must not be missing.

PEFT takes what is in a file by its full name in one of three ways (peft/utils/save_and_load.py), which adapter_config.json decides:
`modules_to_save`  whole layers, of which every parameter must be there; the base model's own stay beside them;
`bias`             all biases ("all"), or those of layers with adapters ("lora_only");
neither            any other parameter, as PEFT writes embeddings that grew: it replaces the base model's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl.config import ModelConfig
from qwenvl.weights.io import build_meta, parameter_shapes
from qwenvl.weights.maps import NEWER_NAMES, TIED_HEAD, Entry, WeightsError, hub_name, name_table

if TYPE_CHECKING:
    import torch

    from qwenvl.models.vlm import VisionLanguageModel

INNER = ".base_layer"
"""What PEFT calls a layer inside of its adapter."""


def layer_of(name: str) -> str:
    return name.rpartition(".")[0]


@dataclass(frozen=True)
class Names:
    """The parameters of a model without adapters, as transformers calls them in memory."""

    config: ModelConfig
    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, config: ModelConfig) -> Names:
        entries = name_table(config, parameter_shapes(build_meta(config)))
        return cls(config, {_in_memory(config.family, entry.published): entry for entry in entries})

    def known(self, name: str) -> str:
        """A name that a file has, as it is in memory, and the same with an adapter around its layer as without."""
        layer, _, kind = name.rpartition(".")
        return _in_memory(self.config.family, hub_name(self.config.family, f"{layer.removesuffix(INNER)}.{kind}"))

    def within(self, layers: Collection[str]) -> set[str]:
        """Parameters of these layers and of those inside of them."""
        return {name for name in self.entries if any(parent in layers for parent in _parents(name))}

    def biases(self, which: str, adapted: Collection[str]) -> set[str]:
        """What PEFT's `bias` means: "none", "all", or "lora_only"."""
        if which == "none":
            return set()
        return {name for name in self.entries if name.endswith(".bias") and (which == "all" or layer_of(name) in adapted)}

    def whole_layer(self, layer: str) -> bool:
        """Whether nothing in it is a layer of its own."""
        return all(layer_of(name) == layer for name in self.within({layer}))

    @property
    def tied(self) -> tuple[str, ...]:
        """Head and embedding, where they are one parameter; elsewhere nothing."""
        both = tuple(_in_memory(self.config.family, name) for name in TIED_HEAD[self.config.family])
        return both if self.config.decoder.tie_word_embeddings else ()


def _in_memory(family: str, published: str) -> str:
    """The inverse of `hub_name`."""
    for newer, hub in NEWER_NAMES[family].items():
        if published.startswith(hub):
            return newer + published.removeprefix(hub)
    return published


def _parents(name: str) -> Iterable[str]:
    while name := layer_of(name):
        yield name


def beside(
    model: VisionLanguageModel, names: Names, adapted: Collection[str], trained: Collection[str]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors under their names in the file, and what adapter_config.json says of them.

    adapted: layers with adapters. trained: our names of parameters. Written are also those that PEFT asks for with them: the others
    of their layers; where a bias trained alone, the others of its kind.
    """
    wanted = {name for name, entry in names.entries.items() if not set(trained).isdisjoint(entry.ours)}
    # A second copy of the embedding would part it from the head, which is the same parameter.
    not_apart = {*adapted, *map(layer_of, names.tied)}
    of_weights = {layer_of(name) for name in wanted if not name.endswith(".bias")} - not_apart
    modules = {layer for layer in of_weights if names.whole_layer(layer)}
    single = wanted - names.within(modules)
    biases = {layer_of(name) for name in single if name.endswith(".bias")}
    bias = "none" if not biases else "lora_only" if biases <= set(adapted) else "all"
    stored = single | names.within(modules) | names.biases(bias, adapted)
    tensors = {}
    for name in sorted(stored):
        layer, _, kind = name.rpartition(".")
        value = names.entries[name].to_published({ours: _parameter(model, ours) for ours in names.entries[name].ours})
        tensors[f"{layer}{INNER * (layer in adapted)}.{kind}"] = value.detach().cpu().contiguous()
    return tensors, {"modules_to_save": sorted(modules) or None, "bias": bias}


def _parameter(model: VisionLanguageModel, name: str) -> torch.Tensor:
    """That of a model with adapters, which pass on their layers' weights, rounded ones as they are."""
    layer, _, kind = name.rpartition(".")
    found: torch.Tensor = getattr(model.get_submodule(layer), kind)
    return found


def check_beside(
    folder: Path, names: Names, config: Mapping[str, Any], adapted: Collection[str], found: dict[str, torch.Tensor]
) -> None:
    """Raises WeightsError for what does not fit the model, and for what `config` announces and is not among `found`, by their names
    in memory. A head that repeats the embedding, with which it is tied, is taken out."""
    modules = {
        layer for layer in {parent for name in names.entries for parent in _parents(name)}
        if any(layer.endswith(key) for key in _listed(config.get("modules_to_save")))  # as PEFT's _set_trainable finds them
    }  # fmt: skip
    expected = names.within(modules) | names.biases(str(config.get("bias", "none")), adapted)
    if names.tied:
        _check_tied(folder, names.tied, expected, found)
    for name, tensor in found.items():
        shape = names.entries[name].shape
        if tuple(tensor.shape) != shape:
            raise WeightsError(f"{folder}: {name!r} has the shape {tuple(tensor.shape)}, but the model's is {shape}")
    if missing := sorted(expected - found.keys()):
        raise WeightsError(f"{folder}: {missing[0]!r} is missing ({len(missing)} in all); its adapter_config.json announces it")
    announced = [layer_of(names.known(f"{layer}.weight")) for layer in _listed(config.get("target_modules"))]
    for layer in announced:
        if f"{layer}.weight" in names.entries and layer not in adapted:
            raise WeightsError(f"{folder}: the adapter of {layer!r} is missing; target_modules in its adapter_config.json names it")


def _check_tied(folder: Path, tied: tuple[str, ...], expected: Collection[str], found: dict[str, torch.Tensor]) -> None:
    import torch

    head, embedding = tied
    own, apart = found.pop(head, None), embedding in expected
    same = own is not None and embedding in found and torch.equal(own, found[embedding])
    if (own is not None or apart) and not same:
        raise WeightsError(f"{folder}: it parts embedding and head, which are one in this model; train with ensure_weight_tying")


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
