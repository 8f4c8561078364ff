"""Files of multiple choice about videos, as they are distributed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.clips import write_clip
from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.choices import RIGHT, WRONG, write_json, write_parquet


def clip_at(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(path, 20)


SRT = """1
00:00:00,000 --> 00:00:00,900
<font color="white" size=".72c">Hi guys,</font>

2
00:00:00,900 --> 00:00:01,600
<font color="white" size=".72c">I'm going to show you</font>
<font color="white" size=".72c">how it is done.</font>

3
00:10:00,000 --> 00:10:01,000
<font color="white" size=".72c">Long after the end.</font>
"""


def build_videomme(folder: Path) -> None:
    rows = [
        {"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Humanity & History", "url": "",
         "videoID": "fFjv93ACGo8", "question_id": f"001-{number}", "task_type": "Counting Problem", "question": "What is shown?",
         "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. The three kinds are equal."], "answer": answer}
        for number, answer in ((1, "C"), (2, "A"))
    ]  # fmt: skip
    write_parquet(folder / "videomme" / "test-00000-of-00001.parquet", rows)
    clip_at(folder / "video" / "fFjv93ACGo8.mp4")
    (folder / "subtitle").mkdir()
    (folder / "subtitle" / "fFjv93ACGo8.srt").write_text(SRT, encoding="utf-8")


def build_mvbench(folder: Path) -> None:
    candidates = ["It fell.", "It rose.", "It stayed."]
    asked = {"video": "1.mp4", "question": "What happened?", "candidates": candidates, "answer": "It rose."}
    content = {"root": {"action_antonym": "video/ssv2/"}, "meta": {"action_antonym": [asked]}}
    write_json(folder / "test.json", content)
    clip_at(folder / "video" / "ssv2" / "1.mp4")


def build_egoschema(folder: Path) -> None:
    ids = ("001934bb-81bd-4cd8-a574-0472ef3f6678", "0074f737-11cb-497d-8d07-77c3a8127391")
    rows = [
        {"q_uid": id, "google_drive_id": "x", "question": "What is the main activity?"}
        | {f"option {number}": f"C does thing {number}." for number in range(5)}
        for id in ids
    ]  # fmt: skip
    write_json(folder / "questions.json", rows)
    write_json(folder / "subset_answers.json", {ids[1]: 3})
    for id in ids:
        clip_at(folder / "videos" / f"{id}.mp4")


def build_perception_test(folder: Path) -> None:
    asked = {
        "id": 0, "question": "Is the camera moving or static?", "options": ["I don't know", "moving", "static or shaking"],
        "answer_id": 2, "area": "physics", "reasoning": "descriptive", "tag": ["motion"],
    }  # fmt: skip
    about = {"split": "valid", "video_id": "video_8241", "frame_rate": 30.0, "num_frames": 20}
    write_json(folder / "mc_question_valid.json", {"video_8241": {"metadata": about, "mc_question": [asked]}})
    clip_at(folder / "videos" / "video_8241.mp4")


def build_tempcompass(folder: Path) -> None:
    options = "What is the man doing?\nA. dunking a basketball\nB. dribbling a basketball\nC. passing a basketball"
    captions = "Which description is a more suitable match?\nOption 1: The man is dribbling.\nOption 2: A man is dunking."
    asked = {
        "multi-choice": (options, "A. dunking a basketball"), "yes_no": ("Is the man dunking?", "yes"),
        "caption_matching": (captions, "Option 2: A man is dunking."),
    }  # fmt: skip
    for task, (question, answer) in asked.items():
        write_json(folder / "questions" / f"{task}.json", {"1034419625": {"action": [{"question": question, "answer": answer}]}})
    clip_at(folder / "videos" / "1034419625.mp4")


def build_lvbench(folder: Path) -> None:
    asked = {
        "uid": "1187", "question": "What year appears in the opening caption?\n(A) 1636\n(B) 1366\n(C) 1363\n(D) 1633",
        "answer": "D", "question_type": ["key information retrieval"], "time_reference": "00:15-00:19",
    }  # fmt: skip
    row: dict[str, Any] = {"key": "Cm73ma6Ibcs", "type": "tv", "video_info": {"duration_minutes": 30.0, "fps": 25.0}, "qa": [asked]}
    (folder / "video_info.meta.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    clip_at(folder / "videos" / "Cm73ma6Ibcs.mp4")


def build_mlvu(folder: Path) -> None:
    tasks = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")
    video = clip_at(folder / "clip.mp4")
    for number, task in enumerate(tasks):
        candidates = ["Yellow", "Red", "Green", "Blue"]
        row = {
            "video": f"{task}.mp4", "duration": 246, "question": "What color is it?", "candidates": candidates,
            "answer": candidates[number % 4], "question_type": task[2:],
        }  # fmt: skip
        write_json(folder / "json" / f"{task}.json", [row] * (1 + number % 2))
        (folder / "video" / task).mkdir(parents=True)
        (folder / "video" / task / f"{task}.mp4").write_bytes(video.read_bytes())


def build_longvideobench(folder: Path) -> None:
    row = {
        "video_id": "86CxyhFV9MI", "video_path": "86CxyhFV9MI.mp4", "subtitle_path": "86CxyhFV9MI_en.json", "id": "86CxyhFV9MI_0",
        "question": "In the video, which subtitles appear?", "candidates": ["promisc", "paper", "run", "water", "stage"],
        "correct_choice": 1, "duration": 190.16, "duration_group": 600, "starting_timestamp_for_subtitles": 0,
        "question_category": "TOS", "topic_category": "NP-News-Programs", "position": [14, 28], "level": "L2-Relation",
    }  # fmt: skip
    write_json(folder / "lvb_val.json", [row])
    clip_at(folder / "videos" / "86CxyhFV9MI.mp4")


FIXTURES = {
    "videomme": Fixture(build_videomme, "subs", RIGHT, WRONG, questions=2),
    "mvbench": Fixture(build_mvbench, "test", RIGHT, WRONG, questions=1),
    "egoschema": Fixture(build_egoschema, "subset", RIGHT, WRONG, questions=1),
    "perception_test": Fixture(build_perception_test, "valid", RIGHT, WRONG, questions=1),
    "tempcompass": Fixture(build_tempcompass, "all", RIGHT, WRONG, questions=3),
    "lvbench": Fixture(build_lvbench, "test", RIGHT, WRONG, questions=1),
    "mlvu": Fixture(build_mlvu, "dev", {"m_avg": 1.0, **RIGHT}, {"m_avg": 0.0, **WRONG}, questions=10),
    "longvideobench": Fixture(build_longvideobench, "val", RIGHT, WRONG, questions=1),
}
