"""CountBenchQA's Parquet file, and PointBench's pictures and masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import png, save


def countbench(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    picture = {"bytes": png(), "path": None}
    rows: list[dict[str, Any]] = [
        {"image": picture, "number": 3, "text": "Three red boxes", "question": "How many boxes are there in the image?"},
        {"image": None, "number": 4, "text": "Four cats", "question": "How many cats are there in the image?"},
        {"image": picture, "number": 10, "text": "Ten red boxes", "question": "How many red boxes are there in the image?"},
    ]
    (folder / "data").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), folder / "data" / "test-00000-of-00001.parquet")


def pointbench(folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    for kind in ("spatial", "counting"):
        save(folder / "selected_images" / kind / f"{kind}.jpg")
        mask = np.zeros((100, 200), dtype=np.uint8)
        mask[20:60, 40:90] = 255
        if kind == "counting":
            mask[70:90, 100:150] = 255
        (folder / "selected_masks" / kind).mkdir(parents=True)
        Image.fromarray(mask).save(folder / "selected_masks" / kind / f"{kind}_mask.png")
        row = {"image_filename": f"{kind}.jpg", "user_input": f"Point to the {kind} things.", "category": kind}
        rows.append(row | {"mask_filename": f"{kind}_mask.png", "count": 4 if kind == "counting" else 1})
    rows.append({"image_filename": "none.jpg", "user_input": "It has no mask.", "category": "spatial"})
    (folder / "data.json").write_text(json.dumps(rows), encoding="utf-8")


FIXTURES = {
    "countbench": Fixture(countbench, "test", {"accuracy": 1.0, "exact": 1.0}, {"accuracy": 0.0, "exact": 0.0}, questions=2),
    "pointbench": Fixture(pointbench, "test", {"accuracy": 1.0}, {"accuracy": 0.0}, questions=2),
}
