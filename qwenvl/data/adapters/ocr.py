"""Pictures of text: what SynthDoG writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import as_mapping, find, picture
from qwenvl.data.sources import Record, records
from qwenvl.types import Sample


def read_synthdog(folder: Path) -> Iterator[Record]:
    """metadata.jsonl of train, validation and test, or of one of them."""
    for file in find(folder, "*/metadata.jsonl", "metadata.jsonl"):
        yield from ({**line, "folder": str(file.parent)} for line in records(file))


def from_synthdog(record: Record, root: Path) -> list[Sample]:
    """The text as one line, words parted by spaces: SynthDoG keeps neither lines nor places."""
    folder, name = Path(record["folder"]), record["file_name"]
    id = f"synthdog {folder.name} {name}"
    text = as_mapping(record["ground_truth"])["gt_parse"]["text_sequence"]
    split = {"validation": "val"}.get(folder.name, folder.name)
    return [samples.reading(picture(folder, name, id=id), text, id=id, source="synthdog", split=split)]
