"""Drawn scenes in the very files of known benchmarks: to try an evaluation before anything is downloaded, and as an example of what
a set of one's own looks like that is to be measured by their rules.

Numbers on them say something of a nano model, and nothing of the benchmark whose form they have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qwenvl.data.synth.scene import Scene, SceneSpec, generate_scene
from qwenvl.data.tasks import questions
from qwenvl.runtime import atomic_write

NAMES = ("vqav2", "refcoco", "textvqa", "flickr30k")
MARK = "DRAWN"
"""A file in each folder that says what lies there."""
ASKED = ("what", "count", "colour", "yes_no", "left_right", "above_below")
KINDS = {"count": "number", "yes_no": "yes/no"}
"""The answer_type of VQA v2.0; all others are "other"."""
PEOPLE = 10
"""Who answer each question of VQA v2.0 and TextVQA, and here say the same."""
QUALITY = 95
Rows = list[dict[str, Any]]
Scenes = Sequence[Scene]


def write_drawn(folder: Path, count: int, seed: int = 1, advance: Callable[[int], None] = lambda done: None) -> None:
    """Write the benchmarks of NAMES, each into a folder of its own name: `count` held-out scenes of things and as many of lettering
    to be asked about, and as many others that examples are taken from. `advance` is told of every scene.

    Raises FontError where fonts are missing.
    """
    for name in NAMES:
        with atomic_write(folder / name / MARK) as temporary:
            temporary.write_text(f"Scenes drawn by qwenvl in the form of {name}, {count} of seed {seed}: not the benchmark.\n")
    for split in ("val", "train"):
        part: Literal["train", "held_out"] = "train" if split == "train" else "held_out"
        things, words = SceneSpec(split=part), SceneSpec(split=part, kind="text")
        drawn: dict[str, list[Scene]] = {"things": [], "words": []}
        for name, spec in (("things", things), ("words", words)):
            for index in range(count):
                drawn[name].append(generate_scene(spec, seed, index))
                advance(1)
        _vqav2(folder / "vqav2", split, drawn["things"])
        _textvqa(folder / "textvqa", split, drawn["words"])
        _flickr30k(folder / "flickr30k", split, drawn["things"])
        if split == "val":
            _refcoco(folder / "refcoco", drawn["things"])


def _vqav2(folder: Path, split: str, scenes: Scenes) -> None:
    """Questions and annotations of VQA v2.0, pictures by their names in COCO."""
    part, asked, answered = f"{split}2014", Rows(), Rows()
    for picture, scene in enumerate(scenes, start=1):
        _save(scene, folder / part / f"COCO_{part}_{picture:012d}.jpg")
        for number, extra in enumerate(_about(scene, *ASKED)):
            ids = {"image_id": picture, "question_id": 1000 * picture + number}
            asked.append({**ids, "question": extra["question"]})
            people = [
                {"answer": extra["answer"], "answer_confidence": "yes", "answer_id": one} for one in range(1, PEOPLE + 1)
            ]
            told = {"multiple_choice_answer": extra["answer"], "question_type": "none of the above", "answers": people}
            answered.append({**ids, **told, "answer_type": KINDS.get(extra["kind"], "other")})
    _write(folder / f"v2_OpenEnded_mscoco_{part}_questions.json", {"data_subtype": part, "questions": asked})
    _write(folder / f"v2_mscoco_{part}_annotations.json", {"data_subtype": part, "annotations": answered})


def _refcoco(folder: Path, scenes: Scenes) -> None:
    """The lines that the evaluation of Qwen-VL reads. Boxes are left, top, right, bottom in pixels."""
    rows = Rows()
    for picture, scene in enumerate(scenes, start=1):
        name = f"COCO_train2014_{picture:012d}.jpg"
        _save(scene, folder / "train2014" / name)
        for extra in _about(scene, "referring"):
            box = [value * (scene.width, scene.height)[axis % 2] for axis, value in enumerate(extra["regions"][0])]
            told = {"image": f"data/coco/train2014/{name}", "width": scene.width, "height": scene.height}
            rows.append({**told, "sent": extra["phrase"], "bbox": box})
    with atomic_write(folder / "refcoco_val.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _textvqa(folder: Path, split: str, scenes: Scenes) -> None:
    rows = Rows()
    for index, scene in enumerate(scenes):
        name = f"{split}{index:013d}"
        _save(scene, folder / "train_images" / f"{name}.jpg")
        for extra in _about(scene, "ocr"):
            told = {"image_id": name, "image_width": scene.width, "image_height": scene.height, "set_name": split}
            answers = [extra["answer"]] * PEOPLE
            rows.append({**told, "question_id": len(rows), "question": extra["question"], "answers": answers})
    _write(folder / f"TextVQA_0.5.1_{split}.json", {"dataset_type": split, "dataset_version": "0.5.1", "data": rows})


def _flickr30k(folder: Path, split: str, scenes: Scenes) -> None:
    """A file of its own for each split: the names of those of Karpathy's files, where one holds all."""
    path, split = folder / "dataset_flickr30k.json", "train" if split == "train" else "test"
    rows: Rows = json.loads(path.read_text(encoding="utf-8"))["images"] if path.exists() else []
    rows = [row for row in rows if row["split"] != split]
    for index, scene in enumerate(scenes):
        name = f"{split}{index:07d}.jpg"
        _save(scene, folder / "flickr30k-images" / name)
        sentences = [{"raw": extra["answer"], "imgid": index} for extra in _about(scene, "caption")]
        rows.append({"filename": name, "split": split, "imgid": index, "sentences": sentences})
    _write(path, {"images": rows, "dataset": "flickr30k"})


def _about(scene: Scene, *tasks: str) -> Rows:
    """What is asked of a scene in English, one question of each task at most, with its answer in words."""
    found = Rows()
    for number, task in enumerate(tasks):
        rng = np.random.default_rng([scene.seed, scene.index, number])
        found += [sample.extra for sample in questions(scene, task, "en", "raw", rng)[:1]]
    return found


def _save(scene: Scene, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        scene.image.save(temporary, "JPEG", quality=QUALITY)


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
