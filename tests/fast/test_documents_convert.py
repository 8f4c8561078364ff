"""Documents to shards: every page is counted once, what is done is not done again, and a run is gone on with as it was begun."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwenvl.cli.data_documents import Pdf, read_job
from qwenvl.config import ConfigError
from qwenvl.data.documents.blocks import Block
from qwenvl.data.documents.convert import ConvertError, Job, Outcome, Unit, check_folder, convert_unit, find_sources, plan
from qwenvl.data.documents.page import DocumentError, Line, NoPage, Page
from qwenvl.data.documents.report import write_report
from qwenvl.data.documents.samples import PAGE_TASKS, page_samples
from qwenvl.data.shards import ShardReader
from qwenvl.types import RegionError, RegionPart, TextPart

pytest.importorskip("pyarrow")

JOB = Job(kind="pdf")


def page(name: str, number: int, text: str = "A page with as many words as it takes to stay.") -> Page:
    quad = ((10.0, 10.0), (290.0, 10.0), (290.0, 30.0), (10.0, 30.0))
    block = Block("paragraph", (10 / 300, 10 / 400, 290 / 300, 30 / 400), text)
    return Page(Image.new("L", (300, 400), 255), (Line(text, quad, 12.0),), (block,), name, number, text)


def pages(path: Path, name: str) -> Iterator[Page | NoPage]:
    """As many pages as the file has letters: `p` stays, `x` is dropped, `n` is none, `d` ends the file as damaged."""
    for number, letter in enumerate(path.read_text(), start=1):
        if letter == "d":
            raise DocumentError(f"{name}: damaged\nin the middle")
        if letter == "n":
            yield NoPage(name, number, "page without a size", 3)
        else:
            yield page(name, number) if letter == "p" else page(name, number, "short")


def folder(tmp_path: Path, files: Mapping[str, str]) -> Path:
    for name, letters in files.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(letters)
    return tmp_path / "in"


def convert(root: Path, out: Path, job: Job = JOB, only: int | None = None) -> Outcome:
    check_folder(out, job)
    units, total = plan(find_sources([root], "pdf"), job, out)
    for unit in units:
        if only is None or unit.number == only:
            total.add(convert_unit(unit, job, out, pages, {}, lambda name: None))
    return total


def test_every_page_is_counted_by_what_has_become_of_it(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.pdf": "ppx", "b/c.pdf": "pnd", "b/notes.txt": "ppp"})
    total = convert(root, tmp_path / "out")
    assert (total.pages, total.kept, total.samples) == (3 + 1 + 3, 3, 3)
    assert total.dropped == {"characters": 1, "page without a size": 3} and total.failed == {"characters": 1}
    assert total.files == ["in/a.pdf", "in/b/c.pdf"] and total.damaged == ["in/b/c.pdf: damaged in the middle"]
    assert total.examples["characters"][0]["page"] == "in/a.pdf#3"
    ids = [sample.id.rpartition("/")[0] for sample in map(ShardReader(tmp_path / "out").sample, range(3))]
    assert ids == ["in/a.pdf#1", "in/a.pdf#2", "in/b/c.pdf#1"]


def test_a_unit_without_a_page_leaves_no_shard(tmp_path: Path) -> None:
    convert(folder(tmp_path, {"a.pdf": "x", "b.pdf": "p"}), tmp_path / "out")
    assert [path.name for path in tmp_path.joinpath("out").glob("*.parquet")] == ["part-00001.parquet"]


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.parquet"))}


@pytest.mark.parametrize("size", [1, 2])
def test_a_run_goes_on_where_it_was_left(tmp_path: Path, size: int) -> None:
    job = JOB.model_copy(update={"files_per_shard": size})
    root = folder(tmp_path, {f"{name}.pdf": "p" for name in "abcde"})
    convert(root, tmp_path / "whole", job)
    convert(root, tmp_path / "left", job, only=1)
    assert list(shards(tmp_path / "left")) == ["part-00001.parquet"]
    total = convert(root, tmp_path / "left", job)
    assert shards(tmp_path / "left") == shards(tmp_path / "whole")
    assert sorted(total.files) == [f"in/{name}.pdf" for name in "abcde"] and total.pages == 5


def test_new_files_are_added_to_what_is_there(tmp_path: Path) -> None:
    root = folder(tmp_path, {"b.pdf": "p"})
    convert(root, tmp_path / "out")
    before = shards(tmp_path / "out")
    total = convert(folder(tmp_path, {"a.pdf": "pp"}), tmp_path / "out")
    after = shards(tmp_path / "out")
    assert list(after) == ["part-00000.parquet", "part-00001.parquet"] and before.items() <= after.items()
    assert total.pages == 3


def test_a_run_with_other_options_does_not_go_on(tmp_path: Path) -> None:
    convert(folder(tmp_path, {"a.pdf": "p"}), tmp_path / "out")
    with pytest.raises(ConvertError, match="other options"):
        check_folder(tmp_path / "out", JOB.model_copy(update={"samples_per_page": 2}))
    with pytest.raises(ConvertError, match="not empty"):
        check_folder(tmp_path / "in", JOB)


def test_a_file_that_took_a_process_with_it_is_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.pdf": "p", "b.pdf": "p"})
    unit = Unit(0, tuple(find_sources([root], "pdf")))
    told: list[str] = []
    outcome = convert_unit(unit, JOB, tmp_path, pages, {"in/a.pdf": "the reader crashed on it"}, told.append)
    assert outcome.damaged == ["in/a.pdf: the reader crashed on it; leave it out"]
    assert outcome.pages == 1 and set(told) == {"in/b.pdf"}


def test_files_are_found_once_and_named_apart(tmp_path: Path) -> None:
    for name in ("x/in/a.pdf", "y/in/a.pdf", "y/in/b.PDF.gz"):
        folder(tmp_path, {})
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("p")
    (tmp_path / "y/in/link.pdf").symlink_to(tmp_path / "x/in/a.pdf")
    found = find_sources([tmp_path / "x/in", tmp_path / "y/in", tmp_path / "x/in/a.pdf"], "pdf")
    assert [source.name for source in found] == [str(tmp_path / "x/in/a.pdf"), str(tmp_path / "y/in/a.pdf"), "in/b.PDF.gz"]
    with pytest.raises(ConvertError, match="no such file"):
        find_sources([tmp_path / "absent"], "pdf")
    with pytest.raises(ConvertError, match=r"no \.html"):
        find_sources([tmp_path / "x"], "html")


def test_pages_share_the_tasks_out(tmp_path: Path) -> None:
    drawn = [page_samples(page("book.pdf", number), "pdf")[0].task for number in range(200)]
    assert all(30 < drawn.count(task) < 70 for task in PAGE_TASKS)
    samples = page_samples(page("book.pdf", 1), "pdf", count=9)
    assert sorted(sample.task for sample in samples) == sorted(PAGE_TASKS)
    assert len({id(sample.images[0].image) for sample in samples}) == 1


def test_samples_say_what_the_page_says() -> None:
    english = page("book.pdf", 4)
    chinese = page("book.pdf", 5, "这一页上写着足够多的中文字，所以它会留下来。")
    for source, language in ((english, "en"), (chinese, "zh")):
        by_task = {sample.task: sample for sample in page_samples(source, "pdf", count=9)}
        for sample in by_task.values():
            assert (sample.language, sample.source) == (language, "documents/pdf")
            assert sample.extra == {"document": "book.pdf", "page": source.number}
        quad = next(part for part in by_task["ocr_quad"].messages[-1].parts if isinstance(part, RegionPart))
        assert quad.phrase == source.text and quad.regions[0].kind == "quad"
        assert quad.regions[0].points[2] == pytest.approx((290 / 300, 30 / 400))
        assert by_task["document_parsing"].messages[0].role == "system"


def test_a_page_that_cannot_be_taught_is_dropped_and_counted(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.pdf": "p"})

    def wrong(path: Path, name: str) -> Iterator[Page]:
        good = page(name, 1)
        yield Page(good.image, good.lines, (Block("paragraph", (0.5, 0.5, 0.5, 0.6), "x"),), name, 1, good.characters)

    job = JOB.model_copy(update={"tasks": ("document_parsing",)})
    outcome = convert_unit(Unit(0, tuple(find_sources([root], "pdf"))), job, tmp_path, wrong, {}, lambda name: None)
    assert outcome.dropped == {"region": 1} and outcome.kept == 0
    with pytest.raises(RegionError, match=r"a\.pdf#1"):
        page_samples(next(wrong(root / "a.pdf", "in/a.pdf")), "pdf", ("document_parsing",))


def test_the_report_shows_counts_drops_and_pages_and_escapes_what_they_say(tmp_path: Path) -> None:
    root = folder(tmp_path, {"<b>.pdf": "ppx", "d.pdf": "d"})
    job = JOB.model_copy(update={"tasks": ("ocr_quad", "document_parsing")})
    total = convert(root, tmp_path / "out", job)
    data = write_report(tmp_path / "out", job, total)
    assert data == json.loads((tmp_path / "out" / "report.json").read_text())
    assert data["dropped"]["characters"] == 1 and data["kept_percent"] == pytest.approx(66.7) and len(data["damaged_files"]) == 1
    text = (tmp_path / "out" / "report.html").read_text()
    assert "in/&lt;b&gt;.pdf#1" in text and "<b>.pdf" not in text
    samples = list(map(ShardReader(tmp_path / "out").sample, range(2)))
    taught = [part for sample in samples for part in sample.messages[-1].parts if not isinstance(part, TextPart)]
    assert text.count("<svg") == 2 and text.count("<polygon") == len(taught) > 0
    assert "dropped: characters" in text and "in/d.pdf: damaged" in text


OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    (("rules.characters.minimum=100",), {"characters": 100}),
    (("rules.private_use=null", "pdf.max_pages=7"), {"private_use": None, "pages": 7}),
]


@pytest.mark.parametrize(("changes", "wanted"), OPTIONS)
def test_settings_are_changed_by_key(changes: tuple[str, ...], wanted: dict[str, Any]) -> None:
    job = read_job(Pdf((Path("x"),), Path("out"), set=changes), "pdf", {"dpi": 72})
    assert job.pdf.dpi == 72
    if "characters" in wanted:
        assert job.rules.characters is not None and job.rules.characters.minimum == wanted["characters"]
    else:
        assert job.rules.private_use is None and job.pdf.max_pages == wanted["pages"]


def test_a_setting_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        read_job(Pdf((Path("x"),), Path("out"), set=("rules.charcters.minimum=1",)), "pdf", {})
