"""Video files: the time of every frame without decoding, and the frames at chosen ones.

A file is read twice: once without decoding, for the time of every frame and where one can start, then from keyframe to keyframe,
decoding no more than leads to the frames that are wanted and converting only those. PyAV comes with the extra `video`.
"""

from __future__ import annotations

import io
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from qwenvl.processing.image import MAX_PIXELS
from qwenvl.types import QwenVLError

MAX_FRAMES = 1_000_000
"""A clip without an end within so many frames (nine hours at 30 a second) is refused."""

MAX_GAP = 1.0
"""Seconds by which the nearest earlier frame may stand in for one that a decoder leaves out, before the clip counts as damaged."""

THREADS = 4

FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,gif,apng,h264,hevc,m4v,mpegvideo,ivf,obu,nut,mxf,dv,rm,yuv4mpegpipe"
"""Containers that are opened. Playlists are not among them: they name other files and addresses, and may never end."""

INDEXED = {"mov", "matroska", "avi", "flv"}
"""Containers that know where a keyframe lies. In others a seek may land late, or give frames other times; they are read through."""

UPRIGHT = {90: Image.Transpose.ROTATE_90, -90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180}
UPRIGHT[-180] = UPRIGHT[180]


class VideoError(QwenVLError, ValueError):
    """A clip that cannot be read: its message names the clip and says what to do."""


class VideoFile:
    """A video file: the time of every frame, found without decoding, and the frames at chosen ones.

    A stamp is a frame's presentation time in units of the stream's time base, or, in a container that does not say, its number.
    """

    def __init__(self, content: Path | bytes, name: str) -> None:
        self.name = name
        self._content = content
        with _one_line(name), self._open() as container:
            stream = self._stream(container)
            stamps, keys, timed = self._scan(container, stream)
            seekable = timed and container.format.name.partition(",")[0] in INDEXED
            rate = stream.average_rate or stream.guessed_rate
            base = stream.time_base
        if not stamps:
            raise VideoError(f"{name}: holds no frames; encode it again")
        self.total = len(stamps)
        self._timed = timed
        self._stamps = sorted(stamps) if timed else list(range(self.total))
        self._keys = sorted(keys) if seekable else []
        span = float((self._stamps[-1] - self._stamps[0]) * base) if timed and base else 0.0
        # A lone frame has no rate; 25 is what FFmpeg takes for a stream that does not say.
        self.fps = float(rate or 0) or ((self.total - 1) / span if span else 25.0)
        self._unit = float(base) if timed and base else 1 / self.fps
        self.duration = (self._stamps[-1] - self._stamps[0]) * self._unit + 1 / self.fps

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of the first frame, upright. It is decoded for this: PyAV tells a turn of frames only."""
        (first,) = self.read([0])
        return first.size

    def time(self, index: int) -> float:
        return (self._stamps[index] - self._stamps[0]) * self._unit

    def read(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        """The frames of these numbers, which do not decrease, as upright RGB pictures."""
        with _one_line(self.name):
            for frame in self._frames([self._stamps[index] for index in indices], seeking=bool(self._keys)):
                turn = UPRIGHT.get(frame.rotation)
                picture = frame.to_image()
                yield picture if turn is None else picture.transpose(turn)

    def _scan(self, container: Any, stream: Any) -> tuple[array[int], list[int], bool]:
        """Stamps of all frames from the first keyframe on, those of keyframes, and whether they are times."""
        stamps, keys, timed = array("q"), [], True
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard or not (packet.is_keyframe or stamps):
                continue
            if len(stamps) >= MAX_FRAMES:
                raise VideoError(f"{self.name}: no end within {MAX_FRAMES} frames; cut a shorter clip out of it")
            timed = timed and packet.pts is not None
            stamps.append(packet.pts if timed else len(stamps))
            if packet.is_keyframe and timed:
                keys.append(packet.pts)
        return stamps, keys, timed

    def _frames(self, wanted: Sequence[int], seeking: bool) -> Iterator[Any]:
        """The decoded frame at each stamp, seeking where a keyframe lies between the last one and the next.

        Where a decoder leaves a frame out, the one before it is shown, as a player would. A damaged index may lead to a later
        place than asked for; the rest is then decoded from the beginning.
        """
        with self._open() as container:
            stream = self._stream(container)
            # Frames in flight are lost at every seek, so a few threads decode a sparse clip faster than many.
            stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
            frames = self._decoded(container, stream)
            shown: tuple[int, Any] | None = None
            ahead: tuple[int, Any] | None = None
            for number, target in enumerate(wanted):
                place = bisect_right(self._keys, target) - 1
                reached = shown[0] if shown else self._stamps[0]
                if seeking and place > 0 and self._keys[place] > reached and not (ahead and ahead[0] >= self._keys[place]):
                    container.seek(self._keys[place], stream=stream)
                    frames, shown, ahead = self._decoded(container, stream), None, None
                while shown is None or shown[0] < target:
                    ahead = ahead or next(frames, None)
                    if ahead is None or ahead[0] > target:
                        break
                    shown, ahead = ahead, None
                if seeking and shown is None:
                    yield from self._frames(wanted[number:], seeking=False)
                    return
                found = shown or ahead
                if found is None or abs(target - found[0]) * self._unit > MAX_GAP:
                    seconds = (target - self._stamps[0]) * self._unit
                    raise VideoError(f"{self.name}: damaged or cut off at {seconds:.1f} s, no frame comes out; encode it again")
                yield found[1]

    def _decoded(self, container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
        """(stamp, frame) from the next keyframe on, in the order of presentation; nothing is converted."""
        number, started = 0, False
        for packet in container.demux(stream):
            started = started or packet.is_keyframe
            if not started:
                continue
            for frame in packet.decode():
                stamp = number if not self._timed else frame.pts if frame.pts is not None else frame.dts
                number += 1
                if stamp is not None:
                    yield stamp, frame

    def _open(self) -> Any:
        """PyAV's container. Raises VideoError where PyAV is missing."""
        content = io.BytesIO(self._content) if isinstance(self._content, bytes) else f"file:{self._content}"
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        return _av().open(content, container_options=options, metadata_errors="replace")

    def _stream(self, container: Any) -> Any:
        """The first stream of moving pictures: not a cover, which audio files may carry."""
        cover = _av().stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not streams:
            raise VideoError(f"{self.name}: has no pictures in it (audio only?); give a video")
        if streams[0].codec_context is None:
            raise VideoError(f"{self.name}: encoded in a way that FFmpeg does not know, or damaged; encode it again")
        width, height = streams[0].codec_context.width, streams[0].codec_context.height
        if width * height > MAX_PIXELS:
            raise VideoError(f"{self.name}: frames of {width}x{height} are more than {MAX_PIXELS} pixels; make it smaller")
        return streams[0]


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turns whatever PyAV raises inside the block into one VideoError."""
    try:
        yield
    except _av().FFmpegError as error:
        reason = " ".join((error.strerror or str(error)).split())[:120]
        raise VideoError(f"{name}: not a video, or damaged ({reason}); encode it again") from error


def _av() -> Any:
    """PyAV, which is not in the core. Raises VideoError saying how to get it."""
    try:
        import av
    except ImportError:
        raise VideoError("reading video files needs PyAV; run: pip install 'qwenvl[video]'") from None
    return av
