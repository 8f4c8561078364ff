"""Pages as Samples: reading with places, reading alone, and parsing to QwenVL HTML, in the page's own language."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from qwenvl.data import formats
from qwenvl.data.clean.text import language_of
from qwenvl.data.documents.page import Page
from qwenvl.data.documents.qwenvl_html import document_parts
from qwenvl.data.synth.names import Language
from qwenvl.types import Message, RegionError, Sample

PageTask = Literal["ocr_quad", "ocr_spotting", "ocr", "document_parsing"]
"""`ocr_quad`: OCR of Box B; `ocr_spotting`: lines and places as Qwen2.5-VL's cookbook asks for them; `ocr`: text alone;
`document_parsing`: QwenVL HTML."""
PAGE_TASKS: tuple[PageTask, ...] = get_args(PageTask)


def page_samples(page: Page, kind: str, tasks: Sequence[PageTask] = PAGE_TASKS, count: int = 1) -> list[Sample]:
    """`count` Samples of a page, of different tasks, that share its picture. Which tasks is drawn from the page's name, each of
    `tasks` as likely. `kind` is what the Samples' source says: documents/pdf or documents/html.

    Raises RegionError for a page that has a place which cannot be taught.
    """
    first = int.from_bytes(hashlib.sha256(page.name.encode()).digest()[:4], "big") % len(tasks)
    chosen = [tasks[(first + step) % len(tasks)] for step in range(min(count, len(tasks)))]
    language = language_of(page.text)
    picture = png(page)
    extra = {"document": page.source, "page": page.number}
    return [
        Sample(_TASKS[task](page, picture, language), f"{page.name}/{task}", task, language, f"documents/{kind}", dict(extra))
        for task in chosen
    ]


def png(page: Page) -> bytes:
    file = io.BytesIO()
    page.image.save(file, "png", compress_level=3)
    return file.getvalue()


def _ocr_quad(page: Page, picture: bytes, language: Language) -> tuple[Message, ...]:
    return formats.ocr_quad(picture, [(line.text, page.region(line).check(page.name)) for line in page.lines], language)


def _ocr_spotting(page: Page, picture: bytes, language: Language) -> tuple[Message, ...]:
    return formats.spot_text(picture, [(line.text, page.region(line).check(page.name)) for line in page.lines], language)


def _ocr(page: Page, picture: bytes, language: Language) -> tuple[Message, ...]:
    return formats.read_text(picture, page.text, language)


def _document_parsing(page: Page, picture: bytes, language: Language) -> tuple[Message, ...]:
    if not page.blocks:
        raise RegionError(f"{page.name}: no blocks")
    return formats.parse_document(picture, document_parts(page.blocks, page.name), language)


_TASKS: dict[PageTask, Callable[[Page, bytes, Language], tuple[Message, ...]]] = {
    "ocr_quad": _ocr_quad, "ocr_spotting": _ocr_spotting, "ocr": _ocr, "document_parsing": _document_parsing,
}  # fmt: skip
