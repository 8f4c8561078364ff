"""Keys and values of prompts' beginnings, in blocks by content: a system prompt, earlier turns and a picture are read once.

A block's name is a digest of all that its keys and values follow from: every token from the first on, its position on each axis,
the pictures that begin by then, and dynamic NTK's alpha, which the length of the whole prompt decides. So equal names mean equal
blocks, whoever asks. T tokens, L layers, K kv heads, d head_dim.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from qwenvl.inference.cache import KVCache
from qwenvl.inference.features import Look, TensorCache

BLOCK = 64
"""Tokens of a block."""


def block_names(
    input_ids: np.ndarray, position_ids: np.ndarray, visual_slots: np.ndarray, looks: Sequence[Look], alpha: float
) -> list[bytes]:
    """The name of every whole block of a sequence: ids (T,), positions (3, T), slots (V,) that the pictures' tokens stand in."""
    begins: dict[int, list[bytes]] = {}
    for look in looks:
        begins.setdefault(int(visual_slots[look.tokens.start]) // BLOCK, []).append(look.digest)
    names, before = [], str(alpha).encode()
    for block in range(len(input_ids) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        name = hashlib.blake2b(before, digest_size=16)
        name.update(input_ids[part].tobytes() + position_ids[:, part].tobytes())
        for digest in begins.get(block, ()):
            name.update(digest)
        names.append(before := name.digest())
    return names


class Prefixes:
    """Blocks (L, 2, K, BLOCK, d) of keys and values, the longest unused let go first."""

    def __init__(self, budget: int) -> None:
        self.blocks = TensorCache(budget)

    def fill(self, cache: KVCache, row: int, names: Sequence[bytes]) -> int:
        """Begin an empty row with the blocks of these names, up to the first that is not held; the tokens that it then holds."""
        count = next((index for index, name in enumerate(names) if name not in self.blocks), len(names))
        self.blocks.misses += count < len(names)
        # From the last to the first: what is let go first is then an end, since what follows a lost beginning is lost as well.
        held = [block for name in reversed(names[:count]) if (block := self.blocks.get(name)) is not None][::-1]
        if held:
            cache.reserve(1, len(held) * BLOCK)
        for block in held:
            cache.write(row, block)
        return len(held) * BLOCK

    def take(self, cache: KVCache, row: int, names: Sequence[bytes]) -> None:
        """Keep the blocks of a row, which these are the names of: the last is put first, as it is to go first."""
        for block in reversed(range(min(len(names), cache.lengths[row] // BLOCK))):
            if names[block] not in self.blocks:
                self.blocks.put(names[block], cache.read(row, block * BLOCK, (block + 1) * BLOCK))
