"""Multiple choice about videos. Each is asked in its own words, or in those of lmms-eval or VLMEvalKit where it has none for chat;
frames are drawn as the model's family draws them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from qwenvl.data.adapters.files import clip, find, whole
from qwenvl.data.sources import records
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Split
from qwenvl.eval.lettered import SHORT, WRITTEN, check_answer, letter_of, lettered, listed, video_at
from qwenvl.eval.peers import LMMS, VLMEVALKIT
from qwenvl.eval.scorers.choices import LETTERS, by_first_letter, by_first_word, by_vlmevalkit, choice_score, chosen
from qwenvl.eval.scorers.tempcompass import RULES, tempcompass_score
from qwenvl.eval.subtitles import frame_moments, read_srt, shown_with
from qwenvl.eval.task import Decoding, Prediction
from qwenvl.eval.tasks.long_videos import BENCHMARKS as LONG

DIRECTLY = "Answer with the option's letter from the given choices directly."

FRAMES_A_SECOND, MOST_FRAMES = 2.0, 768
"""By which subtitles are chosen: those of Qwen2.5-VL (arXiv 2502.13923, section 3.3.4), whatever the model itself draws."""


def read_videomme(folder: Path, split: str) -> Iterator[Item]:
    """videomme/test-*.parquet; videos and subtitles by YouTube's id. A video without a file of subtitles has none."""
    for file in find(folder, "videomme/test-*.parquet", "test-*.parquet"):
        for row in records(file):
            id, name = row["question_id"], row["videoID"]
            video = clip(folder, name, id=f"videomme {id}")
            srt = folder / "subtitle" / f"{name}.srt"
            words = ""
            if split == "subs" and srt.is_file():
                moments = frame_moments(Path(video.video), FRAMES_A_SECOND, MOST_FRAMES)
                words = "This video's subtitles are listed below:\n" + "\n".join(shown_with(read_srt(srt), moments)) + "\n"
            choices = {option[0]: option[2:].strip() for option in row["options"]}
            truth = {"choices": choices, "answer": check_answer(row["answer"], choices, f"videomme {id}")}
            fields = {"subtitles": words, "question": row["question"], "options": "\n".join(row["options"])}
            yield Item(id, fields, (video,), row["answer"], truth, group=row["duration"])


def read_mvbench(folder: Path, split: str) -> Iterator[Item]:
    """test.json: where the videos of each task lie, cut to what is asked about, and its questions."""
    content = whole(find(folder, "test.json")[0])
    for task, asked in content["meta"].items():
        for number, row in enumerate(asked):
            id = f"{task}/{number}"
            choices = lettered(row["candidates"])
            letter = letter_of(row["answer"], choices, f"mvbench {id}")
            fields = {"question": row["question"], "options": listed(choices, "({}) {}")}
            video = video_at(folder / content["root"][task] / row["video"], f"mvbench {id}")
            yield Item(id, fields, (video,), letter, {"choices": choices, "answer": letter}, group=task)


def read_egoschema(folder: Path, split: str) -> Iterator[Item]:
    """questions.json; the answers to 500 of them in subset_answers.json."""
    answers = whole(find(folder, "subset_answers.json")[0]) if split == "subset" else {}
    for row in records(find(folder, "questions.json")[0]):
        id = row["q_uid"]
        if split == "test" or id in answers:
            choices = lettered([row[f"option {number}"] for number in range(5)])
            known = {"answer": LETTERS[int(answers[id])]} if id in answers else {}
            fields = {"question": row["question"], "options": listed(choices)}
            video, answer = clip(folder, id, id=f"egoschema {id}"), known.get("answer", "")
            yield Item(id, fields, (video,), answer, {"choices": choices, **known})


def hand_in_egoschema(predictions: Sequence[Prediction]) -> dict[str, bytes]:
    """{question: number of the option}; without those whose reply chooses none."""
    letters = {prediction.id.rpartition("/")[2]: chosen(prediction, by_vlmevalkit) for prediction in predictions}
    numbers = {id: LETTERS.index(letter) for id, letter in letters.items() if letter in tuple("ABCDE")}
    return {"egoschema.json": json.dumps(numbers).encode()}


def read_perception_test(folder: Path, split: str) -> Iterator[Item]:
    """mc_question_SPLIT.json: video -> its questions of three options."""
    for name, about in whole(find(folder, f"mc_question_{split}.json", f"*/mc_question_{split}.json")[0]).items():
        video = clip(folder, name, id=f"perception_test {name}")
        for row in about["mc_question"]:
            choices = lettered(row["options"])
            answer = LETTERS[int(row["answer_id"])] if split != "test" else ""
            truth = {"choices": choices, "video": name, "number": row["id"]} | ({"answer": answer} if answer else {})
            fields = {"question": row["question"], "options": listed(choices)}
            yield Item(f"{name}/{row['id']}", fields, (video,), answer, truth, group=row.get("area", ""))


def hand_in_perception_test(predictions: Sequence[Prediction]) -> dict[str, bytes]:
    """{video: [{id, answer_id, answer}]}; without questions whose reply chooses nothing."""
    answers: dict[str, list[dict[str, int | str]]] = {}
    for prediction in predictions:
        truth, letter = prediction.truth, chosen(prediction, by_vlmevalkit)
        if letter is not None and letter in truth["choices"]:
            answer = {"id": truth["number"], "answer_id": LETTERS.index(letter), "answer": truth["choices"][letter]}
            answers.setdefault(truth["video"], []).append(answer)
    return {"perception_test.json": json.dumps(answers, ensure_ascii=False).encode()}


TEMPCOMPASS_ASKS = {
    "multi-choice": "\nPlease directly give the best option:", "yes_no": "\nPlease answer yes or no:",
    "caption_matching": "\nPlease directly give the best option:",
}  # fmt: skip


def read_tempcompass(folder: Path, split: str) -> Iterator[Item]:
    """questions/TASK.json: video -> aspect -> questions."""
    for task in RULES if split == "all" else (split,):
        for name, aspects in whole(find(folder, f"questions/{task}.json")[0]).items():
            video = clip(folder, name, id=f"tempcompass {name}")
            for aspect, asked in aspects.items():
                for number, row in enumerate(asked):
                    truth = {"task": task, "question": row["question"], "answer": row["answer"]}
                    fields = {"question": row["question"], "ask": TEMPCOMPASS_ASKS[task]}
                    yield Item(f"{task}/{name}/{aspect}/{number}", fields, (video,), row["answer"], truth, group=aspect)


CAREFULLY = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of objects, and the "
    "action and pose of persons. Based on your observations, select the best option that accurately addresses the question.\n"
)

_ALL = (
    Benchmark(
        "videomme", "Video-MME",
        "https://huggingface.co/datasets/lmms-lab/Video-MME: videomme/test-*.parquet; videos_chunked_*.zip unpacked into video/, "
        "subtitle.zip into subtitle/.",
        f"BradyFU/Video-MME @ 8889f31, README.md; {VLMEVALKIT}, vlmeval/dataset/videomme.py, utils/videomme.py",
        {
            "no_subs": Split(("**/test-*.parquet", "**/*.mp4")),
            "subs": Split(("**/test-*.parquet", "**/*.mp4", "subtitle/*.srt")),
        },
        {"chat": Prompt(
            "{subtitles}Select the best answer to the following multiple-choice question based on the video. Respond with only the "
            "letter (A, B, C, or D) of the correct option.\n{question}\n{options}\nThe best answer is:",
            "BradyFU/Video-MME @ 8889f31, README.md", SHORT, style="chat",
        )},
        read_videomme, "accuracy", score=choice_score(by_first_letter),
    ),
    Benchmark(
        "mvbench", "MVBench",
        "The branch `video` of https://huggingface.co/datasets/OpenGVLab/MVBench: test.json, and the videos in the folders that it "
        "names.",
        f"OpenGVLab/Ask-Anything @ 4dd8210, video_chat2/mvbench.ipynb; {VLMEVALKIT}, vlmeval/dataset/mvbench.py (MVBench_MP4)",
        {"test": Split(("test.json",))},
        {"chat": Prompt(
            "Question: {question}\nOptions:\n{options}\nOnly give the best option.",
            f"OpenGVLab/Ask-Anything @ 4dd8210, video_chat2/mvbench.ipynb; {VLMEVALKIT}, vlmeval/dataset/mvbench.py", WRITTEN,
            style="chat", system=CAREFULLY,
        )},
        read_mvbench, "accuracy", score=choice_score(by_first_word),
    ),
    Benchmark(
        "egoschema", "EgoSchema",
        "questions.json and subset_answers.json of egoschema/EgoSchema, its videos in videos/.",
        f"egoschema/EgoSchema @ 505c787, README.md, benchmarking/Violet/preprocess_text.py; {LMMS}/egoschema/utils.py",
        {
            "test": Split(("questions.json", "**/*.mp4"), answers=False),
            "subset": Split(("questions.json", "subset_answers.json", "**/*.mp4")),
        },
        {"chat": Prompt(f"{{question}}\n{{options}}\n{DIRECTLY}", f"{LMMS}/egoschema/utils.py", SHORT, style="chat")},
        read_egoschema, "accuracy", score=choice_score(by_vlmevalkit), submit=hand_in_egoschema,
    ),
    Benchmark(
        "perception_test", "Perception Test, multiple choice",
        "mc_question_test.json (of mc_question_test_annotations.zip) and the videos of test_videos.zip in videos/, of "
        "google-deepmind/perception_test's README; or of `valid`.",
        "google-deepmind/perception_test @ 6bd0642, README.md; ykeselman/DAMO-NLP-SG-VideoLLaMA3 @ c707283, "
        f"evaluation/benchmarks/perception_test.py; {LMMS}/perceptiontest/val/utils.py",
        {
            "test": Split(("**/mc_question_test.json", "**/*.mp4"), answers=False),
            "valid": Split(("**/mc_question_valid.json", "**/*.mp4")),
        },
        {"chat": Prompt(f"{{question}}\n{{options}}\n{DIRECTLY}", f"{LMMS}/perceptiontest/test/utils.py", SHORT, style="chat")},
        read_perception_test, "accuracy", score=choice_score(by_vlmevalkit), submit=hand_in_perception_test,
    ),
    Benchmark(
        "tempcompass", "TempCompass, without captioning, which needs a judge",
        "questions/ of llyx97/TempCompass, its videos in videos/.",
        "llyx97/TempCompass @ e1b4631, questions/, eval_multi-choice.py, eval_yes_no.py, eval_caption_matching.py",
        {split: Split(("questions/*.json", "videos/*.mp4")) for split in ("all", *RULES)},
        {"chat": Prompt("{question}{ask}", "llyx97/TempCompass @ e1b4631, run_qwen2_vl.py", Decoding(128), style="chat")},
        read_tempcompass, "accuracy", score=tempcompass_score,
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL} | LONG
