"""Mean average precision equals pycocotools' on generated pictures."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from qwenvl.eval.scorers import detection

coco = pytest.importorskip("pycocotools.coco")
cocoeval = pytest.importorskip("pycocotools.cocoeval")

CASES = 1000


def drawn(rng: np.random.Generator) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int, int]:
    """Truths and boxes said of a few pictures: many near each other, whole numbers and others, crowds, and equal scores."""
    pictures, categories = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    whole, all_sure, crowds = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.3
    truths: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for picture in range(pictures):
        for _ in range(rng.integers(0, 7)):
            box = [*rng.uniform(0, 80, 2), *rng.uniform(2, 40, 2)]
            box = [float(round(value) if whole else value) for value in box]
            category = int(rng.integers(0, categories))
            truths.append({"picture": picture, "category": category, "box": box, "crowd": bool(crowds and rng.random() < 0.3)})
            for _ in range(rng.integers(0, 3)):
                near = [max(value + rng.normal(0, 3), 1.0) for value in box]
                near = [float(round(value) if whole else value) for value in near]
                other = category if rng.random() < 0.8 else int(rng.integers(0, categories))
                score = 1.0 if all_sure else float(rng.integers(1, 6) / 5)
                said.append({"picture": picture, "category": other, "box": near, "score": score})
    order = rng.permutation(len(said))
    return truths, [said[index] for index in order], pictures, categories


def ours(truths: list[dict[str, Any]], said: list[dict[str, Any]], pictures: int, categories: int) -> float | None:
    found = []
    for picture in range(pictures):
        by_category = {}
        for category in range(categories):
            true = [truth for truth in truths if (truth["picture"], truth["category"]) == (picture, category)]
            boxes = [box for box in said if (box["picture"], box["category"]) == (picture, category)]
            if true or boxes:
                by_category[str(category)] = detection.match(
                    np.array([box["box"] for box in boxes]), np.array([box["score"] for box in boxes]),
                    np.array([truth["box"] for truth in true]), np.array([truth["crowd"] for truth in true], dtype=bool),
                )  # fmt: skip
        found.append(by_category)
    return detection.mean_average_precision(found)


def theirs(truths: list[dict[str, Any]], said: list[dict[str, Any]], pictures: int, categories: int) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco.COCO()
        known.dataset = {
            "info": {},
            "images": [{"id": picture, "width": 200, "height": 200} for picture in range(pictures)],
            "categories": [{"id": category, "name": str(category)} for category in range(categories)],
            "annotations": [
                {
                    "id": number, "image_id": truth["picture"], "category_id": truth["category"], "bbox": truth["box"],
                    "area": truth["box"][2] * truth["box"][3], "iscrowd": int(truth["crowd"]),
                }
                for number, truth in enumerate(truths, start=1)
            ],
        }  # fmt: skip
        known.createIndex()
        answered = known.loadRes(
            [
                {"image_id": box["picture"], "category_id": box["category"], "bbox": box["box"], "score": box["score"]}
                for box in said
            ]
        )
        run = cocoeval.COCOeval(known, answered, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0])


def test_map_equals_pycocotools() -> None:
    rng = np.random.default_rng(6)
    compared = 0
    while compared < CASES:
        case = drawn(rng)
        if not case[1]:  # theirs refuses an empty list
            continue
        value = ours(*case)
        assert theirs(*case) == pytest.approx(-1.0 if value is None else value, abs=1e-12)
        compared += 1


def test_more_than_a_hundred_boxes_are_cut_as_theirs_are() -> None:
    rng = np.random.default_rng(7)
    truths = [{"picture": 0, "category": 0, "box": [float(x), 0.0, 9.0, 9.0], "crowd": False} for x in range(0, 1300, 10)]
    said = [{"picture": 0, "category": 0, "box": truth["box"], "score": float(rng.random())} for truth in truths]
    value = ours(truths, said, 1, 1)
    assert value is not None and value < 1
    assert theirs(truths, said, 1, 1) == pytest.approx(value, abs=1e-12)
