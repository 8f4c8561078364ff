"""A large picture as tiles, for a family that resizes every picture to one square: fine detail survives, at the price of tokens.

An option that is off by default, and none of the published training: Qwen-VL has seen whole pictures only. A picture becomes a
grid of tiles that fits its aspect ratio, in reading order, each a picture of its own, and then the whole picture once more.
Because the whole comes last, and an answer's markup is taken to mean the last picture, boxes are of the whole picture unless the
caller says otherwise; `to_whole` maps those of a tile back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwenvl.processing.image import open_image
from qwenvl.types import ImagePart, Part, QwenVLError, Region, Sample

MAX_TILES = 12


class TileError(QwenVLError, ValueError):
    """A number of tiles that makes no sense."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a picture of the tiled sample lies in the sample that it was cut from: picture `image`, in [0, 1] of its sides."""

    image: int
    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    @property
    def is_whole(self) -> bool:
        return (self.left, self.top, self.right, self.bottom) == (0.0, 0.0, 1.0, 1.0)


def tile_grid(width: int, height: int, side: int, most: int = MAX_TILES) -> tuple[int, int]:
    """(columns, rows) for a picture of that size in pixels: at most `most` tiles, the shape nearest to the picture's.

    Among grids of one shape the largest that enlarges the picture by less than a half: a picture of a tile's size stays one.
    Raises TileError for a `most` that is not from 1 to MAX_TILES.
    """
    if not 1 <= most <= MAX_TILES:
        raise TileError(f"tiles is {most}; give a number from 1 to {MAX_TILES}, or leave it out")
    grids = [(columns, rows) for columns in range(1, most + 1) for rows in range(1, most // columns + 1)]
    # A tile that the pixels do not half fill shows nothing new.
    filled = [grid for grid in grids if all(n == 1 or (n - 0.5) * side <= pixels for n, pixels in zip(grid, (width, height)))]

    def misfit(grid: tuple[int, int]) -> tuple[float, int]:
        columns, rows = grid
        stretch = (columns * height) / (rows * width)
        return round(max(stretch, 1 / stretch), 6), -columns * rows

    return min(filled, key=misfit)


def cut_pictures(sample: Sample, side: int, most: int = MAX_TILES) -> tuple[Sample, tuple[Tile, ...]]:
    """The sample with every picture cut into tiles of `side` pixels and followed by itself, and where each picture now lies.

    A picture that is one tile stays as it is. Tiles are at most `most` per picture; none of the sample's length is checked here:
    encoding refuses what exceeds the context, with the numbers. Raises ImageError and TileError.
    """
    tiles: list[Tile] = []
    messages = []
    count = 0
    for message in sample.messages:
        parts: list[Part] = []
        for part in message.parts:
            if not isinstance(part, ImagePart):
                parts.append(part)
                continue
            pictures, places = _cut(part.image, side, most, count)
            parts += [replace(part, image=picture) for picture in pictures]
            tiles += places
            count += 1
        messages.append(replace(message, parts=tuple(parts)))
    return replace(sample, messages=tuple(messages)), tuple(tiles)


def to_whole(regions: Sequence[Region], tiles: Sequence[Tile]) -> tuple[Region, ...]:
    """Regions in the pictures of a tiled sample as regions of the sample that it was cut from.

    Raises TileError for a region in a picture that is not there.
    """
    mapped = []
    for region in regions:
        if region.image >= len(tiles):
            raise TileError(f"a {region.kind} in picture {region.image + 1}, but the tiled sample has {len(tiles)}")
        tile = tiles[region.image]
        width, height = tile.right - tile.left, tile.bottom - tile.top
        points = tuple((tile.left + x * width, tile.top + y * height) for x, y in region.points)
        mapped.append(replace(region, points=points, image=tile.image))
    return tuple(mapped)


def _cut(source: Any, side: int, most: int, image: int) -> tuple[list[Any], list[Tile]]:
    """Tiles of one picture in reading order, then the picture itself."""
    from PIL import Image

    picture = open_image(source)
    columns, rows = tile_grid(*picture.size, side, most)
    if columns * rows == 1:
        return [picture], [Tile(image)]
    # One resize of the whole, so that no tile has an edge of its own.
    large = picture.resize((columns * side, rows * side), Image.Resampling.BICUBIC)
    places = [
        Tile(image, column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        for row in range(rows) for column in range(columns)
    ]  # fmt: skip
    corners = [(column * side, row * side) for row in range(rows) for column in range(columns)]
    pictures = [large.crop((left, top, left + side, top + side)) for left, top in corners]
    return [*pictures, picture], [*places, Tile(image)]
