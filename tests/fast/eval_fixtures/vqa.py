"""VQAv2, OK-VQA, VizWiz and GQA as they are distributed: a few rows each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import save


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def ten(*answers: str, raw: bool = False) -> list[dict[str, Any]]:
    """The answers of ten people, in turn."""
    given = [answers[number % len(answers)] for number in range(10)]
    return [
        {"answer": answer, "answer_confidence": "yes", "answer_id": number} | ({"raw_answer": f"{answer}s"} if raw else {})
        for number, answer in enumerate(given, start=1)
    ]


HEAD = {"info": {"version": "2.0"}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {"name": "CC"}}


def vqa_questions(folder: Path, prefix: str, split: str, of: str, asked: Sequence[tuple[int, int, str]]) -> None:
    """asked: (question's number, picture's number, question). of: which pictures."""
    questions = [{"image_id": image, "question": question, "question_id": number} for number, image, question in asked]
    write(folder / f"{prefix}OpenEnded_mscoco_{split}_questions.json", {**HEAD, "data_subtype": split, "questions": questions})
    for _, image, _ in asked:
        save(folder / of / f"COCO_{of}_{image:012d}.jpg")


def vqa_answers(folder: Path, name: str, split: str, rows: Sequence[tuple[int, int, str, list[dict[str, Any]]]]) -> None:
    """rows: (question's number, picture's number, kind, answers)."""
    annotations = [
        {
            "question_type": "what is", "multiple_choice_answer": answers[0]["answer"], "answers": answers, "image_id": image,
            "answer_type": kind, "question_id": number,
        }
        for number, image, kind, answers in rows
    ]  # fmt: skip
    write(folder / name, {**HEAD, "data_subtype": split, "annotations": annotations})


def build_vqav2(folder: Path) -> None:
    vqa_questions(folder, "v2_", "val2014", "val2014", [(262148000, 262148, "Where is he looking?"), (42001, 42, "Is it red?")])
    vqa_answers(
        folder, "v2_mscoco_val2014_annotations.json", "val2014",
        [(262148000, 262148, "other", ten("down", "at table")), (42001, 42, "yes/no", ten("yes"))],
    )  # fmt: skip
    vqa_questions(folder, "v2_", "test-dev2015", "test2015", [(1000, 1, "Is the ball flying towards the batter?")])
    vqa_questions(folder, "v2_", "train2014", "train2014", [(900, 9, "What is this?"), (901, 10, "How many?")])
    vqa_answers(
        folder, "v2_mscoco_train2014_annotations.json", "train2014",
        [(900, 9, "other", ten("net")), (901, 10, "number", ten("2", "3", "2"))],
    )  # fmt: skip


def build_okvqa(folder: Path) -> None:
    for split, number, image in (("val2014", 2971475, 297147), ("train2014", 516065, 51606)):
        vqa_questions(folder, "", split, split, [(number, image, "What sport can you use this for?")])
        vqa_answers(folder, f"mscoco_{split}_annotations.json", split, [(number, image, "other", ten("race", "ride", raw=True))])


def build_vizwiz(folder: Path) -> None:
    def rows(split: str) -> list[dict[str, Any]]:
        asked = ["Ok. There is another picture I hope it is a better one.", "what is this can?"]
        images = [f"VizWiz_{split}_{number:08d}.jpg" for number in range(2)]
        for image in images:
            save(folder / split / image)
        shown = [{"image": image, "question": question} for image, question in zip(images, asked, strict=True)]
        if split == "test":
            return shown
        answers = [ten("unanswerable", "unsuitable"), ten("coca cola")]
        plain = [[{name: one[name] for name in ("answer_confidence", "answer")} for one in given] for given in answers]
        kinds = [("unanswerable", 0), ("other", 1)]
        return [
            {**row, "answers": given, "answer_type": kind, "answerable": answerable}
            for row, given, (kind, answerable) in zip(shown, plain, kinds, strict=True)
        ]

    for split in ("train", "val", "test"):
        write(folder / f"{split}.json", rows(split))


def build_gqa(folder: Path) -> None:
    for split in ("testdev", "train"):
        questions = {
            "201307251": {
                "semantic": [], "entailed": [], "equivalent": ["201307251"], "question": "Is it overcast?", "imageId": "n161313",
                "isBalanced": True, "groups": {"global": None, "local": "13-weather"}, "answer": "no",
                "types": {"detailed": "weatherVerify", "semantic": "attr", "structural": "verify"},
                "annotations": {}, "fullAnswer": "No, it is sunny.",
            },
            "201640614": {"question": "Who is wearing the dress?", "imageId": f"n{len(split)}", "answer": "woman"},
        }  # fmt: skip
        write(folder / f"{split}_balanced_questions.json", questions)
        for question in questions.values():
            save(folder / "images" / f"{question['imageId']}.jpg")


FIXTURES: dict[str, Fixture] = {
    "vqav2": Fixture(
        build_vqav2, "val", {"vqa_accuracy": 1.0, "vqa_accuracy_script": 1.0}, {"vqa_accuracy": 0.0, "vqa_accuracy_script": 0.0},
        questions=2,
    ),
    "okvqa": Fixture(build_okvqa, "val", {"vqa_accuracy": 1.0, "vqa_accuracy_script": 1.0}, {"vqa_accuracy": 0.0}, questions=1),
    "vizwiz": Fixture(build_vizwiz, "val", {"vqa_accuracy": 1.0, "vqa_accuracy_script": 1.0}, {"vqa_accuracy": 0.0}, questions=2),
    "gqa": Fixture(
        build_gqa, "testdev", {"cleaned_exact_match": 1.0, "exact_match": 1.0}, {"cleaned_exact_match": 0.0, "exact_match": 0.0},
        questions=2,
    ),
}  # fmt: skip
