"""Questions about text in pictures: TextVQA, DocVQA, InfographicVQA, ChartQA, OCR-VQA, AI2D (arXiv 2308.12966, Table 6)."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenvl.data.adapters.charts import lettered, read_ai2d
from qwenvl.data.adapters.files import find, picture, rows, whole
from qwenvl.data.adapters.vqa import OCR_VQA_SPLITS
from qwenvl.data.sources import Record, records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.peers import LMMS, QWEN_VL, VLMEVALKIT
from qwenvl.eval.schema import of_schema
from qwenvl.eval.scorers.choices import LETTERS, by_vlmevalkit
from qwenvl.eval.scorers.reading import anls, relaxed_accuracy, relaxed_accuracy_by_script
from qwenvl.eval.scorers.vqa import answer_score, is_exact, script_accuracy, textvqa_accuracy
from qwenvl.eval.shelf import Shelf
from qwenvl.eval.submission import json_list
from qwenvl.eval.task import Decoding, Prediction, Tally
from qwenvl.eval.tasks.vqa import SCRIPT, SHORT, by_script, question_and_answer
from qwenvl.families.spec import Markup
from qwenvl.processing.image import open_image
from qwenvl.types import ImagePart, StoredPicture

MMPRETRAIN = "open-mmlab/mmpretrain @ ee7f2e8, mmpretrain/datasets"
RRC = "https://rrc.cvc.uab.es/?ch=17&com=tasks"
ANLS = f"{QWEN_VL}/infographicsvqa_eval.py (the challenge's own script); files: {RRC}"


def read_textvqa(folder: Path, split: str) -> Iterator[Item]:
    """Of val the pictures lie with those of train; test has no answers."""
    [file] = find(folder, f"TextVQA_*_{split}.json", f"annotations/TextVQA_*_{split}.json")
    of = "test_images" if split == "test" else "train_images"
    for number, row in enumerate(rows(file, "data"), start=1):
        with of_schema(f"{file}, question {number}"):
            id, name = str(row["question_id"]), f"{row['image_id']}.jpg"
            path = picture(folder, f"{of}/{name}", f"images/{of}/{name}", f"train_val_images/{of}/{name}", id=id)
            answers = row["answers"] if split != "test" else []
            most = Counter(answers).most_common(1)[0][0] if answers else ""
            truth = {"question_id": row["question_id"]} | ({"answers": answers} if answers else {})
            yield Item(id, {"question": row["question"]}, (ImagePart(path),), most, truth)


def _documents(file: Path, folder: Path, named: str, places: Sequence[str], split: str) -> Iterator[Item]:
    """Questions in the form of the DocVQA challenges; `named`: the field with the picture's name, `places`: where it may lie."""
    for number, row in enumerate(rows(file, "data"), start=1):
        with of_schema(f"{file}, question {number}"):
            id, name = str(row["questionId"]), row[named]
            page = name.rpartition("/")[2]
            path = picture(folder, *(place.format(name=name, page=page, split=split) for place in places), id=id)
            answers = row["answers"] if split != "test" else []
            truth = {"question_id": row["questionId"]} | ({"answers": answers} if answers else {})
            yield Item(id, {"question": row["question"]}, (ImagePart(path),), answers[0] if answers else "", truth)


def read_docvqa(folder: Path, split: str) -> Iterator[Item]:
    """The archive of all splits keeps the pages of documents/ in spdocvqa_images/."""
    file = find(folder, f"**/{split}_v1.0_withQT.json", f"**/{split}_v1.0.json")[0]
    return _documents(file, folder, "image", ("{name}", "{split}/{name}", "spdocvqa_images/{page}"), split)


def read_infovqa(folder: Path, split: str) -> Iterator[Item]:
    """The training file is called infographicVQA in some archives."""
    file = find(folder, f"**/infographicsVQA_{split}_v1.0*.json", f"**/infographicVQA_{split}_v1.0*.json")[0]
    return _documents(file, folder, "image_local_name", ("infographicsvqa_images/{name}", "images/{name}", "{name}"), split)


def hand_in(dataset: str) -> Any:
    """A list of {questionId, answer}, as the challenge's script reads it."""
    return json_list(f"{dataset}_{{split}}.json", lambda one: {"questionId": one.truth["question_id"], "answer": one.reply.strip()})


def read_chartqa(folder: Path, split: str) -> Iterator[Item]:
    """People's questions, then those made from captions: the two halves of the published mean."""
    for kind in ("human", "augmented"):
        [file] = find(folder, f"{split}/{split}_{kind}.json", f"*/{split}/{split}_{kind}.json")
        for number, row in enumerate(records(file)):
            with of_schema(f"{file}, question {number + 1}"):
                id, label = f"{kind}-{number}", str(row["label"])
                path = picture(file.parent, f"png/{row['imgname']}", id=id)
                yield Item(id, {"question": row["query"]}, (ImagePart(path),), label, {"answers": [label]}, group=kind)


def read_ocrvqa(folder: Path, split: str) -> Iterator[Item]:
    """Every question about every cover of a split, in one file."""
    [file] = find(folder, "dataset.json")
    for book, row in whole(file).items():
        with of_schema(f"{file}, book {book}"):
            if OCR_VQA_SPLITS.get(row["split"]) != split:
                continue
            suffix = Path(row["imageURL"]).suffix
            path = picture(folder, f"images/{book}{suffix}", f"images/{book}.jpg", id=book)
            for number, (asked, answer) in enumerate(zip(row["questions"], row["answers"], strict=True)):
                yield Item(f"{book}-{number}", {"question": asked}, (ImagePart(path),), answer, {"answers": [answer]})


def read_ai2d_split(folder: Path, split: str) -> Iterator[Item]:
    shelf = Shelf()
    for row in read_ai2d(folder):
        if row["split"] == split:
            with of_schema(f"{folder / 'questions'}, question {row.get('questionId')}"):
                yield _diagram(row, folder, shelf)


def _diagram(row: Record, folder: Path, shelf: Shelf) -> Item:
    """Where a question is about letters, these take the place of the diagram's labels."""
    id, name, texts = row["questionId"], row["imageName"], [str(text) for text in row["answerTexts"]]
    path = picture(folder, f"images/{name}", id=id)
    image: str | StoredPicture = path
    if row["abcLabel"]:
        image = shelf.keep(_png(path, whole(folder / "annotations" / f"{name}.json")["text"]))
    choices = dict(zip(LETTERS, texts, strict=False))
    fields = {
        "question": row["question"], "texts": "\n".join(texts),
        "options": "".join(f"{letter}. {text}\n" for letter, text in choices.items()),
    }  # fmt: skip
    answer = int(row["correctAnswer"])
    truth = {"answers": [texts[answer]], "choices": choices, "answer": LETTERS[answer], "image": name}
    return Item(id, fields, (ImagePart(image),), texts[answer], truth)


def _png(path: str, labels: Mapping[str, Mapping[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    lettered(open_image(path), labels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


OPTIONS = "\nOptions:\n"


def score_ai2d(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """Asked with letters, the letter that VLMEvalKit's rule finds, or the option's text; without, the text alone, as by the script.
    (Labels of diagrams are letters too: which of the two a reply means, the wording decides.)"""
    truth, reply = prediction.truth, prediction.reply
    right = is_exact(reply, truth["answers"])
    if OPTIONS in f"\n{prediction.question}":
        letter = by_vlmevalkit(reply, truth["choices"])
        right = letter == truth["answer"] if letter else right
    return {"accuracy": (float(right), 1.0)}


BENCHMARKS: dict[str, Benchmark] = {
    "textvqa": Benchmark(
        "textvqa", "TextVQA",
        "TextVQA_0.5.1_SPLIT.json from textvqa.org/dataset in the folder, with train_images (of train and val) and test_images.",
        f"facebookresearch/mmf @ b0ffc7f, mmf/utils/m4c_evaluators.py; files: {MMPRETRAIN}/textvqa.py",
        {
            "val": Split(("**/TextVQA_*_val.json",), shots="train"),
            "test": Split(("**/TextVQA_*_test.json",), answers=False, shots="train"),
            "train": Split(("**/TextVQA_*_train.json",)),
        },
        {"paper": by_script(), "chat": SHORT},
        read_textvqa, "vqa_accuracy", answer_score(vqa_accuracy=textvqa_accuracy, vqa_accuracy_script=script_accuracy),
        submit=json_list("textvqa_{split}.json", question_and_answer),
    ),
    "docvqa": Benchmark(
        "docvqa", "DocVQA",
        "Task 1 (Single Page Document VQA), rrc.cvc.uab.es/?ch=17 after registration: SPLIT_v1.0_withQT.json or SPLIT_v1.0.json, "
        "with the pages in documents (of each split) or spdocvqa_images.",
        ANLS,
        {
            "val": Split(("**/val_v1.0*.json",), shots="train"),
            "test": Split(("**/test_v1.0*.json",), answers=False, shots="train"),
            "train": Split(("**/train_v1.0*.json",)),
        },
        {"paper": by_script(100), "chat": SHORT},
        read_docvqa, "anls", answer_score(anls=anls), submit=hand_in("docvqa"),
    ),
    "infovqa": Benchmark(
        "infovqa", "InfographicVQA",
        "Task 3 (Infographics VQA) from rrc.cvc.uab.es/?ch=17 after registration: infographicsVQA_SPLIT_v1.0.json (of val _withQT) "
        "and infographicsvqa_images.",
        ANLS,
        {
            "val": Split(("**/infographic*VQA_val_v1.0*.json",), shots="train"),
            "test": Split(("**/infographic*VQA_test_v1.0*.json",), answers=False, shots="train"),
            "train": Split(("**/infographic*VQA_train_v1.0*.json",)),
        },
        {"chat": SHORT},
        read_infovqa, "anls", answer_score(anls=anls), submit=hand_in("infovqa"),
    ),
    "chartqa": Benchmark(
        "chartqa", "ChartQA",
        "The folder 'ChartQA Dataset' of github.com/vis-nlp/ChartQA: SPLIT/SPLIT_human.json, "
        "SPLIT/SPLIT_augmented.json, SPLIT/png.",
        f"{SCRIPT} (relaxed_accuracy_script) and {VLMEVALKIT}, vlmeval/dataset/utils/vqa_eval.py; "
        "files: vis-nlp/ChartQA @ 3dab8e8",
        {
            "test": Split(("**/test/test_human.json", "**/test/test_augmented.json"), shots="train"),
            "val": Split(("**/val/val_human.json", "**/val/val_augmented.json"), shots="train"),
            "train": Split(("**/train/train_human.json", "**/train/train_augmented.json")),
        },
        {"paper": by_script(100), "chat": SHORT},
        read_chartqa, "relaxed_accuracy",
        answer_score(relaxed_accuracy=relaxed_accuracy, relaxed_accuracy_script=relaxed_accuracy_by_script),
    ),
    "ocrvqa": Benchmark(
        "ocrvqa", "OCR-VQA",
        "dataset.json from ocr-vqa.github.io in the folder, and the covers, downloaded with its loader, as images/KEY.jpg.",
        f"{SCRIPT}; files: {MMPRETRAIN}/ocr_vqa.py",
        {name: Split(("dataset.json",), shots=None if name == "train" else "train") for name in ("test", "val", "train")},
        {"paper": by_script(100), "chat": SHORT},
        read_ocrvqa, "exact_match", answer_score(exact_match=is_exact),
    ),
    "ai2d": Benchmark(
        "ai2d", "AI2D",
        "ai2d-all.zip from allenai.org/data/diagrams, unpacked into the folder (questions, annotations, images), and "
        "ai2d_test_ids.csv of gs://pix2struct-data.",
        f"{SCRIPT} (paper) and {VLMEVALKIT}, vlmeval/utils/matching_util.py (chat); files: "
        "google-research/pix2struct @ 42e2427, pix2struct/preprocessing/convert_ai2d.py",
        {
            "test": Split(("questions/*.json", "annotations/*.json", "ai2d_test_ids.csv"), shots="train"),
            "train": Split(("questions/*.json", "annotations/*.json", "ai2d_test_ids.csv")),
        },
        {
            # The script's own test.jsonl, where the options must stand in the question, is nowhere to be read; this is lmms-eval's
            # wording for Qwen-VL.
            "paper": Prompt(
                "{question}{texts} Answer:", f"{SCRIPT}; {LMMS}/ai2d/ai2d.yaml and utils.py (qwen_vl)", by_script().decoding
            ),
            "chat": Prompt(
                f"Question: {{question}}{OPTIONS}{{options}}Please select the correct answer from the options above.",
                f"{VLMEVALKIT}, vlmeval/vlm/qwen2_vl/prompt.py (_build_mcq_prompt) and model.py", Decoding(2048), style="chat",
            ),
        },
        read_ai2d_split, "accuracy", score_ai2d,
    ),
}  # fmt: skip
