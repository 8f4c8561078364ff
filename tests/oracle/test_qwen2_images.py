"""Sizes and patches against transformers' PIL processor of Qwen2-VL."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qwenvl.families import find_preset, get_family
from qwenvl.processing.encode import ready_picture
from qwenvl.processing.grid import smart_size

CONFIG, SPEC = find_preset("qwen2-vl-7b").config, get_family("qwen2_vl")
SIDE = 28


@pytest.fixture(scope="module")
def theirs() -> Any:
    pytest.importorskip("transformers")
    from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl

    return image_processing_pil_qwen2_vl


def sizes(count: int, largest: tuple[int, ...]) -> list[tuple[int, int]]:
    draw = random.Random(1)
    found: list[tuple[int, int]] = []
    while len(found) < count:
        size = draw.randint(1, draw.choice(largest)), draw.randint(1, draw.choice(largest))
        if max(size) <= 200 * min(size):
            found.append(size)
    return found


@pytest.mark.parametrize(("least", "most"), [(4, 16384), (256, 1280), (16, 16), (4, 1280)])
def test_sizes_equal_transformers_on_ten_thousand_pictures(theirs: Any, least: int, most: int) -> None:
    bounds = least * SIDE**2, most * SIDE**2
    for width, height in sizes(10_000, (30, 300, 3000, 20_000)):
        found = smart_size(width, height, SIDE, *bounds, 200)
        assert found[::-1] == theirs.smart_resize(height, width, SIDE, *bounds), (width, height)


def test_patches_equal_transformers_on_fifty_sizes(theirs: Any) -> None:
    """The bounds are chosen so that some pictures shrink, some grow, and some keep their size."""
    least, most = 16 * SIDE**2, 64 * SIDE**2
    peer = theirs.Qwen2VLImageProcessorPil(min_pixels=least, max_pixels=most)
    for seed, (width, height) in enumerate([(224, 224), (28, 224), *sizes(48, (20, 100, 400))]):
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        expected = peer(picture, return_tensors="np")
        found = ready_picture(CONFIG, SPEC, picture, "picture", least, most)
        assert [list(found.grid)] == np.asarray(expected["image_grid_thw"]).tolist()
        np.testing.assert_allclose(found.patches, expected["pixel_values"], atol=1e-6, rtol=0)


def test_what_is_behind_transparency_is_white_as_in_transformers(theirs: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 4), dtype=np.uint8)
    picture = Image.fromarray(noise, "RGBA")
    expected = theirs.Qwen2VLImageProcessorPil()(picture, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(ready_picture(CONFIG, SPEC, picture, "picture").patches, expected, atol=1e-6, rtol=0)
