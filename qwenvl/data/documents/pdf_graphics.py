"""What is drawn on a PDF page besides text: pictures, rules and drawings, in pixels of the page's picture."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwenvl.data.documents.page import Pixels, area, around, inside, shared, sides
from qwenvl.data.documents.pdf_text import Affine

THIN, THICK = 2.6, 8.0
"""A path this many points high or wide, or less, is a rule; a single stroke may be thicker than a filled shape."""
MARK = (1.5, 8.0)
"""Points that a shape of a bullet is high and wide."""
MIN_FIGURE = 18.0
"""Points below which a picture is an ornament."""
NEAR = 4.0
"""Paths this many points apart belong to one drawing."""
MIN_PATHS = 4
"""A drawing has at least so many paths, one of them at least no rectangle: frames and shades behind text have not."""
MAX_PATHS = 5000
"""A page of more paths is a map or a plan: its paths are not looked at one by one."""
WHOLE_PAGE = 0.9


@dataclass(frozen=True, slots=True)
class Graphics:
    """`pictures`: boxes of pictures and drawings. `across` and `down`: boxes of horizontal and vertical rules. `marks`: boxes of
    shapes as small as a bullet."""

    pictures: tuple[Pixels, ...] = ()
    marks: tuple[Pixels, ...] = ()
    across: tuple[Pixels, ...] = ()
    down: tuple[Pixels, ...] = ()


def page_graphics(page: Any, affine: Affine, size: tuple[int, int]) -> Graphics:
    """Objects of the page itself; what forms (drawings that are used as one piece) hold counts as one drawing."""
    import pypdfium2.raw as pdfium

    images: list[Pixels] = []
    paths: list[Pixels] = []
    shades: set[Pixels] = set()
    across: list[Pixels] = []
    down: list[Pixels] = []
    scale = affine.scale
    for found, kind in _objects(page):
        box = _clipped(_bounds(found, affine), size)
        if box is None:
            continue
        if kind in (pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_SHADING):
            images.append(box)
        elif kind == pdfium.FPDF_PAGEOBJ_FORM:
            if area(box) < WHOLE_PAGE * size[0] * size[1]:
                images.append(box)
        elif kind == pdfium.FPDF_PAGEOBJ_PATH:
            thin = (THICK if pdfium.FPDFPath_CountSegments(found) == 2 else THIN) * scale
            width, height = sides(box)
            if min(width, height) <= thin < max(width, height):
                (across if width >= height else down).append(box)
            elif (shape := _rectangle(found)) == "frame":
                for rule, upright in _edges(box, scale):
                    (down if upright else across).append(rule)
            else:
                paths.append(box)
                shades |= {box} if shape == "shade" else set()
    least = MIN_FIGURE * scale
    groups = clusters(paths[:MAX_PATHS], NEAR * scale)
    drawings = [around(group) for group in groups if len(group) >= MIN_PATHS and not shades.issuperset(group)]
    pictures = [box for box in merged([*images, *drawings]) if min(sides(box)) >= least]
    small, large = (bound * scale for bound in MARK)
    marks = [box for box in paths if small <= min(sides(box)) and max(sides(box)) <= min(large, 1.5 * min(sides(box)))]
    return Graphics(tuple(pictures), tuple(marks), tuple(across), tuple(down))


def _objects(page: Any) -> Iterator[tuple[Any, int]]:
    import pypdfium2.raw as pdfium

    for index in range(pdfium.FPDFPage_CountObjects(page.raw)):
        found = pdfium.FPDFPage_GetObject(page.raw, index)
        if found:
            yield found, pdfium.FPDFPageObj_GetType(found)


def _bounds(found: Any, affine: Affine) -> Pixels:
    import pypdfium2.raw as pdfium

    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    if not pdfium.FPDFPageObj_GetBounds(found, left, bottom, right, top):
        return (0.0, 0.0, 0.0, 0.0)
    return affine.box(left.value, bottom.value, right.value, top.value)


def _clipped(box: Pixels, size: tuple[int, int]) -> Pixels | None:
    """The part of a box that lies on the page; None where there is none. A rule may have no thickness."""
    left, top, right, bottom = max(box[0], 0.0), max(box[1], 0.0), min(box[2], size[0]), min(box[3], size[1])
    return (left, top, right, bottom) if left <= right and top <= bottom and (left < right or top < bottom) else None


def _rectangle(path: Any) -> Literal["frame", "shade"] | None:
    """Whether a path is a rectangle whose outline is drawn, or one that is only filled; None for any other shape."""
    import pypdfium2.raw as pdfium

    count = pdfium.FPDFPath_CountSegments(path)
    if not 4 <= count <= 6:
        return None
    kinds = [pdfium.FPDFPathSegment_GetType(pdfium.FPDFPath_GetPathSegment(path, index)) for index in range(4)]
    if kinds[0] != pdfium.FPDF_SEGMENT_MOVETO or any(kind != pdfium.FPDF_SEGMENT_LINETO for kind in kinds[1:]):
        return None
    mode, stroke = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDFPath_GetDrawMode(path, mode, stroke)
    return "frame" if stroke.value else "shade"


def _edges(box: Pixels, scale: float) -> Iterator[tuple[Pixels, bool]]:
    """The four sides of a frame as rules, and whether each is upright."""
    left, top, right, bottom = box
    width = 0.5 * scale
    for y in (top, bottom - width):
        yield (left, y, right, y + width), False
    for x in (left, right - width):
        yield (x, top, x + width, bottom), True


def clusters(boxes: Sequence[Pixels], reach: float) -> list[list[Pixels]]:
    """Boxes in groups that touch, each box grown by `reach`. By sweeping from left to right."""
    groups: list[tuple[Pixels, list[Pixels]]] = []
    for box in sorted(boxes):
        grown = (box[0] - reach, box[1] - reach, box[2] + reach, box[3] + reach)
        members, rest, whole = [box], [], box
        for outline, group in groups:
            if outline[2] >= grown[0] and outline[1] <= grown[3] and outline[3] >= grown[1]:
                members, whole = group + members, around((outline, whole))
            else:
                rest.append((outline, group))
        groups = [*rest, (whole, members)]
    return [group for _, group in groups]


def merged(boxes: Sequence[Pixels]) -> list[Pixels]:
    """Pictures that lie in or mostly on each other as one."""
    result: list[Pixels] = []
    for box in sorted(boxes, key=area, reverse=True):
        for number, other in enumerate(result):
            if inside(box, other) or shared(box, other) > 0.3 * area(box):
                result[number] = around((box, other))
                break
        else:
            result.append(box)
    return result
