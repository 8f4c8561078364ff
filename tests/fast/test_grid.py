"""Sizes, grids and windows as pure integers: the published rules, against ones written out slowly."""

from __future__ import annotations

import random
from math import isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.families import find_preset, get_family
from qwenvl.processing.grid import SizeError, by_squares, image_grid, pixel_bounds, smart_size, window_plan

SIDE = 28
LEAST, MOST = 4 * SIDE**2, 16384 * SIDE**2
QWEN2, SPEC2 = find_preset("qwen2-vl-7b").config, get_family("qwen2_vl")
QWEN25, SPEC25 = find_preset("qwen2.5-vl-7b").config, get_family("qwen2_5_vl")


def nearest(value: int) -> int:
    """value / 28 to the nearest whole number, halves to the even one."""
    low, rest = divmod(value, SIDE)
    return low + (2 * rest > SIDE or (2 * rest == SIDE and low % 2 == 1))


def slow_size(width: int, height: int, least: int, most: int) -> tuple[int, int]:
    """The rule in whole numbers: the square root of a fraction is never taken, only its floor or ceiling in units of 28."""
    wide, high = nearest(width), nearest(height)
    if wide * high * SIDE**2 > most:
        # floor(width / sqrt(width * height / most) / 28), and so for the height
        wide, high = (isqrt(a * most // (b * SIDE**2)) for a, b in ((width, height), (height, width)))
    elif wide * high * SIDE**2 < least:
        wide, high = (isqrt((a * least - 1) // (b * SIDE**2)) + 1 for a, b in ((width, height), (height, width)))
    return max(wide, 1) * SIDE, max(high, 1) * SIDE


def random_sizes(count: int) -> list[tuple[int, int]]:
    """Small and large, square and thin, none beyond the ratio of 200."""
    draw = random.Random(0)
    sizes: list[tuple[int, int]] = []
    while len(sizes) < count:
        size = tuple(draw.randint(1, draw.choice([30, 300, 3000, 20000])) for _ in range(2))
        if max(size) <= 200 * min(size):
            sizes.append(size)
    return sizes


def on_an_edge(width: int, height: int, bound: int) -> bool:
    """Whether a side would be a whole multiple after scaling: there the published floating point may fall on either side of it."""
    ratios = [divmod(a * bound, b * SIDE**2) for a, b in ((width, height), (height, width))]
    return any(not rest and isqrt(ratio) ** 2 == ratio for ratio, rest in ratios)


def test_ten_thousand_sizes_are_those_of_the_rule_in_whole_numbers() -> None:
    edges = 0
    for bounds in ((LEAST, MOST), (256 * SIDE**2, 1280 * SIDE**2)):
        for size in random_sizes(5000):
            found = smart_size(*size, SIDE, *bounds, 200)
            if found != slow_size(*size, *bounds):
                assert any(on_an_edge(*size, bound) for bound in bounds), size
                edges += 1
            assert bounds[0] <= found[0] * found[1] <= max(bounds[1], SIDE * max(found)), size
    assert edges < 10


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((224, 224), (224, 224)),
        ((42, 70), (56, 56)),  # halves go to the even multiple: 1.5 to 2, 2.5 to 2
        ((1, 1), (56, 56)),
        ((27, 13), (84, 56)),
        ((600, 10), (448, 28)),
        ((1, 200), (28, 812)),
        ((6000, 4000), (4368, 2912)),
        ((76, 19), (140, 56)),  # 112 x 28 by whole numbers; the published floating point goes just beyond
        ((28, 224), (28, 224)),
    ],
)
def test_sizes_by_hand(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert smart_size(*size, SIDE, LEAST, MOST, 200) == expected


def test_28_by_224_gives_8_and_2_tokens_and_224_by_224_gives_64_and_2() -> None:
    """The two more stand before and after: vision start and vision end."""
    for config, spec in ((QWEN2, SPEC2), (QWEN25, SPEC25)):
        assert spec.visual_tokens(config, image_grid(config, spec, 28, 224)) + 2 == 8 + 2
        assert spec.visual_tokens(config, image_grid(config, spec, 224, 28)) + 2 == 8 + 2
        assert spec.visual_tokens(config, image_grid(config, spec, 224, 224)) + 2 == 64 + 2
        assert image_grid(config, spec, 28, 224) == (1, 16, 2)


@pytest.mark.parametrize("size", [(30_000, 10), (1, 201)])
def test_too_extreme_a_ratio_is_one_clear_line(size: tuple[int, int]) -> None:
    ratio = max(size) // min(size)
    line = f"at {size[0]}x{size[1]} pixels one side is {ratio} times the other, and 200 is the limit; crop or split it"
    with pytest.raises(SizeError, match=f"^{line}$"):
        image_grid(QWEN2, SPEC2, *size)


def test_bounds_of_one_picture_win_over_the_familys() -> None:
    assert image_grid(QWEN2, SPEC2, 1000, 1000, max_pixels=100 * SIDE**2) == (1, 20, 20)
    assert image_grid(QWEN2, SPEC2, 56, 56, min_pixels=100 * SIDE**2) == (1, 20, 20)
    assert image_grid(QWEN2, SPEC2, 56, 56, max_pixels=SIDE**2) == (1, 2, 2), "below the family's least"
    assert pixel_bounds(50, None, 10, 20) == (50, 50)
    assert pixel_bounds(None, None, None, None)[0] == 1
    with pytest.raises(SizeError, match=r"^min_pixels is 50, more than max_pixels, 20; give a smaller or a larger one$"):
        image_grid(QWEN2, SPEC2, 56, 56, min_pixels=50, max_pixels=20)
    for name in ("min_pixels", "max_pixels"):
        with pytest.raises(SizeError, match=rf"^{name} is -5; give a number of pixels above 0$"):
            image_grid(QWEN2, SPEC2, 56, 56, **{name: -5})
    nano = find_preset("qwen-vl-nano").config
    assert image_grid(nano, get_family("qwen_vl"), 1000, 10, max_pixels=1) == (1, 8, 8), "squares know no bounds"


def test_squares_come_row_by_row_and_so_do_their_cells() -> None:
    cells = np.arange(24).reshape(4, 6)
    packed = [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, 12, 13, 18, 19, 14, 15, 20, 21, 16, 17, 22, 23]
    assert by_squares(cells, 2).tolist() == packed
    assert by_squares(cells, 1).tolist() == list(range(24))
    pairs = np.stack([cells, -cells], axis=-1)
    assert by_squares(pairs, 2).tolist() == [[cell, -cell] for cell in packed], "what a cell holds stays together"


def slow_windows(grids: list[tuple[int, int, int]], merge: int, side: int) -> tuple[list[int], list[int]]:
    """As published: pad every frame to whole windows (by one whole window where it fits), walk them, drop padding and empties."""
    order: list[int] = []
    lengths: list[int] = []
    first = 0
    for frames, patch_rows, patch_columns in grids:
        rows, columns = patch_rows // merge, patch_columns // merge
        padded_rows, padded_columns = rows + side - rows % side, columns + side - columns % side
        for frame in range(frames):
            for top in range(0, padded_rows, side):
                for left in range(0, padded_columns, side):
                    window = [
                        first + (frame * rows + row) * columns + column
                        for row in range(top, top + side)
                        for column in range(left, left + side)
                        if row < rows and column < columns
                    ]
                    order += window
                    lengths += [len(window) * merge**2] if window else []
        first += frames * rows * columns
    return order, lengths


GRIDS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 11), st.integers(1, 11)), max_size=4)


@given(GRIDS)
def test_windows_are_the_published_ones(units: list[tuple[int, int, int]]) -> None:
    grids = [(frames, 2 * rows, 2 * columns) for frames, rows, columns in units]
    plan = window_plan(np.array(grids).reshape(-1, 3), QWEN25.vision)
    assert plan is not None
    order, lengths = slow_windows(grids, merge=2, side=4)
    assert plan.order.tolist() == order
    assert plan.lengths.tolist() == lengths
    assert plan.order.dtype == plan.lengths.dtype == np.int64


def test_windows_by_hand() -> None:
    """A frame of 5 x 6 units in windows of 4 x 4: three of them are cut by the edge; the second frame follows the first."""
    plan = window_plan(np.array([[2, 10, 12]]), QWEN25.vision)
    assert plan is not None
    assert plan.order[:16].tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15, 18, 19, 20, 21]
    assert plan.order[16:30].tolist() == [4, 5, 10, 11, 16, 17, 22, 23, 24, 25, 26, 27, 28, 29]
    assert plan.order[30:34].tolist() == [30, 31, 32, 33]
    assert plan.lengths.tolist() == [64, 32, 16, 8] * 2


def test_a_tower_without_windows_has_no_plan() -> None:
    assert window_plan(np.array([[1, 4, 4]]), QWEN2.vision) is None
