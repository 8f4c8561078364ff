"""Small clips that tests write: every frame spells its number in black and white bars."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

av: Any = pytest.importorskip("av")

BARS = 16


def numbered(number: int, size: tuple[int, int] = (64, 32)) -> np.ndarray:
    """A picture (height, width, 3) of 16 vertical bars: the bits of its number, lowest first."""
    bits = np.array([number >> place & 1 for place in range(BARS)], dtype=np.uint8) * 255
    row = np.repeat(bits, size[0] // BARS)
    return np.repeat(np.repeat(row[None, :, None], size[1], axis=0), 3, axis=2)


def number_of(frame: Image.Image | np.ndarray) -> int:
    """What `numbered` spelt, after whatever encoding and resizing."""
    pixels = np.asarray(frame).astype(int).mean(axis=2)
    height, width = pixels.shape
    middles = ((np.arange(BARS) + 0.5) * width / BARS).astype(int)
    return sum(1 << place for place in range(BARS) if pixels[height // 2, middles[place]] > 127)


def write_clip(
    path: Path, frames: int | Iterable[np.ndarray], fps: int = 10, codec: str = "libx264", gop: int = 12,
    times: Iterable[int] | None = None, **options: str,
) -> Path:  # fmt: skip
    """Encode frames (so many numbered ones, if a number is given). `times` are in milliseconds, else 1 / fps apart."""
    pictures = map(numbered, range(frames)) if isinstance(frames, int) else frames
    stamps = iter(times) if times is not None else None
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.codec_context.gop_size = gop
        stream.pix_fmt = "yuv420p"
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            if not number:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = next(stamps), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """A second of silence, no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        for start in range(0, 16_000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
