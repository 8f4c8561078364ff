"""Whether boxes hold the ink of their text, on the manuals of Debian packages: `python -m benchmarks.documents pdf` and `html`.

Files are read as `qwenvl data pdf` and `qwenvl data html` read them, and pages that a rule drops are counted by it. Every page that
stays is drawn again without its text, in another way than the readers do: a PDF page without its text objects, a web page in a
browser of its own, as a whole and with its scripts. What goes is the ink of the text. `--every 10` looks at a tenth of the PDF
pages or of the HTML files, `--pictures FOLDER` draws pages by chance with their boxes.
"""

from __future__ import annotations

import argparse
import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from qwenvl.data.clean.text import language_of
from qwenvl.data.documents.convert import chance
from qwenvl.data.documents.html import CHROMIUM, Browser, HtmlSpec, capture
from qwenvl.data.documents.ink import Ink
from qwenvl.data.documents.page import NoPage, Page, Pixels
from qwenvl.data.documents.page_rules import HTML_RULES, PDF_RULES, PageRules
from qwenvl.data.documents.pdf import PdfSpec, page_scale, read_pdf

SHARE = Path("/usr/share")
CORPUS = {"pdf": (
    ("debian-reference-en", "debian-reference/debian-reference.en.pdf"),
    ("debian-reference-zh-cn", "debian-reference/debian-reference.zh-cn.pdf"),
    ("maint-guide-zh-cn", "doc/maint-guide-zh-cn/*.pdf"),
    ("debian-faq", "doc/debian/FAQ/debian-faq.en.pdf.gz"),
    ("debian-edu-doc-en", "doc/debian-edu-doc-en/*bookworm-manual.pdf"),
    ("debian-edu-doc-zh-cn", "doc/debian-edu-doc-zh-cn/*bookworm-manual.pdf"),
    ("debmake-doc", "doc/debmake-doc/debmake-doc.en.pdf"),
    ("debmake-doc", "doc/debmake-doc/debmake-doc.zh-cn.pdf"),
    ("installation-guide-amd64", "doc/installation-guide-amd64/en/*.pdf.gz"),
    ("installation-guide-amd64", "doc/installation-guide-amd64/zh_CN/*.pdf.gz"),
    ("gnuplot-doc", "doc/gnuplot/gnuplot.pdf"),
), "html": (
    ("debian-reference-en", "debian-reference/*.en.html"),
    ("debian-reference-zh-cn", "debian-reference/*.zh-cn.html"),
    ("maint-guide-zh-cn", "doc/maint-guide-zh-cn/html/*.html"),
    ("debian-handbook", "doc/debian-handbook/html/en-US/*.html"),
    ("debian-handbook", "doc/debian-handbook/html/zh-CN/*.html"),
    ("debmake-doc", "doc/debmake-doc/html/*.en.html"),
    ("debmake-doc", "doc/debmake-doc/html/*.zh-cn.html"),
    ("debian-edu-doc-zh-cn", "doc/debian-edu-doc-zh-cn/*bookworm-manual.html"),
)}  # fmt: skip
"""Packages, and their files in English and Chinese below SHARE."""

CLOSE = 4
"""Pixels from a box's border to the ink in it up to which the box is close."""
PDF_SPEC, HTML_SPEC = PdfSpec(), HtmlSpec(max_pages=8)
SECOND_BROWSER = ("--hide-scrollbars", "--disable-lcd-text", "--font-render-hinting=none")
HEADER = (
    "| package: files | files | pages | stay | dropped | lines | boxes with ink, % | ink up to the border, % | ink outside, % |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
WITHOUT_TEXT = "*, *::before, *::after, *::marker { -webkit-text-fill-color: transparent !important; text-shadow: none !important }"


@dataclass(slots=True)
class Tally:
    """What has been counted; `ink` and `outside` in pixels of text, and of text in no box."""

    files: int = 0
    pages: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    with_ink: int = 0
    close: int = 0
    ink: int = 0
    outside: int = 0
    worst: list[tuple[float, str]] = field(default_factory=list)
    """Pages with ink outside of boxes: its part of the page's, and the page."""
    empty: list[str] = field(default_factory=list)
    """Lines without ink in their box."""

    @property
    def kept(self) -> int:
        return self.pages - self.dropped.total()

    def drops(self, one: Page | NoPage, rules: PageRules) -> bool:
        """Count a page. Whether there is none, or the rules drop it."""
        failed = [one.reason] if isinstance(one, NoPage) else list(rules.judge(one))
        count = one.count if isinstance(one, NoPage) else 1
        self.pages += count
        self.dropped.update({failed[0]: count} if failed else {})
        return bool(failed)

    def look(self, page: Page, ink: Ink) -> None:
        """Count a page that stays. `ink`: that of its text."""
        boxes = [line.box for line in page.lines]
        self.languages[language_of(page.text)] += 1
        self.lines += len(boxes)
        for line, box in zip(page.lines, boxes):
            if (room := slack(ink, box)) is None:
                self.empty.append(f"{page.name}: {line.text}")
            else:
                self.with_ink += 1
                self.close += room <= CLOSE
        missed = ink.missed(boxes)
        total = int(ink.mask.sum())
        self.ink += total
        self.outside += round(missed * total)
        self.worst = sorted([*self.worst, (round(missed, 4), page.name)], reverse=True)[:8]

    def row(self, name: str) -> str:
        parts = (
            100 * self.with_ink / max(self.lines, 1),
            100 * self.close / max(self.lines, 1),
            100 * self.outside / max(self.ink, 1),
        )
        dropped = ", ".join(f"{rule} {count}" for rule, count in self.dropped.most_common())
        shares = " | ".join(f"{part:.2f}" for part in parts)
        return f"| {name} | {self.files} | {self.pages} | {self.kept} | {dropped} | {self.lines} | {shares} |"

    def notes(self) -> str:
        languages = ", ".join(f"{name} {count}" for name, count in self.languages.most_common())
        worst = "\n".join(f"  {part:.2%} {name}" for part, name in self.worst)
        empty = "\n".join(f"  {line}" for line in self.empty[:20])
        return (
            f"languages of pages: {languages}\nmost ink outside of boxes:\n{worst}\nboxes without ink: {len(self.empty)}\n{empty}"
        )

    def add(self, other: Tally) -> None:
        for name in ("files", "pages", "lines", "with_ink", "close", "ink", "outside"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.dropped.update(other.dropped)
        self.languages.update(other.languages)
        self.worst = sorted([*self.worst, *other.worst], reverse=True)[:8]
        self.empty += other.empty


def name_of(path: Path) -> str:
    return str(path.relative_to(SHARE)) if path.is_relative_to(SHARE) else path.name


def root_of(path: Path) -> Path:
    """Pictures of a package may be links into another one."""
    return SHARE if path.is_relative_to(SHARE) else path.parent


def slack(ink: Ink, box: Pixels) -> int | None:
    """Pixels from a box's border to the ink in it, on the side where that is most; None where there is no ink in it."""
    part = ink.part(box)
    down, across = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    if not len(down):
        return None
    return int(max(down[0], across[0], part.shape[0] - 1 - down[-1], part.shape[1] - 1 - across[-1]))


def pdf_ink(document: Any, number: int, picture: Image.Image, spec: PdfSpec) -> Ink:
    """The ink of the text of a page, counted from 1, found by drawing it again without its text objects, also those in forms."""
    sheet = document[number - 1]
    _take_text(sheet.raw, "FPDFPage")
    bare = sheet.render(scale=page_scale(sheet, spec), draw_annots=False, may_draw_forms=False, rev_byteorder=True).to_pil()
    sheet.close()
    return Ink.between(picture.convert("RGB"), bare.convert("RGB"))


def _take_text(holder: Any, functions: str) -> None:
    """Remove the text of a page, or of a form: the names of the functions for it begin with FPDFPage or FPDFFormObj."""
    import pypdfium2.raw as pdfium

    count, get, remove = (getattr(pdfium, f"{functions}_{verb}") for verb in ("CountObjects", "GetObject", "RemoveObject"))
    for one in [get(holder, number) for number in range(count(holder))]:
        kind = pdfium.FPDFPageObj_GetType(one)
        if kind == pdfium.FPDF_PAGEOBJ_TEXT:
            remove(holder, one)
        elif kind == pdfium.FPDF_PAGEOBJ_FORM:
            _take_text(one, "FPDFFormObj")


def pdf_pages(path: Path, tally: Tally, every: int = 1, spec: PdfSpec = PDF_SPEC) -> Iterator[Page]:
    """The pages of a file that stay, all counted; of so many pages the first."""
    import pypdfium2

    document = pypdfium2.PdfDocument(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path)
    tally.files += 1
    for one in read_pdf(path, spec, name_of(path)):
        if (one.number - 1) % every == 0 and not tally.drops(one, PDF_RULES):
            assert isinstance(one, Page)
            tally.look(one, pdf_ink(document, one.number, one.image, spec))
            yield one
    document.close()


@contextmanager
def second_browser() -> Iterator[Any]:
    """A browser that does all that a page asks for."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *SECOND_BROWSER])
        yield browser
        browser.close()


def html_pages(paths: Sequence[Path], tally: Tally, spec: HtmlSpec = HTML_SPEC) -> Iterator[Page]:
    """The pages of web pages that stay, all counted. One browser after the other: a process has room for one."""
    with Browser(spec) as browser:
        found = [list(browser.pages(path, root_of(path), name_of(path))) for path in paths]
    with second_browser() as second:
        for path, pages in zip(paths, found, strict=True):
            tally.files += 1
            width = max((one.image.width for one in pages if isinstance(one, Page)), default=spec.width)
            view = second.new_page(viewport={"width": width, "height": spec.height})
            view.goto(f"file://{path}")
            top = 0
            for one in pages:
                if not tally.drops(one, HTML_RULES):
                    assert isinstance(one, Page)
                    tally.look(one, html_ink(view, one, top))
                    yield one
                top += one.image.height if isinstance(one, Page) else 0
            view.close()


def html_ink(view: Any, page: Page, top: int) -> Ink:
    """The ink of the text of a page that stands `top` pixels below the web page's beginning."""
    clip = {"x": 0, "y": top, "width": page.image.width, "height": page.image.height, "scale": 1}
    session = view.context.new_cdp_session(view)
    shown = capture(session, captureBeyondViewport=True, clip=clip)
    style = view.add_style_tag(content=WITHOUT_TEXT)
    bare = capture(session, captureBeyondViewport=True, clip=clip)
    style.evaluate("style => style.remove()")
    session.detach()
    return Ink.between(shown, bare)


def drawn(pages: Sequence[Page], columns: int = 3, width: int = 900) -> Image.Image:
    """Pages side by side, blocks in green and lines in magenta."""
    pictures = []
    for page in pages:
        picture = page.image.convert("RGB")
        draw = ImageDraw.Draw(picture)
        for block in (inner for outer in page.blocks for inner in outer.walk()):
            if block.box is not None:
                draw.rectangle(
                    [value * picture.size[number % 2] for number, value in enumerate(block.box)], outline="#0a0", width=2
                )
        for line in page.lines:
            draw.polygon(line.quad, outline="#f0f")
        pictures.append(picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS))
    high = max(picture.height for picture in pictures)
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * high), "#888")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * high))
    return sheet


def corpus(kind: str) -> dict[str, list[Path]]:
    """The files that are installed, by package and pattern, without links."""
    found = {f"{package}: {pattern}": sorted(SHARE.glob(pattern)) for package, pattern in CORPUS[kind]}
    return {name: [path for path in paths if path.resolve() == path] for name, paths in found.items() if paths}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.documents", description="Whether boxes hold the ink of their text.")
    parser.add_argument("kind", choices=CORPUS)
    parser.add_argument("--every", type=int, default=1, help="of so many pages of PDF, or files of HTML, the first")
    parser.add_argument("--pictures", type=Path, help="draw pages by chance into this folder")
    parser.add_argument("--shown", type=int, default=12, help="so many of them")
    parser.add_argument("--only", default="", help="packages and files whose names have this in them")
    options = parser.parse_args(arguments)

    chosen: list[Page] = []
    total = Tally()
    print(HEADER, flush=True)
    for name, paths in corpus(options.kind).items():
        if options.only not in name:
            continue
        tally = Tally()
        if options.kind == "pdf":
            pages = chain.from_iterable(pdf_pages(path, tally, options.every) for path in paths)
        else:
            files = paths[:: options.every]
            pages = chain.from_iterable(html_pages(files[start : start + 10], tally) for start in range(0, len(files), 10))
        for page in pages:
            if options.pictures:
                chosen = sorted([*chosen, page], key=lambda page: chance(page.name))[: options.shown]
        print(tally.row(name), flush=True)
        total.add(tally)
    print(f"{total.row('all')}\n\n{total.notes()}")
    for start in range(0, len(chosen), 3):
        options.pictures.mkdir(parents=True, exist_ok=True)
        drawn(chosen[start : start + 3]).save(options.pictures / f"{options.kind}-{start // 3}.png")


if __name__ == "__main__":
    main()
