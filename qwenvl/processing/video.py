"""Clips: frames drawn from a file, a folder or a list of pictures by the published rule, resized as they are decoded.

Memory holds the drawn frames at their final size, which `VideoRules.total_pixels` bounds however long the clip is.

Sources: vision_process.py of qwen-vl-utils (QwenLM/Qwen2.5-VL), arXiv 2409.12191 and 2502.13923.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import Image

from qwenvl.config import ModelConfig
from qwenvl.families.spec import FamilySpec, VideoRules
from qwenvl.processing.grid import SizeError, smart_size, unit_side
from qwenvl.processing.image import ImageError, ReadyPicture, cut_patches, describe, open_image
from qwenvl.processing.video_file import VideoError, VideoFile
from qwenvl.types import VideoPart

AUTO_CHANGE = ((0.004, 0.5), (0.016, 1.0), (0.06, 2.0), (math.inf, 4.0))
"""fps="auto": below so much change in half a second (mean of |a - b|, in [0, 1]), so many frames a second. Ours, not published."""
AUTO_PROBES = 16
AUTO_SIDE = 32  # pixels of the grey thumbnails that are compared


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames drawn from a clip: pixels (F, height, width, 3) uint8 at their final size; times in seconds from the first frame of
    the clip; fps at which they were drawn; duration in seconds and size (width, height) of the original."""

    pixels: np.ndarray
    times: tuple[float, ...]
    fps: float
    duration: float
    size: tuple[int, int]

    @property
    def frames(self) -> list[Image.Image]:
        """The frames as RGB pictures (a copy of each: PIL holds four bytes a pixel)."""
        return [Image.fromarray(frame) for frame in self.pixels]


def ready_video(config: ModelConfig, spec: FamilySpec, part: VideoPart, where: str) -> ReadyPicture:
    """Patches, grid, original (width, height) and seconds per temporal patch of a clip. Raises VideoError naming `where`."""
    if spec.videos is None:
        raise VideoError(f"{where}: {spec.name} takes no video; pass its frames as pictures")
    vision = config.vision
    try:
        clip = open_clip(part, spec.videos, unit_side(vision), vision.temporal_patch_size, spec.images.max_ratio)
    except VideoError as error:
        raise VideoError(f"{where}: {error}") from error
    count, height, width, _ = clip.pixels.shape
    grid = (-(-count // vision.temporal_patch_size), height // vision.patch_size, width // vision.patch_size)
    return ReadyPicture(cut_patches(clip.pixels, config, spec), grid, clip.size, vision.temporal_patch_size / clip.fps)


def open_clip(part: VideoPart, rules: VideoRules, factor: int, temporal_patch_size: int, max_ratio: float | None = None) -> Clip:
    """Draw frames from a clip: a file (path, `file:` URL or bytes), a folder of frames or a list of pictures.

    From a file, `part.fps` frames a second ("auto": as `auto_fps` finds), evenly over the clip, within the bounds on their
    number; of a folder (in natural order) or list, every one, as long as there are no more than `max_frames`. All get the one size
    (multiples of `factor`) that the pixel budget gives; turned upright where the file says so.
    Raises VideoError, one line: missing, no video, damaged, empty, endless, an address on the network, PyAV not installed.
    """
    source = _source(part, rules)
    count = _count(source, part, rules, temporal_patch_size)
    indices = frame_indices(source.total, count)
    frames = source.read(indices)
    first = next(frames)
    try:
        size = smart_size(*first.size, factor, *frame_bounds(part, rules, count, temporal_patch_size), max_ratio)
    except SizeError as error:
        raise VideoError(f"{source.name}: {error}") from None
    pixels = np.empty((count, size[1], size[0], 3), dtype=np.uint8)
    for number, frame in enumerate(chain([first], frames)):
        pixels[number] = np.asarray(frame if frame.size == size else frame.resize(size, Image.Resampling.BICUBIC))
    times = tuple(source.time(index) for index in indices)
    return Clip(pixels, times, count / source.total * source.fps, source.duration, first.size)


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


def _count(source: _Pictures | VideoFile, part: VideoPart, rules: VideoRules, step: int) -> int:
    """How many frames to draw: of a file by its rate, of pictures all that are allowed."""
    most = part.max_frames or rules.max_frames
    if isinstance(source, _Pictures):
        return source.total if source.total <= most else max(_down(most, step), 1)
    fps = auto_fps(source, part, rules, step) if part.fps == "auto" else part.fps or rules.fps
    return frame_count(source.total, source.fps, fps, rules.min_frames, most, step)


def _name(video: Any) -> str:
    """What messages call a clip."""
    if isinstance(video, bytes | bytearray | memoryview):
        return f"video of {len(video)} bytes"
    return f"list of {len(video)} frames" if isinstance(video, list | tuple) else describe(video)


def _check(part: VideoPart, name: str) -> None:
    """Raise VideoError for a rate or number of frames that nothing can be drawn with."""
    if part.fps is not None and part.fps != "auto" and not (isinstance(part.fps, int | float) and 0 < part.fps < math.inf):
        raise VideoError(f"{name}: fps is {part.fps!r}; give frames per second, above 0, or 'auto'")
    if part.max_frames is not None and part.max_frames < 1:
        raise VideoError(f"{name}: max_frames is {part.max_frames}; give at least 1")


def _down(value: float, step: int) -> int:
    return math.floor(value / step) * step


def _source(part: VideoPart, rules: VideoRules) -> _Pictures | VideoFile:
    """What `part.video` is, by its type and by what lies at the path."""
    video, name = part.video, _name(part.video)
    _check(part, name)
    if isinstance(video, bytes | bytearray | memoryview):
        return VideoFile(bytes(video), name)
    if isinstance(video, list | tuple):
        return _Pictures(list(video), name, part, rules)
    if not isinstance(video, str | os.PathLike):
        raise VideoError(f"{name}: not a video; give a file, a folder of frames or a list of pictures")
    text = os.fsdecode(video)
    scheme = text[:8].partition(":")[0].lower()
    if scheme in ("http", "https", "rtsp", "data"):
        raise VideoError(f"{name}: videos are read from files only; download it and give the file")
    path = Path(url2pathname(urlsplit(text).path)) if scheme == "file" else Path(text)
    try:
        if path.is_dir():
            known = Image.registered_extensions()
            frames = [file for file in path.iterdir() if file.suffix.lower() in known and not file.name.startswith(".")]
            return _Pictures(sorted(frames, key=_natural), name, part, rules)
        if not path.exists():
            raise VideoError(f"{name}: no such file; check the path")
        if not path.is_file():
            raise VideoError(f"{name}: a pipe or device, which may never end; save the clip as a file")
    except OSError as error:
        raise VideoError(f"{name}: cannot be opened ({error.strerror}); check the path") from None
    return VideoFile(path, name)


def _natural(path: Path) -> list[int | str]:
    """Sorts frame2 before frame10."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path.name.lower())]


class _Pictures:
    """Frames that are pictures already, taken at `part.fps` a second (by default the family's)."""

    def __init__(self, pictures: list[Any], name: str, part: VideoPart, rules: VideoRules) -> None:
        if not pictures:
            raise VideoError(f"{name}: holds no pictures; give at least one frame")
        if part.fps == "auto":
            raise VideoError(f"{name}: fps='auto' is for video files; give the rate at which these frames were taken")
        self.name, self.total = name, len(pictures)
        self.fps = float(part.fps or rules.fps)
        self.duration = self.total / self.fps
        self._pictures = pictures

    def time(self, index: int) -> float:
        return index / self.fps

    def read(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        size = None
        for index in indices:
            try:
                frame = open_image(self._pictures[index])
            except ImageError as error:
                raise VideoError(f"{self.name}, frame {index + 1}: {error}") from error
            size = size or frame.size
            if frame.size != size:
                found, first = "x".join(map(str, frame.size)), "x".join(map(str, size))
                raise VideoError(f"{self.name}, frame {index + 1}: {found}, but the first is {first}; give frames of one size")
            yield frame
