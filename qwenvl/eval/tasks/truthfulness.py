"""Questions with yes or no: MME, HallusionBench, POPE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qwenvl.data.adapters.files import find, picture
from qwenvl.data.sources import SourceError, json_lines, records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.lettered import WRITTEN
from qwenvl.eval.peers import QWEN_VL, VLMEVALKIT
from qwenvl.eval.scorers.yes_no import (
    COGNITION,
    PERCEPTION,
    by_mme,
    by_word,
    hallusion_pool,
    mme_pool,
    pope_pool,
    yes_no_score,
)
from qwenvl.eval.task import Decoding
from qwenvl.types import ImagePart

YES_OR_NO = Prompt(
    "{question} Please answer yes or no.", f"{VLMEVALKIT}, vlmeval/vlm/qwen2_vl/prompt.py (_build_yorn_prompt)", WRITTEN,
    style="chat",
)  # fmt: skip
PICTURES = (".jpg", ".png")


def read_mme(folder: Path, split: str) -> Iterator[Item]:
    """SUBTASK/: texts of two lines "question TAB answer" for each picture, beside the pictures, or in questions_answers_YN with the
    pictures in images/ or, of artwork, in images/toy_dataset."""
    for subtask in (*PERCEPTION, *COGNITION):
        place = folder / subtask
        for file in find(place, "questions_answers_YN/*.txt", "*.txt"):
            names = [f"{inner}{file.stem}{suffix}" for inner in ("images/", "images/toy_dataset/", "") for suffix in PICTURES]
            shown = ImagePart(picture(place, *names, id=f"mme {subtask} {file.stem}"))
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
                question, tab, answer = line.strip().partition("\t")
                if not tab or answer.lower() not in ("yes", "no"):
                    raise SourceError(f"{file}, line {number}: not a question, a tab, and Yes or No; fetch the file again")
                truth = {"subtask": subtask, "picture": file.stem, "answer": answer.lower()}
                yield Item(f"{subtask}/{file.stem}/{number}", {"question": question}, (shown,), answer, truth, group=subtask)


def read_hallusion(folder: Path, split: str) -> Iterator[Item]:
    """HallusionBench.json; a question about no picture is of no figure."""
    for row in records(find(folder, "HallusionBench.json")[0]):
        if split == "image" and not row["filename"]:
            continue
        matter = f"{row['category']}_{row['subcategory']}_{row['set_id']}"
        id = f"{matter}_{row['figure_id']}_{row['question_id']}"
        visuals: tuple[ImagePart, ...] = ()
        if name := row["filename"]:
            visuals = (ImagePart(picture(folder, name, f"hallusion_bench/{name}", id=f"hallusionbench {id}")),)
        figure = row["figure_id"] if visuals else ""
        answer = {"0": "no", "1": "yes"}[row["gt_answer"]]
        truth = {"set": matter, "figure": figure, "question": row["question_id"], "answer": answer}
        yield Item(id, {"question": row["question"]}, visuals, answer, truth, group=f"{row['category']} {row['subcategory']}")


def read_pope(folder: Path, split: str) -> Iterator[Item]:
    """coco_pope_SPLIT.json: JSON lines in spite of its name; pictures of COCO's val2014/."""
    path = find(folder, f"coco_pope_{split}.json", f"output/coco/coco_pope_{split}.json")[0]
    with path.open(encoding="utf-8") as file:
        for row in json_lines(file, path):
            id = str(row["question_id"])
            shown = ImagePart(picture(folder, f"val2014/{row['image']}", row["image"], id=f"pope {split} {id}"))
            yield Item(id, {"question": row["text"]}, (shown,), row["label"], {"answer": row["label"]})


_ALL = (
    Benchmark(
        "mme", "MME; scores are sums over subtasks of accuracy and accuracy+",
        "MME_Benchmark_release: a folder for each of the 14 subtasks, as it is unpacked.",
        "BradyFU/Awesome-Multimodal-Large-Language-Models @ dd29509, tools/eval_tool.zip; "
        f"{QWEN_VL}/mme/get_images.py",
        {"test": Split(tuple(f"{subtask}/**/*.txt" for subtask in PERCEPTION + COGNITION))},
        {
            # Behind a picture Qwen-VL's chat template writes the line break itself.
            "paper": Prompt("{question}", f"{QWEN_VL}/mme/eval.py", Decoding(512, top_p=0.01), style="chat", numbered=False),
            "chat": Prompt("{question}", f"{VLMEVALKIT}, vlmeval/dataset/image_base.py (build_prompt)", WRITTEN, style="chat"),
        },
        read_mme, "perception", score=yes_no_score(by_mme), pool=mme_pool,
    ),
    Benchmark(
        "hallusionbench", "HallusionBench",
        "HallusionBench.json of tianyi-lab/HallusionBench, hallusion_bench.zip of its README unpacked beside it (VD/, VS/).",
        f"tianyi-lab/HallusionBench @ 744007c, utils.py, HallusionBench.json; {VLMEVALKIT}, vlmeval/dataset/utils/yorn.py",
        {split: Split(("HallusionBench.json", "**/VD/**/*.png", "**/VS/**/*.png")) for split in ("image", "all")},
        {"chat": YES_OR_NO}, read_hallusion, "average", score=yes_no_score(by_word), pool=hallusion_pool,
    ),
    Benchmark(
        "pope", "POPE: objects that are not there",
        "coco_pope_random.json, coco_pope_popular.json and coco_pope_adversarial.json of AoiDragon/POPE (output/coco), and COCO's "
        "val2014/.",
        f"AoiDragon/POPE @ 08d957b, evaluate.py, output/coco; {VLMEVALKIT}, vlmeval/dataset/utils/yorn.py",
        {split: Split((f"**/coco_pope_{split}.json", "val2014/*")) for split in ("random", "popular", "adversarial")},
        {"chat": YES_OR_NO}, read_pope, "f1", score=yes_no_score(by_word), pool=pope_pool,
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
