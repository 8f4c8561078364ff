"""Small PDF files that tests write by hand, in the standard fonts that every reader has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FONTS = {"F": "Helvetica", "B": "Helvetica-Bold", "C": "Courier"}


@dataclass(frozen=True)
class Sheet:
    """One page: operators of its content, media box, crop box and rotation."""

    content: str
    media: tuple[float, ...] = (0, 0, 400, 300)
    crop: tuple[float, ...] | None = None
    rotate: int = 0


def text(words: str, x: float, y: float, size: float = 12, font: str = "F", matrix: str = "1 0 0 1", mode: int = 0) -> str:
    """Operators that show words with their baseline at (x, y); `matrix` turns them, `mode` is the rendering mode."""
    written = words.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    return f"BT /{font} {size} Tf {mode} Tr {matrix} {x} {y} Tm ({written}) Tj ET\n"


def write_pdf(path: Path, sheets: Sequence[Sheet], trailer: str = "") -> Path:
    """Objects: 1 catalogue, 2 page tree, then the fonts, then a page and its content for each sheet."""
    fonts = {name: number for number, name in enumerate(FONTS, start=3)}
    first = 3 + len(fonts)
    kids = " ".join(f"{first + 2 * index} 0 R" for index in range(len(sheets)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(sheets)} >>"]
    objects += [f"<< /Type /Font /Subtype /Type1 /BaseFont /{base} /Encoding /WinAnsiEncoding >>" for base in FONTS.values()]
    named = " ".join(f"/{name} {number} 0 R" for name, number in fonts.items())
    for index, sheet in enumerate(sheets):
        crop = f"/CropBox [{_numbers(sheet.crop)}]" if sheet.crop else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{_numbers(sheet.media)}] {crop} /Rotate {sheet.rotate} "
            f"/Resources << /Font << {named} >> >> /Contents {first + 2 * index + 1} 0 R >>"
        )
        objects.append(f"<< /Length {len(sheet.content)} >>\nstream\n{sheet.content}\nendstream")
    body, places = "%PDF-1.7\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    body += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{body.index('xref')}\n%%EOF\n"
    path.write_bytes(body.encode("latin-1"))
    return path


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
