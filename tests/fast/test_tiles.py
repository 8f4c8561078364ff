"""Tiles: a grid of the picture's shape, at most twelve, nothing lost, and boxes back in the whole picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qwenvl.families import get_family
from qwenvl.processing.encode import ContextError, Processor
from qwenvl.processing.tiles import Tile, TileError, cut_pictures, tile_grid, to_whole
from qwenvl.types import ImagePart, Message, Region, Sample, TextPart
from tests.small_text import small_config, small_tokenizer


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((448, 448), (1, 1)), ((500, 500), (1, 1)), ((100, 20), (1, 1)), ((896, 448), (2, 1)), ((448, 1344), (1, 3)),
        ((1344, 1344), (3, 3)), ((4000, 4000), (3, 3)), ((4000, 3000), (4, 3)), ((3000, 4000), (3, 4)), ((1920, 1080), (4, 2)),
        ((30000, 100), (12, 1)), ((700, 650), (1, 1)), ((700, 700), (2, 2)),
    ],
)  # fmt: skip
def test_the_grid_has_the_shape_of_the_picture(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert tile_grid(*size, 448) == grid


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 12))
def test_there_are_never_more_tiles_than_allowed(width: int, height: int, most: int) -> None:
    columns, rows = tile_grid(width, height, 448, most)
    assert 1 <= columns * rows <= most


def test_a_picture_becomes_its_tiles_and_then_itself() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 56, 3), dtype=np.uint8))
    small = Image.new("RGB", (28, 28), "red")
    sample = Sample((Message.of("user", ImagePart(small), "a", ImagePart(noise, max_pixels=9), "b"),), id="s7")
    cut, tiles = cut_pictures(sample, 28)
    parts = cut.messages[0].parts
    assert [type(part) for part in parts] == [ImagePart, TextPart, ImagePart, ImagePart, ImagePart, TextPart]
    left, right, whole = (part.image for part in cut.images[1:])
    np.testing.assert_array_equal(np.hstack([np.asarray(left), np.asarray(right)]), np.asarray(noise))
    assert whole.size == (56, 28) and cut.images[1].max_pixels == 9 and cut.id == "s7"
    assert tiles == (Tile(0), Tile(1, 0.0, 0.0, 0.5, 1.0), Tile(1, 0.5, 0.0, 1.0, 1.0), Tile(1))
    assert [tile.is_whole for tile in tiles] == [True, False, False, True]


def test_boxes_of_a_tile_are_mapped_to_the_whole_picture() -> None:
    _, tiles = cut_pictures(Sample((Message.of("user", ImagePart(Image.new("RGB", (56, 56)))),)), 28)
    assert len(tiles) == 5
    regions = [Region.box(0.0, 0.5, 1.0, 1.0, "a", image=3), Region.box(0.1, 0.2, 0.3, 0.4, "b", image=4)]
    assert to_whole(regions, tiles) == (Region.box(0.5, 0.75, 1.0, 1.0, "a"), Region.box(0.1, 0.2, 0.3, 0.4, "b"))
    assert to_whole([Region("point", ((0.5, 0.5),), image=0)], tiles) == (Region("point", ((0.25, 0.25),)),)
    with pytest.raises(TileError, match="picture 6, but the tiled sample has 5"):
        to_whole([Region.box(0, 0, 1, 1, image=5)], tiles)
    for most in (0, 13, 100):
        with pytest.raises(TileError, match=f"tiles is {most}; give a number from 1 to 12"):
            tile_grid(4000, 4000, 28, most)


def test_tiles_beyond_the_context_are_refused_with_the_numbers() -> None:
    config = small_config(small_tokenizer(), context=100)
    processor = Processor(config, get_family("qwen_vl"), small_tokenizer())
    picture = Image.new("RGB", (400, 300))
    sample, _ = cut_pictures(Sample((Message.of("user", ImagePart(picture), "What?"),), id="s7"), config.vision.image_size or 0)
    with pytest.raises(ContextError, match=r"'s7': \d+ tokens \(52 of them for 13 pictures\) do not fit in the context of 100"):
        processor.encode(sample, "chat")
