"""Where Samples and records come from: files of every kind as dictionaries, and sources that give Samples by number."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from qwenvl.data.shards import ShardReader, arrow
from qwenvl.types import QwenVLError, Sample

Record = dict[str, Any]


class SourceError(QwenVLError, ValueError):
    """A file that cannot be read as records: the message says which, where in it, and what was expected."""


class BadSample(QwenVLError, ValueError):
    """One sample that is refused. It is skipped, counted and named, never replaced in silence."""

    def __init__(self, sample_id: str, reason: str) -> None:
        super().__init__(f"sample {sample_id!r}: {reason}")
        self.sample_id, self.reason = sample_id, reason

    def __reduce__(self) -> tuple[type[BadSample], tuple[str, str]]:
        return BadSample, (self.sample_id, self.reason)  # an exception is rebuilt from `args`, which holds the message alone


@runtime_checkable
class SampleSource(Protocol):
    """Samples by number. `size` is None for a source without end, whose sample i is made from its number. A source that reads
    several at once has `groups` too, the number of samples in each."""

    name: str
    size: int | None

    def sample(self, index: int) -> Sample:
        """Raises BadSample, or another QwenVLError of one line, for a sample that is refused."""
        ...


class Shards:
    """SampleSource over Parquet shards."""

    def __init__(self, *paths: str | Path, name: str | None = None) -> None:
        self.reader = ShardReader(*paths)
        self.name = name or Path(paths[0]).name
        self.size: int | None = len(self.reader)
        self.groups = self.reader.group_rows

    def sample(self, index: int) -> Sample:
        return self.reader.sample(index)


def records(path: str | Path) -> Iterator[Record]:
    """The records of one file: .json (a list, or an object that holds one), .jsonl, .csv, .tsv, .parquet, .tar (webdataset: files
    of one stem are one record, keyed by what follows the first dot, `__key__` the stem), .txt (a text on every line), .gz and .zip
    (JSON lines, packed).

    Raises SourceError naming file and line.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise SourceError(f"{path}: not a kind of file that is read; give {', '.join(READERS)}")
    try:
        yield from READERS[suffix](path)
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 (byte {error.start}); convert it") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error}); check the file") from error


def _json(path: Path) -> Iterator[Record]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise SourceError(f"{path}, line {error.lineno}: not JSON ({error.msg}); mend it") from None
    rows = content if isinstance(content, list) else [content]
    yield from (_mapping(row, path, number) for number, row in enumerate(rows, start=1))


def _jsonl(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        yield from json_lines(file, path)


def json_lines(lines: Iterable[str], path: Path) -> Iterator[Record]:
    """JSON on every line that is not empty, whatever the file is called. Raises SourceError naming file and line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _mapping(json.loads(line), path, number)
        except json.JSONDecodeError as error:
            raise SourceError(f"{path}, line {number}: not JSON ({error.msg}); mend or remove the line") from None


def _gzip(path: Path) -> Iterator[Record]:
    """JSON lines, whether they are called .json.gz or .jsonl.gz."""
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            yield from json_lines(file, path)
    except (EOFError, zlib.error) as error:
        raise SourceError(f"{path}: damaged ({error}); fetch it again") from error


def _zip(path: Path) -> Iterator[Record]:
    """The JSON lines of every file in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    yield from json_lines(io.TextIOWrapper(file, encoding="utf-8-sig"), path)
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:  # the last: encrypted
        raise SourceError(f"{path}: damaged ({error}); fetch it again") from error


def _table(delimiter: str) -> Any:
    def read(path: Path) -> Iterator[Record]:
        csv.field_size_limit(sys.maxsize)
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, delimiter=delimiter), start=2):
                if None in row or None in row.values():
                    raise SourceError(f"{path}, line {number}: not as many fields as the header; mend the line")
                yield dict(row)

    return read


def _parquet(path: Path) -> Iterator[Record]:
    pa = arrow()
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise SourceError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}); fetch it again") from error


def _tar(path: Path) -> Iterator[Record]:
    """Webdataset: `base_plus_ext` and `group_by_keys` of webdataset/tariterators.py, webdataset/webdataset @ 59a46e5."""
    current: Record = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, dot, extension = name.partition(".")
                if not stem or not dot or (stem.startswith("__") and stem.endswith("__")):
                    continue  # a file of the archive itself, of no record
                key = f"{folder}/{stem}" if folder else stem
                if current and current["__key__"] != key:
                    yield current
                    current = {}
                if extension.lower() in current:
                    raise SourceError(f"{path}: {member.name} stands in it twice; make the archive again")
                current |= {"__key__": key, extension.lower(): content.read()}
            # tarfile takes a header that is cut off for the end; a whole archive ends in a block of zeros.
            ending: Any = archive.fileobj
            ending.seek(archive.offset)
            if ending.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.TarError("it ends too early")
    except tarfile.TarError as error:
        after, reason = current.get("__key__", "its start"), str(error).splitlines()[0].rstrip(":")  # more lines: one a compression
        raise SourceError(f"{path}: damaged after {after!r} ({reason}); fetch it again") from error
    if current:
        yield current


def _mapping(row: Any, path: Path, number: int) -> Record:
    if not isinstance(row, dict):
        raise SourceError(f"{path}, record {number}: a {type(row).__name__}, not an object with named fields")
    return row


def _text(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        yield from ({"text": line.rstrip("\n")} for line in file if line.strip())


READERS = {
    ".json": _json, ".jsonl": _jsonl, ".csv": _table(","), ".tsv": _table("\t"), ".parquet": _parquet, ".tar": _tar, ".txt": _text,
    ".gz": _gzip, ".zip": _zip,
}  # fmt: skip
