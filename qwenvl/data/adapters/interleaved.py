"""Documents of text and pictures as they stand on web pages: OBELICS and MMC4.

A document is one Sample, its pictures in reading order. Both datasets are distributed without pictures, of which many are gone from
the web: those that were not downloaded are left out, and counted in `missing`. `scores` are those of data/document_scores.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.captions import downloaded, read_img2dataset
from qwenvl.data.adapters.files import as_mapping, find
from qwenvl.data.document_scores import DocumentJudge, DocumentThresholds
from qwenvl.data.sources import BadSample, Record, records
from qwenvl.types import ImagePart, Part, Sample, TextPart

END_OF_DOCUMENT = "END_OF_DOCUMENT_TOKEN_TO_BE_REPLACED"
"""What OBELICS leaves where one text ends and the next begins."""


def read_obelics(folder: Path) -> Iterator[Record]:
    """Rows of Parquet; pictures by address among what img2dataset wrote as files to images/, or embedded in the rows."""
    known: dict[str, Any] = {}
    if any((folder / "images").glob("[0-9]*/*.json")):
        for record in read_img2dataset(folder / "images"):
            with suppress(BadSample):  # not downloaded
                _, image, about = downloaded(record, "obelics")
                known[about["url"]] = image
    for file in find(folder, "*.parquet", "data/*.parquet"):
        for number, row in enumerate(records(file)):
            found = [known.get(image) if isinstance(image, str) else image for image in row.get("images", [])]
            yield {**row, "found": found, "file": file.stem, "number": number}


def from_obelics(record: Record, root: Path) -> list[Sample]:
    """`texts` and `images` are of one length, and at every place one of the two is None."""
    id = f"obelics {record['file']} {record['number']}"
    pieces: list[Part] = []
    missing = 0
    for text, image, found in zip(record["texts"], record["images"], record["found"], strict=True):
        if image is None:
            pieces.append(TextPart(text.replace(END_OF_DOCUMENT, "").strip()))
            continue
        picture = found["bytes"] if isinstance(found, dict) else found
        missing += picture is None
        pieces += [ImagePart(picture)] if picture is not None else []
    url = as_mapping(record["general_metadata"]).get("url") if record.get("general_metadata") else None
    return [_document(pieces, id, "obelics", missing, url=url)]


def read_mmc4(folder: Path) -> Iterator[Record]:
    """docs_*.jsonl or docs_*.jsonl.zip; the pictures of each where scripts/download_images.py puts them."""
    for file in find(folder, "docs_*.jsonl", "docs_*.jsonl.zip"):
        stem = file.name.partition(".")[0]
        places = [folder / f"{stem}_images", folder / f"{stem}.jsonl_images", folder / "images"]
        for number, row in enumerate(records(file)):
            yield {**row, "places": [str(place) for place in places], "file": stem, "number": number}


def from_mmc4(record: Record, root: Path) -> list[Sample]:
    """Each picture before the sentence that it is matched to."""
    id, sentences = f"mmc4 {record['file']} {record['number']}", record["text_list"]
    before: dict[int, list[tuple[str, list[float]]]] = {}
    for info, row in zip(record["image_info"], record["similarity_matrix"], strict=True):
        paths = (Path(place) / info["image_name"] for place in record["places"])
        path = next((str(path) for path in paths if path.is_file()), None)
        if not 0 <= info["matched_text_index"] < len(sentences):
            raise BadSample(id, f"a picture at sentence {info['matched_text_index']} of {len(sentences)}")
        if path is not None:
            before.setdefault(info["matched_text_index"], []).append((path, row))
    pieces: list[Part] = []
    rows, spans = [], []
    for start, end in pairwise(sorted({0, *before, len(sentences)})):
        rows += [row for _, row in before.get(start, [])]
        pieces += [ImagePart(path) for path, _ in before.get(start, [])]
        if text := " ".join(sentence.strip() for sentence in sentences[start:end]).strip():
            pieces.append(TextPart(text))
            spans.append(slice(start, end))
    # The similarity to a passage is that to the sentence in it that fits best.
    similarities = [[round(max(row[span]), 4) for span in spans] for row in rows]
    missing = len(record["image_info"]) - len(rows)
    return [_document(pieces, id, "mmc4", missing, url=record.get("url"), similarities=similarities)]


def _document(pieces: Sequence[Part], id: str, source: str, missing: int, **about: Any) -> Sample:
    """The pieces that are not empty, every text but the last ending its line. Raises BadSample where no picture is left."""
    kept = [piece for piece in pieces if not isinstance(piece, TextPart) or piece.text]
    if not any(isinstance(piece, ImagePart) for piece in kept):
        raise BadSample(id, f"none of its {missing} pictures is there")
    parts = [TextPart(piece.text + "\n") if isinstance(piece, TextPart) and piece is not kept[-1] else piece for piece in kept]
    made = samples.document(parts, id=id, source=source, missing=missing, **about)
    return DocumentJudge(DocumentThresholds())(made)[0]
