"""The characters of a PDF page through pdfium, in pixels of the page's picture."""

from __future__ import annotations

import ctypes
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qwenvl.data.documents.page import Pixels, inside
from qwenvl.data.documents.text_lines import Character, turned, turned_box
from qwenvl.types import Point

HIDDEN_MODES = (3, 7)
"""Text rendering modes that paint nothing: invisible, and clip only (ISO 32000-1, table 106)."""
BOLD_FROM = 600
"""Weight of a font that counts as bold (`FPDFFont_GetWeight`, as in CSS)."""
FIXED_PITCH = 1
"""Bit of a font descriptor's flags (ISO 32000-1, table 123)."""
BOLD_NAMES = ("bold", "black", "heavy", "cmbx", "ecbx", "lmbx", "sfbx", "cmssbx")
MONO_NAMES = ("mono", "courier", "typewriter", "cmtt", "consol", "menlo", "cousine", "fixed")
NEARLY_RIGHT = 1.0
"""Degrees within which a right angle counts as one."""
REPLACEMENT = "\ufffd"
ON_PAGE = 0.9
"""Part of a character's box that has to lie on the page."""


@dataclass(frozen=True, slots=True)
class Affine:
    """From the page's own coordinates (points, y upwards) to pixels of its picture: x' = a x + b y + c, y' = d x + e y + f."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def point(self, x: float, y: float) -> Point:
        return self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f

    def box(self, left: float, bottom: float, right: float, top: float) -> Pixels:
        (x, y), (u, v) = self.point(left, bottom), self.point(right, top)
        return min(x, u), min(y, v), max(x, u), max(y, v)

    @property
    def scale(self) -> float:
        """Pixels of a point."""
        return math.sqrt(abs(self.a * self.e - self.b * self.d))


def page_affine(page: Any, size: tuple[int, int]) -> Affine:
    """How pdfium draws `page` on a picture of `size`: its crop box and rotation are in it.

    pdfium answers in whole pixels, so it is asked about a picture a thousand times as large.
    """
    import pypdfium2.raw as pdfium

    def at(x: float, y: float) -> Point:
        across, down = ctypes.c_int(), ctypes.c_int()
        width, height = (min(side * 1000, 2**24) for side in size)
        pdfium.FPDF_PageToDevice(page.raw, 0, 0, width, height, 0, x, y, across, down)
        return across.value * size[0] / width, down.value * size[1] / height

    step = 1000.0
    (c, f), (ac, df), (bc, ef) = at(0, 0), at(step, 0), at(0, step)
    return Affine((ac - c) / step, (bc - c) / step, c, (df - f) / step, (ef - f) / step, f)


@dataclass(frozen=True, slots=True)
class _Style:
    """What all characters of one text object have in common: `angle` in degrees, clockwise on the picture, and size in pixels."""

    angle: float
    size: float
    ascent: float
    descent: float
    bold: bool
    mono: bool
    hidden: bool


@dataclass(slots=True)
class PageText:
    """`by_angle`: characters in the order in which they are drawn, turned upright; `text`: all that are there, hidden ones too;
    `unmapped`: how many have no code."""

    by_angle: dict[float, list[Character]]
    text: str
    unmapped: int


def page_text(page: Any, affine: Affine, size: tuple[int, int]) -> PageText:
    """All characters of a page that is drawn on a picture of `size`. What lies outside of the picture counts as hidden."""
    textpage = page.get_textpage()
    try:
        return _Reader(textpage, affine, size).read()
    finally:
        textpage.close()


def font_sizes(page: Any, every: int) -> list[float]:
    """The font sizes, in points, of every so manieth character of a page."""
    import pypdfium2.raw as pdfium

    textpage, matrix = page.get_textpage(), pdfium.FS_MATRIX()
    sizes = []
    for index in range(0, textpage.count_chars(), every):
        if pdfium.FPDFText_GetMatrix(textpage.raw, index, matrix):
            sizes.append(pdfium.FPDFText_GetFontSize(textpage.raw, index) * math.hypot(matrix.c, matrix.d))
    textpage.close()
    return sizes


class _Reader:
    def __init__(self, textpage: Any, affine: Affine, size: tuple[int, int]) -> None:
        import pypdfium2.raw as pdfium

        self.pdfium, self.raw, self.affine = pdfium, textpage.raw, affine
        self.page: Pixels = (0.0, 0.0, *map(float, size))  # type: ignore[assignment]
        self.count: int = textpage.count_chars()
        self.styles: dict[int, _Style] = {}
        self.doubles = [ctypes.c_double() for _ in range(4)]
        self.rectangle, self.matrix = pdfium.FS_RECTF(), pdfium.FS_MATRIX()

    def read(self) -> PageText:
        by_angle: dict[float, list[Character]] = defaultdict(list)
        letters: list[str] = []
        unmapped = 0
        style: _Style | None = None
        for index, text in self._codes():
            found = self.pdfium.FPDFText_GetTextObject(self.raw, index)
            style = self._style(index, found) if found else style
            if style is None or not text:
                continue
            if text.isspace():
                # pdfium adds blanks where it sees gaps; `text_lines` looks for itself.
                if self.pdfium.FPDFText_IsGenerated(self.raw, index) != 1 and by_angle[style.angle]:
                    by_angle[style.angle].append(Character(" ", (0, 0, 0, 0), (0, 0, 0, 0), style.size))
                continue
            letters.append(text)
            if text == REPLACEMENT or self.pdfium.FPDFText_HasUnicodeMapError(self.raw, index) == 1:
                unmapped += 1
            if not style.hidden and (character := self._character(index, text, style)) is not None:
                by_angle[style.angle].append(character)
        return PageText(dict(by_angle), "".join(letters), unmapped)

    def _codes(self) -> Iterator[tuple[int, str]]:
        """The text of each character: surrogates joined, pdfium's mark for a hyphen at a line's end as a hyphen."""
        high = 0
        for index in range(self.count):
            code = self.pdfium.FPDFText_GetUnicode(self.raw, index)
            if 0xD800 <= code < 0xDC00:
                high = code
                continue
            if 0xDC00 <= code < 0xE000 and high:
                code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)
            high = 0
            if code < 0x20 or code in (0xFFFE, 0xFFFF):
                if self.pdfium.FPDFText_IsHyphen(self.raw, index) == 1:
                    yield index, "-"
                else:
                    yield index, " " if code in (0x09, 0x0A, 0x0D) else "" if code < 0x20 else REPLACEMENT
            else:
                yield index, REPLACEMENT if 0xD800 <= code < 0xE000 else chr(code)

    def _style(self, index: int, found: Any) -> _Style | None:
        """The style of a text object, which is asked for once. None for mirrored text."""
        key = ctypes.cast(found, ctypes.c_void_p).value or 0
        if key not in self.styles:
            self.styles[key] = self._make_style(index, found)
        return self.styles[key]

    def _make_style(self, index: int, found: Any) -> _Style:
        pdfium, affine = self.pdfium, self.affine
        pdfium.FPDFText_GetMatrix(self.raw, index, self.matrix)
        a, b, c, d = (getattr(self.matrix, name) for name in "abcd")
        x, y = affine.a * a + affine.b * b, affine.d * a + affine.e * b
        u, v = affine.a * c + affine.b * d, affine.d * c + affine.e * d
        points = ctypes.c_float()
        pdfium.FPDFTextObj_GetFontSize(found, points)
        size = abs(points.value) * math.hypot(u, v)
        angle = math.degrees(math.atan2(y, x))
        right = 90.0 * round(angle / 90.0)
        angle = right % 360 if abs(angle - right) <= NEARLY_RIGHT else round(angle % 360, 1)
        mirrored = x * v - y * u >= 0  # on a picture, whose y grows downwards, what is above a letter has a smaller y
        hidden = mirrored or pdfium.FPDFTextObj_GetTextRenderMode(found) in HIDDEN_MODES
        font = pdfium.FPDFTextObj_GetFont(found)
        ascent, descent = ctypes.c_float(), ctypes.c_float()
        pdfium.FPDFFont_GetAscent(font, points.value, ascent)
        pdfium.FPDFFont_GetDescent(font, points.value, descent)
        part = math.hypot(u, v)
        name = self._font_name(font)
        bold = pdfium.FPDFFont_GetWeight(font) >= BOLD_FROM or any(word in name for word in BOLD_NAMES)
        mono = bool(pdfium.FPDFFont_GetFlags(font) & FIXED_PITCH) or any(word in name for word in MONO_NAMES)
        return _Style(angle, size, abs(ascent.value) * part, abs(descent.value) * part, bold, mono, hidden)

    def _font_name(self, font: Any) -> str:
        buffer = ctypes.create_string_buffer(128)
        self.pdfium.FPDFFont_GetBaseFontName(font, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace").lower()

    def _character(self, index: int, text: str, style: _Style) -> Character | None:
        if style.angle % 90:
            return self._slanted(index, text, style)
        left, right, bottom, top = self.doubles
        if not self.pdfium.FPDFText_GetCharBox(self.raw, index, left, right, bottom, top):
            return None
        upright = self.affine.box(left.value, bottom.value, right.value, top.value)
        if not inside(upright, self.page, ON_PAGE):
            return None
        ink = cell = turned_box(upright, -style.angle)
        if self.pdfium.FPDFText_GetLooseCharBox(self.raw, index, self.rectangle):
            loose = self.rectangle
            cell = turned_box(self.affine.box(loose.left, loose.bottom, loose.right, loose.top), -style.angle)
        if cell[1] >= cell[3]:
            cell = ink
        return Character(text, ink, cell, style.size, style.bold, style.mono)

    def _slanted(self, index: int, text: str, style: _Style) -> Character | None:
        """A character of text at any other angle: its glyph's upright box says little, its origin and its font's heights do."""
        x, y = self.doubles[:2]
        if not self.pdfium.FPDFText_GetCharOrigin(self.raw, index, x, y):
            return None
        origin = self.affine.point(x.value, y.value)
        if not (0 <= origin[0] <= self.page[2] and 0 <= origin[1] <= self.page[3]):
            return None
        left, base = turned(origin, -style.angle)
        cell = (left, base - style.ascent, left + self._advance(index, left, base, style), base + style.descent)
        return Character(text, cell, cell, style.size, style.bold, style.mono)

    def _advance(self, index: int, left: float, base: float, style: _Style) -> float:
        """How far it is to the next character of the line; half the font's size after the last one."""
        x, y = self.doubles[2:]
        if index + 1 < self.count and self.pdfium.FPDFText_GetCharOrigin(self.raw, index + 1, x, y):
            across, down = turned(self.affine.point(x.value, y.value), -style.angle)
            if abs(down - base) < 0.2 * style.size and 0 < across - left < 1.5 * style.size:
                return across - left
        return 0.6 * style.size
