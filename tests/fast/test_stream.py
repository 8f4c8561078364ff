"""Sample i of a mixture depends on (seed, i) alone; weights and epochs are kept exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.config import ConfigError
from qwenvl.data.stream import BLOCK, WINDOW, SampleStream, Shuffled, block_counts
from qwenvl.types import Message, Sample


@dataclass
class Numbers:
    """A source whose samples say their number."""

    name: str
    size: int | None
    groups: list[int] | None = field(default=None)

    def sample(self, index: int) -> Sample:
        return Sample((Message.of("user", str(index)),), id=f"{self.name}/{index}")


def stream(seed: int = 7) -> SampleStream:
    sources = [Numbers("shards", 1000, [64] * 15 + [40]), Numbers("scenes", None), Numbers("few", 100)]
    return SampleStream(sources, [3, 1, 0.5], seed)


def test_order_is_a_pure_function_of_seed_and_index() -> None:
    ahead = [stream().sample(index).id for index in range(3000)]
    back = stream()
    assert [back.sample(index).id for index in reversed(range(3000))] == ahead[::-1]
    assert [stream(8).sample(index).id for index in range(50)] != ahead[:50]


def test_every_block_holds_each_source_by_its_weight() -> None:
    ours = stream()
    for block in (0, 5):
        drawn = Counter(ours.draw(index)[0] for index in range(block * BLOCK, (block + 1) * BLOCK))
        assert [drawn[number] for number in range(3)] == ours.counts == [683, 227, 114]


def test_an_epoch_shows_every_sample_once_and_the_next_in_another_order() -> None:
    ours = stream()
    draws = [ours.draw(index) for index in range(4 * BLOCK)]
    epochs = [[place for number, place, epoch in draws if number == 0 and epoch == wanted] for wanted in (0, 1)]
    assert all(sorted(places) == list(range(1000)) for places in epochs)
    assert epochs[0] != epochs[1] != sorted(epochs[1])
    endless = [place for number, place, _ in draws if number == 1]
    assert sorted(endless) == list(range(4 * 227))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 5))
def test_shuffling_keeps_every_sample_and_reads_few_groups_at_once(groups: list[int], seed: int) -> None:
    shuffled = Shuffled(groups, np.random.default_rng(seed))
    order = [shuffled.index(place) for place in range(sum(groups))]
    assert sorted(order) == list(range(sum(groups)))
    group_of = np.repeat(np.arange(len(groups)), groups)
    runs = [list(dict.fromkeys(group_of[order].tolist()))[start : start + WINDOW] for start in range(0, len(groups), WINDOW)]
    place = 0
    for run in runs:  # the samples of WINDOW groups come before any other
        count = sum(groups[group] for group in run)
        assert set(group_of[order[place : place + count]].tolist()) == set(run)
        place += count


def test_shares_add_up_and_a_weight_too_small_is_refused() -> None:
    assert sum(block_counts([1, 1, 1], ["a", "b", "c"])) == BLOCK
    assert block_counts([1, 0], ["a", "b"]) == [BLOCK, 0]
    with pytest.raises(ConfigError, match=r"data.sources: b: weight 1 of 10001 .* never be drawn"):
        block_counts([10_000, 1], ["a", "b"])
    with pytest.raises(ConfigError, match="a weight above 0"):
        block_counts([0.0], ["a"])
    with pytest.raises(ConfigError, match="nothing is empty"):
        SampleStream([Numbers("nothing", 0)], [1.0], 0)
