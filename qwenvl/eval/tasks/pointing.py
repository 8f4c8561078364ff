"""How many things there are (CountBench), and pointing at them (PointBench).

Section 3 of arXiv 2502.13923 reports the first, and a benchmark of pointing that is its authors' own: PointBench is a public one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qwenvl.data.adapters.files import find, picture
from qwenvl.data.sources import records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.peers import LMMS
from qwenvl.eval.schema import of_schema
from qwenvl.eval.scorers.counting import count
from qwenvl.eval.scorers.masks import all_in_mask, runs_of
from qwenvl.eval.scorers.places import said_points
from qwenvl.eval.shelf import Shelf
from qwenvl.eval.task import Decoding, Prediction, Tally, frame_of
from qwenvl.families.spec import Markup
from qwenvl.processing.image import picture_size
from qwenvl.types import CoordinatesPart, ImagePart, Part, Region, TextPart

POINTARENA = "pointarena/pointarena @ dcd82f2, model_evaluator.py"


def _read_countbench(folder: Path, split: str) -> Iterator[Item]:
    number, shelf = 0, Shelf()
    for file in find(folder, "data/test-*.parquet", "test-*.parquet"):
        for row in records(file):
            number += 1
            if row.get("image") is None:  # of the original 540 pictures some are lost
                continue
            with of_schema(f"{file}, row {number}"):
                question, wanted = row["question"].strip(), int(row["number"])
                asked = question[:1].lower() + question[1:].rstrip("?")
                fields = {"question": question, "asked": asked}
                item = Item(str(number), fields, (ImagePart(shelf.keep(row["image"]["bytes"])),), str(wanted), {"count": wanted})
            yield item


def _read_pointbench(folder: Path, split: str) -> Iterator[Item]:
    file = folder / "data.json"
    for number, row in enumerate(records(file)):
        if "mask_filename" not in row:
            continue
        with of_schema(f"{file}, row {number}"):
            kind, id = row["category"], f"{row['category']}/{number}"
            image = picture(folder, *(f"{place}/{kind}/{row['image_filename']}" for place in ("selected_images", "images")), id=id)
            masks = [f"{place}/{row['mask_filename']}" for place in (f"selected_masks/{kind}", "selected_masks", "masks")]
            with Image.open(picture(folder, *masks, id=id, what="mask")) as opened:
                pixels = np.array(opened.convert("L") if opened.mode in ("1", "P") else opened)
            wanted = int(row.get("count") or 1) if kind == "counting" else 0
            truth = {"mask": runs_of(pixels), "size": list(picture_size(image)), "count": wanted}
            # The published prompt is cut from the script with its indentation, which differs by one space.
            fields = {"query": row["user_input"], "end": " " * (12 if kind == "counting" else 11)}
            item = Item(id, fields, (ImagePart(image),), _points(row["user_input"], truth), truth, group=kind)
        yield item


def _points(query: str, truth: Mapping[str, Any]) -> tuple[Part, ...]:
    """As many pixels of the mask as are wanted, as XML; nothing where the mask is empty."""
    (width, height), (across, down) = truth["size"], truth["mask"]["size"]
    mask = np.repeat(np.arange(len(truth["mask"]["runs"])) % 2, truth["mask"]["runs"]).reshape(down, across) > 0
    inside = np.flatnonzero(_core(mask))
    if not len(inside):
        return ()
    chosen = inside[np.linspace(0, len(inside) - 1, max(truth["count"], 1) + 2).round().astype(int)[1:-1]]
    parts: list[Part] = [TextPart("<points")]
    for number, pixel in enumerate(chosen.tolist(), start=1):
        point = ((pixel % across + 0.5) / width, (pixel // across + 0.5) / height)
        parts += [TextPart(f' x{number}="'), CoordinatesPart(Region("point", (point,)), f'" y{number}="'), TextPart('"')]
    return (*parts, TextPart(f' alt="{query}">{query}</points>'))


def _core(mask: np.ndarray) -> np.ndarray:
    """The mask without two pixels along its edges, so that a point of it still lies in it when it is rounded; where any is left."""
    for _ in range(2):
        wide = np.pad(mask, 1)
        smaller = mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
        mask = smaller if smaller.any() else mask
    return mask


def _pointed(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """All points lie in the mask, and of a question that counts there are as many as there must be; of another the first is taken.

    Where the script reads one point of each XML tag and takes pixels of the resized picture for those of the file, points are read
    as they are written.
    """
    points = said_points(prediction.reply, markup, frame_of(prediction.truth))
    wanted = prediction.truth["count"]
    inside = all_in_mask(points if wanted else points[:1], prediction.truth["mask"], prediction.truth["size"])
    right = inside and (not wanted or len(points) == wanted)
    return {"accuracy": (float(right), 1)}


BENCHMARKS: dict[str, Benchmark] = {
    "countbench": Benchmark(
        name="countbench",
        title="CountBench, with the questions of CountBenchQA",
        get="data/test-00000-of-00001.parquet of vikhyatk/CountBenchQA on the hub.",
        source=f"{LMMS}/countbench; google-research/big_vision @ 4a12790, big_vision/datasets/countbenchqa/countbenchqa.py",
        splits={"test": Split(("**/test-*.parquet",))},
        prompts={
            # The cookbook asks "how many items are there in the image"; here it is the item's own question.
            "chat": Prompt(
                "Please first output bbox coordinates and names of every item in this image in JSON format, and then answer "
                "{asked}.<image>",
                "QwenLM/Qwen2.5-VL @ f0af299, cookbooks/spatial_understanding.ipynb, part 7",
                Decoding(max_new_tokens=1024),
                style="chat",
            ),
            "direct": Prompt(
                "Look at the image carefully and count the objects. Answer with just a number, without any additional text. "
                "{question}",
                f"{LMMS}/countbench/countbench.yaml",
                Decoding(max_new_tokens=16),
                style="chat",
            ),
        },
        read=_read_countbench,
        score=count,
        measure="accuracy",
    ),
    "pointbench": Benchmark(
        name="pointbench",
        title="PointBench",
        get="data.json, selected_images.zip and selected_masks.zip of PointArena/pointarena-data on the hub, unpacked beside it.",
        source=f"{POINTARENA}; files: {LMMS}/pointbench/utils.py; allenai/molmo2 @ f3cb108, olmo/data/academic_image_datasets.py",
        splits={"test": Split(("data.json", "selected_images", "selected_masks"))},
        prompts={
            "chat": Prompt(
                "\n            {query}\n            Output its coordinates in XML format <points x y>object</points>.\n"
                "            \n{end}",
                f"{POINTARENA}, call_qwen",
                Decoding(max_new_tokens=200),
                style="chat",
            )
        },
        read=_read_pointbench,
        score=_pointed,
        measure="accuracy",
    ),
}
