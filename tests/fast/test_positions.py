"""M-RoPE position ids against a slow loop written from the rule, and against tables written by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenvl.families import find_preset, get_family
from qwenvl.processing.positions import mrope_positions, next_position, positions_1d, positions_of


@dataclass(frozen=True)
class Visual:
    """A picture (seconds None) or video: frames, rows and columns of visual tokens."""

    frames: int
    rows: int
    columns: int
    seconds: float | None = None


Mix = list[int | Visual]
"""A conversation: so many text tokens, pictures and videos."""


def slow_positions(mix: Mix, tokens_per_second: float | None, start: int = 0) -> list[tuple[int, int, int]]:
    """Token by token: text takes the next position on all axes; after anything comes the largest so far, plus one."""
    found: list[tuple[int, int, int]] = []
    for item in mix:
        base = max((max(position) + 1 for position in found), default=start)
        if isinstance(item, int):
            found += [(base + number,) * 3 for number in range(item)]
            continue
        for frame in range(item.frames):
            time = frame
            if item.seconds is not None and tokens_per_second is not None:
                time = int(np.float32(frame) * np.float32(item.seconds) * np.float32(tokens_per_second))
            for row in range(item.rows):
                for column in range(item.columns):
                    found.append((base + time, base + row, base + column))
    return found


def laid_out(mix: Mix, merge: int = 2) -> tuple[int, np.ndarray, np.ndarray, list[float | None]]:
    """Length, visual slots, grids and seconds, as `mrope_positions` takes them."""
    length, slots, grids, seconds = 0, [], [], []
    for item in mix:
        if isinstance(item, int):
            length += item
            continue
        count = item.frames * item.rows * item.columns
        slots += range(length, length + count)
        length += count
        grids.append((item.frames, item.rows * merge, item.columns * merge))
        seconds.append(item.seconds)
    return length, np.array(slots, dtype=np.int64), np.array(grids, dtype=np.int64).reshape(-1, 3), seconds


def fast_positions(mix: Mix, tokens_per_second: float | None) -> list[list[int]]:
    length, slots, grids, seconds = laid_out(mix)
    return mrope_positions(length, slots, grids, 2, seconds, tokens_per_second).tolist()


SIDES = st.integers(1, 6)
PICTURES = st.builds(Visual, st.just(1), SIDES, SIDES)
VIDEOS = st.builds(Visual, st.integers(1, 9), SIDES, SIDES, st.floats(0.05, 40) | st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]))
MIXES = st.lists(st.integers(1, 7) | PICTURES | VIDEOS, max_size=7)


@settings(max_examples=1000)
@given(MIXES, st.sampled_from([None, 2.0, 2.0, 25.0]))
def test_positions_are_those_of_the_slow_loop(mix: Mix, tokens_per_second: float | None) -> None:
    expected = slow_positions(mix, tokens_per_second)
    assert fast_positions(mix, tokens_per_second) == [list(axis) for axis in zip(*expected, strict=True)] or not expected
    length, slots, grids, seconds = laid_out(mix)
    found = mrope_positions(length, slots, grids, 2, seconds, tokens_per_second)
    assert (found.shape, found.dtype) == ((3, length), np.int64)
    assert next_position(found) == max((max(position) + 1 for position in expected), default=0)


def test_a_picture_between_texts_by_hand() -> None:
    assert fast_positions([2, Visual(1, 2, 3), 2], None) == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]


def test_a_video_between_texts_by_hand() -> None:
    """Three patches in time of 1 x 2 tokens. By patch: 0, 1, 2. A second each at two positions a second: 0, 2, 4."""
    clip = Visual(3, 1, 2, seconds=1.0)
    assert fast_positions([1, clip, 1], None) == [
        [0, 1, 1, 2, 2, 3, 3, 4],
        [0, 1, 1, 1, 1, 1, 1, 4],
        [0, 1, 2, 1, 2, 1, 2, 4],
    ]
    assert fast_positions([1, clip, 1], 2.0) == [
        [0, 1, 1, 3, 3, 5, 5, 6],
        [0, 1, 1, 1, 1, 1, 1, 6],
        [0, 1, 2, 1, 2, 1, 2, 6],
    ]


def test_text_after_a_video_continues_from_the_maximum_over_all_axes() -> None:
    """24 frames of 84 x 140 pixels at 2 a second, after 5 tokens: the next text has 5 + 12 by patch and 5 + 23 in seconds."""
    clip = Visual(12, 3, 5, seconds=1.0)
    assert {axis[-1] for axis in fast_positions([5, clip, 1], None)} == {17}
    assert {axis[-1] for axis in fast_positions([5, clip, 1], 2.0)} == {28}
    assert next_position(np.array(fast_positions([5, clip], 2.0))) == 28, "the same for an answer that follows at once"


def test_four_frames_a_second_do_not_collapse() -> None:
    """Half a second a patch, two positions a second: one position each; 3 fps: 4/3 each, cut; 8 fps: two patches share one."""
    for fps, expected in ((4, [0, 1, 2, 3, 4, 5]), (3, [0, 1, 2, 4, 5, 6]), (8, [0, 0, 1, 1, 2, 2]), (2, [0, 2, 4, 6, 8, 10])):
        assert fast_positions([Visual(6, 1, 1, seconds=2 / fps)], 2.0)[0] == expected


def test_a_still_picture_ignores_seconds() -> None:
    assert fast_positions([Visual(1, 2, 2)], 2.0) == fast_positions([Visual(1, 2, 2)], None)


@given(MIXES, st.lists(MIXES.filter(len), min_size=1, max_size=3))
def test_positions_of_a_branch_are_those_it_would_have_alone(prefix: Mix, branches: list[Mix]) -> None:
    length, slots, grids, seconds = laid_out([*prefix, *(item for branch in branches for item in branch)])
    sizes = [laid_out(part)[0] for part in (prefix, *branches)]
    branch_ids = np.repeat(np.arange(len(sizes)), sizes)
    found = mrope_positions(length, slots, grids, 2, seconds, 2.0, branch_ids)
    ends = np.cumsum(sizes)
    for number, branch in enumerate(branches, start=1):
        alone = slow_positions([*prefix, *branch], 2.0)[sizes[0] :]
        assert found[:, ends[number - 1] : ends[number]].T.tolist() == [list(position) for position in alone]


def test_slots_that_do_not_fit_the_grids_are_refused() -> None:
    length, slots, grids, seconds = laid_out([2, Visual(1, 2, 2), 2])
    with pytest.raises(ValueError, match="3 visual slots, 1 durations, but 1 grids of 4 tokens"):
        mrope_positions(length, slots[1:], grids, 2, seconds, None)
    with pytest.raises(ValueError, match="picture 1 has 4 tokens, but 2 of them lie together"):
        mrope_positions(length, np.array([0, 1, 3, 4]), grids, 2, seconds, None)
    with pytest.raises(ValueError, match="must come before"):
        mrope_positions(length, slots, grids, 2, seconds, None, np.array([1] * 4 + [0] * 4))


def test_a_family_chooses_its_rule() -> None:
    length, slots, grids, seconds = laid_out([1, Visual(2, 2, 2, seconds=1.0), 1])
    for name, preset, last in (("qwen_vl", "qwen-vl-7b", 9), ("qwen2_vl", "qwen2-vl-7b", 3), ("qwen2_5_vl", "qwen2.5-vl-7b", 4)):
        found = positions_of(find_preset(preset).config, get_family(name), length, slots, grids, seconds)
        assert found[:, -1].tolist() == [last] * 3
    np.testing.assert_array_equal(positions_1d(4), np.tile(np.arange(4), (3, 1)))
