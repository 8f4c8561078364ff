"""`qwenvl data books`: long samples of the pages of PDF files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qwenvl.cli.options import Flag, FromZero, SomeOf

if TYPE_CHECKING:
    from collections import Counter

    from qwenvl.data.documents.page import Page

EXAMPLES = """
qwenvl data books manuals/ --out shards/books
qwenvl data books manual.pdf --out shards/books --tokens 4096 16384 --page-pixels 600000
"""


@dataclass(frozen=True)
class Books:
    """Join pages of PDF files that follow each other to long samples, with questions about them, one of them about a late page.

    Pages that the rules of `qwenvl data pdf` drop are left out.
    """

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE|FOLDER", help_behavior_hint="")] = ()
    """PDF files, and folders of them."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(required)")] = None
    """Where part-*.parquet go."""
    tokens: tuple[int, int] = (8192, 32768)
    """Least and greatest length of a sample, drawn for each."""
    preset: str = "qwen2.5-vl-7b"
    """The model that tokens are counted for."""
    page_pixels: int = 800_000
    """Pages are made smaller to so many pixels."""
    limit: SomeOf = None
    """Stop after so many samples."""
    seed: FromZero = 0
    held_out_phrasing: Flag = False
    """Put every question in the one phrasing that training never shows."""


def make_books(options: Books) -> int:
    from collections import Counter
    from itertools import islice

    from qwenvl.cli.options import UsageError
    from qwenvl.cli.progress import counted, progress
    from qwenvl.config import validate
    from qwenvl.data.documents.convert import find_sources
    from qwenvl.data.shards import LONG, ShardWriter
    from qwenvl.data.synth.long.book import BookSpec, books

    if not options.inputs:
        raise UsageError("nothing to read: give files or folders")
    if options.out is None:
        raise UsageError("--out: give the folder to write into")
    asked = {name: getattr(options, name) for name in ("tokens", "preset", "page_pixels")}
    spec = validate({**asked, "held_out": options.held_out_phrasing}, BookSpec, "options")
    left_out: Counter[str] = Counter()
    pages = kept_pages([(source.path, source.name) for source in find_sources(options.inputs, "pdf")], left_out)
    with ShardWriter(options.out, **LONG) as writer, progress("reading", options.limit) as advance:
        for sample in counted(islice(books(pages, spec, options.seed), options.limit), advance):
            writer.add(sample)
    print(f"{options.out}: {writer.written} samples")
    if left_out:
        print("pages left out: " + ", ".join(f"{reason} {count}" for reason, count in left_out.most_common()))
    if not writer.written:
        print("qwenvl: no document has pages enough that fit; raise --tokens or lower --page-pixels", file=sys.stderr)
    return 0 if writer.written else 1


def kept_pages(files: list[tuple[Path, str]], left_out: Counter[str]) -> Iterator[Page]:
    """The pages of PDF files that no rule drops; those left out are counted by reason, and files that cannot be read are named."""
    from qwenvl.data.documents.page import DocumentError, Page
    from qwenvl.data.documents.page_rules import PDF_RULES
    from qwenvl.data.documents.pdf import PdfSpec, read_pdf

    for path, name in files:
        try:
            for page in read_pdf(path, PdfSpec(), name):
                reasons = list(PDF_RULES.judge(page)) if isinstance(page, Page) else [page.reason]
                if isinstance(page, Page) and not reasons:
                    yield page
                else:
                    left_out[reasons[0]] += 1
        except DocumentError as error:
            left_out["files that cannot be read"] += 1
            print(f"qwenvl: {error}", file=sys.stderr)
