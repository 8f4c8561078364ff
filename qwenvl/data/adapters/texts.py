"""Texts: corpora without pictures, whose every token is learnt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import find
from qwenvl.data.sources import Record, SourceError, records
from qwenvl.types import Sample, TextPart


def read_lines(folder: Path) -> Iterator[Record]:
    """Every line of .txt files that is not blank."""
    for file in find(folder, "*.txt", "**/*.txt"):
        name = str(file.relative_to(folder))
        yield from ({**row, "file": name, "number": number} for number, row in enumerate(records(file)))


def read_files(folder: Path) -> Iterator[Record]:
    """.txt files as a whole."""
    for file in find(folder, "*.txt", "**/*.txt"):
        try:
            yield {"text": file.read_text(encoding="utf-8-sig"), "file": str(file.relative_to(folder)), "number": 0}
        except UnicodeDecodeError as error:
            raise SourceError(f"{file}: not UTF-8 (byte {error.start}); convert it") from None


def read_c4(folder: Path) -> Iterator[Record]:
    """c4-SPLIT.00000-of-01024.json.gz; so are other lines of JSON with a `text`, packed or not, and Parquet with such a column."""
    for file in find(folder, "**/*.json.gz", "**/*.jsonl.gz", "**/*.jsonl", "**/*.parquet"):
        start, dash, name = file.name.partition(".")[0].partition("-")
        about = {"file": str(file.relative_to(folder)), "split": name if dash and start == "c4" else None}
        yield from ({**row, **about, "number": number} for number, row in enumerate(records(file)))


def read_dolma(folder: Path) -> Iterator[Record]:
    """documents/**/*.jsonl.gz; attributes, which lie beside them in folders of their own, are passed over."""
    for file in find(folder, "documents/**/*.json*.gz", "*.json*.gz"):
        yield from records(file)


def read_wudao(folder: Path) -> Iterator[Record]:
    """.json files, each a list of pages, or an object with the list as RECORDS."""
    for file in find(folder, "*.json", "**/*.json"):
        for row in records(file):
            yield from row["RECORDS"] if isinstance(row.get("RECORDS"), list) else [row]


def from_text(record: Record, root: Path) -> list[Sample]:
    return [_document(record["text"], f"text {record['file']} {record['number']}", "text")]


def from_text_file(record: Record, root: Path) -> list[Sample]:
    return [_document(record["text"], f"text_files {record['file']}", "text_files")]


def from_c4(record: Record, root: Path) -> list[Sample]:
    split = {"validation": "val"}.get(record["split"], record["split"])
    about = {"url": record.get("url"), "timestamp": record.get("timestamp"), "split": split}
    return [_document(record["text"], f"c4 {record['file']} {record['number']}", "c4", **about)]


def from_dolma(record: Record, root: Path) -> list[Sample]:
    """Ids are unique within a source of Dolma's."""
    return [_document(record["text"], f"dolma {record['source']} {record['id']}", "dolma", part=record["source"])]


def from_wudao(record: Record, root: Path) -> list[Sample]:
    """The title, and on the next line the text."""
    id = f"wudao {record.get('uniqueKey') or record['id']}"
    text = samples.said(record["content"], "content", id)
    title = (record["title"] or "").strip()
    return [_document(f"{title}\n{text}" if title else text, id, "wudao", part=record.get("dataType"))]


def _document(text: str, id: str, source: str, **extra: str | None) -> Sample:
    return samples.document([TextPart(samples.said(text, "text", id))], id=id, source=source, task="document", **extra)
