"""Elements of screens, named or told to be used: ScreenSpot, the grounding data of SeeClick and of OS-Atlas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import anywhere, find
from qwenvl.data.adapters.frames import Box, Convention, to_region
from qwenvl.data.sources import Record, records
from qwenvl.processing.image import picture_size
from qwenvl.types import Sample

PIXELS = Convention("xywh", "pixels")
FRACTIONS = Convention("xyxy", "fractions")


def read_screenspot(folder: Path) -> Iterator[Record]:
    """screenspot_mobile.json, _desktop and _web; `folder` is kept, where `screenspot_boxes` looks for the pictures."""
    for file in find(folder, "screenspot_*.json", "*/screenspot_*.json"):
        platform = file.stem.removeprefix("screenspot_")
        for number, row in enumerate(records(file)):
            yield {**row, "platform": platform, "number": number, "folder": str(folder)}


def screenspot_boxes(record: Record) -> list[Box]:
    return [Box(record["bbox"], picture_size(anywhere(Path(record["folder"]), record["img_filename"], "screenspot")))]


def from_screenspot(record: Record, root: Path) -> list[Sample]:
    """A benchmark: its one split is `test`."""
    id = f"screenspot {record['platform']} {record['number']}"
    screen = anywhere(root, record["img_filename"], id)
    region = to_region(Box(record["bbox"], picture_size(screen)), PIXELS, id)
    about = {"element": record["data_type"], "platform": record["data_source"], "split": "test"}
    return [samples.referring(screen, record["instruction"], [region], id=id, source="screenspot", **about)]


def read_elements(folder: Path) -> Iterator[Record]:
    """.json files of screens: those of SeeClick's web have `elements`, the others are one element each."""
    for file in find(folder, "*.json", "*_domain/*.json"):
        for number, row in enumerate(records(file)):
            if "img_filename" in row and "captions" not in row:  # a summary of a screen, in one of SeeClick's files
                yield {**row, "file": str(file), "number": number}


def element_boxes(record: Record) -> list[Box]:
    return [Box(element["bbox"]) for element in _visible(record)]


def _visible(record: Record) -> list[Record]:
    """Without elements that have a negative number in their box: pretrain/pretrain_process.py of SeeClick leaves them out."""
    return [element for element in record.get("elements", [record]) if min(element["bbox"]) >= 0]


def _elements(record: Record, source: str) -> list[Sample]:
    """Each element by its words, and its words by its place."""
    file = Path(record["file"])
    id = f"{source} {file.stem} {record['number']}"
    screen = anywhere(file.parent, record["img_filename"], id)
    made = []
    for number, element in enumerate(_visible(record)):
        region = to_region(Box(element["bbox"]), FRACTIONS, f"{id}, element {number}")
        about: dict[str, Any] = {"id": f"{id}-{number}", "source": source, "element": element.get("data_type")}
        made.append(samples.referring(screen, element["instruction"], [region], **about))
        made.append(samples.naming(screen, region, element["instruction"], **about))
    return made


def from_seeclick(record: Record, root: Path) -> list[Sample]:
    return _elements(record, "seeclick")


def from_os_atlas(record: Record, root: Path) -> list[Sample]:
    return _elements(record, "os_atlas")
