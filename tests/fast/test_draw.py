"""Labels on a drawn picture: all of each is in the picture, none hides another, and a long one is shortened."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from qwenvl.inference.draw import Box, draw_regions, place_label
from qwenvl.types import Region

CANVAS = (400, 300)


def shared(a: Box, b: Box) -> int:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def boxes_at_random(count: int, seed: int) -> list[Box]:
    rng = np.random.default_rng(seed)
    corners = [(int(rng.integers(0, 360)), int(rng.integers(0, 270)), int(rng.integers(5, 80)), int(rng.integers(5, 60)))
               for _ in range(count)]  # fmt: skip
    return [(x, y, min(x + width, CANVAS[0] - 1), min(y + height, CANVAS[1] - 1)) for x, y, width, height in corners]


@pytest.mark.parametrize("seed", range(20))
def test_labels_lie_inside_the_picture_and_apart(seed: int) -> None:
    boxes = boxes_at_random(4, seed)
    plates: list[Box] = []
    for box in boxes:
        plate = place_label((70, 20), box, CANVAS, boxes, plates, line=2)
        assert plate is not None
        assert plate[0] >= 0 and plate[1] >= 0 and plate[2] <= CANVAS[0] and plate[3] <= CANVAS[1]
        plates.append(plate)
    assert all(shared(a, b) == 0 for a, b in itertools.combinations(plates, 2))


def test_a_label_stands_above_its_box_and_below_where_there_is_no_room() -> None:
    middle, top = (100, 100, 200, 150), (100, 3, 200, 50)
    assert place_label((60, 20), middle, CANVAS, [middle], [], line=2) == (100, 78, 160, 98)
    assert place_label((60, 20), top, CANVAS, [top], [], line=2) == (100, 53, 160, 73)
    assert place_label((60, 20), middle, (50, 300), [middle], [], line=2) is None  # it would only hide the picture


def test_a_long_label_is_shortened_to_the_picture() -> None:
    drawn = np.asarray(draw_regions(Image.new("RGB", CANVAS, "white"), [Region.box(0.1, 0.5, 0.4, 0.9, "very " * 50)]))
    dark = np.argwhere((drawn < 40).all(axis=2)[:140])  # the plate; the box begins at row 150
    assert dark[:, 1].min() >= 0 and dark[:, 1].max() < CANVAS[0] - 1
    assert dark[:, 1].max() - dark[:, 1].min() > 300


def test_a_point_is_a_disc_with_its_label() -> None:
    point = Region("point", ((0.5, 0.5),), "dog")
    drawn = np.asarray(draw_regions(Image.new("RGB", CANVAS, "white"), [point]))
    assert tuple(drawn[150, 200]) == (230, 159, 0)
    changed = np.argwhere((drawn != 255).any(axis=2))
    assert changed[:, 0].max() < 165, "the label stands above it"
    assert changed[:, 0].min() < 140
