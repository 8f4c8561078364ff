"""Real documents and a real browser: boxes hold the ink of their text, pages reach nothing they should not, runs survive anything.

The documents are those of Debian packages (make system installs them); without them the tests are passed over.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from benchmarks.documents import CLOSE, html_ink, pdf_ink, second_browser, slack
from qwenvl.data.documents.convert import Job, Outcome, Pages, check_folder, find_sources, plan
from qwenvl.data.documents.html import CHROMIUM, Browser, HtmlSpec
from qwenvl.data.documents.page import DocumentError, NoPage, Page, Pixels, ReaderError
from qwenvl.data.documents.page_rules import HTML_RULES
from qwenvl.data.documents.pdf import PdfSpec
from qwenvl.data.documents.pool import convert_all
from qwenvl.data.shards import ShardReader
from qwenvl.processing.image import open_image
from qwenvl.types import RegionPart, Sample
from tests.pdfs import Sheet, text, write_pdf
from tests.slow import forks

pypdfium2 = pytest.importorskip("pypdfium2")
pytest.importorskip("playwright.sync_api")
needs_browser = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: apt-get install chromium")

REFERENCE = Path("/usr/share/debian-reference")  # debian-reference-common, debian-reference-en, debian-reference-zh-cn
GUIDE = Path("/usr/share/doc/maint-guide-zh-cn")  # maint-guide-zh-cn
needs_manuals = pytest.mark.skipif(
    not (REFERENCE / "debian-reference.zh-cn.pdf").exists() or not GUIDE.exists(),
    reason="no manuals: apt-get install debian-reference-en debian-reference-zh-cn maint-guide-zh-cn",
)


def convert(job: Job, out: Path, *inputs: Path) -> Outcome:
    check_folder(out, job)
    units, total = plan(find_sources(inputs, job.kind), job, out)
    convert_all(units, job, out, 2, total.add)
    return total


def taught_boxes(sample: Sample, size: tuple[int, int]) -> list[Pixels]:
    """The boxes around the quads of a Sample, in pixels of its picture."""
    regions = [part.regions[0] for part in sample.messages[-1].parts if isinstance(part, RegionPart)]
    corners = [tuple(zip(*region.pixels(*size), strict=True)) for region in regions]
    return [(min(across), min(down), max(across), max(down)) for across, down in corners]


@needs_manuals
def test_boxes_of_pdf_pages_hold_the_ink_of_their_text(tmp_path: Path) -> None:
    """English and Chinese, from the shards. `python -m benchmarks.documents pdf` looks at whole books, and more of them."""
    job = Job(kind="pdf", tasks=("ocr_quad",), pdf=PdfSpec(max_pages=40))
    total = convert(job, tmp_path / "out", *(REFERENCE / f"debian-reference.{language}.pdf" for language in ("en", "zh-cn")))
    counts = total.counts
    assert counts["language: en"] > 30 and counts["language: zh"] > 30 and not total.damaged
    assert sum(count for reason, count in total.dropped.items() if "beyond" in reason) > 400, "the rest of the books is counted"
    documents = {source: pypdfium2.PdfDocument(REFERENCE / source) for source in total.files}
    reader = ShardReader(tmp_path / "out")
    for sample in map(reader.sample, range(len(reader))):
        picture = open_image(sample.images[0].image)
        ink = pdf_ink(documents[sample.extra["document"]], sample.extra["page"], picture, job.pdf)
        boxes = taught_boxes(sample, picture.size)
        rooms = [slack(ink, box) for box in boxes]
        assert boxes and all(room is not None and room <= CLOSE for room in rooms), (sample.id, rooms)
        assert ink.missed(boxes) < 0.01, (sample.id, "ink of text is cut off, or outside of all boxes")


@needs_browser
@needs_manuals
def test_manuals_go_through_the_browser(tmp_path: Path) -> None:
    job = Job(kind="html", tasks=("ocr_quad",), html=HtmlSpec(max_pages=2), rules=HTML_RULES, files_per_shard=4)
    total = convert(job, tmp_path / "out", *REFERENCE.glob("ch0[1-4]*.html"), *GUIDE.glob("html/*.html"))
    assert total.counts["language: en"] >= 8 and total.counts["language: zh"] >= 20 and not total.damaged
    assert {f"block: {kind}" for kind in ("heading", "paragraph", "list", "table", "code")} <= total.counts.keys()
    reader = ShardReader(tmp_path / "out")
    for sample in map(reader.sample, range(len(reader))):
        picture = open_image(sample.images[0].image)
        grey = np.asarray(picture.convert("L")).astype(int)
        for left, top, right, bottom in taught_boxes(sample, picture.size):
            part = grey[round(top) : round(bottom), round(left) : round(right)]
            assert part.max() - part.min() > 30, (sample.id, "nothing is written in the box of a line")


@needs_browser
@needs_manuals
@pytest.mark.parametrize("name", ["first", "build"])
def test_lines_hold_what_another_way_of_asking_finds(name: str) -> None:
    """The ink that goes when a second browser draws without text, and what it has as `innerText`. `python -m benchmarks.documents
    html` looks at more manuals."""
    path = GUIDE / "html" / f"{name}.zh-cn.html"
    spec = HtmlSpec(max_pages=100)
    with Browser(spec) as browser:
        pages = [page for page in browser.pages(path, path.parent) if isinstance(page, Page)]
    with second_browser() as second:
        view = second.new_page(viewport={"width": pages[0].image.width, "height": spec.height})
        view.goto(f"file://{path}")
        words = view.evaluate("document.body.innerText").split()
        tops = accumulate((page.image.height for page in pages), initial=0)
        inks = [html_ink(view, page, top) for page, top in zip(pages, tops)]
    said = "".join("".join(page.text.split()) for page in pages)
    lost = [word for word in words if word not in said]
    assert len(lost) < 0.005 * len(words), lost[:20]
    for page, ink in zip(pages, inks, strict=True):
        rooms = [slack(ink, line.box) for line in page.lines]
        assert all(room is not None and room <= CLOSE for room in rooms), (page.name, rooms)
        assert ink.missed([line.box for line in page.lines]) < 0.01, page.name


def page_of(folder: Path, content: str, name: str = "page.html", **files: str) -> Path:
    (folder / "site").mkdir(exist_ok=True)
    for other, body in files.items():
        (folder / other).write_text(body)
    (folder / "site" / name).write_text(content, encoding="utf-8")
    return folder / "site" / name


def read(path: Path, spec: HtmlSpec | None = None, root: Path | None = None) -> list[Page | NoPage]:
    with Browser(spec or HtmlSpec(width=400, height=500)) as browser:
        return list(browser.pages(path, root or path.parent))


RED = "<svg xmlns='http://www.w3.org/2000/svg' width='60' height='60'><rect width='60' height='60' fill='red'/></svg>"


@needs_browser
def test_a_page_runs_nothing_and_reaches_nothing(tmp_path: Path) -> None:
    """Scripts, frames, refreshes, addresses on the network, files outside of its folder: none of them shows."""
    outside = tmp_path / "red.svg"
    links = ("../red.svg", "%2e%2e/red.svg", f"file://{outside}", "http://127.0.0.1:9/x.svg", "link.svg")
    pictures = "".join(f'<img src="{link}" alt="missing" width=60 height=60>' for link in links)
    content = f"""<!doctype html><meta http-equiv="refresh" content="0; url=other.html"><script>document.title = "ran"
        addEventListener("load", () => document.body.textContent = "replaced by a script")</script>
        <p>What the file says, no more.</p>{pictures}<iframe src="other.html"></iframe>"""
    path = page_of(tmp_path, content, **{"red.svg": RED})
    (path.parent / "other.html").write_text("<p>the other page</p>")
    (path.parent / "link.svg").symlink_to(outside)
    (page,) = read(path)
    assert isinstance(page, Page) and page.text == "What the file says, no more."
    assert [block.kind for block in page.blocks] == ["paragraph"]
    assert not (np.asarray(page.image.convert("RGB")).astype(int) @ [1, -1, -1] > 200).any(), "no red"
    (page,) = read(path, root=tmp_path)
    assert isinstance(page, Page) and [block.kind for block in page.blocks].count("image") == 3, "within a wider root they are seen"


@needs_browser
def test_only_what_is_seen_is_text(tmp_path: Path) -> None:
    hidden = """<p style="opacity: 0">transparent</p><p style="color: white">white</p><p style="text-indent: -999px">far left</p>
        <div style="height: 0; overflow: hidden">clipped</div>
        <div style="position: relative">covered<div style="position: absolute; inset: 0; background: teal"></div></div>"""
    fixed = '<p style="position: fixed; bottom: 0">banner</p>'
    path = page_of(tmp_path, f"<!doctype html><body><p>shown</p>{hidden}{'<p>more</p>' * 60}{fixed}")
    pages = [page for page in read(path) if isinstance(page, Page)]
    lines = [line.text for page in pages for line in page.lines]
    assert sorted(set(lines)) == ["banner", "more", "shown"] and lines.count("more") == 60 and lines.count("banner") == 1
    assert all("text ink outside of lines, per mille" not in page.notes for page in pages)


@needs_browser
def test_pages_without_an_end_are_cut_and_counted(tmp_path: Path) -> None:
    path = page_of(tmp_path, '<!doctype html><p>top</p><div style="height: 30000000px"></div><p>bottom</p>')
    first, *others, rest = read(path, HtmlSpec(width=400, height=500, max_pages=3))
    assert isinstance(first, Page) and first.text == "top" and len(others) == 2
    assert isinstance(rest, NoPage) and rest.count > 10_000 and "beyond the first 3 pages" in rest.reason


@needs_browser
@pytest.mark.parametrize("content", ["", "<div>" * 3000 + "deep", "\0\1\2\xff garbage <<<>>> <table><tr><ul><td>"])
def test_odd_files_end_no_run(tmp_path: Path, content: str) -> None:
    found = read(page_of(tmp_path, content))
    assert found and all(isinstance(one, Page | NoPage) for one in found)


@needs_browser
def test_what_is_no_page_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file"):
        read(tmp_path / "absent.html")
    with pytest.raises(DocumentError, match="not in the folder"):
        read(page_of(tmp_path, "<p>x"), root=tmp_path / "elsewhere")
    with pytest.raises(ReaderError, match=r"does not start.*apt-get install chromium"):
        read(page_of(tmp_path, "<p>x"), HtmlSpec(chromium="/bin/false"))


@contextmanager
def awkward(job: Job, roots: Mapping[str, Path]) -> Iterator[Pages]:
    """A reader that crashes on one file, does not come back from another, makes a mistake on a third, and fills the disk."""

    def pages(path: Path, name: str) -> Iterator[Page | NoPage]:
        if path.stem == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if path.stem == "hang":
            time.sleep(1000)
        if path.stem == "mistake":
            raise KeyError("a mistake of ours")
        if path.stem == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "part-00000.parquet")
        yield NoPage(name, 1, "a page")

    yield pages


@pytest.mark.parametrize("files_per_shard", [1, 3])
def test_a_crash_or_a_hang_takes_its_file_and_nothing_else(tmp_path: Path, files_per_shard: int) -> None:
    for name in ("a", "crash", "hang", "b", "c"):
        (tmp_path / f"{name}.pdf").touch()
    job = Job(kind="pdf", files_per_shard=files_per_shard)
    check_folder(tmp_path / "out", job)
    units, total = plan(find_sources([tmp_path], "pdf"), job, tmp_path / "out")
    convert_all(units, job, tmp_path / "out", 2, total.add, awkward, patience=10.0)
    names = sorted(line.split(": ")[0].rpartition("/")[2] for line in total.damaged)
    assert names == ["crash.pdf", "hang.pdf"] and len(total.files) == 5
    assert total.dropped == {"a page": 3}


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("mistake", RuntimeError, r"Traceback[\s\S]*KeyError: 'a mistake of ours'"), ("full", OSError, "No space left on device")],
)
def test_what_is_no_files_fault_ends_the_run(name: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    """A bug keeps its traceback, and a full disk is not taken for a file that crashes its reader."""
    (tmp_path / f"{name}.pdf").touch()
    units, total = plan(find_sources([tmp_path], "pdf"), Job(kind="pdf"), tmp_path / "out")
    with pytest.raises(error, match=message):
        convert_all(units, Job(kind="pdf"), tmp_path / "out", 1, total.add, awkward)
    assert not total.damaged


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_killed_at_random_and_resumed_equals_uninterrupted(tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "in").mkdir()
    for number in range(12):
        sheets = [Sheet(text(f"Page {page} of file {number}, with some words on it.", 20, 150)) for page in range(8)]
        write_pdf(tmp_path / "in" / f"{number:02d}.pdf", sheets)
    command, log = ["data", "pdf", str(tmp_path / "in"), "--workers", "2", "--out"], tmp_path / "log"
    forks.run(["--version"], log)  # the first fork waits for what they are forked from
    assert forks.run([*command, str(tmp_path / "whole")], log).returncode == 0

    def shards() -> int:
        return len(list((tmp_path / "cut").glob("*.parquet")))

    stopped = 0
    for attempt in range(20):
        process, wanted = forks.Command([*command, str(tmp_path / "cut")], log), shards() + random.Random(attempt).randint(1, 4)
        while process.poll() is None and shards() < wanted:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(end)
            stopped += 1
        code = process.wait(60)
        assert "Traceback" not in log.read_text(encoding="utf-8")
        assert code in (0, 130, -end)  # by the signal itself: after the command has ended
        if code == 0:
            break
    assert stopped
    assert forks.run([*command, str(tmp_path / "cut")], log).returncode == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.*")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "cut").glob("*.*") if not path.name.startswith(".")} == written
    assert len(written) == 14, "twelve shards and two reports"
