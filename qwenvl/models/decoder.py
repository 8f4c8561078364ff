"""The decoder: RMSNorm, rotate-half RoPE, q/k/v bias, SwiGLU; multi-head or grouped-query attention by configuration.

T packed tokens, D hidden_size, H heads, K kv heads, d head_dim. Source: modeling_qwen.py of Qwen-VL
(repository wangjl1993/extract_human_attri @ fc9525f), whose w2 is the gate and w1 the up projection.
"""

from __future__ import annotations

from collections.abc import Callable

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


class DecoderLayer(nn.Module):
    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config, index)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, table: Rotary, layout: Layout, cache: LayerCache | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), table, layout, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


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
        self.rotate: Callable[[Tensor, Rotary], Tensor] = apply_rotary

    def forward(self, x: Tensor, table: Rotary, layout: Layout, cache: LayerCache | None) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.head_dim)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k = self.rotate(q, table), self.rotate(k, table)
        if table.query_scale is not None:
            q = q * table.query_scale.to(q.dtype)[:, None, None]
        return self.o_proj(attention(q, k, v, layout, cache=cache, layer=self.index).flatten(1))


class SwiGLU(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
