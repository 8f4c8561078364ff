"""Pictures of Samples with the places that are asked about or answered drawn on them, to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw

from qwenvl.processing.image import open_image
from qwenvl.types import CoordinatesPart, Part, Region, RegionPart, Sample

COLOUR = (255, 0, 255)
_DOT = 3


def outlined(sample: Sample) -> list[Image.Image]:
    """The pictures of a sample, in its order, each with the outlines of its places."""
    pictures = [open_image(part.image).copy() for part in sample.images]
    for message in sample.messages:
        for part in message.parts:
            for region in regions_of(part):
                if region.image < len(pictures):
                    _outline(pictures[region.image], region)
    return pictures


def regions_of(part: Part) -> Sequence[Region]:
    if isinstance(part, CoordinatesPart):
        return (part.region,)
    return part.regions if isinstance(part, RegionPart) else ()


def _outline(picture: Image.Image, region: Region) -> None:
    points = region.pixels(picture.width - 1, picture.height - 1)
    pen = ImageDraw.Draw(picture)
    width = max(round(max(picture.size) / 700), 1)
    if region.kind == "point":
        pen.circle(points[0], _DOT * width, outline=COLOUR, width=width)
    elif region.kind == "box":
        pen.rectangle((*points[0], *points[1]), outline=COLOUR, width=width)
    else:
        pen.line([*points, *points[:2]], fill=COLOUR, width=width, joint="curve")


def thumbnail_url(picture: Image.Image, side: int, quality: int = 75) -> str:
    """A picture made smaller to fit a square, if it does not, as a JPEG in a data URL."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "jpeg", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def sheet(pictures: Sequence[Image.Image], columns: int = 4, side: int = 320, gap: int = 6) -> Image.Image:
    """Pictures side by side, each fitted into a square, rows no higher than their highest picture."""
    fitted = [_fitted(picture, side) for picture in pictures]
    rows = [fitted[first : first + columns] for first in range(0, len(fitted), columns)]
    width = max(len(row) for row in rows) * (side + gap) - gap
    whole = Image.new("RGB", (width, sum(max(picture.height for picture in row) + gap for row in rows) - gap), "white")
    top = 0
    for row in rows:
        for column, picture in enumerate(row):
            whole.paste(picture, (column * (side + gap) + (side - picture.width) // 2, top))
        top += max(picture.height for picture in row) + gap
    return whole


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    return picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)), Image.Resampling.LANCZOS)
