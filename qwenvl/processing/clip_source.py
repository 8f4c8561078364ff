"""Where a clip's frames come from: a video file, a folder of pictures or a list of them.

Both kinds of source know how many frames there are, when each was taken and how large the first is, and `read` gives chosen ones.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from PIL import Image

from qwenvl.families.spec import VideoRules
from qwenvl.processing.image import ImageError, describe, open_image
from qwenvl.processing.video_file import VideoError, VideoFile
from qwenvl.types import VideoPart


class Pictures:
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

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of the first picture."""
        (first,) = self.read([0])
        return first.size

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


Source = Pictures | VideoFile


def open_source(part: VideoPart, rules: VideoRules) -> Source:
    """What `part.video` is, by its type and by what lies at the path. Raises VideoError, one line, for what is no clip."""
    video, name = part.video, _name(part.video)
    _check(part, name)
    if isinstance(video, bytes | bytearray | memoryview):
        return VideoFile(bytes(video), name)
    if isinstance(video, list | tuple):
        return Pictures(list(video), name, part, rules)
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
            return Pictures(sorted(frames, key=_natural), name, part, rules)
        if not path.exists():
            raise VideoError(f"{name}: no such file; check the path")
        if not path.is_file():
            raise VideoError(f"{name}: a pipe or device, which may never end; save the clip as a file")
    except OSError as error:
        raise VideoError(f"{name}: cannot be opened ({error.strerror}); check the path") from None
    return VideoFile(path, name)


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


def _natural(path: Path) -> list[int | str]:
    """Sorts frame2 before frame10."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path.name.lower())]
