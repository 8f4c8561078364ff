"""Clips: frames of a file, a folder or a list of pictures, at a size that the context has room for.

What a clip becomes is settled before it is decoded, from the times in its file and the size of its first frame. Its frames are
then decoded, resized and cut one moment after the other, so that memory holds the patches and little else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from PIL import Image

from qwenvl.config import ModelConfig
from qwenvl.families.preprocessor import CLIP_SHARE
from qwenvl.families.spec import FamilySpec
from qwenvl.processing.clip_rules import clip_size, drawn_count, frame_indices
from qwenvl.processing.clip_source import Source, open_source
from qwenvl.processing.grid import SizeError, unit_side
from qwenvl.processing.image import ReadyPicture
from qwenvl.processing.patches import as_numbers, cut_pixels
from qwenvl.processing.video_file import VideoError
from qwenvl.types import VideoPart


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip about to be seen: which of its frames (`indices`), and at which size, `shown` (width, height). None of them is held.

    `where` is what messages call it besides the name of its file. With grid, size and seconds_per_grid it stands in for the
    ReadyPicture that `read` gives.
    """

    config: ModelConfig
    spec: FamilySpec
    part: VideoPart
    where: str
    source: Source
    indices: tuple[int, ...]
    shown: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the original."""
        return self.source.size

    @property
    def times(self) -> tuple[float, ...]:
        """When the frames were taken, in seconds from the first one of the clip."""
        return tuple(map(self.source.time, self.indices))

    @property
    def fps(self) -> float:
        """Frames drawn a second."""
        return len(self.indices) / self.source.total * self.source.fps

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches in time, height and width."""
        vision, (width, height) = self.config.vision, self.shown
        return -(-len(self.indices) // vision.temporal_patch_size), height // vision.patch_size, width // vision.patch_size

    @property
    def seconds_per_grid(self) -> float:
        return self.config.vision.temporal_patch_size / self.fps

    @property
    def tokens(self) -> int:
        """Its visual tokens."""
        return self.spec.visual_tokens(self.config, self.grid)

    def within(self, room: int) -> Clip:
        """The clip at the size that its rules and `room`, in visual tokens, allow; where even the smallest does not fit, at that.
        Raises SizeError."""
        return replace(self, shown=clip_size(self.config, self.spec, self.part, len(self.indices), self.size, room))

    def frames(self) -> Iterator[np.ndarray]:
        """Each drawn frame, (height, width, 3) uint8, decoded as it is asked for. Raises VideoError for a damaged clip."""
        for frame in self.source.read(self.indices):
            yield np.asarray(frame if frame.size == self.shown else frame.resize(self.shown, Image.Resampling.BICUBIC))

    def read(self, pixels: bool = False) -> ReadyPicture:
        """Its patches, with what was known of it before. Raises VideoError for a damaged clip."""
        vision, (moments, rows, columns) = self.config.vision, self.grid
        frames, together = self.frames(), vision.temporal_patch_size
        shape = (vision.in_channels, together, vision.patch_size**2) if pixels else (vision.patch_numbers,)
        patches = np.empty((moments, rows * columns, *shape), dtype=np.uint8 if pixels else np.float32)
        try:
            for moment in patches:
                cut = cut_pixels(np.stack(list(islice(frames, together))), self.config)
                moment[...] = cut if pixels else as_numbers(cut, self.config, self.spec)
        except VideoError as error:
            raise VideoError(f"{self.where}: {error}") from error
        return ReadyPicture(patches.reshape(-1, *shape), self.grid, self.size, self.seconds_per_grid)


class KeptClips:
    """The clips that one model has seen, by file and options of sampling: the next turn of a conversation reads no file again.

    Lists of pictures are in memory anyway, and are read every time.
    """

    def __init__(self) -> None:
        self._opened: dict[VideoPart, Clip] = {}
        self._ready: dict[VideoPart, ReadyPicture] = {}

    def open(self, config: ModelConfig, spec: FamilySpec, part: VideoPart, where: str) -> Clip:
        """As `open_clip`."""
        if not _is_path(part):
            return open_clip(config, spec, part, where)
        if part not in self._opened:
            self._opened[part] = open_clip(config, spec, part, where)
        return self._opened[part]

    def forget(self) -> None:
        """Keep none of them any longer."""
        self._opened.clear()
        self._ready.clear()

    def read(self, clip: Clip, pixels: bool = False) -> ReadyPicture:
        """As `Clip.read`, unless it was read before at this size."""
        if not _is_path(clip.part):
            return clip.read(pixels)
        ready = self._ready.get(clip.part)
        if ready is None or ready.grid != clip.grid or (ready.patches.dtype == np.uint8) != pixels:
            ready = self._ready[clip.part] = clip.read(pixels)
        return ready


def ready_video(config: ModelConfig, spec: FamilySpec, part: VideoPart, where: str, pixels: bool = False) -> ReadyPicture:
    """Patches, grid, original (width, height) and seconds per temporal patch of a clip. Raises VideoError naming `where`."""
    return open_clip(config, spec, part, where).read(pixels)


def open_clip(config: ModelConfig, spec: FamilySpec, part: VideoPart, where: str = "") -> Clip:
    """Choose frames of a clip and their size: a file (path, `file:` URL or bytes), a folder of frames or a list of pictures.

    From a file, `part.fps` frames a second ("auto": as `auto_fps` finds), evenly over the clip, within the bounds on their
    number; of a folder (in natural order) or list, every one, as long as there are no more than `max_frames`. All get the one size
    (multiples of a visual token's side) that the pixel budget and the context give; turned upright where the file says so.
    Raises VideoError, one line: missing, no video, damaged, empty, endless, an address on the network, PyAV not installed, more
    frames than the context has room for, or a family without video.
    """
    try:
        if spec.videos is None:
            raise VideoError(f"{spec.name} takes no video; pass its frames as pictures")
        room, unit, step = clip_room(config), unit_side(config.vision) ** 2, config.vision.temporal_patch_size
        rules = replace(spec.videos, total_pixels=min(spec.videos.total_pixels, room * unit))
        source = open_source(part, rules)
        indices = tuple(frame_indices(source.total, drawn_count(source, part, rules, step)))
        clip = Clip(config, spec, part, where, source, indices, shown=source.size)
        return _checked(clip, room)
    except VideoError as error:
        raise VideoError(f"{where}: {error}" if where else str(error)) from error


def fit_clips(clips: Sequence[Clip], room: int) -> list[Clip]:
    """The clips at sizes at which all of them together have no more than `room` visual tokens, each giving way by its share."""
    wanted = sum(clip.tokens for clip in clips)
    return list(clips) if wanted <= room else [clip.within(room * clip.tokens // wanted) for clip in clips]


def clip_room(config: ModelConfig, taken: int = 0) -> int:
    """Visual tokens that clips may have beside the `taken` ones of pictures; what is left of the context is for text."""
    return int(CLIP_SHARE * config.decoder.max_position_embeddings) - taken


def _checked(clip: Clip, room: int) -> Clip:
    """The clip within `room` visual tokens. Raises VideoError where it has no size that fits, saying what would."""
    name, part = clip.source.name, clip.part
    try:
        fitted = clip.within(room)
    except SizeError as error:
        raise VideoError(f"{name}: {error}") from None
    if fitted.tokens <= room:
        return fitted
    most = room * fitted.grid[0] // fitted.tokens * clip.config.vision.temporal_patch_size
    fewer = [f"max_frames {most}"] if most else []
    advice = fewer + (["a smaller min_pixels"] if part.min_pixels else []) or ["frames that are less long and thin"]
    width, height = fitted.shown
    raise VideoError(
        f"{name}: {len(clip.indices)} frames of {width}x{height} are {fitted.tokens} visual tokens, and the context has room for "
        f"{room}; give {' or '.join(advice)}"
    )


def _is_path(part: VideoPart) -> bool:
    return isinstance(part.video, str | os.PathLike)
