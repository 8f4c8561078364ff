"""The key-value cache of a batch of sequences, each at its own length: an explicit object that a session owns.

N sequences, S slots of each, K kv heads, d head_dim, T new tokens packed over all sequences.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qwenvl.config import DecoderConfig
from qwenvl.models.attention import CachedLayout, Pattern, Rows


class KVCache:
    """Room for `capacity` tokens of each of `count` sequences. keys and values: per layer (N, K, capacity, d), a head's tokens
    side by side, as attention reads them."""

    def __init__(
        self, config: DecoderConfig, count: int, capacity: int, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        shape = (count, config.num_key_value_heads, capacity, config.head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.capacity = capacity
        self.lengths = [0] * count
        """Tokens held of each sequence."""

    def extend(self, new: Sequence[int]) -> CachedLayout:
        """Make room for new[i] more tokens of sequence i and return how they attend. Raises ValueError when they do not fit."""
        past, self.lengths = self.lengths, [length + more for length, more in zip(self.lengths, new, strict=True)]
        if max(self.lengths) > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens of a sequence; {max(self.lengths)} are needed")
        device = self.keys[0].device
        starts, counts = torch.tensor(past, device=device), torch.tensor(list(new), device=device)
        rows = Rows.of(counts)
        offset = torch.arange(rows.length, device=device)
        position = starts[:, None] + offset
        valid = offset < counts[:, None]
        sequences = torch.arange(len(new), device=device).repeat_interleave(counts)
        keys = max(self.lengths)
        # Prompts into an empty cache: the kernel's own causal pattern, which a mask would only slow down. It hides a row's padding.
        causal = not any(past)
        blocked = None if causal else torch.arange(keys, device=device) > position[:, None, :, None]
        if blocked is not None and not bool(blocked.any()):
            blocked = None
        return CachedLayout(Pattern(rows, causal, blocked), sequences, position[valid], keys)

    def append(self, layer: int, keys: Tensor, values: Tensor, layout: CachedLayout) -> tuple[Tensor, Tensor]:
        """Store keys and values (T, K, d) of the tokens just made room for; return (N, K, S, d) of all."""
        whole = []
        for held, new in ((self.keys[layer], keys), (self.values[layer], values)):
            held[layout.sequences, :, layout.slots] = new.to(held.dtype)
            whole.append(held[:, :, : layout.keys])
        return whole[0], whole[1]

    def keep(self, sequences: Sequence[int]) -> None:
        """Drop all sequences but these, in this order."""
        index = torch.tensor(list(sequences), device=self.keys[0].device)
        self.keys = [held.index_select(0, index) for held in self.keys]
        self.values = [held.index_select(0, index) for held in self.values]
        self.lengths = [self.lengths[i] for i in sequences]
