"""What a picture or clip of a size costs: how large the tower sees it, and how many visual tokens that is. `qwenvl model info`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from qwenvl.cli.options import UsageError

if TYPE_CHECKING:
    from qwenvl.cli.model import Info
    from qwenvl.config import ModelConfig
    from qwenvl.families.spec import FamilySpec

NATIVE_FPS = 30
"""Frames a second that a clip is taken to have, where only its length is given. Those drawn hardly depend on it."""


def cost(options: Info, config: ModelConfig, spec: FamilySpec) -> int:
    """What a picture or clip of a size takes: its size for the tower, and its visual tokens."""
    from qwenvl.processing.grid import frame_size, image_grid

    width, height = _width_and_height(options.picture or "")
    bounds = (options.min_pixels, options.max_pixels)
    if options.seconds is None:
        grid, frames = image_grid(config, spec, width, height, *bounds), 1
    else:
        grid, frames = _clip_grid(options, config, spec, (width, height))
    step = config.vision.temporal_patch_size
    seen = frame_size(grid, config.vision.patch_size)
    tokens = spec.visual_tokens(config, grid)
    found = {
        "name": options.name, "width": seen[0], "height": seen[1], "frames": frames,
        "visual_tokens": tokens, "context": config.decoder.max_position_embeddings,
    }  # fmt: skip
    if options.json:
        print(json.dumps(found))
        return 0
    clip = f"clip of {options.seconds or 0:g} s: {frames} frames, {step} to a visual token; each"
    print(f"{'picture' if options.seconds is None else clip} of {width} x {height} becomes {found['width']} x {found['height']}")
    print(f"{tokens:,} visual tokens, and one before and one after them; the context is {found['context']:,}")
    return 0


def _clip_grid(options: Info, config: ModelConfig, spec: FamilySpec, size: tuple[int, int]) -> tuple[tuple[int, int, int], int]:
    """(patches in time, height, width) of a clip, and its frames."""
    from qwenvl.processing.clip_rules import clip_size, frame_count
    from qwenvl.processing.video import clip_room
    from qwenvl.types import QwenVLError, VideoPart

    vision, rules, seconds, fps = config.vision, spec.videos, options.seconds or 0.0, options.fps
    if rules is None:
        raise QwenVLError(f"{options.name}: {spec.name} takes no video; leave out --seconds")
    if not 0 < seconds < 1e6 or not (fps is None or 0 < fps <= NATIVE_FPS):
        raise UsageError(f"--seconds and --fps are numbers above 0, and --fps at most {NATIVE_FPS}")
    step, total = vision.temporal_patch_size, max(round(seconds * NATIVE_FPS), 1)
    frames = frame_count(total, NATIVE_FPS, fps or rules.fps, rules.min_frames, rules.max_frames, step)
    part = VideoPart(None, min_pixels=options.min_pixels, max_pixels=options.max_pixels)
    wide, high = clip_size(config, spec, part, frames, size, clip_room(config))
    return (-(-frames // step), high // vision.patch_size, wide // vision.patch_size), frames


def _width_and_height(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--picture {text}: write width and height in pixels, as 1920x1080")
    return int(width), int(height)
