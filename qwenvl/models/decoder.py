"""The decoder: RMSNorm, rotate-half RoPE, q/k/v bias, SwiGLU; multi-head or grouped-query attention by configuration.

T packed tokens, D hidden_size, H heads, K kv heads, d head_dim. Source: modeling_qwen.py of Qwen-VL
(repository wangjl1993/extract_human_attri @ fc9525f), whose w2 is the gate and w1 the up projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.config import DecoderConfig
from qwenvl.models.attention import LayerCache, Layout, attention
from qwenvl.models.layers import RMSNorm
from qwenvl.models.rope import Rotary, apply_rotary


class Decoder(nn.Module):
    """embed(ids (T,)) -> (T, D); forward(x (T, D), table, layout, cache) -> (T, D) after the final norm;
    logits(x (..., D)) -> (..., vocab)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = None if config.tie_word_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.product: Callable[[Tensor, Tensor], Tensor] = plain_product
        """That of a tied head with the embedding, which no layer of its own stands for."""

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.embed_tokens(input_ids)

    def forward(self, x: Tensor, table: Rotary, layout: Layout, cache: LayerCache | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, table, layout, cache)
        return self.norm(x)

    def logits(self, x: Tensor) -> Tensor:
        return self.product(x, self.embed_tokens.weight) if self.lm_head is None else self.lm_head(x)


def plain_product(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight)


class LayerWays(Protocol):
    """How the parts of a layer are computed. For inference on the CPU something that does more in one call stands here
    (models/few_rows.py)."""

    def each(self, x: Tensor, layers: Sequence[nn.Module]) -> list[Tensor]:
        """x (T, in) by each of some linear layers."""
        ...

    def gated(self, x: Tensor, gate: nn.Module, up: nn.Module) -> Tensor:
        """silu(gate(x)) * up(x)"""
        ...

    def onto(self, rest: Tensor, layer: nn.Module, x: Tensor) -> Tensor:
        """rest (T, out) and a linear layer's product with x (T, in)."""
        ...

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, size: int, table: Rotary, layout: Layout, cache: LayerCache | None, layer: int
    ) -> Tensor:  # fmt: skip
        """q (T, H * d), k and v (T, K * d), not turned yet, d being `size` -> (T, H * d)."""
        ...


class TorchWays:
    """By torch: for training, and on every machine."""

    def each(self, x: Tensor, layers: Sequence[nn.Module]) -> list[Tensor]:
        return [layer(x) for layer in layers]

    def gated(self, x: Tensor, gate: nn.Module, up: nn.Module) -> Tensor:
        return F.silu(gate(x)) * up(x)

    def onto(self, rest: Tensor, layer: nn.Module, x: Tensor) -> Tensor:
        return rest + layer(x)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, size: int, table: Rotary, layout: Layout, cache: LayerCache | None, layer: int
    ) -> Tensor:  # fmt: skip
        q, k, v = (x.unflatten(-1, (-1, size)) for x in (q, k, v))
        q, k = apply_rotary(q, table), apply_rotary(k, table)
        if table.query_scale is not None:
            q = q * table.query_scale.to(q.dtype)[:, None, None]
        return attention(q, k, v, layout, cache=cache, layer=layer).flatten(1)


WAYS = TorchWays()
OneCall = Callable[["DecoderLayer", Tensor, Rotary, Layout, LayerCache | None], Tensor | None]


class DecoderLayer(nn.Module):
    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config, index)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)
        self.quick: OneCall | None = None
        """The same in one call for one new token of each row, None where it cannot: for inference (models/reordered.py)."""

    def forward(self, x: Tensor, table: Rotary, layout: Layout, cache: LayerCache | None) -> Tensor:
        if self.quick is not None and (y := self.quick(self, x, table, layout, cache)) is not None:
            return y
        x = self.self_attn(self.input_layernorm(x), table, layout, cache, onto=x)
        return self.mlp(self.post_attention_layernorm(x), onto=x)


class SelfAttention(nn.Module):
    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.head_dim = config.head_dim
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries)
        self.k_proj = nn.Linear(config.hidden_size, keys)
        self.v_proj = nn.Linear(config.hidden_size, keys)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        self.ways: LayerWays = WAYS

    def forward(self, x: Tensor, table: Rotary, layout: Layout, cache: LayerCache | None, onto: Tensor) -> Tensor:
        """x (T, D), normalised -> `onto` (T, D) and what attention adds to it."""
        q, k, v = self.ways.each(x, (self.q_proj, self.k_proj, self.v_proj))
        seen = self.ways.attend(q, k, v, self.head_dim, table, layout, cache, self.index)
        return self.ways.onto(onto, self.o_proj, seen)


class SwiGLU(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.ways: LayerWays = WAYS

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        """x (T, D), normalised -> `onto` (T, D) and what is added to it."""
        return self.ways.onto(onto, self.down_proj, self.ways.gated(x, self.gate_proj, self.up_proj))
