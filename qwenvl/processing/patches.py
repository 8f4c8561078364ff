"""Patches: frames cut into them, as pixels or as normalised numbers, and back.

As numbers, patches are (P, C * T * patch * patch) float32: what the published processors give. As pixels they are
(P, C, T, patch * patch) uint8, with T = 1 where every frame that they span is the same, as in a still picture: an eighth of the
memory at two frames a patch, and no arithmetic. The tower makes the same numbers of them (`models.vision_tower`).

F frames, P patches, C channels, T frames that a patch spans.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwenvl.config import ModelConfig
from qwenvl.families.spec import FamilySpec
from qwenvl.processing.grid import by_squares, from_squares


def cut_pixels(frames: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Frames (F, height, width, C) uint8 of one size as patches of pixels (P, C, T, patch * patch); of a single frame T is 1.

    T consecutive frames share a patch; where T does not divide F, the last frame is repeated.
    Rows: time, then the order of `by_squares`.
    Columns: C, T, y, x, the order of the convolution's weight in the published checkpoints, so that embedding is one product.
    Sources: Qwen-VL/visual.py, repository wangjl1993/extract_human_attri @ fc9525f; Qwen2VLImageProcessor of transformers.
    """
    vision = config.vision
    patch, channels = vision.patch_size, vision.in_channels
    depth = 1 if len(frames) == 1 else vision.temporal_patch_size
    if missing := -len(frames) % depth:
        frames = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
    count, height, width, _ = frames.shape
    cells = frames.reshape(count // depth, depth, height // patch, patch, width // patch, patch, channels)
    cells = cells.transpose(0, 2, 4, 6, 1, 3, 5)  # time, row, column, then the columns of the result
    moments = [by_squares(moment, vision.merge_size) for moment in cells]
    pixels = moments[0] if len(moments) == 1 else np.concatenate(moments)
    return np.ascontiguousarray(pixels.reshape(-1, channels, depth, patch**2))


def cut_patches(frames: np.ndarray, config: ModelConfig, spec: FamilySpec) -> np.ndarray:
    """Frames (F, height, width, C) uint8 of one size as numbers (P, C * T * patch * patch) float32: those of `cut_pixels`."""
    return as_numbers(cut_pixels(frames, config), config, spec)


def as_numbers(patches: np.ndarray, config: ModelConfig, spec: FamilySpec) -> np.ndarray:
    """Patches of pixels as numbers: x / 255, minus mean, by std. Numbers stay as they are."""
    if patches.dtype != np.uint8:
        return patches
    mean, std = (np.asarray(value, dtype=np.float32)[:, None, None] for value in (spec.images.mean, spec.images.std))
    numbers = patches.astype(np.float32)
    numbers /= np.float32(255)
    numbers -= mean
    numbers /= std
    # What is still is repeated after the arithmetic, which is then done once.
    return _filled(numbers, config.vision.temporal_patch_size).reshape(-1, config.vision.patch_numbers)


def join_patches(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Patches of one kind, one after the other; still ones among pixels of clips are repeated. At least one part."""
    seen = [part for part in parts if len(part)] or list(parts[:1])
    if len(seen) == 1:  # not copied: the patches of a long clip are large
        return seen[0]
    if len({part.dtype == np.uint8 for part in seen}) > 1:
        raise ValueError("some patches are pixels and some numbers; have all encoded by one Processor")
    if seen[0].dtype == np.uint8:
        depth = max(part.shape[2] for part in seen)
        seen = [_filled(part, depth) for part in seen]
    return np.concatenate(seen)


def one_frame(patches: np.ndarray) -> np.ndarray:
    """Patches of pixels with one frame each, where all frames of each are the same; else as they are."""
    if patches.ndim != 4 or patches.shape[2] == 1 or (patches != patches[:, :, :1]).any():
        return patches
    return patches[:, :, :1]


def uncut_patches(patches: np.ndarray, grid: tuple[int, int, int], config: ModelConfig, spec: FamilySpec) -> np.ndarray:
    """The frames (T, height, width, C) uint8 that numbers or pixels were made of: what the model sees.

    Frames that were repeated to fill a patch in time are there again.
    """
    vision = config.vision
    time, rows, columns = grid
    depth, side = vision.temporal_patch_size, vision.patch_size
    numbers = as_numbers(patches, config, spec)
    moments = numbers.reshape(time, rows * columns, vision.in_channels, depth, side, side)
    cells = np.stack([from_squares(moment, rows, columns, vision.merge_size) for moment in moments])
    frames = cells.transpose(0, 4, 1, 5, 2, 6, 3).reshape(time * depth, rows * side, columns * side, vision.in_channels)
    mean, std = (np.asarray(value, dtype=np.float32) for value in (spec.images.mean, spec.images.std))
    return np.clip(np.rint((frames * std + mean) * 255), 0, 255).astype(np.uint8)


def _filled(patches: np.ndarray, depth: int) -> np.ndarray:
    """(P, C, 1 or T, patch * patch) with all T frames."""
    return patches if patches.shape[2] == depth else np.repeat(patches, depth, axis=2)
