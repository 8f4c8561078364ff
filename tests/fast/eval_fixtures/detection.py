"""The thirteen datasets of ODinW, in COCO's form, one picture each."""

from __future__ import annotations

import json
from pathlib import Path

from qwenvl.eval.tasks.detection import ODINW
from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import SIZE, save


def odinw(folder: Path) -> None:
    for name, (place, classes) in ODINW.items():
        inner = "" if name == "pistols" else "valid/"
        file = f"{inner}{'val_' if name == 'pistols' else ''}annotations_without_background.json"
        save(folder / place / inner / "1.jpg")
        content = {
            "categories": [{"id": number, "name": label} for number, label in enumerate(classes, start=1)],
            "images": [{"id": 0, "file_name": "1.jpg", "width": SIZE[0], "height": SIZE[1]}],
            "annotations": [
                {
                    "id": number, "image_id": 0, "category_id": number % len(classes) + 1, "bbox": [10 + 60 * number, 10, 50, 60],
                    "area": 3000, "iscrowd": 0, "segmentation": [],
                }
                for number in range(3)
            ],
        }  # fmt: skip
        (folder / place / file).write_text(json.dumps(content), encoding="utf-8")


FIXTURES = {"odinw13": Fixture(odinw, "valid", {"map": 1.0}, {"map": 0.0}, questions=13)}
