"""A phrase, answered by the box of what it names: RefCOCO, RefCOCO+, RefCOCOg and GRIT (arXiv 2308.12966, Table 8)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qwenvl.data.adapters.files import picture
from qwenvl.data.adapters.regions import read_refcoco
from qwenvl.data.sources import records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Read, Split
from qwenvl.eval.peers import LMMS, QWEN_VL
from qwenvl.eval.schema import of_schema
from qwenvl.eval.scorers.boxes import Box, box_of
from qwenvl.eval.scorers.places import JSON, refer, said_boxes, script_box
from qwenvl.eval.task import Decoding, Prediction, frame_of
from qwenvl.processing.image import picture_size
from qwenvl.types import ImagePart, Region, RegionPart

SCRIPT = f"{QWEN_VL}/evaluate_grounding.py"
REFER = "lichengunc/refer @ e3bbaa3, refer.py and data/README.md"
GRIT = "allenai/grit_official @ f1860b3, README.md, submission_format.md and metrics/refexp.py"

PROMPTS = {
    "paper": Prompt("<ref>{phrase}</ref>", SCRIPT, Decoding(max_new_tokens=28, min_new_tokens=10, begin="<box>")),
    "chat": Prompt(
        'Locate every object that matches the description "{phrase}" in the image. Report bbox coordinates in JSON format.',
        f"{LMMS}/refcoco_grounding/utils.py and _default_template_yaml",
        Decoding(max_new_tokens=512),
        style="chat",
    ),
}
"""Qwen-VL's script forgets the last questions of each process, where they fill no batch (drop_last); here all are asked.
lmms-eval asks for all expressions of a thing in one question; here each is one, as in the paper."""

COCO = ("train2014", "../coco/train2014", "../train2014", "../images/mscoco/images/train2014", "images")
"""Where COCO's pictures may lie from a dataset's folder: beside it, or as data/README.md of lichengunc/refer has them."""


def clamped(box: Sequence[float], size: tuple[int, int]) -> Box:
    """Corners in pixels as fractions of the picture, what leaves it cut off: annotators draw a pixel beyond its edges."""
    left, top, right, bottom = (min(max(value / size[index % 2], 0.0), 1.0) for index, value in enumerate(box))
    return left, top, right, bottom


def boxed(phrase: str, box: Box) -> tuple[RegionPart, ...]:
    """The answer that names a box; none for a box without area, which no markup can write."""
    return (RegionPart(phrase, (Region.box(*box),)),) if box[0] < box[2] and box[1] < box[3] else ()


def _item(id: str, phrase: str, box: Sequence[float], size: tuple[int, int], image: str) -> Item:
    """box: left, top, right, bottom in pixels; what of it lies beyond the picture is true as well, as in the script."""
    fractions = [value / size[index % 2] for index, value in enumerate(box)]
    return Item(id, {"phrase": phrase}, (ImagePart(image),), boxed(phrase, clamped(box, size)), {"box": fractions})


def _referred(dataset: str) -> Read:
    """The files that Qwen-VL's evaluation reads, DATASET_SPLIT.jsonl, or those of refer."""

    def read(folder: Path, split: str) -> Iterator[Item]:
        file = folder / f"{dataset}_{split}.jsonl"
        return _converted(file) if file.is_file() else _original(folder, split)

    return read


def _converted(file: Path) -> Iterator[Item]:
    for number, row in enumerate(records(file), start=1):
        with of_schema(f"{file}, line {number}"):
            size, name = (int(row["width"]), int(row["height"])), Path(row["image"]).name
            image = picture(file.parent, *(f"{place}/{name}" for place in COCO), id=f"{file.name} {number}")
            item = _item(str(number), row["sent"], row["bbox"], size, image)
        yield item


def _original(folder: Path, split: str) -> Iterator[Item]:
    for record in read_refcoco(folder):
        ref = record["ref"]
        if not _belongs(ref.get("split", ""), split):
            continue
        with of_schema(f"{folder}, reference {ref.get('ref_id')}"):
            left, top, width, height = record["annotation"]["bbox"]
            size, name = (record["image"]["width"], record["image"]["height"]), record["image"]["file_name"]
            image = picture(folder, *(f"{place}/{name}" for place in COCO), id=f"reference {ref['ref_id']}")
            told = [(f"{ref['ref_id']}-{sentence['sent_id']}", sentence["sent"]) for sentence in ref["sentences"]]
        for id, phrase in told:
            yield _item(id, phrase, (left, top, left + width, top + height), size, image)


def _belongs(marked: str, split: str) -> bool:
    """By the rule of getRefIds in refer.py: testA is every split with an A in its name, test every one of which that is a part."""
    if split in ("testA", "testB"):
        return split[-1] in marked
    return split in marked if split == "test" else split == marked


def _refcoco(name: str, dataset: str, title: str, splits: Sequence[str]) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        get=f"{dataset}_SPLIT.jsonl as eval_mm/EVALUATION.md of QwenLM/Qwen-VL gives it, or refs(unc).p (of RefCOCOg refs(umd).p) "
        f"and instances.json of {dataset}.zip of lichengunc/refer; COCO's train2014 in the folder or beside it.",
        source=f"{SCRIPT}; {REFER}",
        splits={split: Split(("ref*",)) for split in splits},
        prompts=PROMPTS,
        read=_referred(dataset),
        score=refer,
        measure="acc_iou_50",
    )


def _read_grit(folder: Path, split: str) -> Iterator[Item]:
    file = folder / "samples" / split / "refexp.json"
    for number, row in enumerate(records(file), start=1):
        with of_schema(f"{file}, row {number}"):
            image = picture(folder, f"images/{row['image_id']}", id=f"refexp {row['example_id']}")
            item = Item(
                row["example_id"], {"phrase": row["task_query"]}, (ImagePart(image),), truth={"size": list(picture_size(image))}
            )
        yield item


def _submit_grit(predictions: Sequence[Prediction]) -> Mapping[str, bytes]:
    """refexp.json, which goes into SPLIT/ of the archive beside params.json (the model's number of parameters, in millions)."""
    named = [(prediction.id.partition("/")[2], _pixels(prediction)) for prediction in predictions]
    answered = [{"example_id": id, "confidence": 1.0, "bboxes": boxes} for id, boxes in named]
    return {"refexp.json": json.dumps(answered).encode()}


def _pixels(prediction: Prediction) -> list[list[int]]:
    """The first box in whole pixels of the picture: in JSON by its frame, in tags as the published script reads it."""
    frame = frame_of(prediction.truth)
    said = [box_of(region) for region in said_boxes(prediction.reply, JSON, frame)] if frame else [script_box(prediction.reply)]
    width, height = prediction.truth["size"]
    return [[round(value * (width, height)[index % 2]) for index, value in enumerate(box)] for box in said[:1] if box is not None]


BENCHMARKS: dict[str, Benchmark] = {
    "refcoco": _refcoco("refcoco", "refcoco", "RefCOCO", ("val", "testA", "testB")),
    "refcoco_plus": _refcoco("refcoco_plus", "refcoco+", "RefCOCO+", ("val", "testA", "testB")),
    "refcocog": _refcoco("refcocog", "refcocog", "RefCOCOg, split by UMD", ("val", "test")),
    "grit_refexp": Benchmark(
        name="grit_refexp",
        title="GRIT, referring expressions",
        get="The folder GRIT that download.sh and generate_distortions.py of allenai/grit_official make: samples/SPLIT/refexp.json "
        "and images/. Answers are withheld: hand in SPLIT.zip with SPLIT/refexp.json and SPLIT/params.json.",
        source=GRIT,
        splits={split: Split((f"samples/{split}/refexp.json", "images"), answers=False) for split in ("test", "ablation")},
        prompts=PROMPTS,
        read=_read_grit,
        submit=_submit_grit,
        score=refer,
        measure="acc_iou_50",
    ),
}
