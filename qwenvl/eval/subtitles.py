"""Subtitles of a video as a prompt quotes them: those that are shown while one of the frames is, which the model sees."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qwenvl.eval.task import EvaluationError
from qwenvl.processing.video_file import VideoError

TIMES = re.compile(r"(\d+):(\d+):(\d+)[,.](\d+)\s*-->\s*(\d+):(\d+):(\d+)[,.](\d+)")
TAG = re.compile(r"<[^<>]*>")


class Subtitle(NamedTuple):
    """start, end: seconds."""

    start: float
    end: float
    text: str


def read_srt(path: Path) -> list[Subtitle]:
    """The subtitles of a SubRip file, without its tags, several lines as one. Raises EvaluationError for a file without any."""
    found = [subtitle for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8-sig")) for subtitle in _subtitle(block)]
    if not found:
        raise EvaluationError(f"{path}: no subtitles in it (SubRip: a number, START --> END, text); fetch it again")
    return found


def _subtitle(block: str) -> Iterator[Subtitle]:
    lines = block.strip().split("\n")
    for number, line in enumerate(lines):
        if times := TIMES.search(line):
            start, end = (np.array(times.groups(), dtype=float).reshape(2, 4) @ (3600, 60, 1, 0.001)).tolist()
            text = " ".join(TAG.sub("", " ".join(lines[number + 1 :])).replace("\\N", " ").split())
            if text:
                yield Subtitle(start, end, text)
            return


def shown_with(subtitles: Sequence[Subtitle], moments: Sequence[float]) -> list[str]:
    """The text that stands at each moment, the first one that does; one that stands at several moments is given once."""
    numbers: list[int] = []
    for moment in moments:
        number = next((number for number, one in enumerate(subtitles) if one.start <= moment < one.end), None)
        if number is not None and number not in numbers[-1:]:
            numbers.append(number)
    return [subtitles[number].text for number in numbers]


def frame_moments(video: Path, fps: float, most: int) -> list[float]:
    """When frames of a video are taken, in seconds, evenly: `fps` a second, `most` at most. Its length is what its container says.

    Raises VideoError for what is no video, or where PyAV is missing.
    """
    try:
        import av
    except ImportError:
        raise VideoError("reading video files needs PyAV; run: pip install 'qwenvl[video]'") from None
    try:
        with av.open(f"file:{video}") as container:
            seconds = float((container.duration or 0) / 1_000_000)
    except av.FFmpegError as error:
        raise VideoError(f"{video}: not a video, or damaged ({error.strerror}); encode it again") from None
    count = int(min(max(seconds * fps, 1), most))
    return [float(moment) for moment in np.linspace(0, seconds, count, endpoint=False)]
