"""OCRBench, OCRBench v2 and CC-OCR as they are distributed: a few rows each, of the rules that need no other package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qwenvl.eval.tasks.reading import FOLDERS
from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import save
from tests.fast.eval_fixtures.vqa import write


def build_ocrbench(folder: Path) -> None:
    rows = [
        ("IIIT5K", 2843, "IIIT5K/test/918_1.png", "what is written in the image?", "CENTRE", "Regular Text Recognition"),
        (
            "HME100k", 14413, "HME100K/test/test_images/test_17522.jpg",
            "Please write out the expression of the formula in the image using LaTeX format.",
            ["y _ { 2 } = - 1\n", "y_2 = - 1\n"], "Handwritten Mathematical Expression Recognition",
        ),
        (
            "STVQA", 7, "STVQA/VisualGenome/2/2413451.jpg", "What is the Mosman Manly exit going to?",
            ["Chatswood Epping", "Chatswood, Epping"], "Scene Text-centric VQA",
        ),
    ]  # fmt: skip
    keys = ("dataset_name", "id", "image_path", "question", "answers", "type")
    write(folder / "OCRBench.json", [dict(zip(keys, row, strict=True)) for row in rows])
    for row in rows:
        save(folder / "OCRBench_Images" / row[2])


HTML = "<table><tr><td>a</td><td colspan=\"2\">b</td></tr></table>"
QUESTIONS: list[dict[str, Any]] = [
    {"type": "text recognition en", "question": "what is written in the image?", "answers": ["CENTRE"]},
    {"type": "cognition VQA en", "question": "Which one? A. x B. y", "answers": ["B"], "eval": "multiple choice"},
    {"type": "text counting en", "question": "How many words?", "answers": ["7"], "eval": "regression"},
    {"type": "text grounding en", "question": "Where is 'STOP'? Give [x1, y1, x2, y2].", "answers": [10, 20, 300, 400]},
    {
        "type": "text spotting en", "question": "Spot all the text.", "answers": [],
        "bbox": [[10, 20, 110, 20, 110, 60, 10, 60], [5, 500, 90, 500, 90, 560, 5, 560]], "content": ["STOP", "No, thanks"],
    },
    {
        "type": "key information extraction en", "question": "Extract as a dict.",
        "answers": ["{\"company\": [\"OLD TOWN\"], \"total\": [\"30\"]}"],
    },
    {"type": "VQA with position en", "question": "Answer with its place.", "answers": ["STOP"], "bbox": [10, 20, 300, 400]},
    {"type": "table parsing en", "question": "Convert the table into HTML.", "answers": [HTML]},
    {"type": "chart parsing en", "question": "Convert the chart into a python dict.", "answers": [{"a": 1, "b": 2.5}]},
    {"type": "math QA en", "question": "x = ?", "answers": ["C"], "eval": "multiple choice"},
    {"type": "reasoning VQA en", "question": "Why?", "answers": ["because of the rain"]},
    {"type": "cognition VQA cn", "question": "写的是什么？", "answers": ["小心 地滑"]},
    {"type": "formula recognition cn", "question": "写出公式。", "answers": ["\\text{面积}=a^2"]},
    {"type": "handwritten answer extraction cn", "question": "选择题的答案？", "answers": ["ABD"]},
]  # fmt: skip


def build_ocrbench_v2(folder: Path) -> None:
    rows = []
    for number, question in enumerate(QUESTIONS):
        part = "CN_part" if question["type"].endswith("cn") else "EN_part"
        rows.append({"dataset_name": "x", "id": number, "image_path": f"{part}/{number}.jpg", **question})
        save(folder / part / f"{number}.jpg")
    write(folder / "OCRBench_v2.json", rows)


LABELS = {
    "doc": "\\section{Title} Some words", "table": HTML, "formula": "E = m c ^ { 2 }", "molecular": "C1=CC=CC=C1",
}  # fmt: skip


def build_cc_ocr(folder: Path) -> None:
    for track, op, subset in FOLDERS:
        root = folder / track / op / subset
        label: Any = LABELS.get(op, "Opening hours 9-17")
        if track == "kie":
            label = {"company": "OLD TOWN", "items": [{"name": "tea", "price": "2.5"}, {"name": "rice", "price": ""}]}
        save(root / "images" / f"{subset} 1.jpg")
        write(root / "label.json", {f"{subset} 1.jpg": label})
        prompt = "Please output only the text content from the image without any additional descriptions or formatting."
        line = json.dumps({"url": f"images/{subset} 1.jpg", "prompt": prompt}, ensure_ascii=False)
        (root / "qa.jsonl").write_text(line + "\n", encoding="utf-8")


FIXTURES: dict[str, Fixture] = {
    "ocrbench": Fixture(build_ocrbench, "test", {"read": 1.0}, {"read": 0.0}, questions=3),
    "ocrbench_v2": Fixture(
        build_ocrbench_v2, "test", {"english": 1.0, "chinese": 1.0, "reply": 1.0}, {"english": 0.0, "chinese": 0.0, "reply": 0.0},
        questions=len(QUESTIONS),
    ),
    "cc_ocr": Fixture(
        build_cc_ocr, "all", {"total": 1.0, "total_by_tree": 1.0, "kie": 1.0, "fields": 1.0},
        # A page of letters that are all wrong is still a page of as many letters.
        {"total": 0.0, "total_by_tree": 0.0, "kie": 0.0, "multi_lan_ocr": 0.0, "fields": 0.0},
        nonsense="", questions=39,
    ),
}  # fmt: skip
