"""Which frames of a clip are drawn, and how large: the published rules, and what gives way where the context is too short for them.

Sources: vision_process.py of qwen-vl-utils (QwenLM/Qwen2.5-VL), arXiv 2409.12191 and 2502.13923.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from qwenvl.config import ModelConfig
from qwenvl.families.spec import FamilySpec, VideoRules
from qwenvl.processing.clip_source import Pictures, Source
from qwenvl.processing.grid import smart_size, unit_side
from qwenvl.processing.video_file import VideoFile
from qwenvl.types import VideoPart

LONG_CLIP_TOKENS = 16
"""Visual tokens that small frames are enlarged to, where the family's least would not fit into the context: the min_pixels of
16 * 28 * 28 that cookbooks/video_understanding.ipynb (QwenLM/Qwen2.5-VL) takes for long clips."""

AUTO_CHANGE = ((0.004, 0.5), (0.016, 1.0), (0.06, 2.0), (math.inf, 4.0))
"""fps="auto": below so much change in half a second (mean of |a - b|, in [0, 1]), so many frames a second. Ours, not published."""
AUTO_PROBES = 16
AUTO_SIDE = 32  # pixels of the grey thumbnails that are compared


def drawn_count(source: Source, part: VideoPart, rules: VideoRules, step: int) -> int:
    """How many frames of a clip are drawn: of a file by its rate, of pictures all that are allowed."""
    most = part.max_frames or rules.max_frames
    if isinstance(source, Pictures):
        return source.total if source.total <= most else max(_down(most, step), 1)
    fps = auto_fps(source, part, rules, step) if part.fps == "auto" else part.fps or rules.fps
    return frame_count(source.total, source.fps, fps, rules.min_frames, most, step)


def frame_count(total: int, native_fps: float, fps: float, min_frames: int, max_frames: int, step: int) -> int:
    """How many of `total` frames are drawn at `fps` from a clip of `native_fps`: a multiple of `step`, the temporal patch.

    At least min_frames (rounded up to the step), at most max_frames (rounded down) and at most all. The published rule refuses a
    clip of fewer frames than the step; here such a clip gives one frame.
    """
    wanted = max(total / native_fps * fps, math.ceil(min_frames / step) * step)
    return max(_down(min(wanted, _down(min(max_frames, total), step), total), step), 1)


def frame_indices(total: int, count: int) -> list[int]:
    """`count` of `total` frames, evenly from the first to the last."""
    # torch's, not numpy's: in float32, and so rounded to the very frames that the published code takes from a long clip.
    import torch

    return torch.linspace(0, total - 1, count).round().long().tolist()


def frame_bounds(part: VideoPart, rules: VideoRules, count: int, step: int) -> tuple[int, float]:
    """(min, max) area in pixels of each of `count` frames, `step` of which make one patch in time."""
    least = part.min_pixels or rules.min_pixels
    most = max(min(rules.max_pixels, rules.total_pixels / count * step), int(least * 1.05))
    most = min(most, part.max_pixels or most)
    return (least if part.min_pixels else min(least, int(most)), most)


def clip_size(
    config: ModelConfig, spec: FamilySpec, part: VideoPart, count: int, size: tuple[int, int], room: int
) -> tuple[int, int]:
    """The (width, height) of each of `count` frames of `size`: by the published rule, if the clip then has no more than `room`
    visual tokens.

    If it has, frames get smaller, below the published least too: 768 frames of 128 tokens a pair would be 49,152. What
    `part.min_pixels` asks for stays, and may be more than the room. Raises SizeError.
    """
    assert spec.videos is not None
    unit, step, ratio = unit_side(config.vision), config.vision.temporal_patch_size, spec.images.max_ratio
    least, most = frame_bounds(part, spec.videos, count, step)
    width, height = smart_size(*size, unit, least, most, ratio)
    share = max(room / math.ceil(count / step), 1) * unit**2
    if width * height <= share:
        return width, height
    # Half of the share, because what is enlarged is rounded up.
    least = part.min_pixels or min(least, LONG_CLIP_TOKENS * unit**2, int(share / 2))
    return smart_size(*size, unit, least, min(most, max(share, least)), ratio)


def draw_fps(rng: np.random.Generator) -> float:
    """A rate for a training sample, 0.5 to 4 frames a second (dynamic FPS sampling, section 2.1.2 of arXiv 2502.13923).

    Every octave is as likely as another; the paper does not give its distribution.
    """
    return float(2 ** rng.uniform(-1, 2))


def auto_fps(source: VideoFile, part: VideoPart, rules: VideoRules, step: int) -> float:
    """Frames a second by how much happens: 0.5, 1, 2 or 4.

    Grey thumbnails half a second apart are compared at up to 16 moments spread over the clip; their mean difference picks the rate
    (AUTO_CHANGE). It is then halved while the frames would be more than `max_frames`, or so many that the pixel budget would shrink
    them, but not below 0.5. The same clip always gives the same rate.
    """
    ahead = min(max(round(source.fps / 2), 1), source.total - 1)
    starts = sorted({round(moment) for moment in np.linspace(0, source.total - 1 - ahead, AUTO_PROBES).tolist()})
    wanted = sorted({*starts, *(start + ahead for start in starts)})
    small: dict[int, np.ndarray] = {}
    area = 0
    for index, frame in zip(wanted, source.read(wanted), strict=True):
        area = frame.width * frame.height
        grey = frame.convert("L").resize((AUTO_SIDE, AUTO_SIDE), Image.Resampling.BOX)
        small[index] = np.asarray(grey, dtype=np.float32) / 255
    change = float(np.mean([np.abs(small[start + ahead] - small[start]).mean() for start in starts]))
    fps = next(rate for below, rate in AUTO_CHANGE if change < below)
    area = min(max(area, part.min_pixels or rules.min_pixels), part.max_pixels or rules.max_pixels)
    frames = min(part.max_frames or rules.max_frames, rules.total_pixels * step / area)
    while fps > AUTO_CHANGE[0][1] and source.duration * fps > frames:
        fps /= 2
    return fps


def _down(value: float, step: int) -> int:
    return math.floor(value / step) * step
