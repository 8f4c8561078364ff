"""Phrases with places: GRIT, the regions of Visual Genome, RefCOCO, RefCOCO+ and RefCOCOg.

Each place gives two Samples, the paper's duality: the phrase is asked for its place (`referring`), the place for its phrase
(`naming`). GRIT's captions are grounded captions too.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.captions import downloaded, read_img2dataset
from qwenvl.data.adapters.files import as_mapping, find, picture, rows
from qwenvl.data.adapters.frames import Box, Convention, check_drawn_on, to_region
from qwenvl.data.adapters.vqa import image_data, vg_picture
from qwenvl.data.sources import BadSample, Record, SourceError, records
from qwenvl.types import Part, Region, RegionPart, Sample, TextPart

FRACTIONS = Convention("xyxy", "fractions")
PIXELS = Convention("xywh", "pixels")


class Span(NamedTuple):
    """A stretch of a caption, and the places of what it names."""

    start: int
    end: int
    regions: tuple[Region, ...]


def grit_boxes(record: Record) -> list[Box]:
    about = as_mapping(record["json"])
    return [Box(tuple(chunk[2:6])) for chunk in (*about["noun_chunks"], *about["ref_exps"])]


def from_grit(record: Record, root: Path) -> list[Sample]:
    """The caption with as many boxes as it holds without one phrase within another; and each referring expression.

    A chunk is start and end in the caption, four numbers of the box, and the detector's confidence.
    """
    id, image, about = downloaded(record, "grit")
    if "original_width" in about:  # by default img2dataset adds white borders, which move what is in the picture
        check_drawn_on((about["original_width"], about["original_height"]), image, id)
    caption = about["caption"]
    nouns, expressions = (_spans(about[name], caption, id) for name in ("noun_chunks", "ref_exps"))
    about = {"id": id, "source": "grit", "url": about.get("url")}
    marked = _marked(caption, most_boxes([*nouns, *expressions]))
    made = [samples.grounded_caption(image, marked, **about)]
    for span in expressions:
        phrase, about["id"] = caption[span.start : span.end], f"{id} {span.start}-{span.end}"
        made.append(samples.referring(image, phrase, span.regions, **about))
        if len(span.regions) == 1:
            made.append(samples.naming(image, span.regions[0], phrase, **about))
    return made


def _spans(chunks: Sequence[Sequence[float]], caption: str, id: str) -> list[Span]:
    """Chunks of one phrase are one Span with all their boxes, each once, in the order of the caption."""
    found: dict[tuple[int, int], dict[Region, None]] = {}
    for start, end, *numbers in chunks:
        if start != int(start) or end != int(end) or not 0 <= start < end <= len(caption):
            raise BadSample(id, f"a phrase from {start:g} to {end:g} of a caption of {len(caption)} characters")
        region = to_region(Box(numbers[:4]), FRACTIONS, f"{id}, characters {start:g} to {end:g}")
        found.setdefault((int(start), int(end)), {})[region] = None
    return [Span(start, end, tuple(regions)) for (start, end), regions in sorted(found.items())]


def most_boxes(spans: Sequence[Span]) -> list[Span]:
    """Of spans of one text, those that hold the most boxes with none within or across another; of equals, the longer phrases.

    Section A.3 of arXiv 2308.12966 cleans GRIT's "recursive" labels so, by "the greedy algorithm". Greedy by the earliest end is
    optimal where every span has one box; spans of several boxes are weighed here, over spans in the order of their ends.
    """
    ordered = sorted(spans, key=lambda span: (span.end, span.start))
    best: list[tuple[int, int, list[Span]]] = [(0, 0, [])]  # boxes, characters and choice among the first spans
    for number, span in enumerate(ordered):
        before = sum(other.end <= span.start for other in ordered[:number])  # they are sorted by end: the first so many
        boxes, characters, chosen = best[before]
        taken = (boxes + len(span.regions), characters + span.end - span.start, [*chosen, span])
        best.append(max(best[-1], taken, key=lambda choice: choice[:2]))
    return best[-1][2]


def _marked(caption: str, spans: Sequence[Span]) -> list[Part]:
    parts: list[Part] = []
    done = 0
    for span in spans:
        parts += [TextPart(caption[done : span.start])] if span.start > done else []
        parts.append(RegionPart(caption[span.start : span.end], span.regions))
        done = span.end
    return parts + ([TextPart(caption[done:])] if done < len(caption) else [])


def read_vg_regions(folder: Path) -> Iterator[Record]:
    """Every region of region_descriptions.json with its image."""
    images = image_data(folder)
    for entry in records(find(folder, "region_descriptions.json", "**/region_descriptions.json")[0]):
        for region in entry.get("regions", []):
            yield {"region": region, "image": images.get(region.get("image_id", entry.get("id")))}


def vg_boxes(record: Record) -> list[Box]:
    region, image = record["region"], record["image"]
    return [Box((region["x"], region["y"], region["width"], region["height"]), (image["width"], image["height"]))]


def from_vg_regions(record: Record, root: Path) -> list[Sample]:
    region, image = record["region"], record["image"]
    id = f"vg_regions {region['region_id']}"
    path = vg_picture(image, root, id)
    return _duality(path, region["phrase"], vg_boxes(record)[0], id=id, source="vg_regions")


def read_refcoco(folder: Path) -> Iterator[Record]:
    """refs(SPLITTER).p with annotations and images of instances.json: a folder refcoco, refcoco+ or refcocog.

    Of several splits UNC's (RefCOCO) or UMD's (RefCOCOg: no picture in two splits) is read, as its authors recommend.
    """
    refs = find(folder, "refs(unc).p", "refs(umd).p", "refs(google).p")[0]
    instances = find(folder, "instances.json")[0]
    annotations, images = ({one["id"]: one for one in rows(instances, name)} for name in ("annotations", "images"))
    for ref in _unpickled(refs):
        yield {"ref": ref, "annotation": annotations.get(ref["ann_id"]), "image": images.get(ref["image_id"])}


def refcoco_boxes(record: Record) -> list[Box]:
    return [Box(record["annotation"]["bbox"], (record["image"]["width"], record["image"]["height"]))]


def _refcoco(record: Record, root: Path, source: str) -> list[Sample]:
    """Every expression for one thing."""
    ref, name = record["ref"], record["image"]["file_name"]
    id = f"{source} {ref['ref_id']}"
    # images/ beside the folder: data/README.md of lichengunc/refer.
    beside = f"../images/mscoco/images/train2014/{name}"
    path = picture(root, beside, f"../train2014/{name}", f"train2014/{name}", f"images/{name}", id=id)
    box, about = refcoco_boxes(record)[0], {"source": source, "split": _split(ref["split"])}
    return [
        sample
        for sentence in ref["sentences"]
        for sample in _duality(path, sentence["sent"], box, id=f"{id}-{sentence['sent_id']}", **about)
    ]


def from_refcoco(record: Record, root: Path) -> list[Sample]:
    return _refcoco(record, root, "refcoco")


def from_refcoco_plus(record: Record, root: Path) -> list[Sample]:
    return _refcoco(record, root, "refcoco+")


def from_refcocog(record: Record, root: Path) -> list[Sample]:
    return _refcoco(record, root, "refcocog")


def _split(name: str) -> str:
    return "test" if name.startswith("test") else name


def _duality(image: str, phrase: str, box: Box, *, id: str, source: str, **extra: Any) -> list[Sample]:
    region = to_region(box, PIXELS, id)
    if box.size is not None:
        check_drawn_on(box.size, image, id)
    about = {"id": id, "source": source, **extra}
    return [samples.referring(image, phrase, [region], **about), samples.naming(image, region, phrase, **about)]


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dictionaries, texts and numbers, and nothing that would run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds {module}.{name}, not plain data")


def _unpickled(path: Path) -> list[Record]:
    """The list of a pickle that Python 2 wrote. Raises SourceError for anything but plain data."""
    with path.open("rb") as file:
        try:
            found = _PlainUnpickler(file, encoding="utf-8", errors="replace").load()
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise SourceError(f"{path}: not a pickle of plain data ({error}); fetch it again") from error
    if not isinstance(found, list) or not all(isinstance(ref, dict) for ref in found):
        raise SourceError(f"{path}: not a list of references; fetch it again")
    return found


read_grit = read_img2dataset
