"""A forward pass as operations, each of which knows what autograd will ask of it: whether its input wants a gradient, and whether
its weight does. What they compute `cost` adds up, and what they keep for the backward pass `memory` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from qwenvl.config import ConnectorConfig, DecoderConfig, ModelConfig, ResamplerConfig, VisionConfig

Piece = Literal["tower", "connector", "decoder", "head"]


@dataclass(frozen=True, slots=True)
class Product:
    """A linear layer. It has `times` rows for each of what `rows`, a field of Work, counts.

    reads, learns: input and weight want a gradient. source: a name that layers of one block share which read the same tensor; empty
    where the input is its alone, "kept" where what made it keeps it already.
    """

    piece: Piece
    block: str
    name: str
    rows: str
    inner: int
    outer: int
    reads: bool
    learns: bool
    times: int = 1
    source: str = ""
    adapter: bool = False

    @property
    def unit(self) -> str:
        return self.rows

    @property
    def flops(self) -> tuple[float, float]:
        """For one of what `unit` counts: forward, backward."""
        forward = 2.0 * self.inner * self.outer * self.times
        return forward, forward * (self.reads + self.learns)


@dataclass(frozen=True, slots=True)
class Attended:
    """Attention: `times` pairs for each of what `pairs` counts, in heads that are `queries` and `keys` numbers wide together. q, k,
    v: which of them want a gradient. fused: q, k and v are views of one tensor. rotated: q and k are not, but new ones. rows counts
    keys, and queries too unless `asking` does."""

    piece: Piece
    block: str
    rows: str
    pairs: str
    queries: int
    keys: int
    heads: int
    q: bool
    k: bool
    v: bool
    times: int = 1
    fused: bool = False
    rotated: bool = True
    asking: str = ""

    @property
    def unit(self) -> str:
        return self.pairs

    @property
    def flops(self) -> tuple[float, float]:
        """For one of what `unit` counts: forward, backward."""
        one = 2.0 * self.queries * self.times
        # Backward: gradients of v, of the scores, and through these of q and of k.
        return 2 * one, one * (self.v + (self.q or self.k) + self.q + self.k)


@dataclass(frozen=True, slots=True)
class Normed:
    """A norm over `width`, root mean square or not."""

    piece: Piece
    block: str
    rows: str
    width: int
    reads: bool
    learns: bool
    rms: bool = False


@dataclass(frozen=True, slots=True)
class Activated:
    """An activation over `width`: gelu keeps its input, quick_gelu the sigmoid too, swiglu both sides and what becomes of one."""

    piece: Piece
    block: str
    rows: str
    width: int
    reads: bool
    kind: str


Operation = Product | Attended | Normed | Activated


@dataclass
class Trace:
    """Writes operations down. trains: whether a parameter of that name does; adapted: layer -> rank of the adapter beside it."""

    trains: Callable[[str], bool]
    adapted: Mapping[str, int] = field(default_factory=dict)
    found: list[Operation] = field(default_factory=list)
    piece: Piece = "tower"
    block: str = ""

    def linear(
        self, name: str, rows: str, inner: int, outer: int, reads: bool, *, source: str = "", times: int = 1,
        weight: str = ".weight",
    ) -> bool:
        """Whether what comes out wants a gradient."""
        learns, rank = self.trains(f"{name}{weight}"), self.adapted.get(name, 0)
        product = (self.piece, self.block)
        self.found.append(Product(*product, name, rows, inner, outer, reads, learns, times, source))
        if rank:
            self.found.append(Product(*product, f"{name}.lora_a", rows, inner, rank, reads, True, times, source, True))
            self.found.append(Product(*product, f"{name}.lora_b", rows, rank, outer, True, True, times, "", True))
        return reads or learns or bool(rank) or self.trains(f"{name}.bias")

    def norm(self, name: str, rows: str, width: int, reads: bool, kind: str) -> bool:
        learns = self.trains(f"{name}.weight") or self.trains(f"{name}.bias")
        self.found.append(Normed(self.piece, self.block, rows, width, reads, learns, kind == "rms"))
        return reads or learns

    def activate(self, kind: str, rows: str, width: int, reads: bool) -> bool:
        self.found.append(Activated(self.piece, self.block, rows, width, reads, kind))
        return reads

    def tower(self, config: VisionConfig) -> bool:
        self.piece, self.block = "tower", ""
        x = self.linear("vision_tower.patch_embed", "patches", config.patch_numbers, config.hidden_size, False, source="patches")
        x = x or self.trains("vision_tower.position_embedding")
        if config.input_norm:
            x = self.norm("vision_tower.pre_norm", "patches", config.hidden_size, x, config.norm)
        for index in range(config.num_hidden_layers):
            self.block = f"vision_tower.blocks.{index}"
            whole = config.window_size is None or index in config.full_attention_blocks
            x = self._vision_block(config, "frame_pairs" if whole else "window_pairs", x)
        return x

    def _vision_block(self, config: VisionConfig, pairs: str, x: bool) -> bool:
        block, width, inner = self.block, config.hidden_size, config.intermediate_size
        y = self.norm(f"{block}.norm1", "patches", width, x, config.norm)
        y = self.linear(f"{block}.attention.qkv", "patches", width, 3 * width, y, source="norm1")
        heads, rotated = config.num_attention_heads, config.rotary_theta is not None
        self.found.append(
            Attended(self.piece, block, "patches", pairs, width, width, heads, y, y, y, fused=True, rotated=rotated)
        )
        x = self.linear(f"{block}.attention.proj", "patches", width, width, y, source="kept") or x
        y = self.norm(f"{block}.norm2", "patches", width, x, config.norm)
        up = self.linear(f"{block}.mlp.up", "patches", width, inner, y, source="norm2")
        gate = config.mlp == "swiglu" and self.linear(f"{block}.mlp.gate", "patches", width, inner, y, source="norm2")
        y = self.activate(config.mlp, "patches", inner, up or gate)
        return self.linear(f"{block}.mlp.down", "patches", inner, width, y) or x

    def connector(self, config: ConnectorConfig, width: int, x: bool) -> bool:
        self.piece, self.block = "connector", ""
        if isinstance(config, ResamplerConfig):
            return self._resampler(config.hidden_size, config.num_queries, config.num_attention_heads, width, x)
        joined = width * config.merge_size**2
        x = self.norm("connector.norm", "patches", width, x, config.norm)
        x = self.activate("gelu", "visual", joined, self.linear("connector.up", "visual", joined, joined, x, source="norm"))
        return self.linear("connector.down", "visual", joined, config.hidden_size, x)

    def _resampler(self, size: int, queries: int, heads: int, width: int, x: bool) -> bool:
        value = self.linear("connector.key_value_proj", "patches", width, size, x)
        value = self.norm("connector.key_value_norm", "patches", size, value, "layer")
        query = any(map(self.trains, ("connector.query", "connector.query_norm.weight", "connector.query_norm.bias")))
        # The same queries for all pictures of a pass: one product.
        place, matrix = "connector.attention", ".in_proj_weight"
        q = self.linear(place, "passes", size, size, query, times=queries, weight=matrix)
        k, v = (self.linear(place, "patches", size, size, value, weight=matrix) for _ in "kv")
        q, k, v = (side or self.trains(f"{place}.in_proj_bias") for side in (q, k, v))
        self.found.append(Attended(self.piece, "", "patches", "patches", size, size, heads, q, k, v, queries, asking="visual"))
        y = self.linear(f"{place}.out_proj", "visual", size, size, q or k or v, source="kept")
        y = self.norm("connector.output_norm", "visual", size, y, "layer")
        return self.linear("connector.output_proj", "visual", size, size, y, weight="")

    def decoder(self, config: DecoderConfig, x: bool) -> bool:
        """x: whether visual tokens want a gradient."""
        self.piece = "decoder"
        x = x or self.trains("decoder.embed_tokens.weight")
        for index in range(config.num_hidden_layers):
            self.block = f"decoder.layers.{index}"
            x = self._decoder_layer(config, x)
        self.block = ""
        return self.norm("decoder.norm", "tokens", config.hidden_size, x, "rms")

    def _decoder_layer(self, config: DecoderConfig, x: bool) -> bool:
        layer, width, inner = self.block, config.hidden_size, config.intermediate_size
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        y = self.norm(f"{layer}.input_layernorm", "tokens", width, x, "rms")
        wide = {"q": queries, "k": keys, "v": keys}
        q, k, v = (self.linear(f"{layer}.self_attn.{n}_proj", "tokens", width, wide[n], y, source="norm1") for n in wide)
        heads = config.num_attention_heads
        self.found.append(Attended(self.piece, layer, "tokens", "pairs", queries, keys, heads, q, k, v))
        x = self.linear(f"{layer}.self_attn.o_proj", "tokens", queries, width, q or k or v, source="kept") or x
        y = self.norm(f"{layer}.post_attention_layernorm", "tokens", width, x, "rms")
        sides = [self.linear(f"{layer}.mlp.{n}_proj", "tokens", width, inner, y, source="norm2") for n in ("gate", "up")]
        y = self.activate("swiglu", "tokens", inner, any(sides))
        return self.linear(f"{layer}.mlp.down_proj", "tokens", inner, width, y) or x

    def head(self, config: DecoderConfig, x: bool) -> None:
        self.piece, self.block = "head", ""
        name = "decoder.embed_tokens" if config.tie_word_embeddings else "decoder.lm_head"
        self.linear(name, "supervised", config.hidden_size, config.vocab_size, x)


def operations(
    config: ModelConfig,
    trains: Callable[[str], bool],
    adapted: Mapping[str, int] | None = None,
    *,
    text: bool = True,
    dense: int = 0,
) -> list[Operation]:
    """A forward pass in order, with the head on supervised tokens alone, as `objectives.token_losses` has it.

    trains: whether a parameter does; of a name that the model does not have it must say no. adapted: layer -> rank of its adapter.
    text: without it the tower alone runs. dense: classes of the heads on its patches, 0 for none.
    """
    trace = Trace(trains, adapted or {})
    x = trace.tower(config.vision)
    if dense:
        trace.piece, trace.block = "head", ""
        trace.found.append(Normed("head", "", "patches", config.vision.hidden_size, x, True))
        trace.found.append(Product("head", "", "objective.classes", "patches", config.vision.hidden_size, dense, True, True))
    if text:
        x = trace.connector(config.connector, config.vision.hidden_size, x)
        trace.head(config.decoder, trace.decoder(config.decoder, x))
    return trace.found
