"""Boxes of datasets: converted by each convention, refused with their id, and a whole dataset in another frame is noticed."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qwenvl.data.adapters.frames import CONVENTIONS, FULL, Box, Convention, Layout, Unit, check_drawn_on, judge, to_region
from qwenvl.data.adapters.regions import Span, most_boxes
from qwenvl.types import Region, RegionError

SIZE = (640, 480)


def as_written(fractions: tuple[float, ...], convention: Convention, size: tuple[int, int] = SIZE) -> Box:
    """A box from left, top, right, bottom in [0, 1]: this test's own reading of a convention."""
    sides = size if convention.unit == "pixels" else (FULL[convention.unit],) * 2
    left, top, right, bottom = (value * sides[number % 2] for number, value in enumerate(fractions))
    orders = {
        "xyxy": (left, top, right, bottom),
        "xywh": (left, top, right - left, bottom - top),
        "yxyx": (top, left, bottom, right),
    }
    return Box(orders[convention.layout], size)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(0, 1)] * 4))
def test_a_box_is_the_same_place_however_it_is_written(convention: Convention, values: tuple[float, ...]) -> None:
    (left, right), (top, bottom) = sorted(values[::2]), sorted(values[1::2])
    box = as_written((left, top, right, bottom), convention)
    if min(right - left, bottom - top) > 0.0021:
        region = to_region(box, convention, "x 1", "boat")
        assert region.points == (pytest.approx((left, top)), pytest.approx((right, bottom)))
        assert region.label == "boat"
    elif min(right - left, bottom - top) < 0.0019:
        with pytest.raises(RegionError, match=r"^x 1: "):
            to_region(box, convention, "x 1")


@pytest.mark.parametrize(
    ("layout", "unit", "numbers", "message"),
    [
        ("xywh", "pixels", (600, 10, 50, 50), "leaves the picture"),
        ("xywh", "pixels", (-2, 10, 50, 50), "leaves the picture"),
        ("xyxy", "pixels", (100, 10, 50, 50), "swapped"),
        ("xywh", "pixels", (100, 10, -50, 50), "swapped"),
        ("xyxy", "pixels", (100, 10, 100, 50), "degenerate"),
        ("xyxy", "pixels", (100, 10, 101, 50), "degenerate"),  # 1 of 640 pixels: no two integers of 1000 apart for sure
        ("xyxy", "pixels", (0.1, 0.2, 0.5, 0.6), "fractions, where xyxy in pixels is expected"),
        ("xyxy", "fractions", (10, 20, 300, 400), "leaves the picture"),
        ("xyxy", "percent", (10, 20, 300, 400), "leaves the picture"),
        ("xyxy", "thousandths", (10, 20, 1200, 400), "leaves the picture"),
        ("xyxy", "fractions", (0.1, 0.2, 0.5), "not four numbers"),
        ("xyxy", "fractions", (0.1, 0.2, 0.5, float("nan")), "not four numbers"),
    ],
)
def test_a_bad_box_is_refused_with_its_id(layout: Layout, unit: Unit, numbers: tuple[float, ...], message: str) -> None:
    with pytest.raises(RegionError, match=f"^vg 77: .*{message}"):
        to_region(Box(numbers, SIZE), Convention(layout, unit), "vg 77")


def test_pixels_need_the_size_of_the_picture() -> None:
    with pytest.raises(RegionError, match="unknown size"):
        to_region(Box((1, 2, 30, 40)), Convention("xyxy", "pixels"), "x")
    assert to_region(Box((0.1, 0.2, 0.3, 0.4)), Convention("xyxy", "fractions"), "x") == Region.box(0.1, 0.2, 0.3, 0.4)


def test_a_box_that_ends_a_pixel_outside_is_moved_to_the_edge() -> None:
    region = to_region(Box((-1, 1, 641, 480.5), (640, 480)), Convention("xyxy", "pixels"), "x")
    assert region.points == ((0.0, pytest.approx(1 / 480)), (1.0, 1.0))
    with pytest.raises(RegionError, match="leaves the picture"):
        to_region(Box((0, 1, 641.1, 480), (640, 480)), Convention("xyxy", "pixels"), "x")


def dataset(convention: Convention, sizes: tuple[tuple[int, int], ...] = ((640, 480), (480, 640), (500, 375))) -> list[Box]:
    """Boxes of things all over pictures, cut at their edges."""
    rng = np.random.default_rng(0)
    boxes = []
    for number in range(200):
        (x, y), (width, height) = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.6, 2)
        sides = np.clip([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 0, 1)
        boxes.append(as_written(tuple(sides), convention, sizes[number % len(sizes)]))
    return boxes


@pytest.mark.parametrize("true", CONVENTIONS, ids=str)
def test_a_dataset_in_another_frame_is_noticed(true: Convention) -> None:
    """Only exchanged axes cannot be seen, where both are counted to the same number; another wrong order still is."""
    boxes = dataset(true)
    for declared in CONVENTIONS:
        verdict = judge(boxes, declared)
        assert verdict is not None and verdict.boxes == 200
        alike = true.unit == declared.unit != "pixels" and {true.layout, declared.layout} == {"xyxy", "yxyx"}
        if true == declared or alike:
            assert verdict.likelier is None and verdict.share == 1.0
        else:
            assert verdict.likelier is not None and verdict.likelier.unit == true.unit
            assert verdict.likelier == true or true.layout == "yxyx"
            assert str(declared) in str(verdict) and str(verdict.likelier) in str(verdict)


def test_good_boxes_with_some_dirt_are_no_other_frame() -> None:
    declared = Convention("xywh", "pixels")
    boxes = dataset(declared)
    dirty = [Box((700, 10, 50, 50), SIZE) for _ in range(6)]
    verdict = judge([*boxes, *dirty], declared)
    assert verdict is not None and verdict.likelier is None and verdict.share == pytest.approx(200 / 206)
    assert judge(boxes[:29], declared) is None, "too few to tell"
    unreadable: list[Any] = ["boat", [None, 1, 2, 3], ["a", 1, 2, 3], 5, {}]
    assert judge([*boxes, *map(Box, unreadable)], declared) == judge(boxes, declared), "those are refused one by one"
    middle = [Box((0.3 * w, 0.3 * h, 0.3 * w, 0.3 * h), (w, h)) for w, h in [SIZE] * 50]
    verdict = judge(middle, declared)
    assert verdict is not None and verdict.likelier is None, "things in the middle of pictures alone"


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((1280, 960), True),  # resized
        ((333, 250), True),  # with rounded sides
        ((480, 640), False),  # turned
        ((256, 256), False),  # with a border, or cropped
        ((640, 470), False),
    ],
)
def test_a_picture_of_another_shape_than_boxes_were_drawn_on_is_refused(tmp_path: Path, size: tuple[int, int], fits: bool) -> None:
    Image.new("RGB", size).save(tmp_path / "1.png")
    if fits:
        check_drawn_on(SIZE, str(tmp_path / "1.png"), "x 1")
        return
    with pytest.raises(RegionError, match=f"^x 1: the picture is {size[0]}x{size[1]}, its boxes were drawn on one of 640x480"):
        check_drawn_on(SIZE, str(tmp_path / "1.png"), "x 1")


# GRIT's phrases within phrases


def apart(spans: tuple[Span, ...] | list[Span]) -> bool:
    return all(one.end <= other.start or other.end <= one.start for one, other in combinations(spans, 2))


def boxes_of(spans: tuple[Span, ...] | list[Span]) -> int:
    return sum(len(span.regions) for span in spans)


spans_of_a_text = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 12), st.integers(1, 3)).map(
        lambda drawn: Span(drawn[0], drawn[0] + drawn[1], (Region.box(0, 0, 1, 1),) * drawn[2])
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(spans_of_a_text)
def test_the_most_boxes_are_kept_and_none_nested(spans: list[Span]) -> None:
    kept = most_boxes(spans)
    assert apart(kept) and kept == sorted(kept, key=lambda span: span.start)
    choices = [choice for count in range(len(spans) + 1) for choice in combinations(spans, count) if apart(choice)]
    assert boxes_of(kept) == max(map(boxes_of, choices))


def test_of_equal_choices_the_longer_phrases_are_kept() -> None:
    box = (Region.box(0, 0, 1, 1),)
    noun, expression, other = Span(19, 32, box), Span(19, 66, box), Span(0, 13, box)
    assert most_boxes([noun, other, expression, Span(0, 66, box)]) == [other, expression]
    assert most_boxes([Span(0, 66, box * 3), noun, other]) == [Span(0, 66, box * 3)]
