"""Clips: questions (ActivityNet-QA, NExT-QA), and when what happens (Charades-STA, ActivityNet Captions).

Annotations name videos without a suffix; a video is looked for in the dataset's folder and in the folders in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.files import clip, find, joined, whole
from qwenvl.data.sources import BadSample, Record, SourceError, records
from qwenvl.types import Sample

TYPES = ("motion", "spatial", "temporal", "yes/no", "color", "object", "location", "number", "other")
"""Of ActivityNet-QA's questions, by number: dataset/README.md."""

LATE = 1.0
"""Seconds by which an event may end after its video, and then ends with it: durations were measured by other programs."""


def read_activitynet_qa(folder: Path) -> Iterator[Record]:
    """SPLIT_q.json with SPLIT_a.json."""
    pairs = [(file, file.with_name(file.name.replace("_q", "_a"))) for file in find(folder, "*_q.json", "*/*_q.json")]
    if not any(answers.is_file() for _, answers in pairs):
        raise SourceError(f"{folder}: no SPLIT_a.json for the questions there; fetch the answers too")
    for file, answers in pairs:
        if answers.is_file():
            split = file.name.removesuffix("_q.json")
            together = joined(list(records(file)), list(records(answers)), "question_id", ("question", "answer"))
            yield from ({**record, "split": split} for record in together)


def from_activitynet_qa(record: Record, root: Path) -> list[Sample]:
    """Names are YouTube's, those of files begin with "v_"."""
    question, answer = record["question"], record["answer"]
    id, name = f"activitynet_qa {question['question_id']}", question["video_name"]
    about = {"answer_type": TYPES[answer["type"]], "split": record["split"]}
    video = clip(root, f"v_{name}", name, id=id)
    return [
        samples.question(video, question["question"], answer["answer"], id=id, source="activitynet_qa", task="video_qa", **about)
    ]


def read_nextqa(folder: Path) -> Iterator[Record]:
    """SPLIT.csv, and map_vid_vidorID.json, which says where VidOR keeps a video; without it they are looked for by number."""
    files = find(folder, "train.csv", "val.csv", "test.csv")[0].parent
    known = files / "map_vid_vidorID.json"
    places = whole(known) if known.is_file() else {}
    for file in find(files, "*.csv"):
        yield from ({**row, "place": places.get(row.get("video", "")), "split": file.stem} for row in records(file))


def from_nextqa(record: Record, root: Path) -> list[Sample]:
    """Multiple choice of five."""
    id, name = f"nextqa {record['video']} {record['qid']}", record["video"]
    video = clip(root, *([record["place"]] if record["place"] else []), name, id=id)
    options = [record[f"a{number}"] for number in range(5)]
    about = {"question_type": record["type"], "split": record["split"]}
    return [samples.multiple_choice(video, record["question"], options, int(record["answer"]), id=id, source="nextqa", **about)]


def read_charades_sta(folder: Path) -> Iterator[Record]:
    """charades_sta_SPLIT.txt: lines of "VIDEO START END##SENTENCE"."""
    for file in find(folder, "charades_sta_*.txt", "*/charades_sta_*.txt"):
        split = file.stem.removeprefix("charades_sta_")
        for number, line in enumerate(records(file)):
            yield {"line": line["text"], "split": split, "number": number}


def from_charades_sta(record: Record, root: Path) -> list[Sample]:
    id = f"charades_sta {record['split']} {record['number']}"
    times, mark, sentence = record["line"].partition("##")
    if not mark or len(times.split()) != 3:
        raise BadSample(id, f"{record['line'][:60]!r} is not VIDEO START END##SENTENCE")
    name, start, end = times.split()
    span = _span(float(start), float(end), None, id)
    return [samples.when(clip(root, name, id=id), _query(sentence), *span, id=id, source="charades_sta", split=record["split"])]


def read_activitynet_captions(folder: Path) -> Iterator[Record]:
    """train.json, val_1.json and val_2.json: the two are captions of one split, by different people."""
    first = find(folder, "train.json", "val_[12].json", "*/train.json")[0]
    for file in sorted({first, *first.parent.glob("val_[12].json")}):
        for name, about in whole(file).items():
            yield {"video": name, "file": file.stem, "about": about}


def from_activitynet_captions(record: Record, root: Path) -> list[Sample]:
    """Every event of the video, and each asked for by its sentence."""
    id, about = f"activitynet_captions {record['file']} {record['video']}", record["about"]
    video = clip(root, record["video"], id=id)
    spans = []
    for number, ((start, end), sentence) in enumerate(zip(about["timestamps"], about["sentences"], strict=True)):
        times = _span(start, end, about["duration"], f"{id}, event {number}")
        spans.append((*times, samples.said(sentence, "sentence", id)))
    more: dict[str, Any] = {"source": "activitynet_captions", "split": record["file"].partition("_")[0]}
    asked = [samples.when(video, _query(text), *times, id=f"{id} {n}", **more) for n, (*times, text) in enumerate(spans)]
    return [samples.events(video, spans, id=id, **more), *asked]


def _query(sentence: str) -> str:
    """A sentence as it is quoted in a question."""
    return sentence.strip().rstrip(".")


def _span(start: float, end: float, duration: float | None, id: str) -> tuple[float, float]:
    """Raises BadSample for an event that is outside of its video, or has no length as it is written, in tenths of a second."""
    late = duration is not None and end > duration + LATE
    end = end if duration is None else min(end, duration)
    if start < 0 or late or round(end, 1) <= round(start, 1):
        raise BadSample(id, f"from {start:g} to {end:g} s" + (f" of a video of {duration:g} s" if duration is not None else ""))
    return float(start), float(end)
