"""The position-aware adapter: learned queries compress a picture's patches to a fixed number of visual tokens.

P patches, W the tower's width, Q queries per picture, V = n * Q visual tokens, D the decoder's hidden size.
Source: section 2.1 of arXiv 2308.12966; Resampler, ln_post and proj in the published visual.py of Qwen-VL
(repository wangjl1993/extract_human_attri @ fc9525f, Qwen-VL/visual.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.config import ResamplerConfig
from qwenvl.models.attention import Rows, batched_attention
from qwenvl.models.layers import resize_table_to


class Resampler(nn.Module):
    """forward(features (P, W), grids (n, 3)) -> (n * Q, D).

    One cross-attention without residual or feed-forward: positions are added to queries and keys, never to values. The keys'
    positions are the queries' table, resampled to the picture's grid.
    """

    def __init__(self, config: ResamplerConfig, vision_width: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.query = nn.Parameter(torch.zeros(config.num_queries, size))
        self.position_table = nn.Parameter(torch.zeros(config.num_queries, size), requires_grad=False)
        self.key_value_proj = nn.Linear(vision_width, size, bias=False)
        self.key_value_norm = nn.LayerNorm(size, config.layer_norm_eps)
        self.query_norm = nn.LayerNorm(size, config.layer_norm_eps)
        self.attention = CrossAttention(size, config.num_attention_heads)
        self.output_norm = nn.LayerNorm(size, config.layer_norm_eps)
        self.output_proj = nn.Parameter(torch.zeros(size, size))

    def forward(self, features: Tensor, grids: Tensor) -> Tensor:
        values = self.key_value_norm(self.key_value_proj(features))
        keys = values + resize_table_to(self.position_table, grids)
        queries = self.query_norm(self.query) + self.position_table
        pictures = Rows.of(grids.prod(-1).to(features.device))
        x = self.attention(queries, keys, values, pictures)
        return self.output_norm(x) @ self.output_proj


class CrossAttention(nn.Module):
    """The same queries (Q, D) for every picture; keys and values (P, D) packed -> (n * Q, D). Parameters as in
    nn.MultiheadAttention, whose result it gives."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * size, size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * size))
        self.out_proj = nn.Linear(size, size)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, pictures: Rows) -> Tensor:
        projections = zip((queries, keys, values), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)) for x, weight, bias in projections)
        blocked = None if pictures.valid is None else ~pictures.valid[:, None, None, :]
        queries = q.transpose(0, 1).expand(pictures.count, -1, -1, -1)
        out = batched_attention(queries, pictures.split(k).transpose(1, 2), pictures.split(v).transpose(1, 2), blocked)
        return self.out_proj(out.transpose(1, 2).flatten(2).flatten(0, 1))
