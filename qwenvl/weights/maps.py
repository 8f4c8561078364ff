"""Name tables: our parameter names <-> the names in a published checkpoint, as data, read in both directions.

A rule pairs one tensor of the file with one or several parameters of ours; `{n}` stands for a layer's number. Nothing here
copies: splitting rows and flattening patches give views, so that a memory-mapped checkpoint stays on disk until it is used.

Source of the published names: the 853 entries of pytorch_model.bin.index.json and modeling_qwen.py, visual.py
(repository wangjl1993/extract_human_attri @ fc9525f, Qwen-VL/).
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
Layout = Literal["same", "rows", "patches"]


class WeightsError(QwenVLError, ValueError):
    """A checkpoint that cannot be used: a missing, unknown or misshapen tensor, an unreadable file."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`same`: one tensor as it is. `rows`: the file's rows are those of our parameters, one after the other.
    `patches`: a convolution kernel (W, C, p, p) in the file, a matrix (W, C*p*p) of ours."""

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

RULES: dict[str, tuple[Rule, ...]] = {"qwen_vl": QWEN_VL_RULES}
"""Family name -> its table."""

TIED_HEAD = {"qwen_vl": ("lm_head.weight", "transformer.wte.weight")}
"""Family name -> (the head's tensor, the embedding it repeats). With tied embeddings a file may hold both."""


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
        if self.layout == "patches":
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
    if layout == "patches":
        return (ours[0][0], config.vision.in_channels, config.vision.patch_size, config.vision.patch_size)
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


@cache
def _rules_by_our_name(family: str) -> dict[str, Rule]:
    return {name: rule for rule in RULES[family] for name in rule.ours}
