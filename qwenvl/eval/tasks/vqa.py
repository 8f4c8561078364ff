"""Questions about photographs with short answers: VQAv2, OK-VQA, VizWiz, GQA (arXiv 2308.12966, Table 5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwenvl.data.adapters.files import find, joined, picture, rows, whole
from qwenvl.data.adapters.vqa import most_confident
from qwenvl.data.sources import records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.peers import LMMS, QWEN_VL, VLMEVALKIT
from qwenvl.eval.schema import of_schema
from qwenvl.eval.scorers.vqa import answer_score, gqa_answer, is_exact, official_accuracy, script_accuracy, vizwiz_accuracy
from qwenvl.eval.submission import json_list
from qwenvl.eval.task import Decoding, Prediction
from qwenvl.types import ImagePart

SCRIPT = f"{QWEN_VL}/evaluate_vqa.py"


def by_script(most: int = 10) -> Prompt:
    """Of Qwen-VL's evaluation, the same for all of these. `most`: new tokens."""
    return Prompt("{question} Answer:", SCRIPT, Decoding(max_new_tokens=most, min_new_tokens=1))


SHORT = Prompt(
    "{question}\nPlease try to answer the question with short words or phrases if possible.",
    f"{VLMEVALKIT}, vlmeval/vlm/qwen2_vl/prompt.py (_build_vqa_prompt) and model.py",
    Decoding(max_new_tokens=2048),  # drawn there with top_k 1
    style="chat",
)
"""Of Qwen2-VL's own code in VLMEvalKit."""
ONE_WORD = Prompt(
    "{question}\nAnswer the question using a single word or phrase.",
    f"{LMMS}/vqav2/_default_template_vqav2_yaml",
    Decoding(max_new_tokens=16),
    style="chat",
)
OR_UNANSWERABLE = (
    "\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
    "Answer the question using a single word or phrase."
)
UNTIL = Decoding(max_new_tokens=128, stop=("ASSISTANT:",))
"""lmms-eval's for tasks that give no limit: that of lmms_eval/models/simple/qwen2_vl.py."""


def question_and_answer(prediction: Prediction) -> dict[str, Any]:
    """Of a submission, as visualqa.org/evaluation.html has it."""
    return {"question_id": prediction.truth["question_id"], "answer": prediction.reply.strip()}


# Where COCO's pictures may lie from a dataset's folder: in it, or beside it as in Qwen-VL's evaluation.
COCO = ("{0}/{1}", "images/{0}/{1}", "../coco/{0}/{1}")
VQA = "GT-Vision-Lab/VQA @ a013f00, PythonHelperTools/vqaTools/vqa.py"


def coco_picture(folder: Path, split: str, image: int, id: str) -> ImagePart:
    """COCO's picture of a number: COCO_val2014_000000000042.jpg. Raises BadSample."""
    split = "test2015" if split.startswith("test") else split
    name = f"COCO_{split}_{image:012d}.jpg"
    return ImagePart(picture(folder, *(place.format(split, name) for place in COCO), id=id))


def _vqa(questions: Path, answers: Path | None, folder: Path) -> Iterator[Item]:
    """Questions in the form of the VQA evaluation, with the answers of ten people where there are some."""
    annotations = rows(answers, "annotations") if answers else []
    split = questions.stem.removeprefix("v2_").removeprefix("OpenEnded_mscoco_").removesuffix("_questions")
    pairs = joined(rows(questions, "questions"), annotations, "question_id", ("question", "annotation"))
    for number, record in enumerate(pairs, start=1):
        with of_schema(f"{questions}, question {number}"):
            question = record["question"]
            id = str(question["question_id"])
            given = record["annotation"]["answers"] if answers else []
            yield Item(
                id,
                {"question": question["question"]},
                (coco_picture(folder, split, question["image_id"], id),),
                most_confident(given) if given else "",
                {"question_id": question["question_id"]} | ({"answers": [one["answer"] for one in given]} if given else {}),
                group=record["annotation"]["answer_type"] if answers else "",
            )


VQAV2_SPLITS = {"val": "val2014", "testdev": "test-dev2015", "test": "test2015", "train": "train2014"}


def read_vqav2(folder: Path, split: str) -> Iterator[Item]:
    name = VQAV2_SPLITS[split]
    answered = not split.startswith("test")
    [questions, *_] = find(folder, f"v2_OpenEnded_mscoco_{name}_questions.json", f"*/v2_OpenEnded_mscoco_{name}_questions.json")
    pattern = f"v2_mscoco_{name}_annotations.json"
    return _vqa(questions, find(folder, pattern, f"*/{pattern}")[0] if answered else None, folder)


def read_okvqa(folder: Path, split: str) -> Iterator[Item]:
    [questions], [answers] = (find(folder, form.format(split)) for form in OKVQA_FILES)
    return _vqa(questions, answers, folder)


OKVQA_FILES = ("OpenEnded_mscoco_{}2014_questions.json", "mscoco_{}2014_annotations.json")


def read_vizwiz(folder: Path, split: str) -> Iterator[Item]:
    """test.json has neither answers nor their type."""
    [file] = find(folder, f"{split}.json", f"Annotations/{split}.json")
    for number, row in enumerate(records(file), start=1):
        with of_schema(f"{file}, question {number}"):
            name = row["image"]
            given = row["answers"] if split != "test" else []
            answers = [one["answer"] for one in given]
            yield Item(
                name,
                {"question": row["question"], "capitalized": row["question"].capitalize()},
                (ImagePart(picture(folder, f"{split}/{name}", f"images/{split}/{name}", f"images/{name}", id=name)),),
                most_confident(given) if given else "",
                {"image": name} | ({"answers": answers} if answers else {}),
                group=row.get("answer_type", ""),
            )


def read_gqa(folder: Path, split: str) -> Iterator[Item]:
    name = f"{split}_balanced_questions.json"
    [file] = find(folder, name, f"questions/{name}")
    for id, row in whole(file).items():
        with of_schema(f"{file}, question {id}"):
            image = f"{row['imageId']}.jpg"
            path = picture(folder, f"images/{image}", f"images/images/{image}", image, id=id)
            yield Item(id, {"question": row["question"]}, (ImagePart(path),), row["answer"], {"answers": [row["answer"]]})


BENCHMARKS: dict[str, Benchmark] = {
    "vqav2": Benchmark(
        "vqav2", "VQAv2",
        "Questions and annotations of VQA v2.0 from visualqa.org/download.html, unpacked into the folder; COCO's train2014, "
        "val2014 and test2015 pictures in folders of these names, there or in a folder coco beside it.",
        f"GT-Vision-Lab/VQA @ a013f00, PythonEvaluationTools/vqaEvaluation/vqaEval.py; files: {VQA}",
        {
            "val": Split(("**/v2_OpenEnded_mscoco_val2014_questions.json", "**/v2_mscoco_val2014_annotations.json"), shots="train"),
            "testdev": Split(("**/v2_OpenEnded_mscoco_test-dev2015_questions.json",), answers=False, shots="train"),
            "test": Split(("**/v2_OpenEnded_mscoco_test2015_questions.json",), answers=False, shots="train"),
            "train": Split(("**/v2_OpenEnded_mscoco_train2014_questions.json", "**/v2_mscoco_train2014_annotations.json")),
        },
        {"paper": by_script(), "chat": ONE_WORD},
        read_vqav2, "vqa_accuracy", answer_score(vqa_accuracy=official_accuracy, vqa_accuracy_script=script_accuracy),
        submit=json_list("vqav2_{split}.json", question_and_answer),
    ),
    "okvqa": Benchmark(
        "okvqa", "OK-VQA",
        "Questions and annotations of OK-VQA v1.1 from okvqa.allenai.org/download.html, unpacked into the folder; COCO's train2014 "
        "and val2014 pictures in folders of these names, there or in a folder coco beside it.",
        f"GT-Vision-Lab/VQA @ a013f00, PythonEvaluationTools/vqaEvaluation/vqaEval.py; files: {VQA} and {SCRIPT}",
        {
            "val": Split(tuple(name.format("val") for name in OKVQA_FILES), shots="train"),
            "train": Split(tuple(name.format("train") for name in OKVQA_FILES)),
        },
        {
            "paper": by_script(),
            "chat": Prompt(f"{{question}}{OR_UNANSWERABLE}", f"{LMMS}/ok_vqa/_default_template_vqa_yaml", UNTIL, style="chat"),
        },
        read_okvqa, "vqa_accuracy", answer_score(vqa_accuracy=official_accuracy, vqa_accuracy_script=script_accuracy),
    ),
    "vizwiz": Benchmark(
        "vizwiz", "VizWiz",
        "Annotations.zip of VizWiz-VQA from vizwiz.org/tasks-and-datasets/vqa, unpacked into the folder (train.json, val.json, "
        "test.json); the pictures in folders train, val and test there.",
        "the VizWiz API as kept in AttentionX/InstructBLIP_PEFT @ 97ae217, lavis/common/vqa_tools/vqa_eval_vizwiz.py",
        {
            "val": Split(("**/val.json",), shots="train"),
            "test": Split(("**/test.json",), answers=False, shots="train"),
            "train": Split(("**/train.json",)),
        },
        {
            "paper": by_script(),
            "chat": Prompt(
                f"{{capitalized}}{OR_UNANSWERABLE}", f"{LMMS}/vizwiz_vqa/_default_template_vqa_yaml, utils.py", UNTIL, style="chat"
            ),
        },
        read_vizwiz, "vqa_accuracy", answer_score(vqa_accuracy=vizwiz_accuracy, vqa_accuracy_script=script_accuracy),
        submit=json_list("vizwiz_{split}.json", lambda one: {"image": one.truth["image"], "answer": one.reply.strip()}),
    ),
    "gqa": Benchmark(
        "gqa", "GQA",
        "Questions (questions1.2.zip) and images.zip of GQA from cs.stanford.edu/people/dorarad/gqa/download.html, unpacked into "
        "the folder: testdev_balanced_questions.json and images/N.jpg.",
        f"{SCRIPT} (clean-up and exact match); files: facebookresearch/mmf @ b0ffc7f, tools/scripts/gqa/convert_gqa_to_vqa.py",
        {
            "testdev": Split(("**/testdev_balanced_questions.json",), shots="train"),
            "train": Split(("**/train_balanced_questions.json",)),
        },
        {"paper": by_script(), "chat": SHORT},
        read_gqa, "cleaned_exact_match",
        answer_score(cleaned_exact_match=lambda reply, answers: is_exact(gqa_answer(reply), answers), exact_match=is_exact),
    ),
}  # fmt: skip
