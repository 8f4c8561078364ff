"""How many patches a picture becomes, in which order they are packed, and a tower with windows reads them: integers, no pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from qwenvl.config import ModelConfig, VisionConfig
from qwenvl.families.spec import FamilySpec
from qwenvl.types import QwenVLError, Windows


class SizeError(QwenVLError, ValueError):
    """A picture of a size that cannot be resized: too long and thin, or bounds that contradict each other."""


def smart_size(
    width: int, height: int, factor: int, min_pixels: int, max_pixels: float, max_ratio: float | None = None
) -> tuple[int, int]:
    """The (width, height) in pixels that a picture is resized to: multiples of `factor`, about the same aspect ratio.

    Sides go to the nearest multiple, halves to the even one. Where the area then is above `max_pixels`, both sides shrink by one
    ratio and are rounded down; below `min_pixels`, they grow and are rounded up. No side falls below `factor`, so that any picture
    has a size; a very thin one may then exceed `max_pixels`.
    Raises SizeError where the longer side is more than `max_ratio` times the shorter, and for bounds that are none.
    Source: smart_resize of transformers 5.23; that of qwen-vl-utils (QwenLM/Qwen2.5-VL) differs for sides below 14 pixels.
    """
    for name, bound in (("max_pixels", max_pixels), ("min_pixels", min_pixels)):
        if bound <= 0:
            raise SizeError(f"{name} is {bound:.0f}; give a number of pixels above 0")
    if min_pixels > max_pixels:
        raise SizeError(f"min_pixels is {min_pixels}, more than max_pixels, {max_pixels:.0f}; give a smaller or a larger one")
    long, short = max(width, height), min(width, height)
    if short <= 0:
        raise SizeError(f"a size of {width}x{height} has no pixels; give another picture")
    if max_ratio is not None and long / short > max_ratio:
        raise SizeError(
            f"at {width}x{height} pixels one side is {long / short:.4g} times the other, and {max_ratio:g} is the limit; "
            "crop or split it"
        )
    wide, high = round(width / factor) * factor, round(height / factor) * factor
    if wide * high > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        wide = max(factor, math.floor(width / shrink / factor) * factor)
        high = max(factor, math.floor(height / shrink / factor) * factor)
    elif wide * high < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        wide, high = math.ceil(width * grow / factor) * factor, math.ceil(height * grow / factor) * factor
    return max(factor, wide), max(factor, high)


def pixel_bounds(
    min_pixels: int | None, max_pixels: int | None, default_min: int | None, default_max: int | None
) -> tuple[int, int]:
    """(min, max) area: what the caller gives, else the default, which gives way where it contradicts the caller's other bound."""
    least, most = min_pixels or default_min or 1, max_pixels or default_max or 1 << 62
    if min_pixels is None:
        least = min(least, most)
    elif max_pixels is None:
        most = max(least, most)
    return least, most


def unit_side(vision: VisionConfig) -> int:
    """Side in pixels of what becomes one visual unit: a square of merged patches."""
    return vision.patch_size * vision.merge_size


def image_grid(
    config: ModelConfig, spec: FamilySpec, width: int, height: int, min_pixels: int | None = None, max_pixels: int | None = None
) -> tuple[int, int, int]:
    """Patches in time, height and width of a picture of width x height pixels.

    Pixel bounds are areas, by default the family's; they say nothing to a family that makes every picture the same square.
    Raises SizeError for a picture that is too long and thin.
    """
    vision, rules = config.vision, spec.images
    if vision.image_size is not None:
        side = vision.image_size // vision.patch_size
        return (1, side, side)
    bounds = pixel_bounds(min_pixels, max_pixels, rules.min_pixels, rules.max_pixels)
    wide, high = smart_size(width, height, unit_side(vision), *bounds, rules.max_ratio)
    return (1, high // vision.patch_size, wide // vision.patch_size)


def frame_size(grid: Sequence[int], patch_size: int) -> tuple[int, int]:
    """(width, height) in pixels that a picture or clip of a grid (time, height, width) was resized to."""
    return grid[2] * patch_size, grid[1] * patch_size


def by_squares(cells: np.ndarray, merge_size: int) -> np.ndarray:
    """A frame's cells (height, width, ...) in packed order, (height * width, ...).

    Squares of merge_size x merge_size come row by row, and so do the cells of each; with nothing to merge that is reading order.
    Source: patchify of Qwen2VLImageProcessor in transformers 5.23. Models, which do not know this room, have it in
    `models.layers.square_order`.
    """
    height, width, *rest = cells.shape
    squares = cells.reshape(height // merge_size, merge_size, width // merge_size, merge_size, *rest).swapaxes(1, 2)
    return squares.reshape(height * width, *rest)


def from_squares(cells: np.ndarray, height: int, width: int, merge_size: int) -> np.ndarray:
    """What `by_squares` packed, (height * width, ...), as a frame's cells again."""
    squares = cells.reshape(height // merge_size, width // merge_size, merge_size, merge_size, *cells.shape[1:])
    return squares.swapaxes(1, 2).reshape(height, width, *cells.shape[1:])


def window_plan(grids: np.ndarray, vision: VisionConfig) -> Windows | None:
    """The windows of pictures and videos with `grids` (n, 3), patches in time, height, width; None for a tower without windows.

    Every frame is tiled from its top left corner with windows of `window_size` pixels; those at the right and bottom edges may be
    smaller, and none crosses a frame. Order: picture, frame, row of windows, window, row of units, unit.
    Source: get_window_index of Qwen2.5-VL in transformers 5.23. It pads each frame to whole windows, by one whole empty window
    where the side divides, and takes the padding and the empty windows out again, which leaves exactly this.
    """
    if vision.window_size is None:
        return None
    merge = vision.merge_size
    side = vision.window_size // (vision.patch_size * merge)
    orders, lengths, offset = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for frames, height, width in np.asarray(grids, dtype=np.int64).reshape(-1, 3).tolist():
        order, units = _frame_windows(height // merge, width // merge, side)
        starts = offset + len(order) * np.arange(frames, dtype=np.int64)
        orders.append((starts[:, None] + order).ravel())
        lengths.append(np.tile(units * merge**2, frames))
        offset += frames * len(order)
    return Windows(np.concatenate(orders), np.concatenate(lengths))


@lru_cache(maxsize=1024)
def _frame_windows(height: int, width: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one frame of height x width units: the units in window order, and the units of each window."""
    window_row, window_column = np.arange(height) // side, np.arange(width) // side
    window = (window_row[:, None] * -(-width // side) + window_column).ravel()
    # Stable: inside a window the units stay in reading order.
    order, units = np.argsort(window, kind="stable").astype(np.int64), np.bincount(window).astype(np.int64)
    order.setflags(write=False)
    units.setflags(write=False)
    return order, units
