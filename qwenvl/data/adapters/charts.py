"""Questions about charts and diagrams: DVQA, ChartQA, AI2D."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import find, picture, whole
from qwenvl.data.sources import Record, records
from qwenvl.processing.image import open_image
from qwenvl.types import Sample


def read_dvqa(folder: Path) -> Iterator[Record]:
    """SPLIT_qa.json: train, val_easy, val_hard."""
    for file in find(folder, "*_qa.json", "qa/*_qa.json"):
        yield from ({**question, "split": file.stem.removesuffix("_qa")} for question in records(file))


def from_dvqa(record: Record, root: Path) -> list[Sample]:
    id, name, split = f"dvqa {record['question_id']}", record["image"], record["split"].partition("_")[0]
    path = picture(root, f"images/{name}", name, id=id)
    kind = {"question_type": record.get("question_type"), "split": split}
    return [samples.question(path, record["question"], record["answer"], id=id, source="dvqa", **kind)]


def read_chartqa(folder: Path) -> Iterator[Record]:
    """SPLIT/SPLIT_human.json and SPLIT/SPLIT_augmented.json, also below "ChartQA Dataset"; questions are numbered as they stand."""
    for file in find(folder, "*/*_human.json", "*/*/*_human.json"):
        for kind in ("human", "augmented"):
            questions = file.with_name(file.name.replace("_human", f"_{kind}"))
            if questions.is_file():
                for number, question in enumerate(records(questions)):
                    yield {**question, "kind": kind, "number": number, "folder": str(file.parent)}


def from_chartqa(record: Record, root: Path) -> list[Sample]:
    folder, kind = Path(record["folder"]), record["kind"]
    id = f"chartqa {folder.name} {kind} {record['number']}"
    path = picture(folder, f"png/{record['imgname']}", id=id)
    about = {"written_by": kind, "split": folder.name}
    return [samples.question(path, record["query"], record["label"], id=id, source="chartqa", **about)]


def read_ai2d(folder: Path) -> Iterator[Record]:
    """questions/NAME.png.json, and ai2d_test_ids.csv, which is published apart and alone tells what to keep out of training."""
    questions, [ids] = find(folder, "questions/*.json"), find(folder, "ai2d_test_ids.csv")
    test = set(ids.read_text(encoding="utf-8").split())
    for file in questions:
        split = "test" if file.name.partition(".")[0] in test else "train"
        entry = whole(file)
        for text, question in entry.get("questions", {}).items():
            yield {"question": text, "imageName": entry.get("imageName"), "split": split, **question}


def from_ai2d(record: Record, root: Path) -> list[Sample]:
    """Multiple choice. Questions with `abcLabel` are about letters, which take the place of the picture's labels."""
    id, name = f"ai2d {record['questionId']}", record["imageName"]
    image: Any = picture(root, f"images/{name}", id=id)
    if record["abcLabel"]:
        image = lettered(open_image(image), whole(root / "annotations" / f"{name}.json")["text"])
    choice = samples.multiple_choice(
        image, record["question"], record["answerTexts"], int(record["correctAnswer"]), id=id, source="ai2d", split=record["split"]
    )
    return [choice]


def lettered(image: Image.Image, labels: Mapping[str, Mapping[str, Any]]) -> Image.Image:
    """The diagram with every label painted over in white and its `replacementText` in black on it, as large as fits the
    label's `rectangle`, [[left, top], [right, bottom]] in pixels."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for label in labels.values():
        (left, top), (right, bottom) = label["rectangle"]
        draw.rectangle((left, top, right, bottom), fill="white")
        middle = ((left + right) / 2, (top + bottom) / 2)
        height = max(8.0, min(bottom - top, 1.2 * (right - left)))
        draw.text(middle, label["replacementText"], fill="black", font=ImageFont.load_default(height), anchor="mm")
    return image
