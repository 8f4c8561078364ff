"""Files of documents -> shards of Samples, by several processes, to be gone on with after any end.

A unit is some files that become one shard. What has become of it is written beside it when it is done, so that a run that was
killed begins again with the units that are not; their shards come out the same. A reader that crashes or does not come back takes
its file with it, not the run (`pool`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from qwenvl.config import Count, Strict
from qwenvl.data.documents.html import Browser, HtmlSpec
from qwenvl.data.documents.page import DocumentError, NoPage, Page
from qwenvl.data.documents.page_rules import PageRules
from qwenvl.data.documents.pdf import PdfSpec, read_pdf
from qwenvl.data.documents.samples import PAGE_TASKS, PageTask, page_samples
from qwenvl.data.outlines import thumbnail_url
from qwenvl.data.shards import write_shard
from qwenvl.runtime import atomic_write
from qwenvl.types import QwenVLError, RegionError, Sample

DOCUMENTS_VERSION = 1
"""Raised by every change of this package that changes an outcome: a run begun with another version does not go on."""
SUFFIXES = {"pdf": (".pdf", ".pdf.gz"), "html": (".html", ".htm", ".xhtml")}
EXAMPLES = 2
"""Dropped pages of each rule that a unit keeps a small picture of."""
SIDE = 240

Pages = Callable[[Path, str], Iterator[Page | NoPage]]
"""Reads a file that goes by a name."""


class ConvertError(QwenVLError, ValueError):
    """A run that cannot begin or go on."""


class Job(Strict):
    """What is made of the files; of two runs with equal jobs one may go on with the other."""

    kind: Literal["pdf", "html"]
    pdf: PdfSpec = PdfSpec()
    html: HtmlSpec = HtmlSpec()
    rules: PageRules = PageRules()
    tasks: tuple[PageTask, ...] = Field(default=PAGE_TASKS, min_length=1)
    samples_per_page: Count = 1
    files_per_shard: Count = 1
    version: int = DOCUMENTS_VERSION


@dataclass(frozen=True, slots=True)
class Source:
    """A file, its name in the run, and the folder that what it refers to is looked for in."""

    path: Path
    name: str
    root: Path


@dataclass(frozen=True, slots=True)
class Unit:
    number: int
    sources: tuple[Source, ...]

    def shard(self, out: Path) -> Path:
        return out / f"part-{self.number:05d}.parquet"

    def state(self, out: Path) -> Path:
        return out / "state" / f"{self.number:05d}.json"


@dataclass(slots=True)
class Outcome:
    """What has become of the pages of a unit, as plain data in `state`."""

    files: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """One line for each file that could not be read."""
    pages: int = 0
    samples: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Pages by the first rule, or reason, that refused them."""
    failed: Counter[str] = field(default_factory=Counter)
    """Pages by every rule that would refuse them."""
    counts: Counter[str] = field(default_factory=Counter)
    """Of what stays: characters, lines, blocks by kind, Samples by task and by language."""
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        self.files += other.files
        self.damaged += other.damaged
        self.pages, self.samples = self.pages + other.pages, self.samples + other.samples
        for mine, theirs in ((self.dropped, other.dropped), (self.failed, other.failed), (self.counts, other.counts)):
            mine.update(theirs)
        for rule, shown in other.examples.items():
            self.examples.setdefault(rule, []).extend(shown)

    @property
    def kept(self) -> int:
        return self.pages - self.dropped.total()

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        counters = {name: Counter(data[name]) for name in ("dropped", "failed", "counts")}
        return cls(**{**data, **counters})


def find_sources(inputs: Sequence[Path], kind: str, root: Path | None = None) -> list[Source]:
    """All files of that kind in files and folders, in order, each once. A file's name is its path in the folder that was given.

    Raises ConvertError for an input that is not there, or where there is no such file.
    """
    found: dict[Path, Source] = {}
    for given in inputs:
        if given.is_dir():
            paths = sorted(path for path in given.rglob("*") if path.is_file() and path.name.lower().endswith(SUFFIXES[kind]))
            base = given.parent if given.parent != given else given
        elif given.is_file():
            paths, base = [given], given.parent
        else:
            raise ConvertError(f"{given}: no such file or folder; check the path")
        for path in paths:
            name = path.absolute().relative_to(base.absolute()).as_posix()
            found.setdefault(path.resolve(), Source(path, name, root or (given if given.is_dir() else base)))
    if not found:
        raise ConvertError(f"{inputs[0]}: no {' or '.join(SUFFIXES[kind])} files; give files or folders that hold some")
    return _named_apart(list(found.values()))


def _named_apart(sources: Sequence[Source]) -> list[Source]:
    """Files of one name from different folders go by their whole path."""
    counts = Counter(source.name for source in sources)
    return [
        source if counts[source.name] == 1 else Source(source.path, source.path.absolute().as_posix(), source.root)
        for source in sources
    ]


def plan(sources: Sequence[Source], job: Job, out: Path) -> tuple[list[Unit], Outcome]:
    """The units that are still to be done, and what has been done so far."""
    done = Outcome()
    numbers: set[int] = set()
    for path in sorted((out / "state").glob("[0-9]*.json")):
        done.add(Outcome.from_json(json.loads(path.read_text(encoding="utf-8"))))
        numbers.add(int(path.stem))
    names = set(done.files)
    left = [source for source in sources if source.name not in names]
    free = (number for number in range(len(numbers) + len(left)) if number not in numbers)
    size = job.files_per_shard
    return [Unit(next(free), tuple(left[start : start + size])) for start in range(0, len(left), size)], done


def convert_unit(unit: Unit, job: Job, out: Path, pages: Pages, skip: Mapping[str, str], tell: Callable[[str], None]) -> Outcome:
    """Write the shard of a unit and what has become of it. `skip`: files that are not to be read again, and why; `tell` is told the
    name of every page before it is made.
    """
    outcome = Outcome(files=[source.name for source in unit.sources])

    def samples() -> Iterator[Sample]:
        for source in unit.sources:
            if source.name in skip:
                outcome.damaged.append(f"{source.name}: {skip[source.name]}; leave it out")
                continue
            tell(source.name)
            try:
                for page in pages(source.path, source.name):
                    yield from _kept(page, job, outcome)
                    tell(source.name)
            except DocumentError as error:
                outcome.damaged.append(" ".join(str(error).split()))

    outcome.samples = write_shard(unit.shard(out), samples())
    if not outcome.samples:
        unit.shard(out).unlink()
    with atomic_write(unit.state(out)) as temporary:
        temporary.write_text(json.dumps(outcome.to_json(), ensure_ascii=False), encoding="utf-8")
    return outcome


def _kept(page: Page | NoPage, job: Job, outcome: Outcome) -> list[Sample]:
    """The Samples of a page, none of one that is dropped; either way it is counted."""
    if isinstance(page, NoPage):
        outcome.pages += page.count
        outcome.dropped[page.reason] += page.count
        return []
    outcome.pages += 1
    failed = job.rules.judge(page)
    if not failed:
        try:
            samples = page_samples(page, job.kind, job.tasks, job.samples_per_page)
        except RegionError as error:
            failed = {"region": str(error)}
        else:
            _count(page, samples, outcome.counts)
            return samples
    first, statistic = next(iter(failed.items()))
    outcome.dropped[first] += 1
    outcome.failed.update(list(failed))
    shown = outcome.examples.setdefault(first, [])
    if len(shown) < EXAMPLES:
        shown.append({"page": page.name, "statistic": str(statistic)[:80], "picture": thumbnail_url(page.image, SIDE)})
    return []


def _count(page: Page, samples: Sequence[Sample], counts: Counter[str]) -> None:
    counts["pages kept"] += 1
    counts["characters"] += len(page.text)
    counts["lines"] += len(page.lines)
    counts.update(f"block: {inner.kind}" for block in page.blocks for inner in block.walk())
    for note, number in page.notes.items():
        counts[f"note: {note}"] += number
    for sample in samples:
        counts[f"task: {sample.task}"] += 1
        counts[f"language: {sample.language}"] += 1


@contextmanager
def reader(job: Job, roots: Mapping[str, Path]) -> Iterator[Pages]:
    """What reads files of the job's kind. `roots`: the folder of each file, by the file's name."""
    if job.kind == "pdf":
        yield lambda path, name: read_pdf(path, job.pdf, name)
        return
    with Browser(job.html) as browser:
        yield lambda path, name: browser.pages(path, roots[name], name)


Reader = Callable[[Job, Mapping[str, Path]], AbstractContextManager[Pages]]


def check_folder(out: Path, job: Job) -> None:
    """Note the job in the folder, or check that it is the one noted there.

    Raises ConvertError for a folder of another job, or of something else.
    """
    note = out / "state" / "job.json"
    described = json.dumps(job.model_dump(mode="json"), indent=1)
    if note.exists():
        if note.read_text(encoding="utf-8") != described:
            raise ConvertError(f"{out}: holds a run with other options; give another folder, or delete this one")
        return
    if out.is_dir() and any(out.iterdir()):
        raise ConvertError(f"{out}: not empty, and not of such a run; give another folder")
    with atomic_write(note) as temporary:
        temporary.write_text(described, encoding="utf-8")


def chance(name: str) -> bytes:
    """An order by chance that is the same in every run."""
    return hashlib.sha256(name.encode()).digest()
