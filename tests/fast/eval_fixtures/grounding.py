"""RefCOCO as Qwen-VL's evaluation converted it, RefCOCO+ and RefCOCOg as refer distributes them, GRIT's samples."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import SIZE, save

NAME = "COCO_train2014_000000000009.jpg"
BEST = {"acc_iou_50": 1.0, "iou": 1.0}
WORST = {"acc_iou_50": 0.0, "iou": 0.0}


def converted(folder: Path) -> None:
    save(folder / "train2014" / NAME)
    rows = [
        {"image": f"data/coco/train2014/{NAME}", "width": SIZE[0], "height": SIZE[1], "sent": sent, "bbox": box}
        for sent, box in (("the red box", [20.0, 10.0, 120.0, 60.0]), ("white at the right", [130.5, 0.25, 200.4, 100.0]))
    ]
    (folder / "refcoco_val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def original(refs: str, split: str) -> Callable[[Path], None]:
    """instances.json and a pickle of references, two of the split and one of training."""

    def build(folder: Path) -> None:
        save(folder / "train2014" / NAME)
        found: list[dict[str, Any]] = []
        for number, place in enumerate((split, split, "train"), start=1):
            sentence = {"sent_id": 10 * number, "sent": f"red box {number}", "raw": f"Red box {number}", "tokens": ["red", "box"]}
            found.append(
                {
                    "ref_id": number, "ann_id": 7, "image_id": 9, "category_id": 1, "split": place, "sentences": [sentence],
                    "sent_ids": [10 * number], "file_name": NAME,
                }
            )  # fmt: skip
        (folder / refs).write_bytes(pickle.dumps(found, protocol=2))
        instances = {
            "images": [{"id": 9, "file_name": NAME, "width": SIZE[0], "height": SIZE[1]}],
            "annotations": [{"id": 7, "image_id": 9, "category_id": 1, "bbox": [20.0, 10.0, 100.0, 50.0]}],
            "categories": [{"id": 1, "name": "box"}],
        }
        (folder / "instances.json").write_text(json.dumps(instances), encoding="utf-8")

    return build


def grit(folder: Path) -> None:
    save(folder / "images" / "coco" / "test2015" / "1.jpg")
    rows = [
        {
            "example_id": f"refexp_{number}", "image_id": "coco/test2015/1.jpg", "task_name": "refexp",
            "task_query": f"box {number}", "task_bbox": None, "output_options": None,
        }
        for number in range(2)
    ]  # fmt: skip
    file = folder / "samples" / "test" / "refexp.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(rows), encoding="utf-8")


FIXTURES = {
    "refcoco": Fixture(converted, "val", BEST, WORST, questions=2),
    "refcoco_plus": Fixture(original("refs(unc).p", "testB"), "testB", BEST, WORST, questions=2),
    "refcocog": Fixture(original("refs(umd).p", "test"), "test", BEST, WORST, questions=2),
    "grit_refexp": Fixture(grit, "test", {}, {}, questions=2, submission=("refexp.json",)),
}
