"""Small pictures for fixtures, drawn on the spot."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = (200, 100)


def drawn(size: tuple[int, int] = SIZE, box: tuple[int, int, int, int] = (20, 10, 120, 60)) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).rectangle(box, fill="red")
    return picture


def save(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(size).save(path)
    return path


def png(size: tuple[int, int] = SIZE) -> bytes:
    file = io.BytesIO()
    drawn(size).save(file, "PNG")
    return file.getvalue()
