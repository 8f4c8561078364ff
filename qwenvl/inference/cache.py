"""The key-value cache of running sequences: an explicit object that a session owns. Sequences take and leave rows between steps.

N rows, S slots of each, K kv heads, d head_dim, L layers, T new tokens packed over the rows of one step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qwenvl.config import DecoderConfig
from qwenvl.models.attention import CachedLayout, Pattern, Rows


class KVCache:
    """Room for `capacity` tokens of each of `count` sequences. keys and values: per layer (N, K, capacity, d), a head's tokens
    side by side, as attention reads them.

    Rows lie side by side so that a step over all of them, or over one, reads a view: paged blocks would have to be gathered, every
    layer and every step, into what is a view here. What sequences share is copied in once, when they begin (`write`).
    """

    def __init__(
        self, config: DecoderConfig, count: int, capacity: int, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        shape = (count, config.num_key_value_heads, capacity, config.head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.lengths = [0] * count
        """Tokens held of each sequence; rows beyond them are free."""

    @property
    def capacity(self) -> int:
        return self.keys[0].shape[2]

    @property
    def rows(self) -> int:
        """Sequences that there is room for."""
        return self.keys[0].shape[0]

    def reserve(self, rows: int, capacity: int, most: int | None = None) -> None:
        """Have at least so many rows and slots, counting those in use. What has to grow gets twice what it needs, so that growing
        costs little in all, unless rows times slots were more than `most`; what had grown for sequences that have left shrinks
        then, or one long answer would make room for its length in every row for ever. Where memory runs out, what was held is
        held still."""
        if rows <= self.rows and capacity <= self.capacity:
            return
        used, held = len(self.lengths), max(self.lengths, default=0)
        rows, capacity = max(rows, used), max(capacity, held)
        ample = (max(rows, 2 * used), max(capacity, 2 * held))
        if most is None or ample[0] * ample[1] <= most:
            rows, capacity = ample
        else:  # all that is left: growing by one slot at every step would copy the whole each time
            capacity = max(capacity, min(ample[1], most // rows))
        try:
            for whole in (self.keys, self.values):
                for layer, old in enumerate(whole):  # one layer after the other: the old and the new cache are never both whole
                    new = old.new_zeros(rows, old.shape[1], capacity, old.shape[3])
                    new[:used, :, :held] = old[:used, :, :held]
                    whole[layer] = new
        except BaseException:
            self._level()
            raise

    def _level(self) -> None:
        """Make layers of one size of layers that are not, without memory: to the rows and slots that all of them have."""
        layers = (*self.keys, *self.values)
        rows, capacity = min(held.shape[0] for held in layers), min(held.shape[2] for held in layers)
        self.keys, self.values = ([held[:rows, :, :capacity] for held in whole] for whole in (self.keys, self.values))

    def open(self, capacity: int, most: int | None = None) -> int:
        """The row of one more, empty sequence with room for so many tokens; `most` as in `reserve`."""
        self.reserve(len(self.lengths) + 1, capacity, most)
        self.lengths.append(0)
        return len(self.lengths) - 1

    def move(self, source: int, target: int) -> None:
        """Copy a sequence over another row, whose own is lost."""
        length = self.lengths[target] = self.lengths[source]
        for held in (*self.keys, *self.values):
            held[target, :, :length] = held[source, :, :length]

    def wipe(self, row: int) -> None:
        """Zero all of a row. What a sequence leaves behind is hidden by every layout, but attention multiplies what is hidden by
        zero, and nothing hides an infinity or a NaN."""
        for held in (*self.keys, *self.values):
            held[row].zero_()

    def close(self) -> None:
        """Give up the last row."""
        self.lengths.pop()

    def extend(self, new: Sequence[int]) -> CachedLayout:
        """Make room for new[i] more tokens of sequence i and return how they attend. Raises ValueError when they do not fit."""
        past = self.lengths
        whole = [length + more for length, more in zip(past, new, strict=True)]
        if max(whole) > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens of a sequence; {max(whole)} are needed")
        self.lengths = whole
        device = self.keys[0].device
        starts, counts = torch.tensor(past, device=device), torch.tensor(list(new), device=device)
        rows = Rows.of(counts)
        offset = torch.arange(rows.length, device=device)
        position = starts[:, None] + offset
        valid = offset < counts[:, None]
        sequences = torch.arange(len(new), device=device).repeat_interleave(counts)
        keys = max(whole)
        # Prompts into an empty cache: the kernel's own causal pattern, which a mask would only slow down. It hides a row's padding.
        causal = not any(past)
        blocked = None if causal else torch.arange(keys, device=device) > position[:, None, :, None]
        if blocked is not None and not bool(blocked.any()):
            blocked = None
        return CachedLayout(Pattern(rows, causal, blocked), sequences, position[valid], keys, steps=all(more == 1 for more in new))

    def append(self, layer: int, keys: Tensor, values: Tensor, layout: CachedLayout) -> tuple[Tensor, Tensor]:
        """Store keys and values (T, K, d) of the tokens just made room for; return (N, K, S, d) of all."""
        rows = layout.pattern.rows.count
        whole = []
        for held, new in ((self.keys[layer], keys), (self.values[layer], values)):
            held[layout.sequences, :, layout.slots] = new.to(held.dtype)
            whole.append(held[:rows, :, : layout.keys])
        return whole[0], whole[1]

    def read(self, row: int, start: int, end: int) -> Tensor:
        """A copy (L, 2, K, end - start, d) of the keys and values of these tokens of a row."""
        return torch.stack([torch.stack([held[row, :, start:end] for held in pair]) for pair in zip(self.keys, self.values)])

    def write(self, row: int, block: Tensor) -> None:
        """Continue a row by keys and values (L, 2, K, n, d) that were read elsewhere. Raises ValueError when they do not fit."""
        start = self.lengths[row]
        end = start + block.shape[3]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens of a sequence; {end} are needed")
        for layer, (keys, values) in enumerate(block):
            self.keys[layer][row, :, start:end] = keys
            self.values[layer][row, :, start:end] = values
        self.lengths[row] = end
