"""Start a model from pretrained parts, as the paper does: the tower from OpenCLIP's ViT-bigG, the decoder from Qwen-7B.

From Python only (see `start_from_pretrained`): whoever has these weights has them in files of their own.

Source: section 2.1 of arXiv 2308.12966. Names of OpenCLIP: VisionTransformer in src/open_clip/transformer.py
(mlfoundations/open_clip @ 89fb801).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qwenvl.config import ModelConfig, VisionConfig
from qwenvl.weights.io import parameter_shapes
from qwenvl.weights.maps import WeightsError, name_table

if TYPE_CHECKING:
    import torch

    from qwenvl.models.vlm import VisionLanguageModel

PREFIX = "visual."
DROPPED = ("class_embedding", "ln_post.weight", "ln_post.bias", "proj")
"""Parts of OpenCLIP's tower that summarise a picture for contrast with text: the class token and what follows its last layer."""

OPENCLIP_NAMES = {
    "conv1.weight": "patch_embed.weight",
    "positional_embedding": "position_embedding",
    "ln_pre": "pre_norm",
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.in_proj_weight": "attention.qkv.weight",
    "attn.in_proj_bias": "attention.qkv.bias",
    "attn.out_proj": "attention.proj",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}


def interleave_heads(stacked: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows ordered [q|k|v][head][dim], as nn.MultiheadAttention packs them -> [head][q|k|v][dim], as the published file does."""
    return stacked.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)


def tower_from_openclip(state: Mapping[str, torch.Tensor], config: VisionConfig) -> dict[str, torch.Tensor]:
    """The tower's parameters (names of ours, below `vision_tower.`) from an OpenCLIP model's state dict.

    A whole CLIP model may be given: only its `visual.` part is read. Raises WeightsError naming an unknown tensor.
    """
    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) in DROPPED:
            continue
        ours = _tower_name(name)
        if ours == "patch_embed.weight":
            tensor = tensor.flatten(1)
        elif ours == "position_embedding":
            # The first row belongs to the class token.
            tensor = tensor[1:]
        elif ours.partition("attention.qkv.")[1] and config.qkv_layout == "per_head":
            tensor = interleave_heads(tensor, config.num_attention_heads)
        result[f"vision_tower.{ours}"] = tensor
    return result


def _tower_name(name: str) -> str:
    rest = name.removeprefix(PREFIX)
    block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", rest)
    inner = block[2] if block else rest
    stem, _, kind = inner.rpartition(".")
    if inner in OPENCLIP_NAMES:
        ours = OPENCLIP_NAMES[inner]
    elif stem in OPENCLIP_NAMES:
        ours = f"{OPENCLIP_NAMES[stem]}.{kind}"
    else:
        raise WeightsError(f"tensor {name!r} is unknown in an OpenCLIP vision tower; expected a plain ViT such as ViT-bigG-14")
    return f"blocks.{block[1]}.{ours}" if block else ours


def decoder_from_qwen(
    state: Mapping[str, torch.Tensor], config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, torch.Tensor]:
    """The decoder's parameters (names of ours) from a Qwen-7B state dict, whose names are those of Qwen-VL's decoder.

    shapes: the model's parameters, as from `io.parameter_shapes`. Raises WeightsError naming a missing or unknown tensor.
    """
    decoder = {name: shape for name, shape in shapes.items() if name.startswith("decoder.")}
    entries = {entry.published: entry for entry in name_table(config, decoder)}
    missing, unknown = sorted(entries.keys() - state.keys()), sorted(state.keys() - entries.keys())
    if missing or unknown:
        problem = f"tensor {missing[0]!r} is missing" if missing else f"tensor {unknown[0]!r} is unknown"
        raise WeightsError(f"decoder: {problem} in the Qwen-7B weights; give a state dict of the same depth and kind")
    result: dict[str, torch.Tensor] = {}
    for name, entry in entries.items():
        _check_shape(name, tuple(state[name].shape), entry.shape)
        result |= entry.to_ours(state[name])
    return result


def start_from_pretrained(
    model: VisionLanguageModel,
    openclip: Mapping[str, torch.Tensor] | None = None,
    qwen: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Copy pretrained parts into a model that has its other parameters already.

        model = VisionLanguageModel(find_preset("qwen-vl-7b").config).to(torch.bfloat16)
        initialise(model, seed=0)
        openclip = torch.load("open_clip_pytorch_model.bin", mmap=True, weights_only=True)  # OpenCLIP's ViT-bigG-14
        qwen = {tensor.name: tensor.read() for tensor in open_tensors(Path("Qwen-7B")).values()}
        start_from_pretrained(model, openclip, qwen)
        save_model(model, "qwen-vl-start")

    openclip: names and tensors of a whole OpenCLIP model, its class token and text tower passed over; qwen: of a Qwen-7B
    (whose 151,936 rows have room for Qwen-VL's special tokens). None leaves a part as it is. Tensors are copied in the
    model's own dtype. Raises WeightsError if a part does not fill its room exactly; the model is untouched then.
    """
    import torch

    shapes = parameter_shapes(model)
    parts: dict[str, torch.Tensor] = {}
    if openclip is not None:
        tower = tower_from_openclip(openclip, model.config.vision)
        wanted = {name for name in shapes if name.startswith("vision_tower.")}
        if tower.keys() != wanted:
            name = sorted(tower.keys() ^ wanted)[0]
            problem = "has no source in" if name in wanted else "has no place in the model for"
            raise WeightsError(f"vision tower: {name!r} {problem} the OpenCLIP weights; depth and kind must agree")
        parts |= tower
    if qwen is not None:
        parts |= decoder_from_qwen(qwen, model.config, shapes)
    for name, tensor in parts.items():
        _check_shape(name, tuple(tensor.shape), shapes[name])
    parameters = model.state_dict()
    with torch.no_grad():
        for name, tensor in parts.items():
            parameters[name].copy_(tensor)


def _check_shape(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        raise WeightsError(f"tensor {name!r} has the shape {found}, but the model's config asks for {wanted}")
