"""Name tables: our parameter names <-> the names in a published checkpoint, as data, read in both directions.

A rule pairs one tensor of the file with one or several parameters of ours; `{n}` stands for a layer's number. Nothing here
copies: splitting rows and flattening patches give views, so that a memory-mapped checkpoint stays on disk until it is used.

Sources of the published names. Qwen-VL: the 853 entries of pytorch_model.bin.index.json and modeling_qwen.py, visual.py
(repository wangjl1993/extract_human_attri @ fc9525f, Qwen-VL/). Qwen2-VL and Qwen2.5-VL: what save_pretrained of transformers 5.23
writes, which are the hub's names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from qwenvl.config import ModelConfig
from qwenvl.types import QwenVLError

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]
Layout = Literal["same", "rows", "patches", "frame_patches"]


class WeightsError(QwenVLError, ValueError):
    """A checkpoint that cannot be used: a missing, unknown or misshapen tensor, an unreadable file."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`same`: one tensor as it is. `rows`: the file's rows are those of our parameters, one after the other.
    `patches`: a convolution kernel (W, C, p, p) in the file, a matrix (W, C*p*p) of ours; `frame_patches`: one over frames too,
    (W, C, t, p, p) and (W, C*t*p*p)."""

    published: str
    ours: tuple[str, ...]
    layout: Layout = "same"


def _pair(published: str, ours: str, *suffixes: str) -> tuple[Rule, ...]:
    """One `same` rule per suffix ("weight", "bias"), or a single one for names written in full."""
    if not suffixes:
        return (Rule(published, (ours,)),)
    return tuple(Rule(f"{published}.{suffix}", (f"{ours}.{suffix}",)) for suffix in suffixes)


_H, _LAYER = "transformer.h.{n}", "decoder.layers.{n}"
_V = "transformer.visual"
_RES, _BLOCK = f"{_V}.transformer.resblocks.{{n}}", "vision_tower.blocks.{n}"
_POOL = f"{_V}.attn_pool"

QWEN_VL_RULES: tuple[Rule, ...] = (
    *_pair("transformer.wte", "decoder.embed_tokens", "weight"),
    *_pair(f"{_H}.ln_1", f"{_LAYER}.input_layernorm", "weight"),
    *(
        Rule(f"{_H}.attn.c_attn.{kind}", tuple(f"{_LAYER}.self_attn.{part}_proj.{kind}" for part in "qkv"), "rows")
        for kind in ("weight", "bias")
    ),
    *_pair(f"{_H}.attn.c_proj", f"{_LAYER}.self_attn.o_proj", "weight"),
    *_pair(f"{_H}.ln_2", f"{_LAYER}.post_attention_layernorm", "weight"),
    # The published MLP is c_proj(w1(x) * silu(w2(x))): w2 is the gate, although it is numbered second.
    *_pair(f"{_H}.mlp.w1", f"{_LAYER}.mlp.up_proj", "weight"),
    *_pair(f"{_H}.mlp.w2", f"{_LAYER}.mlp.gate_proj", "weight"),
    *_pair(f"{_H}.mlp.c_proj", f"{_LAYER}.mlp.down_proj", "weight"),
    *_pair("transformer.ln_f", "decoder.norm", "weight"),
    *_pair("lm_head", "decoder.lm_head", "weight"),
    Rule(f"{_V}.conv1.weight", ("vision_tower.patch_embed.weight",), "patches"),
    *_pair(f"{_V}.positional_embedding", "vision_tower.position_embedding"),
    *_pair(f"{_V}.ln_pre", "vision_tower.pre_norm", "weight", "bias"),
    *_pair(f"{_RES}.ln_1", f"{_BLOCK}.norm1", "weight", "bias"),
    *_pair(f"{_RES}.attn.in_proj", f"{_BLOCK}.attention.qkv", "weight", "bias"),
    *_pair(f"{_RES}.attn.out_proj", f"{_BLOCK}.attention.proj", "weight", "bias"),
    *_pair(f"{_RES}.ln_2", f"{_BLOCK}.norm2", "weight", "bias"),
    *_pair(f"{_RES}.mlp.c_fc", f"{_BLOCK}.mlp.up", "weight", "bias"),
    *_pair(f"{_RES}.mlp.c_proj", f"{_BLOCK}.mlp.down", "weight", "bias"),
    *_pair(f"{_POOL}.query", "connector.query"),
    *_pair(f"{_POOL}.pos_embed", "connector.position_table"),
    *_pair(f"{_POOL}.kv_proj", "connector.key_value_proj", "weight"),
    *_pair(f"{_POOL}.ln_q", "connector.query_norm", "weight", "bias"),
    *_pair(f"{_POOL}.ln_kv", "connector.key_value_norm", "weight", "bias"),
    *_pair(f"{_POOL}.attn.in_proj_weight", "connector.attention.in_proj_weight"),
    *_pair(f"{_POOL}.attn.in_proj_bias", "connector.attention.in_proj_bias"),
    *_pair(f"{_POOL}.attn.out_proj", "connector.attention.out_proj", "weight", "bias"),
    *_pair(f"{_V}.ln_post", "connector.output_norm", "weight", "bias"),
    *_pair(f"{_V}.proj", "connector.output_proj"),
)

_TEXT, _VISUAL = "model.layers.{n}", "visual.blocks.{n}"


def _qwen2_rules(norm: tuple[str, ...], mlp: Mapping[str, str]) -> tuple[Rule, ...]:
    """The table of Qwen2-VL and Qwen2.5-VL, whose towers differ in two things.

    norm: the suffixes that a norm of the tower has; mlp: the file's name of each of its projections -> ours.
    """
    return (
        *_pair("model.embed_tokens", "decoder.embed_tokens", "weight"),
        *_pair(f"{_TEXT}.input_layernorm", f"{_LAYER}.input_layernorm", "weight"),
        *(rule for part in "qkv" for rule in _both(f"{_TEXT}.self_attn.{part}_proj", f"{_LAYER}.self_attn.{part}_proj")),
        *_pair(f"{_TEXT}.self_attn.o_proj", f"{_LAYER}.self_attn.o_proj", "weight"),
        *_pair(f"{_TEXT}.post_attention_layernorm", f"{_LAYER}.post_attention_layernorm", "weight"),
        *(
            rule
            for part in ("gate", "up", "down")
            for rule in _pair(f"{_TEXT}.mlp.{part}_proj", f"{_LAYER}.mlp.{part}_proj", "weight")
        ),
        *_pair("model.norm", "decoder.norm", "weight"),
        *_pair("lm_head", "decoder.lm_head", "weight"),
        Rule("visual.patch_embed.proj.weight", ("vision_tower.patch_embed.weight",), "frame_patches"),
        *_pair(f"{_VISUAL}.norm1", f"{_BLOCK}.norm1", *norm),
        *_both(f"{_VISUAL}.attn.qkv", f"{_BLOCK}.attention.qkv"),
        *_both(f"{_VISUAL}.attn.proj", f"{_BLOCK}.attention.proj"),
        *_pair(f"{_VISUAL}.norm2", f"{_BLOCK}.norm2", *norm),
        *(rule for theirs, ours in mlp.items() for rule in _both(f"{_VISUAL}.mlp.{theirs}", f"{_BLOCK}.mlp.{ours}")),
        *_pair("visual.merger.ln_q", "connector.norm", *norm),
        *_both("visual.merger.mlp.0", "connector.up"),
        *_both("visual.merger.mlp.2", "connector.down"),
    )


def _both(published: str, ours: str) -> tuple[Rule, ...]:
    return _pair(published, ours, "weight", "bias")


RULES: dict[str, tuple[Rule, ...]] = {
    "qwen_vl": QWEN_VL_RULES,
    "qwen2_vl": _qwen2_rules(norm=("weight", "bias"), mlp={"fc1": "up", "fc2": "down"}),
    "qwen2_5_vl": _qwen2_rules(norm=("weight",), mlp={"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}),
}
"""Family name -> its table."""

TIED_HEAD = {
    "qwen_vl": ("lm_head.weight", "transformer.wte.weight"),
    "qwen2_vl": ("lm_head.weight", "model.embed_tokens.weight"),
    "qwen2_5_vl": ("lm_head.weight", "model.embed_tokens.weight"),
}
"""Family name -> (the head's tensor, the embedding it repeats). With tied embeddings a file may hold both."""

# Names that transformers has used in memory since 4.52, and some tools on disk: prefix -> the hub's.
_NEWER_NAMES = {"model.visual.": "visual.", "model.language_model.": "model."}
NEWER_NAMES: dict[str, Mapping[str, str]] = {"qwen_vl": {}, "qwen2_vl": _NEWER_NAMES, "qwen2_5_vl": _NEWER_NAMES}


def hub_name(family: str, name: str) -> str:
    """The name in the hub's files of a tensor that a file may hold under a newer one."""
    for newer, hub in NEWER_NAMES[family].items():
        if name.startswith(newer):
            return hub + name.removeprefix(newer)
    return name


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the file for a concrete model: its published name and shape, our parameters and their shapes."""

    published: str
    shape: Shape
    ours: tuple[str, ...]
    our_shapes: tuple[Shape, ...]
    layout: Layout

    def to_ours(self, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views of the file's tensor (of `self.shape`) under our names."""
        if self.layout in ("patches", "frame_patches"):
            return {self.ours[0]: tensor.flatten(1)}
        if self.layout == "rows":
            return dict(zip(self.ours, tensor.split([shape[0] for shape in self.our_shapes]), strict=True))
        return {self.ours[0]: tensor}

    def to_published(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The file's tensor from our parameters; only `rows` copies."""
        import torch

        parts = [parameters[name] for name in self.ours]
        return torch.cat(parts) if self.layout == "rows" else parts[0].reshape(self.shape)


def name_table(config: ModelConfig, shapes: Mapping[str, Sequence[int]]) -> list[Entry]:
    """Every tensor of the published file for a model with those parameter shapes, sorted by published name.

    Raises WeightsError if a parameter has no rule: a table must cover its model.
    """
    entries: dict[str, Entry] = {}
    for name in shapes:
        rule, layer = _rule_of(config.family, name)
        published = rule.published.replace("{n}", layer)
        if published in entries:
            continue
        ours = tuple(part.replace("{n}", layer) for part in rule.ours)
        our_shapes = tuple(tuple(shapes[part]) for part in ours)
        entries[published] = Entry(published, _published_shape(config, rule.layout, our_shapes), ours, our_shapes, rule.layout)
    return [entries[name] for name in sorted(entries)]


def _published_shape(config: ModelConfig, layout: Layout, ours: tuple[Shape, ...]) -> Shape:
    if layout == "rows":
        return (sum(shape[0] for shape in ours), *ours[0][1:])
    vision = config.vision
    if layout == "patches":
        return (ours[0][0], vision.in_channels, vision.patch_size, vision.patch_size)
    if layout == "frame_patches":
        return (ours[0][0], vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size)
    return ours[0]


_LAYER_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def _rule_of(family: str, name: str) -> tuple[Rule, str]:
    """The rule for one parameter of ours and its layer's number ("" where it has none)."""
    number = _LAYER_NUMBER.search(name)
    pattern = _LAYER_NUMBER.sub("{n}", name, count=1)
    rule = _rules_by_our_name(family).get(pattern)
    if rule is None:
        raise WeightsError(f"parameter {name!r} has no published name in the table of {family!r}; add a rule to weights/maps.py")
    return rule, number.group() if number else ""


def has_rule(family: str, published: str) -> bool:
    """Whether the family's table knows a tensor of that name."""
    return _LAYER_NUMBER.sub("{n}", published, count=1) in {rule.published for rule in RULES[family]}


@cache
def _rules_by_our_name(family: str) -> dict[str, Rule]:
    return {name: rule for rule in RULES[family] for name in rule.ours}
