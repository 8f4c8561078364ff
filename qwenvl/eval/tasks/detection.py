"""All things of some kinds, by box: the 13 datasets of Object Detection in the Wild (section 3 of arXiv 2502.13923)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qwenvl.data.adapters.files import picture, rows, whole
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.peers import LMMS
from qwenvl.eval.schema import of_schema
from qwenvl.eval.scorers.boxes import box_of
from qwenvl.eval.scorers.detection import Detected, match, mean_average_precision
from qwenvl.eval.scorers.places import said_boxes
from qwenvl.eval.task import Decoding, Pooled, Prediction, frame_of
from qwenvl.eval.tasks.grounding import boxed, clamped
from qwenvl.families.spec import Markup
from qwenvl.types import ImagePart

GLIP = "microsoft/GLIP @ 9dda955, odinw/download.py and configs/odinw_13"
MMDETECTION = "open-mmlab/mmdetection @ 074d098, configs/odinw/glip_atss_swin-t_a_fpn_dyhead_pretrain_odinw13.py and _odinw35.py"
QWEN3 = "QwenLM/Qwen3-VL @ 9658872, evaluation/ODinW-13"

ODINW: dict[str, tuple[str, tuple[str, ...]]] = {
    "AerialMaritimeDrone": ("AerialMaritimeDrone/large", ("boat", "car", "dock", "jetski", "lift")),
    "Aquarium": (
        "Aquarium/Aquarium Combined.v2-raw-1024.coco", ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"),
    ),
    "CottontailRabbits": ("CottontailRabbits", ("Cottontail-Rabbit",)),
    "EgoHands": ("EgoHands/generic", ("hand",)),
    "NorthAmericaMushrooms": ("NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco", ("CoW", "chanterelle")),
    "Packages": ("Packages/Raw", ("package",)),
    "PascalVOC": (
        "PascalVOC",
        ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
         "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    "pistols": ("pistols/export", ("pistol",)),
    "pothole": ("pothole", ("pothole",)),
    "Raccoon": ("Raccoon/Raccoon.v2-raw.coco", ("raccoon",)),
    "ShellfishOpenImages": ("ShellfishOpenImages/raw", ("Crab", "Lobster", "Shrimp")),
    "thermalDogsAndPeople": ("thermalDogsAndPeople", ("dog", "person")),
    "VehiclesOpenImages": ("VehiclesOpenImages/416x416", ("Ambulance", "Bus", "Car", "Motorcycle", "Truck")),
}  # fmt: skip
"""Dataset -> its folder, and its classes in the order of its categories, as mmdetection's configuration has them, which Qwen3-VL's
evaluation reads. Its `valid` files are asked; for pistols, which has no such folder, those of the configuration of ODinW-35."""
ANNOTATIONS = "annotations_without_background.json"


def _odinw_files(name: str, split: str) -> tuple[str, str]:
    """(annotations, folder of pictures), from the benchmark's folder. GLIP's `test` of PascalVOC is its `valid`."""
    place, _ = ODINW[name]
    if name == "pistols":
        return f"{place}/{'val' if split == 'valid' else split}_{ANNOTATIONS}", place
    part = "valid" if name == "PascalVOC" else split
    return f"{place}/{part}/{ANNOTATIONS}", f"{place}/{part}"


def _read_odinw(folder: Path, split: str) -> Iterator[Item]:
    for name, (_, classes) in ODINW.items():
        annotations, pictures = _odinw_files(name, split)
        file = folder / annotations
        with of_schema(str(file)):
            labels = dict(zip([category["id"] for category in whole(file)["categories"]], classes, strict=True))
            boxes: dict[Any, list[list[Any]]] = {}
            for one in rows(file, "annotations"):
                crowd = bool(one.get("iscrowd", 0))
                boxes.setdefault(one["image_id"], []).append([labels[one["category_id"]], *one["bbox"], crowd])
        for image in rows(file, "images"):
            with of_schema(f"{file}, picture {image.get('id')}"):
                path = picture(folder, f"{pictures}/{image['file_name']}", id=f"{name} {image['id']}")
                item = _scene(name, int(image["id"]), path, (image["width"], image["height"]), boxes.get(image["id"], []))
            yield item


def _scene(name: str, number: int, image: str, size: tuple[int, int], boxes: list[list[Any]]) -> Item:
    """boxes: label, left, top, width, height, crowd."""
    corners = [(label, clamped((left, top, left + width, top + height), size)) for label, left, top, width, height, _ in boxes]
    return Item(
        id=f"{name}/{number}",
        fields={"classes": ", ".join(ODINW[name][1])},
        visuals=(ImagePart(image),),
        answer=tuple(part for label, box in corners for part in boxed(label, box)),
        truth={"picture": number, "size": list(size), "boxes": boxes},
        group=name,
    )


def _detected(prediction: Prediction, markup: Markup) -> Detected:
    """A reply's boxes by class, all as sure as the others; words that are no class of the dataset are passed over."""
    width, height = prediction.truth["size"]
    said: dict[str, list[list[float]]] = {}
    for region in said_boxes(prediction.reply, markup, frame_of(prediction.truth)):
        left, top, right, bottom = (value * (width, height)[index % 2] for index, value in enumerate(box_of(region)))
        said.setdefault((region.label or "").strip().lower(), []).append([left, top, right - left, bottom - top])
    true: dict[str, list[list[Any]]] = {}
    for label, *box in prediction.truth["boxes"]:
        true.setdefault(label.lower(), []).append(box)
    found = {}
    for label in map(str.lower, ODINW[prediction.truth["group"]][1]):
        ours, theirs = np.array(said.get(label, [])), np.array(true.get(label, []), dtype=float).reshape(-1, 5)
        if len(ours) or len(theirs):
            found[label] = match(ours, np.ones(len(ours)), theirs[:, :4], theirs[:, 4] > 0)
    return found


def _odinw_map(predictions: Sequence[Prediction], markup: Markup) -> Mapping[str, Pooled]:
    """The mean over datasets of their mean average precision: that of run_odinw.py, which rounds each to three digits.

    No box is surer than another, so that the order of pictures decides: as in pycocotools it is that of their numbers.
    """
    ordered = sorted(predictions, key=lambda prediction: (prediction.truth["group"], prediction.truth["picture"]))
    units = tuple((prediction.truth["group"], _detected(prediction, markup)) for prediction in ordered)
    return {"map": Pooled(units, _mean_of_datasets)}


def _mean_of_datasets(units: Sequence[tuple[str, Detected]]) -> float:
    datasets: dict[str, list[Detected]] = {}
    for name, picture_found in units:
        datasets.setdefault(name, []).append(picture_found)
    values = [value for pictures in datasets.values() if (value := mean_average_precision(pictures)) is not None]
    return sum(values) / len(values) if values else 0.0


BENCHMARKS: dict[str, Benchmark] = {
    "odinw13": Benchmark(
        name="odinw13",
        title="Object Detection in the Wild, 13 datasets",
        get="The archives of the 13 datasets in odinw_35 of GLIPModel/GLIP on the hub, unpacked into one folder, as "
        "odinw/download.py of microsoft/GLIP does.",
        source=f"{QWEN3}, run_odinw.py and eval_utils.py; {MMDETECTION}; {GLIP}",
        splits={split: Split(tuple(_odinw_files(name, split)[0] for name in ODINW)) for split in ("valid", "test")},
        prompts={
            "chat": Prompt(
                "Locate every instance that belongs to the following categories: '{classes}'. "
                "Report bbox coordinates in JSON format.",
                f"{QWEN3}/dataset_utils.py; its limit {LMMS}/odinw13/odinw13.yaml",
                Decoding(max_new_tokens=8192),
                style="chat",
            )
        },
        read=_read_odinw,
        pool=_odinw_map,
        measure="map",
    ),
}
