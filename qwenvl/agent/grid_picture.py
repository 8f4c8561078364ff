"""The robot's house as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from qwenvl.agent.gridworld import COLUMNS, ROWS

if TYPE_CHECKING:
    from qwenvl.agent.gridworld import Cell, World

CELL = 56
"""Pixels; with it the picture's sides are multiples of 28, which Qwen2-VL and Qwen2.5-VL see as they are."""

FLOOR, LINE, WALL, DOOR, MAT, ROBOT, INK = "#f4efe6", "#ddd5c7", "#4b5160", "#9a6232", "#bfe3c6", "#5f6f8f", "#20232b"
PAINTS = {"red": "#d1352f", "blue": "#2a6fc9", "green": "#2e9e4f", "yellow": "#edb90c"}


def draw_world(world: World) -> Image.Image:
    picture = Image.new("RGB", (COLUMNS * CELL, ROWS * CELL), FLOOR)
    draw = ImageDraw.Draw(picture)
    for column in range(1, COLUMNS):
        draw.line((column * CELL, 0, column * CELL, ROWS * CELL), LINE)
    for row in range(1, ROWS):
        draw.line((0, row * CELL, COLUMNS * CELL, row * CELL), LINE)
    for cell in world.walls:
        draw.rectangle(_box(cell, 0), WALL)
    _mat(draw, world.mat)
    _door(draw, world)
    for thing in world.things:
        if thing.cell is not None:
            _thing(draw, thing.shape, PAINTS[thing.colour], _box(thing.cell, 13))
    _robot(draw, world)
    return picture


def _box(cell: Cell, margin: int) -> tuple[int, int, int, int]:
    left, top = cell[0] * CELL, cell[1] * CELL
    return left + margin, top + margin, left + CELL - 1 - margin, top + CELL - 1 - margin


def _mat(draw: ImageDraw.ImageDraw, cell: Cell) -> None:
    left, top, right, bottom = _box(cell, 4)
    draw.rectangle((left, top, right, bottom), MAT, "#6aa97a", 2)
    for y in range(top + 8, bottom - 2, 8):
        draw.line((left + 4, y, right - 4, y), "#8cc79a", 2)


def _door(draw: ImageDraw.ImageDraw, world: World) -> None:
    """Closed it fills its cell; open it stands aside."""
    left, top, right, bottom = _box(world.door, 2)
    if world.is_open:
        draw.rectangle((left, top, left + 8, bottom), DOOR, INK)
        return
    draw.rectangle((left, top, right, bottom), DOOR, INK, 2)
    draw.ellipse((right - 14, (top + bottom) // 2 - 4, right - 6, (top + bottom) // 2 + 4), "#f0cf6b", INK)


def _thing(draw: ImageDraw.ImageDraw, shape: str, paint: str, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    if shape == "ball":
        draw.ellipse(box, paint, INK, 2)
    elif shape == "box":
        draw.rectangle(box, paint, INK, 2)
    else:
        draw.polygon([((left + right) // 2, top), (right, bottom), (left, bottom)], paint, INK, 2)


def _robot(draw: ImageDraw.ImageDraw, world: World) -> None:
    left, top, right, bottom = _box(world.robot, 8)
    middle = (left + right) // 2
    draw.line((middle, top - 4, middle, top + 4), INK, 3)
    draw.rounded_rectangle((left, top + 4, right, bottom), 9, ROBOT, INK, 2)
    for x in (left + 11, right - 11):
        draw.ellipse((x - 4, top + 11, x + 4, top + 19), "white", INK)
    if world.held:  # in front of it
        _thing(draw, world.held.shape, PAINTS[world.held.colour], (middle - 9, bottom - 17, middle + 9, bottom + 1))
    else:
        draw.line((left + 10, bottom - 8, right - 10, bottom - 8), "white", 3)
