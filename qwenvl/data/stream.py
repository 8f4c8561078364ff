"""One endless stream of Samples from several sources: sample i is a pure function of (seed, i), whoever asks for it.

Draws come in blocks of BLOCK. Every block holds each source as often as its weight says, in an order of its own; the k-th draw of a
source is its k-th sample in the order of its epoch. So nothing needs to be remembered to go on in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from qwenvl.config import ConfigError
from qwenvl.data.sources import SampleSource
from qwenvl.types import Sample

BLOCK = 1024
"""Draws of a block; a source's share is rounded to its multiples of 1 / BLOCK."""
WINDOW = 8
"""Groups of neighbouring samples (row groups of a shard) that are shuffled together; the groups themselves are shuffled whole."""
KEPT = 64


class SampleStream:
    """Samples of weighted sources. Raises ConfigError where a source is empty or its weight too small to be drawn."""

    def __init__(self, sources: Sequence[SampleSource], weights: Sequence[float], seed: int) -> None:
        for source in sources:
            if source.size == 0:
                raise ConfigError(f"data.sources: {source.name} is empty; leave it out")
        self.sources, self.seed = list(sources), seed
        self.counts = block_counts(weights, [source.name for source in sources])
        self._ends = np.cumsum(self.counts)
        self._order = lru_cache(KEPT)(self._make_order)
        self._epoch = lru_cache(KEPT)(self._make_epoch)

    def sample(self, index: int) -> Sample:
        """Raises what the source raises for a sample that is refused: a QwenVLError of one line."""
        number, place, _ = self.draw(index)
        return self.sources[number].sample(place)

    def draw(self, index: int) -> tuple[int, int, int]:
        """(source, number of the sample in it, epoch of the source) of draw `index`."""
        block, place = divmod(index, BLOCK)
        slot = int(self._order(block)[place])
        number = int(np.searchsorted(self._ends, slot, side="right"))
        rank = block * self.counts[number] + slot - (int(self._ends[number - 1]) if number else 0)
        size = self.sources[number].size
        if size is None:
            return number, rank, 0
        epoch, place = divmod(rank, size)
        return number, self._epoch(number, epoch).index(place), epoch

    def _make_order(self, block: int) -> np.ndarray:
        return _generator(self.seed, 0, block).permutation(BLOCK)

    def _make_epoch(self, number: int, epoch: int) -> Shuffled:
        source = self.sources[number]
        return Shuffled(getattr(source, "groups", None) or [source.size or 0], _generator(self.seed, 1 + number, epoch))


class Shuffled:
    """A permutation of the samples of an epoch that keeps what is read together close: groups change places, and within
    WINDOW of them that now follow each other, samples do. A single group is shuffled whole.

    groups: the number of samples in each.
    """

    def __init__(self, groups: Sequence[int], generator: np.random.Generator) -> None:
        sizes = np.asarray(groups, np.int64)
        self._order = generator.permutation(len(sizes))
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._sizes = sizes
        self._ends = np.cumsum(np.add.reduceat(sizes[self._order], np.arange(0, len(sizes), WINDOW)))
        self._seeds = generator.integers(0, 2**63, len(self._ends))
        self._window = lru_cache(2)(self._make_window)

    def index(self, place: int) -> int:
        """The number of the sample that stands at `place`."""
        window = int(np.searchsorted(self._ends, place, side="right"))
        return int(self._window(window)[place - (int(self._ends[window - 1]) if window else 0)])

    def _make_window(self, window: int) -> np.ndarray:
        groups = self._order[window * WINDOW : (window + 1) * WINDOW]
        numbers = np.concatenate([np.arange(self._starts[group], self._starts[group] + self._sizes[group]) for group in groups])
        return np.random.Generator(np.random.PCG64(int(self._seeds[window]))).permutation(numbers)


def block_counts(weights: Sequence[float], names: Sequence[str]) -> list[int]:
    """How often each source stands in a block: BLOCK shared by weight, the largest remainders rounded up.

    Raises ConfigError for a weight that would never be drawn.
    """
    total = math.fsum(weights)
    if not total > 0:
        raise ConfigError("data.sources: give at least one source with a weight above 0")
    shares = [weight / total * BLOCK for weight in weights]
    counts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda index: counts[index] - shares[index])
    for index in by_remainder[: BLOCK - sum(counts)]:
        counts[index] += 1
    for name, weight, count in zip(names, weights, counts, strict=True):
        if weight > 0 and not count:
            share = f"weight {weight:g} of {total:g} is less than 1 in {2 * BLOCK}"
            raise ConfigError(f"data.sources: {name}: {share}, so it would never be drawn; raise it or leave it out")
    return counts


def _generator(seed: int, kind: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, kind, number))))
