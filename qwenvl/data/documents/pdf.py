"""PDF files as pages: each rendered by pdfium, with its lines of text and its blocks.

Steps 1 and 2 of the paper's A.4 (arXiv 2308.12966), which used PyMuPDF; the other steps are `page_rules`. Only what the text layer
says is drawn: no annotations, no form fields.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from qwenvl.config import Count, Strict
from qwenvl.data.documents.layout import body_size, page_blocks
from qwenvl.data.documents.page import DocumentError, Line, NoPage, Page, Pixels, ReaderError
from qwenvl.data.documents.pdf_graphics import page_graphics
from qwenvl.data.documents.pdf_text import PageText, font_sizes, page_affine, page_text
from qwenvl.data.documents.text_lines import lines_of

POINTS = 72.0
"""Of an inch: PDF's unit."""
MAX_BYTES = 2**30
"""A compressed file may not unpack to more."""
MAX_CHARACTERS = 100_000
"""A page of more characters is no page to read."""
LOOKED_AT = 12
"""Pages whose fonts tell the size of a document's running text."""
CONTRAST = 24
"""Grey levels between the darkest and the lightest pixel in a line's box below which nothing of the line shows."""


class PdfSpec(Strict):
    """How PDF files become pages."""

    dpi: float = Field(default=144.0, gt=0)
    """Pixels of an inch: 1191 x 1684 for an A4 page."""
    max_pixels: Count = 4_000_000
    """A larger page is drawn smaller."""
    max_pages: Count = 2000
    """Pages of one file beyond these are left out, and counted."""


def read_pdf(path: Path, spec: PdfSpec, name: str | None = None) -> Iterator[Page | NoPage]:
    """The pages of a file, .pdf or .pdf.gz, one after the other. `name` is what they are called in place of the path.

    Raises DocumentError for a file that is missing, damaged, encrypted, or without pages; ReaderError without pypdfium2.
    """
    name = name or str(path)
    document = _open(path, name)
    try:
        count = len(document)
        if not count:
            raise DocumentError(f"{name}: has no pages; leave it out")
        body = body_size(_font_sizes(document, min(count, spec.max_pages)))
        for index in range(min(count, spec.max_pages)):
            yield _page(document, index, spec, name, body)
        if count > spec.max_pages:
            yield NoPage(name, spec.max_pages + 1, f"beyond the first {spec.max_pages} pages of a file", count - spec.max_pages)
    finally:
        document.close()


def _open(path: Path, name: str) -> Any:
    try:
        import pypdfium2
    except ImportError:
        raise ReaderError("PDF files need pypdfium2: pip install 'qwenvl[documents]'") from None
    try:
        data = _content(path, name)
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise DocumentError(f"{name}: encrypted; leave it out, or save it without a password") from None
        raise DocumentError(f"{name}: not a readable PDF ({error}); fetch it again") from None


def _content(path: Path, name: str) -> bytes | Path:
    try:
        if path.suffix.lower() != ".gz":
            with path.open("rb"):
                return path
        with gzip.open(path) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError) as error:
        raise DocumentError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error}); check the file") from None
    if len(data) > MAX_BYTES:
        raise DocumentError(f"{name}: unpacks to more than {MAX_BYTES} bytes; leave it out")
    return data


def _font_sizes(document: Any, count: int) -> list[float]:
    """Font sizes in points of some characters of pages all over the document."""
    import pypdfium2

    sizes: list[float] = []
    for index in sorted({round(place) for place in np.linspace(0, count - 1, min(count, LOOKED_AT))}):
        try:
            page = document[index]
        except pypdfium2.PdfiumError:
            continue
        sizes += font_sizes(page, every=7)
        page.close()
    return sizes


def _page(document: Any, index: int, spec: PdfSpec, name: str, body: float) -> Page | NoPage:
    import pypdfium2

    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return NoPage(name, index + 1, "damaged page")
    try:
        return _drawn(page, index + 1, spec, name, body)
    except (pypdfium2.PdfiumError, MemoryError, ValueError) as error:
        return NoPage(name, index + 1, f"cannot be drawn ({type(error).__name__})")
    finally:
        page.close()


def _drawn(page: Any, number: int, spec: PdfSpec, name: str, body: float) -> Page | NoPage:
    width, height = page.get_size()
    if not (0 < width < math.inf and 0 < height < math.inf):
        return NoPage(name, number, "page without a size")
    scale = page_scale(page, spec)
    if min(width, height) * scale < 1:
        return NoPage(name, number, "page without a size")
    image = _rendered(page, scale)
    affine = page_affine(page, image.size)
    text = page_text(page, affine, image.size)
    if len(text.text) > MAX_CHARACTERS:
        return NoPage(name, number, f"more than {MAX_CHARACTERS} characters")
    graphics = page_graphics(page, affine, image.size)
    lines, hidden = _lines(text, image, graphics.down)
    lines, blocks = page_blocks(lines, graphics, image.size, body * affine.scale)
    notes = {"hidden lines": hidden, "characters without a code": text.unmapped}
    return Page(image, tuple(lines), tuple(blocks), name, number, text.text, {key: count for key, count in notes.items() if count})


def page_scale(page: Any, spec: PdfSpec) -> float:
    """Pixels of a point that pdfium's page is drawn with."""
    width, height = page.get_size()
    return min(spec.dpi / POINTS, math.sqrt(spec.max_pixels / (width * height)))


def _rendered(page: Any, scale: float) -> Image.Image:
    """The page on white: RGB, or grey where it has no colour."""
    bitmap = page.render(scale=scale, draw_annots=False, may_draw_forms=False, rev_byteorder=True)
    pixels = bitmap.to_numpy().copy()
    bitmap.close()
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
        return Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    return Image.fromarray(pixels)


def _lines(text: PageText, image: Image.Image, walls: tuple[Pixels, ...]) -> tuple[list[Line], int]:
    """Lines that show on the picture, and how many do not."""
    found = [line for angle, letters in text.by_angle.items() for line in lines_of(letters, angle, walls if not angle else ())]
    grey = np.asarray(image.convert("L"))
    seen = [line for line in found if shows(line, grey)]
    return seen, len(found) - len(seen)


def shows(line: Line, grey: np.ndarray) -> bool:
    """Whether something of a line can be seen on the picture (height, width)."""
    left, top, right, bottom = line.box
    part = grey[max(int(top), 0) : math.ceil(bottom), max(int(left), 0) : math.ceil(right)]
    return part.size > 0 and int(part.max()) - int(part.min()) >= CONTRAST
