"""Pictures and clips of a request: bytes, checked by their headers before anything is decoded.

No string of a request ever reaches a function that opens a path: what is passed on is a picture that PIL has opened from bytes, in
one of five formats, or the bytes of a clip.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image

from qwenvl.processing.image import ImageError, picture_size
from qwenvl.processing.video_file import FORMATS, VideoError, VideoFile
from qwenvl.serve.errors import ApiError
from qwenvl.serve.settings import MediaLimits

PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""PIL's readers that may see what a stranger sends; others run programs (EPS) or are seldom tried."""


@dataclass(slots=True)
class MediaBudget:
    """What the media of one request have taken of what they may."""

    limits: MediaLimits
    pixels: int = field(default=0, init=False)

    def picture(self, content: bytes, param: str) -> Image.Image:
        """A picture, its header read and its pixels not. Raises ApiError (400)."""
        if len(content) > self.limits.picture_bytes:
            raise _refusal(f"a picture of {len(content)} bytes, more than {self.limits.picture_bytes}; send a smaller one", param)
        with _refused(param), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            try:
                picture = Image.open(io.BytesIO(content), formats=PICTURES)
            except Image.UnidentifiedImageError:
                raise ImageError(f"not a picture that can be read; send {', '.join(PICTURES)}") from None
            except Image.DecompressionBombError:
                raise ImageError(f"more than {self.limits.picture_pixels} pixels; send a smaller picture") from None
            except Exception as error:  # readers raise SyntaxError, struct.error, ... for damaged headers
                raise ImageError(f"damaged ({' '.join(str(error).split())[:80] or type(error).__name__}); send it again") from error
            width, height = picture.size
            if width * height > self.limits.picture_pixels:
                raise ImageError(f"{width}x{height} is more than {self.limits.picture_pixels} pixels; send a smaller picture")
            self.pixels += width * height
            if self.pixels > self.limits.total_pixels:
                raise ImageError(
                    f"the pictures together have more than {self.limits.total_pixels} pixels; send fewer or smaller ones"
                )
        return picture

    def clip(self, content: bytes, param: str) -> bytes:
        """A clip whose frames are of a size, and whose length, that may be decoded; the same bytes. Raises ApiError (400)."""
        limits = self.limits
        if len(content) > limits.clip_bytes:
            raise _refusal(f"a clip of {len(content)} bytes, more than {limits.clip_bytes}; send a shorter one", param)
        with _refused(param):
            name = f"clip of {len(content)} bytes"
            width, height = _frame_size(content, name)
            if width * height > limits.frame_pixels:
                raise VideoError(f"{name}: frames of {width}x{height} are more than {limits.frame_pixels} pixels; make it smaller")
            clip = VideoFile(content, name)
            if clip.total > limits.clip_frames or not clip.duration <= limits.clip_seconds:
                long = f"{clip.total} frames in {clip.duration:.0f} s"
                raise VideoError(
                    f"{name}: {long}, more than {limits.clip_frames} or {limits.clip_seconds:.0f} s; send a shorter one"
                )
        return content


def decode_data_url(url: str, most: int, param: str) -> bytes:
    """The bytes of `data:image/png;base64,...`. Raises ApiError (400) for anything else, and before decoding what is too long."""
    header, comma, payload = url.partition(",")
    if not comma or len(header) > 200:
        raise _refusal("a data URL is written data:image/png;base64,...", param)
    kind, *rest = header[len("data:") :].lower().split(";")
    if rest[-1:] != ["base64"] or kind.partition("/")[0] not in ("image", "video", "application"):
        raise _refusal("a data URL is written data:image/png;base64,..., with an image or a video in base64", param)
    if len(payload) // 4 * 3 > most + 2:
        raise _refusal(f"more than {most} bytes; send a smaller picture or clip", param)
    try:
        content = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise _refusal("not valid base64; encode the file's bytes again, without line breaks, padded with =", param) from None
    if not content:
        raise _refusal("an empty file; send the file's bytes", param)
    return content


def upright_size(picture: Image.Image, param: str) -> tuple[int, int]:
    """(width, height) as the picture will be seen. Raises ApiError (400)."""
    with _refused(param):
        return picture_size(picture)


def _frame_size(content: bytes, name: str) -> tuple[int, int]:
    """(width, height) that the largest stream's header says: nothing is decoded."""
    try:
        import av
    except ImportError:
        raise VideoError("this server reads no clips; ask its operator for: pip install 'qwenvl[video]'") from None
    try:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        with av.open(io.BytesIO(content), container_options=options, metadata_errors="replace") as container:
            codecs = [stream.codec_context for stream in container.streams.video if stream.codec_context is not None]
            sizes = [(codec.width, codec.height) for codec in codecs]
    except (av.FFmpegError, ValueError) as error:
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())[:80]
        raise VideoError(f"{name}: not a video, or damaged ({reason}); encode it again") from error
    return max(sizes, key=math.prod, default=(0, 0))


@contextmanager
def _refused(param: str) -> Iterator[None]:
    try:
        yield
    except (ImageError, VideoError) as error:
        raise _refusal(str(error), param) from error


def _refusal(message: str, param: str) -> ApiError:
    return ApiError(400, f"{param}: {message}", param=param, code="invalid_media")
