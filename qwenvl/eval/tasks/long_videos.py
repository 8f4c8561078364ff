"""Multiple choice about videos of up to hours; a part of videos.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qwenvl.data.adapters.files import clip, find
from qwenvl.data.sources import records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.lettered import SHORT, WRITTEN, check_answer, letter_of, lettered, listed, video_at
from qwenvl.eval.peers import LMMS, VLMEVALKIT
from qwenvl.eval.scorers.choices import LETTERS, by_bracket, by_first_letter, by_first_word, choice_score, chosen
from qwenvl.eval.scorers.groups import mean_over_groups
from qwenvl.eval.task import Decoding, Pooled, Prediction
from qwenvl.families.spec import Markup

LVBENCH = "THUDM/LVBench @ f998d95"
MLVU = "JUNJIE99/MLVU @ fd060c1"


def read_lvbench(folder: Path, split: str) -> Iterator[Item]:
    """video_info.meta.jsonl: a video a line, with its questions, whose words end in their options: "(A) …"."""
    for row in records(find(folder, "video_info.meta.jsonl")[0]):
        video = clip(folder, row["key"], id=f"lvbench {row['key']}")
        for asked in row["qa"]:
            id, choices = str(asked["uid"]), dict.fromkeys("ABCD", "")
            truth = {"choices": choices, "answer": check_answer(asked["answer"], choices, f"lvbench {id}")}
            kinds = ", ".join(asked["question_type"])
            yield Item(id, {"question": asked["question"]}, (video,), asked["answer"], truth, group=kinds)


MLVU_TASKS = {
    "plotQA": "1_plotQA", "needle": "2_needle", "ego": "3_ego", "count": "4_count", "order": "5_order",
    "anomaly_reco": "6_anomaly_reco", "topic_reasoning": "7_topic_reasoning",
}  # fmt: skip
"""Those of multiple choice. The other two, 8_sub_scene and 9_summary, are written, and a judge reads them."""


def read_mlvu(folder: Path, split: str) -> Iterator[Item]:
    """json/NUMBER_TASK.json; videos in video/NUMBER_TASK/."""
    for task, name in MLVU_TASKS.items():
        for number, row in enumerate(records(find(folder, f"json/{name}.json", f"data/{name}.json")[0])):
            choices, id = lettered(row["candidates"]), f"{task}/{number}"
            letter = letter_of(row["answer"], choices, f"mlvu {id}")
            fields = {"question": row["question"], "options": listed(choices, "({}) {}")}
            video = video_at(folder / "video" / name / row["video"], f"mlvu {id}")
            yield Item(id, fields, (video,), letter, {"choices": choices, "answer": letter}, group=task)


def mlvu_pool(predictions: Sequence[Prediction], markup: Markup) -> Mapping[str, Pooled]:
    """`m_avg`: the mean of the accuracies of its tasks."""
    return {"m_avg": mean_over_groups(predictions, lambda one: chosen(one, by_first_word) == one.truth["answer"])}


LONGVIDEOBENCH = {"val": "lvb_val.json", "test": "lvb_test_wo_gt.json"}


def read_longvideobench(folder: Path, split: str) -> Iterator[Item]:
    """Without subtitles."""
    for row in records(find(folder, LONGVIDEOBENCH[split])[0]):
        id, choices = row["id"], lettered(row["candidates"])
        known = {"answer": LETTERS[int(row["correct_choice"])]} if split == "val" else {}
        fields = {"question": row["question"], "options": listed(choices)}
        video = video_at(folder / "videos" / row["video_path"], f"longvideobench {id}")
        yield Item(id, fields, (video,), known.get("answer", ""), {"choices": choices, **known}, group=str(row["duration_group"]))


def hand_in_longvideobench(predictions: Sequence[Prediction]) -> dict[str, bytes]:
    """{question: reply}."""
    replies = {prediction.id.partition("/")[2]: prediction.reply for prediction in predictions}
    return {"longvideobench_test_for_submission.json": json.dumps(replies, ensure_ascii=False).encode()}


_ALL = (
    Benchmark(
        "lvbench", "LVBench",
        "video_info.meta.jsonl of https://huggingface.co/datasets/THUDM/LVBench; the videos, by their YouTube id, beside it or in "
        "a folder there.",
        f"{LVBENCH}, lvbench/metrics/compute_accuracy.py, lvbench/utils/answer_util.py",
        {"test": Split(("video_info.meta.jsonl", "**/*.mp4"))},
        {"chat": Prompt(
            "{question}\nAnswer the question with the option letter", f"{LMMS}/lvbench/utils.py, lvbench.yaml", SHORT, style="chat",
        )},
        read_lvbench, "accuracy", score=choice_score(by_bracket),
    ),
    Benchmark(
        "mlvu", "MLVU, multiple choice of the dev set",
        "MLVU/ of https://huggingface.co/datasets/MLVU/MVLU: json/ and video/ with a folder for each task.",
        f"{MLVU}, data/, evaluation/multiple_choice_evaluation/choice_bench.py; {VLMEVALKIT}, vlmeval/dataset/mlvu.py",
        {"dev": Split((*(f"*/{name}.json" for name in MLVU_TASKS.values()), "video/*/*"))},
        {"chat": Prompt(
            "Question: {question}\nOptions:\n{options}\nOnly give the best option.",
            f"{MLVU}, evaluation_test/test_bench.py; {VLMEVALKIT}, vlmeval/dataset/mlvu.py", WRITTEN, style="chat",
            system="Carefully watch this video and pay attention to every detail. Based on your observations, select the best "
            "option that accurately addresses the question.",
        )},
        read_mlvu, "m_avg", score=choice_score(by_first_word), pool=mlvu_pool,
    ),
    Benchmark(
        "longvideobench", "LongVideoBench, without subtitles",
        "https://huggingface.co/datasets/longvideobench/LongVideoBench: lvb_val.json, lvb_test_wo_gt.json; videos.tar unpacked "
        "(videos/).",
        f"longvideobench/LongVideoBench @ fc3c553, longvideobench/longvideobench_dataset.py; {LMMS}/longvideobench/utils.py",
        {split: Split((file, "videos/*"), answers=split == "val") for split, file in LONGVIDEOBENCH.items()},
        {"chat": Prompt(
            "{question}\n{options}\nAnswer with the option's letter from the given choices directly.\n",
            f"{LMMS}/longvideobench/utils.py, longvideobench_val_v.yaml", Decoding(32), style="chat",
        )},
        read_longvideobench, "accuracy", score=choice_score(by_first_letter), submit=hand_in_longvideobench,
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
