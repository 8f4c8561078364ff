"""Pictures: opened from anything a user may pass, upright and in RGB; then resized and cut into patches."""

from __future__ import annotations

import base64
import binascii
import io
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import ExifTags, Image, ImageOps

from qwenvl.config import ModelConfig
from qwenvl.families.spec import FamilySpec
from qwenvl.processing.grid import image_grid
from qwenvl.processing.patches import as_numbers, cut_pixels
from qwenvl.types import QwenVLError, StoredPicture

MAX_PIXELS = 178_000_000
"""A picture of more pixels is refused: a small file can claim any size (PIL refuses at about the same)."""

LYING = 5
"""Orientations of EXIF from here on lie on their side (CIPA DC-008, section 4.6.4)."""

SHOWN = 80  # characters of a file name or URL in a message


class ImageError(QwenVLError, ValueError):
    """A picture that cannot be read: its message names the picture and says what to do."""


class ReadyPicture(NamedTuple):
    """A picture or video as the model takes it: patches as numbers or as pixels (`processing.patches` says how either looks), grid
    (patches in time, height, width), size: the original's (width, height), and of a video the seconds that one patch in time
    spans."""

    patches: np.ndarray
    grid: tuple[int, int, int]
    size: tuple[int, int]
    seconds_per_grid: float | None = None


def open_image(source: Any, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A path, bytes, `data:` or `file:` URL, PIL image or StoredPicture as an upright RGB picture.

    EXIF orientation is applied, transparency laid on white, 16-bit scaled to 8, an animation gives its first frame.
    Raises ImageError, one line: missing, not a picture, truncated, larger than `max_pixels`, or an address on the network.
    """
    name = describe(source)
    with warnings.catch_warnings():
        # PIL warns of damaged metadata, and of size from half of its own limit on; `max_pixels` decides here.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        picture = source if isinstance(source, Image.Image) else _open(source, name, max_pixels)
        width, height = picture.size
        if width * height == 0:
            raise ImageError(f"{name}: has no pixels ({width}x{height}); give another picture")
        if width * height > max_pixels:
            raise ImageError(f"{name}: {width}x{height} is more than {max_pixels} pixels; make it smaller")
        try:
            return _to_rgb(_upright(picture))
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ... for damaged data
            raise ImageError(f"{name}: damaged or truncated ({_reason(error)}); save or fetch the picture again") from error


def picture_size(source: Any) -> tuple[int, int]:
    """(width, height) of what `open_image` would give, from the file's header alone. Raises ImageError.

    A PNG file may say behind its pixels that it lies on its side; that is not seen here.
    """
    picture = source if isinstance(source, Image.Image) else _open(source, describe(source), MAX_PIXELS)
    if "exif" not in picture.info and picture.format in (None, "PNG"):
        return picture.size
    try:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= LYING
    except Exception as error:  # readers of metadata raise SyntaxError, struct.error, ... for damaged data
        raise ImageError(f"{describe(source)}: damaged ({_reason(error)}); save or fetch the picture again") from error
    return picture.size[::-1] if turned else picture.size


def image_to_patches(
    picture: Image.Image, config: ModelConfig, spec: FamilySpec, grid: tuple[int, int, int] | None = None, pixels: bool = False
) -> np.ndarray:
    """An RGB picture as `cut_patches` or, where `pixels` are wanted, `cut_pixels` gives it.

    Bicubic (antialiased) straight to the size of `grid` (patches in time, height, width), by default that of the family's rule.
    Expects a picture as `open_image` gives it: upright as EXIF says, transparency on white.
    """
    grid = grid or image_grid(config, spec, *picture.size)
    size = (grid[2] * config.vision.patch_size, grid[1] * config.vision.patch_size)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    cut = cut_pixels(np.asarray(picture)[None], config)
    return cut if pixels else as_numbers(cut, config, spec)


def describe(source: Any) -> str:
    """A short name of a picture for messages; never its content."""
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        text = text if isinstance(text, str) else os.fsdecode(text)
        if text.startswith("data:"):
            return f"{text[:32].partition(',')[0]} URL of {len(text)} characters"
        if len(text) <= SHOWN:
            return text
        # Of a long path the end says most, of an address the beginning.
        return f"{text[:SHOWN]}..." if "://" in text[:SHOWN] else f"...{text[-SHOWN:]}"
    if isinstance(source, bytes | bytearray | memoryview):
        return f"picture of {len(source)} bytes"
    if isinstance(source, StoredPicture):
        return f"picture of {source.size} bytes"
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or f"{source.mode} picture of {source.width}x{source.height}"
    return type(source).__name__


def _open(source: Any, name: str, max_pixels: int) -> Image.Image:
    """PIL's lazy picture: header read, pixels not yet."""
    content = _content(source, name)
    try:
        return Image.open(content)
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: more than {max_pixels} pixels; make it smaller") from None
    except Image.UnidentifiedImageError:
        raise ImageError(f"{name}: not a picture that can be read; give a PNG, JPEG, WebP, GIF, BMP or TIFF file") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file; check the path") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: a folder, not a picture; name a file in it") from None
    except Exception as error:
        raise ImageError(f"{name}: cannot be opened ({_reason(error)}); check the file") from error


def _content(source: Any, name: str) -> Path | io.BytesIO:
    """What PIL can open: a path, or a file in memory."""
    if isinstance(source, StoredPicture):
        source = source.read()
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, os.PathLike):
        return Path(source)
    if not isinstance(source, str):
        raise ImageError(f"{name}: not a picture; pass a path, bytes, a data URL or a PIL image")
    scheme = source[:8].partition(":")[0].lower()
    if scheme == "data":
        return io.BytesIO(_data_url(source, name))
    if scheme in ("http", "https"):
        raise ImageError(f"{name}: pictures are not fetched from the network; download it and give the file")
    if scheme == "file":
        return Path(url2pathname(urlsplit(source).path))
    return Path(source)


def _data_url(url: str, name: str) -> bytes:
    header, comma, payload = url.partition(",")
    if not comma:
        raise ImageError(f"{name}: no comma in it; write data:image/png;base64,...")
    content = unquote_to_bytes(payload)
    if not header.lower().endswith(";base64"):
        return content
    try:
        # Padding is often lost on the way, and line breaks and the URL alphabet slip in.
        content = b"".join(content.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        return base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
    except binascii.Error:
        raise ImageError(f"{name}: not valid base64; encode the file's bytes again") from None


def _upright(picture: Image.Image) -> Image.Image:
    """Turn as EXIF says. A picture made in memory has none, and is passed on untouched."""
    if type(picture) is Image.Image and not picture.info:
        return picture
    picture.load()
    return ImageOps.exif_transpose(picture)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        picture.load()
        return picture
    if picture.mode.startswith("I"):  # 16-bit grey, also in PIL's 32-bit mode
        levels = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":  # floating-point TIFF: [0, 1], or [0, 255] if anything is above 1
        values = np.nan_to_num(np.asarray(picture))
        scaled = values * (255 if values.max() <= 1 else 1)
        return Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
