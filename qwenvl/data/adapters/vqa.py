"""Questions about pictures: VQAv2, GQA, Visual Genome QA, OCR-VQA, DocVQA, TextVQA. Charts and diagrams are in charts.py.

Records are questions joined with their answers; splits without published answers are passed over.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import find, joined, picture, rows, whole
from qwenvl.data.sources import BadSample, Record, SourceError, records
from qwenvl.types import Sample

CONFIDENCE = {"yes": 1.0, "maybe": 0.5, "no": 0.0}


def read_vqav2(folder: Path) -> Iterator[Record]:
    """v2_OpenEnded_mscoco_SPLIT_questions.json with v2_mscoco_SPLIT_annotations.json, of any place in the folder."""
    start, end = "v2_OpenEnded_mscoco_", "_questions.json"
    pairs = []
    for file in find(folder, f"**/{start}*{end}"):
        split = file.name.removeprefix(start).removesuffix(end)
        answers = sorted(folder.glob(f"**/v2_mscoco_{split}_annotations.json"))
        pairs += [(split, file, answers[0])] if answers else []
    if not pairs:
        raise SourceError(f"{folder}: no v2_mscoco_SPLIT_annotations.json for the questions there; unpack the annotations too")
    for split, file, answers_file in pairs:
        annotations = rows(answers_file, "annotations")
        for record in joined(rows(file, "questions"), annotations, "question_id", ("question", "annotation")):
            yield {**record, "split": split}


def from_vqav2(record: Record, root: Path) -> list[Sample]:
    """The answer of maximum confidence, of the ten that were given."""
    question, annotation, split = record["question"], record["annotation"], record["split"]
    id, name = f"vqav2 {question['question_id']}", f"COCO_{split}_{question['image_id']:012d}.jpg"
    path = picture(root, f"{split}/{name}", f"images/{split}/{name}", f"Images/mscoco/{split}/{name}", f"images/{name}", id=id)
    answer = most_confident(annotation["answers"])
    given = [given["answer"] for given in annotation["answers"]]
    about = {"answer_type": annotation.get("answer_type"), "split": split.rstrip("0123456789")}
    return [samples.question(path, question["question"], answer, id=id, source="vqav2", accept=given, **about)]


def most_confident(answers: Sequence[Mapping[str, Any]]) -> str:
    """Section A.2 of arXiv 2308.12966 selects "based on the maximum confidence" and does not say which.

    Here as in OFA, of the same group, an answer's confidence grows with how many gave it (data/mm_data/vqa_gen_dataset.py,
    OFA-Sys/OFA @ 43b860f, takes the largest); among equals the annotators' own `answer_confidence` decides, then the order.
    """
    given, own = Counter[str](), defaultdict[str, float](float)
    for one in answers:
        given[one["answer"]] += 1
        own[one["answer"]] += CONFIDENCE.get(one.get("answer_confidence", "yes"), 0.0)
    return max(given, key=lambda answer: (given[answer], own[answer]))


def read_gqa(folder: Path) -> Iterator[Record]:
    """Questions by their id in SPLIT_balanced_questions.json; where there is none, in SPLIT_all_questions (of train a folder)."""
    balanced, every = "*_balanced_questions.json", "*_all_questions*"
    for found in find(folder, f"questions/{balanced}", balanced, f"questions/{every}", every):
        for file in find(found, "*.json") if found.is_dir() else [found]:
            for id, question in whole(file).items():
                if "answer" in question:
                    yield {"question_id": id, "split": found.name.partition("_")[0], **question}


def from_gqa(record: Record, root: Path) -> list[Sample]:
    id, name = f"gqa {record['question_id']}", f"{record['imageId']}.jpg"
    path = picture(root, f"images/{name}", f"images/images/{name}", name, id=id)
    accept = [answer for answer in (record["answer"], record.get("fullAnswer")) if answer]
    return [samples.question(path, record["question"], record["answer"], id=id, source="gqa", accept=accept, split=record["split"])]


def image_data(folder: Path) -> dict[Any, Record]:
    """Visual Genome's image_data.json by image id; older releases call it `id`."""
    file = find(folder, "image_data.json", "**/image_data.json")[0]
    return {image.get("image_id", image.get("id")): image for image in records(file)}


def vg_picture(image: Record, root: Path, id: str) -> str:
    """A picture of Visual Genome lies in the folder, of two, that its address names."""
    name = "/".join(image["url"].split("/")[-2:])
    return picture(root, name, f"images/{name}", f"vg/{name}", id=id)


def read_vgqa(folder: Path) -> Iterator[Record]:
    """Every question of question_answers.json with its image."""
    images = image_data(folder)
    for entry in records(find(folder, "question_answers.json", "**/question_answers.json")[0]):
        for qa in entry.get("qas", []):
            yield {"qa": qa, "image": images.get(qa.get("image_id"))}


def from_vgqa(record: Record, root: Path) -> list[Sample]:
    qa, image = record["qa"], record["image"]
    id = f"vgqa {qa['qa_id']}"
    return [samples.question(vg_picture(image, root, id), qa["question"], qa["answer"], id=id, source="vgqa")]


OCR_VQA_SPLITS = {1: "train", 2: "val", 3: "test"}


def read_ocr_vqa(folder: Path) -> Iterator[Record]:
    """Books by their id in dataset.json."""
    for id, book in whole(find(folder, "dataset.json")[0]).items():
        yield {"id": id, **book}


def from_ocr_vqa(record: Record, root: Path) -> list[Sample]:
    """All questions about one cover."""
    id, questions, answers = f"ocr_vqa {record['id']}", record["questions"], record["answers"]
    if len(questions) != len(answers):
        raise BadSample(id, f"{len(questions)} questions but {len(answers)} answers")
    suffix = Path(record["imageURL"]).suffix
    path = picture(root, f"images/{record['id']}{suffix}", f"images/{record['id']}.jpg", id=id)
    split = OCR_VQA_SPLITS.get(record["split"])
    return [
        samples.question(path, asked, answer, id=f"{id}-{number}", source="ocr_vqa", task="ocr_vqa", split=split)
        for number, (asked, answer) in enumerate(zip(questions, answers, strict=True))
    ]


def read_docvqa(folder: Path) -> Iterator[Record]:
    """SPLIT_v1.0_withQT.json (or SPLIT_v1.0.json, as first distributed) of single-page DocVQA; `file` is where it lies."""
    for file in find(folder, "**/*_v1.0_withQT.json", "**/*_v1.0.json"):
        yield from ({**question, "file": str(file)} for question in rows(file, "data") if "answers" in question)


def from_docvqa(record: Record, root: Path) -> list[Sample]:
    """The first answer, as the ground truth's description suggests for training."""
    id, name, beside = f"docvqa {record['questionId']}", record["image"], Path(record["file"]).parent
    # The archive of all splits keeps the pages of documents/ in spdocvqa_images/.
    page = name.rpartition("/")[2]
    split = record["data_split"]
    if (beside / name).is_file():
        path = str(beside / name)
    else:
        path = picture(root, name, f"{split}/{name}", f"spdocvqa_images/{page}", id=id)
    answers = record["answers"]
    return [samples.question(path, record["question"], answers[0], id=id, source="docvqa", accept=answers, split=split)]


def read_textvqa(folder: Path) -> Iterator[Record]:
    for file in find(folder, "TextVQA_*.json", "annotations/TextVQA_*.json"):
        yield from (question for question in rows(file, "data") if "answers" in question)


def from_textvqa(record: Record, root: Path) -> list[Sample]:
    """The answer that most of ten people gave; of equals the first."""
    id, name = f"textvqa {record['question_id']}", f"{record['image_id']}.jpg"
    path = picture(root, f"train_images/{name}", f"images/train_images/{name}", f"train_val_images/train_images/{name}", id=id)
    answers: list[str] = record["answers"]
    [(answer, _)] = Counter(answers).most_common(1)
    return [samples.question(path, record["question"], answer, id=id, source="textvqa", accept=answers, split=record["set_name"])]
