"""Time spans in a model's answer about a video, in seconds.

Sentences ("happens in 64.0 - 72.0 seconds", "from 3.2s to 5.6s", "00:12.34 - 00:15.00") and JSON lists of `start_time` and
`end_time` in mm:ss.ff, as the cookbooks of QwenLM/Qwen2.5-VL (2025-02-10) print them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from qwenvl.processing.loose_json import find_json
from qwenvl.types import TimeSpan

START_KEYS = ("start_time", "start", "begin", "from")
END_KEYS = ("end_time", "end", "to")
LABEL_KEYS = ("description", "label", "event", "caption", "activity", "text", "title")

CLOCK = r"(?:\d{1,2}:)?\d{1,3}:[0-5]\d(?:\.\d+)?"  # h:mm:ss.ff or mm:ss.ff
SECONDS = r"\d{1,9}(?:\.\d+)?"
UNIT = r"\s*(?:seconds?|secs?|s|秒钟?)(?![A-Za-z])"
BETWEEN = r"\s*(?:-|–|—|~|～|至|到|\bto\b|\buntil\b|\band\b)\s*"
# A plain number is a time only where its unit is said, at least after the second one: "3 - 5 dogs" is none.
SPAN = re.compile(
    rf"(?<![\d.:])(?:(?P<clock>{CLOCK})(?:{UNIT})?{BETWEEN}(?P<clock_end>{CLOCK})(?![\d:])(?:{UNIT})?"
    rf"|(?P<seconds>{SECONDS})(?:{UNIT})?{BETWEEN}(?P<seconds_end>{SECONDS}){UNIT})",
    re.IGNORECASE,
)
TIME = re.compile(rf"\s*({CLOCK}|{SECONDS})(?:{UNIT})?\s*", re.IGNORECASE)


def read_spans(text: str) -> list[TimeSpan]:
    """The spans that a text names, in order. JSON, if it has any, is taken alone: the sentences around it say the same again.

    Ends that are swapped are put in order. Any text is read without an error.
    """
    spans = [span for found in find_json(text) for span in _json_spans(found.value)]
    if spans:
        return spans
    return [
        _span(read_time(found["clock"] or found["seconds"]), read_time(found["clock_end"] or found["seconds_end"]), None)
        for found in SPAN.finditer(text)
    ]


def read_time(written: Any) -> float:
    """Seconds of "72", "3.2s", "mm:ss.ff", "h:mm:ss.ff" or a number. Raises ValueError for anything else."""
    found = TIME.fullmatch(str(written))
    if found is None or isinstance(written, bool):
        raise ValueError(f"{written!r} is no time; write seconds or mm:ss.ff")
    seconds = 0.0
    for part in found[1].split(":"):
        seconds = seconds * 60 + float(part)
    return round(seconds, 6)


def _json_spans(value: Any) -> Iterator[TimeSpan]:
    """The spans of a list or object and of all that is in it."""
    if isinstance(value, list):
        for item in value:
            yield from _json_spans(item)
    elif isinstance(value, dict):
        start, end = (next((value[key] for key in keys if key in value), None) for keys in (START_KEYS, END_KEYS))
        try:
            label = next((value[key] for key in LABEL_KEYS if isinstance(value.get(key), str)), None)
            yield _span(read_time(start), read_time(end), label)
        except ValueError:
            for member in value.values():
                yield from _json_spans(member)


def _span(start: float, end: float, label: str | None) -> TimeSpan:
    return TimeSpan(min(start, end), max(start, end), label)
