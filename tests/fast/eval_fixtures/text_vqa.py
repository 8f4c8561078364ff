"""TextVQA, DocVQA, InfographicVQA, ChartQA, OCR-VQA and AI2D as they are distributed: a few rows each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import save
from tests.fast.eval_fixtures.vqa import write


def build_textvqa(folder: Path) -> None:
    for split, of in (("val", "train_images"), ("train", "train_images"), ("test", "test_images")):
        image = f"003a8ae2ef43b90{split[0]}"
        row: dict[str, Any] = {
            "question": "what is the brand of this camera?", "image_id": image, "image_classes": ["Cassette deck"],
            "flickr_original_url": "", "flickr_300k_url": "", "image_width": 64, "image_height": 48, "set_name": split,
            "question_id": 34602, "question_tokens": ["what", "is"],
        }  # fmt: skip
        if split != "test":
            row["answers"] = ["nous les gosses", "dakota", "clos culombu", *["dakota digital"] * 5, "dakota", "dakota"]
        write(folder / f"TextVQA_0.5.1_{split}.json", {"dataset_type": split, "dataset_version": "0.5.1", "data": [row]})
        save(folder / of / f"{image}.jpg")


def build_docvqa(folder: Path) -> None:
    for split in ("train", "val", "test"):
        row: dict[str, Any] = {
            "questionId": 49153, "question": "What is the 'actual' value per 1000, during the year 1975?",
            "question_types": ["figure/diagram"], "image": f"documents/pybv0228_{split}.png", "docId": 14465,
            "ucsf_document_id": "pybv0228", "ucsf_document_page_no": "81", "data_split": split,
        }  # fmt: skip
        if split != "test":
            row["answers"] = ["0.28", ".28"]
        name = f"{split}_v1.0{'' if split == 'test' else '_withQT'}.json"
        write(folder / name, {"dataset_name": "SP-DocVQA", "dataset_split": split, "dataset_version": "1.0", "data": [row]})
        save(folder / "spdocvqa_images" / f"pybv0228_{split}.png")


def build_infovqa(folder: Path) -> None:
    for split in ("train", "val", "test"):
        row: dict[str, Any] = {
            "questionId": 98313, "question": "Which social platform has heavy female audience?",
            "image_local_name": f"37313_{split}.jpeg", "image_url": "", "ocr_output_file": "37313.json", "data_split": split,
        }  # fmt: skip
        if split != "test":
            row["answers"] = ["pinterest"]
        if split == "val":
            row |= {"answer_type": ["single span"], "evidence": ["figure"], "operation/reasoning": []}
        name = f"infographicsVQA_{split}_v1.0{'_withQT' if split == 'val' else ''}.json"
        write(folder / name, {"dataset_name": "infographicVQA", "dataset_split": split, "dataset_version": "1.0", "data": [row]})
        save(folder / "infographicsvqa_images" / f"37313_{split}.jpeg")


def build_chartqa(folder: Path) -> None:
    for split in ("train", "test"):
        for kind, label in (("human", "14"), ("augmented", "Yes")):
            rows = [{"imgname": f"{kind}_{split}.png", "query": "How many food item is shown in the bar graph?", "label": label}]
            write(folder / split / f"{split}_{kind}.json", rows)
            save(folder / split / "png" / f"{kind}_{split}.png")


def build_ocrvqa(folder: Path) -> None:
    def book(split: int, name: str) -> dict[str, Any]:
        save(folder / "images" / f"{name}.jpg")
        return {
            "imageURL": f"http://ecx.images-amazon.com/images/I/{name}.jpg", "split": split, "title": "Mensa Cards",
            "authorName": "Mensa", "genre": "Calendars", "questions": ["Who wrote this book?", "What is the title of this book?"],
            "answers": ["Mensa", "Mensa Cards"],
        }  # fmt: skip

    write(folder / "dataset.json", {"0761183272": book(3, "0761183272"), "0761183273": book(1, "0761183273")})


def build_ai2d(folder: Path) -> None:
    def question(number: int, letters: bool) -> dict[str, Any]:
        # The key says the option's text: of labels one that is the option's letter too, so that it is right in either wording.
        texts = ["C", "B", "D", "A"] if letters else ["primary", "tertiary", "producer", "decomposer"]
        return {"abcLabel": letters, "answerTexts": texts, "correctAnswer": 1, "questionId": f"{number}.png-{int(letters)}"}

    for number in (100, 200):
        questions = {"Which is the fruit?": question(number, True), "What is a hawk?": question(number, False)}
        write(folder / "questions" / f"{number}.png.json", {"imageName": f"{number}.png", "questions": questions})
        text = {"T0": {"polygon": [], "rectangle": [[4, 4], [40, 20]], "replacementText": "A", "value": "hawk"}}
        write(folder / "annotations" / f"{number}.png.json", {"imageName": f"{number}.png", "text": text})
        save(folder / "images" / f"{number}.png")
    (folder / "ai2d_test_ids.csv").write_text("100\n", encoding="utf-8")


FIXTURES: dict[str, Fixture] = {
    "textvqa": Fixture(build_textvqa, "val", {"vqa_accuracy": 1.0, "vqa_accuracy_script": 1.0}, {"vqa_accuracy": 0.0}, questions=1),
    "docvqa": Fixture(build_docvqa, "val", {"anls": 1.0}, {"anls": 0.0}, questions=1),
    "infovqa": Fixture(build_infovqa, "val", {"anls": 1.0}, {"anls": 0.0}, questions=1),
    "chartqa": Fixture(
        build_chartqa, "test", {"relaxed_accuracy": 1.0, "relaxed_accuracy_script": 1.0},
        {"relaxed_accuracy": 0.0, "relaxed_accuracy_script": 0.0}, questions=2,
    ),
    "ocrvqa": Fixture(build_ocrvqa, "test", {"exact_match": 1.0}, {"exact_match": 0.0}, questions=2),
    "ai2d": Fixture(build_ai2d, "test", {"accuracy": 1.0}, {"accuracy": 0.0}, questions=2),
}  # fmt: skip
