"""The merger: a square of neighbouring patches becomes one visual token through a two-layer MLP.

P patches, W the tower's width, m merge_size, V = P / m**2 visual tokens, D the decoder's hidden size.
Source: section 2.1 of arXiv 2409.12191 (adjacent 2 x 2 tokens are joined by an MLP layer), kept by arXiv 2502.13923.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from qwenvl.config import MergerConfig
from qwenvl.models.layers import make_norm


class Merger(nn.Module):
    """forward(features (P, W), grids (n, 3)) -> (V, D). The patches of a square lie one after the other on the packed axis."""

    def __init__(self, config: MergerConfig, vision_width: int) -> None:
        super().__init__()
        joined = vision_width * config.merge_size**2
        self.config = config
        self.norm = make_norm(config.norm, vision_width, config.norm_eps)
        self.up = nn.Linear(joined, joined)
        self.down = nn.Linear(joined, config.hidden_size)

    def forward(self, features: Tensor, grids: Tensor) -> Tensor:
        squares = self.norm(features).unflatten(0, (-1, self.config.merge_size**2)).flatten(1)
        return self.down(F.gelu(self.up(squares)))
