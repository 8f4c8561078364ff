"""Multiple choice about pictures. `paper` ranks the letters by likelihood, as Qwen-VL's script does; `chat` reads them out of a
reply, by VLMEvalKit's rule where nothing else is said, which the tables of arXiv 2409.12191 were made with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenvl.data.adapters.files import find, picture, rows, whole
from qwenvl.data.sources import records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.lettered import (
    ASK,
    CHOICE,
    RANKED,
    SHORT,
    WRITTEN,
    check_answer,
    choice_fields,
    hub_picture,
    lettered,
    listed,
    row_choices,
    to_rank,
    tsv_rows,
)
from qwenvl.eval.peers import LMMS, QWEN_VL, VLMEVALKIT
from qwenvl.eval.scorers.choices import LETTERS, by_lmms, by_mmmu_pro, by_vlmevalkit, choice_score
from qwenvl.eval.scorers.circular import agreed_letters, circular_pool
from qwenvl.eval.scorers.mmmu import as_list, mmmu_score
from qwenvl.eval.shelf import Shelf
from qwenvl.eval.spreadsheet import workbook
from qwenvl.eval.task import Decoding, Prediction, Tally
from qwenvl.families.spec import Markup
from qwenvl.types import ImagePart

MMMU = "MMMU-Benchmark/MMMU @ bb0b95a"
BY_LIKELIHOOD = Prompt(
    "<image>Context: {context}\nQuestion: {question}\nOptions: {options}\nAnswer:", f"{QWEN_VL}/evaluate_multiple_choice.py", RANKED
)


def read_scienceqa(folder: Path, split: str) -> Iterator[Item]:
    """problems.json, in the order of pid_splits.json; only those with a picture."""
    problems, order = whole(find(folder, "problems.json")[0]), whole(find(folder, "pid_splits.json")[0])[split]
    for pid in order:
        problem = problems[pid]
        if problem["image"]:
            choices, hint = lettered(problem["choices"]), problem["hint"]
            fields = choice_fields(problem["question"], choices, hint) | {"context": hint or "N/A"}
            shown = ImagePart(picture(folder, f"images/{split}/{pid}/{problem['image']}", id=f"scienceqa {pid}"))
            letter = LETTERS[problem["answer"]]
            yield _item(pid, fields, (shown,), letter, choices, problem["subject"])


def read_seed_bench(folder: Path, split: str) -> Iterator[Item]:
    """SEED-Bench.json. Of videos the four frames that Qwen-VL's script cuts, as so many pictures."""
    for row in rows(find(folder, "SEED-Bench.json")[0], "questions"):
        id, dimension = str(row["question_id"]), int(row["question_type_id"])
        if split == "all" or split == ("image" if dimension <= IMAGE_DIMENSIONS else "video"):
            if dimension <= IMAGE_DIMENSIONS:
                names = [f"SEED-Bench-image/{row['data_id']}"]
            else:
                names = [f"video_imgs_{SEED_FRAMES}/{id}_{number}.jpg" for number in range(SEED_FRAMES)]
            shown = tuple(ImagePart(picture(folder, name, id=f"seed_bench {id}")) for name in names)
            choices = {letter: row[f"choice_{letter.lower()}"] for letter in "ABCD"}
            fields = choice_fields(row["question"], choices) | {"pictures": "<image>\n" * len(shown)}
            yield _item(id, fields, shown, row["answer"], choices, f"dimension {dimension}")


IMAGE_DIMENSIONS = 9
SEED_FRAMES = 4
"""Of EVAL_SEED.md, and of its file video_input_4.jsonl; trans.py beside it says 8."""


def _item(
    id: str, fields: Mapping[str, str], visuals: tuple[ImagePart, ...], letter: str, choices: dict[str, str], group: str,
    **truth: Any,
) -> Item:  # fmt: skip
    """letter: empty where it is withheld."""
    known = {"answer": check_answer(letter, choices, id)} if letter else {}
    answer = f" {letter}" if letter else ""
    return Item(id, fields, visuals, answer, {"choices": choices, **known, **truth}, to_rank(choices), group=group)


MMBENCH_FILES = {
    "mmbench": {
        "dev": "MMBench_DEV_EN.tsv", "test": "MMBench_TEST_EN.tsv",
        "dev_cn": "MMBench_DEV_CN.tsv", "test_cn": "MMBench_TEST_CN.tsv",
        "dev_20230712": "mmbench_dev_20230712.tsv", "test_20230712": "mmbench_test_20230712.tsv",
    },
    "mmbench_v11": {
        "dev": "MMBench_DEV_EN_V11.tsv", "test": "MMBench_TEST_EN_V11.tsv",
        "dev_cn": "MMBench_DEV_CN_V11.tsv", "test_cn": "MMBench_TEST_CN_V11.tsv",
    },
}  # fmt: skip


def mmbench(name: str, title: str) -> Benchmark:
    files = MMBENCH_FILES[name]

    def read(folder: Path, split: str) -> Iterator[Item]:
        for row, shown in tsv_rows(folder / files[split]):
            choices, hint = row_choices(row), row.get("hint", "")
            fields = choice_fields(row["question"], choices, hint) | {"context": hint or "N/A"}
            group, withheld = row.get("l2-category") or row.get("category", ""), split.startswith("test")
            more = {"row": row} if withheld else {}
            letter = "" if withheld else row["answer"]
            yield _item(row["index"], fields, (shown,), letter, choices, group, index=int(row["index"]), **more)

    return Benchmark(
        name, title,
        f"{', '.join(files.values())} of https://opencompass.openxlab.space/utils/benchmarks/MMBench/ (those with a date: of "
        "MMBench's own page), as they are, in the folder; rotations of a question are rows of their own.",
        f"{QWEN_VL}/mmbench/; {VLMEVALKIT}, vlmeval/dataset/image_mcq.py, utils/multiple_choice.py",
        {split: Split((file,), answers=not split.startswith("test")) for split, file in files.items()},
        {"paper": BY_LIKELIHOOD, "chat": CHOICE},
        read, "circular", score=choice_score(by_vlmevalkit),
        pool=lambda predictions, markup: circular_pool(predictions, by_vlmevalkit), submit=hand_in_mmbench,
    )  # fmt: skip


def hand_in_mmbench(predictions: Sequence[Prediction]) -> dict[str, bytes]:
    """The rows without their pictures, with a `prediction`: the reply, which the server reads (scripts/mmb_eval_gradio.py of
    VLMEvalKit); where options were ranked the same one in all rotations, as mmbench_predict_to_submission.py of Qwen-VL has it."""
    letters = agreed_letters([prediction for prediction in predictions if prediction.ranked])
    table = []
    for prediction in sorted(predictions, key=lambda prediction: int(prediction.truth["index"])):
        index = int(prediction.truth["index"])
        said = letters[index] if prediction.ranked else prediction.reply.strip()
        table.append({**prediction.truth["row"], "index": index, "prediction": said})
    return {"mmbench.xlsx": workbook(table)}


MMMU_PICTURES = 7


def mmmu_pictures(row: Mapping[str, Any], shelf: Shelf) -> tuple[ImagePart, ...]:
    stored = [row.get(f"image_{number}") for number in range(1, MMMU_PICTURES + 1)]
    return tuple(hub_picture(one, row["id"], shelf) for one in stored if one is not None)


def read_mmmu(folder: Path, split: str) -> Iterator[Item]:
    """SUBJECT/validation-*.parquet. Pictures come first; <image 1> in the words says which is meant."""
    shelf = Shelf()
    for file in find(folder, "*/validation-*.parquet"):
        for row in records(file):
            options = ast.literal_eval(row["options"])
            choices = lettered(options) if row["question_type"] == "multiple-choice" else {}
            shown = f"\nOptions:\n{listed(choices)}\n{ASK}" if choices else ""
            truth = {"answer": row["answer"]} if choices else {"answers": as_list(row["answer"])}
            answer = row["answer"] if choices else as_list(row["answer"])[0]
            fields = {"question": row["question"], "choices": shown}
            yield Item(row["id"], fields, mmmu_pictures(row, shelf), answer, {"choices": choices, **truth}, group=file.parent.name)


DIRECT = "Answer with the option letter from the given choices directly."


def read_mmmu_pro(folder: Path, split: str) -> Iterator[Item]:
    """Ten options, with pictures where the words speak of them; or a screenshot that shows the question too."""
    shelf = Shelf()
    for file in find(folder, f"{MMMU_PRO[split]}/test-*.parquet"):
        for row in records(file):
            choices = lettered(ast.literal_eval(row["options"]))
            shown: tuple[ImagePart, ...]
            if split == "vision":
                fields, shown = {"words": VISION}, (hub_picture(row["image"], row["id"], shelf),)
            else:
                words = f"{row['question']}\n{listed(choices)}\n{DIRECT}"
                # Pictures stand behind the words, in the order in which these speak of them.
                told = re.findall(r"<image\s+(\d+)>", words)
                shown = tuple(hub_picture(row[f"image_{number}"], row["id"], shelf) for number in told)
                fields = {"words": re.sub(r"<image\s+\d+>", "[image]", words) + "<image>" * len(shown)}
            yield Item(row["id"], fields, shown, row["answer"], {"choices": choices, "answer": row["answer"]}, group=row["subject"])


MMMU_PRO = {"standard": "standard (10 options)", "vision": "vision"}
VISION = (
    "Answer with the option letter from the given choices directly. The last line of your response should be of the following "
    "format: 'Answer: $LETTER' (without quotes) where LETTER is one of options.<image>"
)


def read_mmstar(folder: Path, split: str) -> Iterator[Item]:
    for row, shown in tsv_rows(folder / "MMStar.tsv"):
        choices = row_choices(row)
        truth = {"choices": choices, "answer": check_answer(row["answer"], choices, f"mmstar {row['index']}")}
        fields = choice_fields(row["question"], choices)
        yield Item(row["index"], fields, (shown,), row["answer"], truth, group=row.get("category", ""))


def read_realworldqa(folder: Path, split: str) -> Iterator[Item]:
    """Its questions list their options and say how to answer; some have none."""
    shelf = Shelf()
    for number, row in enumerate(row for file in find(folder, "data/test-*.parquet") for row in records(file)):
        answer = row["answer"].strip()
        choices = dict.fromkeys("ABCD", "") if answer.upper() in tuple("ABCD") else {}
        truth = {"choices": choices, "answer": answer.upper() if choices else answer}
        fields = {"question": row["question"].strip()}
        shown = hub_picture(row["image"], f"realworldqa {number}", shelf)
        yield Item(str(number), fields, (shown,), truth["answer"], truth)


def realworldqa_score(prediction: Prediction, markup: Markup) -> Mapping[str, Tally]:
    """The letter; of a question without options the answer itself."""
    if prediction.truth["choices"]:
        return choice_score(by_lmms)(prediction, markup)
    said = prediction.reply.lower().strip().rstrip(".")
    return {"accuracy": (float(said == prediction.truth["answer"].lower()), 1.0)}


_ALL = (
    Benchmark(
        "scienceqa_img", "ScienceQA, with pictures",
        "problems.json and pid_splits.json of lupantech/ScienceQA (data/scienceqa), the pictures of tools/download.sh there in "
        "images/test/ and images/val/.",
        f"{QWEN_VL}/evaluate_multiple_choice.py; lupantech/ScienceQA @ 2cbf831, models/base_prompt.py, tools/generate_caption.py",
        {split: Split(("problems.json", "pid_splits.json", f"images/{split}/*/image.png")) for split in ("test", "val")},
        {"paper": BY_LIKELIHOOD, "chat": CHOICE}, read_scienceqa, "accuracy", score=choice_score(by_vlmevalkit),
    ),
    Benchmark(
        "seed_bench", "SEED-Bench, pictures and videos",
        "SEED-Bench.json and SEED-Bench-image/ of https://huggingface.co/datasets/AILab-CVC/SEED-Bench; four frames of each video "
        "as video_imgs_4/QUESTION_NUMBER.jpg, as eval_mm/seed_bench/trans.py of QwenLM/Qwen-VL cuts them with n_frames = 4.",
        f"{QWEN_VL}/seed_bench/trans.py, eval.py and EVAL_SEED.md; AILab-CVC/SEED-Bench @ 991e849, DATASET.md",
        {
            "all": Split(("SEED-Bench.json", "SEED-Bench-image/*", "video_imgs_4/*.jpg")),
            "image": Split(("SEED-Bench.json", "SEED-Bench-image/*")), "video": Split(("SEED-Bench.json", "video_imgs_4/*.jpg")),
        },
        {
            "paper": Prompt(
                "{pictures}Question: {question}\nOptions: {options}\nAnswer:", f"{QWEN_VL}/seed_bench/trans.py, eval.py", RANKED
            ),
            "chat": CHOICE,
        },
        read_seed_bench, "accuracy", score=choice_score(by_vlmevalkit),
    ),
    mmbench("mmbench", "MMBench"),
    mmbench("mmbench_v11", "MMBench 1.1"),
    Benchmark(
        "mmmu_val", "MMMU, validation",
        "SUBJECT/validation-00000-of-00001.parquet of https://huggingface.co/datasets/MMMU/MMMU, in folders by subject as there.",
        f"{MMMU}, mmmu/utils/eval_utils.py; {LMMS}/mmmu/utils.py",
        {"validation": Split(("*/validation-*.parquet",))},
        {"chat": Prompt(
            "Question: {question}{choices}",
            f"{VLMEVALKIT}, vlmeval/vlm/qwen2_vl/prompt.py (_build_mmmu_prompt)", WRITTEN, style="chat",
        )},
        read_mmmu, "accuracy", score=mmmu_score,
    ),
    Benchmark(
        "mmmu_pro", "MMMU-Pro: ten options, and screenshots; the published score is the mean of both",
        "The folders `standard (10 options)` and `vision` of https://huggingface.co/datasets/MMMU/MMMU_Pro, with their files.",
        f"{MMMU}, mmmu-pro/evaluate.py; {LMMS}/mmmu_pro/utils.py",
        {split: Split((f"{place}/test-*.parquet",)) for split, place in MMMU_PRO.items()},
        {"chat": Prompt(
            "{words}",
            f"{MMMU}, mmmu-pro/prompts.yaml (direct), infer/infer_transformers.py; {LMMS}/mmmu_pro/_default_template_yaml",
            Decoding(256), style="chat",
        )},
        read_mmmu_pro, "accuracy", score=choice_score(by_mmmu_pro),
    ),
    Benchmark(
        "mmstar", "MMStar",
        "MMStar.tsv of https://opencompass.openxlab.space/utils/VLMEval/, in the folder.",
        f"{VLMEVALKIT}, vlmeval/dataset/image_mcq.py; {LMMS}/mmstar/utils.py",
        {"test": Split(("MMStar.tsv",))}, {"chat": CHOICE}, read_mmstar, "accuracy", score=choice_score(by_vlmevalkit),
    ),
    Benchmark(
        "realworldqa", "RealWorldQA",
        "data/test-*.parquet of https://huggingface.co/datasets/xai-org/RealworldQA, in data/.",
        f"{LMMS}/realworldqa/utils.py",
        {"test": Split(("data/test-*.parquet",))},
        {"chat": Prompt("{question}", f"{LMMS}/realworldqa/utils.py, realworldqa.yaml", SHORT, style="chat")},
        read_realworldqa, "accuracy", score=realworldqa_score,
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
