"""Referring, spans of time and counts score as their peers do on generated replies.

The peers are code in repositories; what they gave is in data/eval_places.json, with repository and commit. The replies are made
here, from the seeds below.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from qwenvl.eval.scorers import counting, places, temporal
from qwenvl.eval.scorers.boxes import span_iou
from qwenvl.eval.task import Prediction
from qwenvl.families.spec import Markup

PEERS = json.loads((Path(__file__).parent / "data" / "eval_places.json").read_text(encoding="utf-8"))
CASES = 1500


def referred() -> list[tuple[str, list[float], tuple[int, int]]]:
    """(reply, true box in pixels, size of the picture): near the truth, and written in many ways."""
    rng = random.Random(61)
    forms = (
        "<box>({},{}),({},{})</box>", "({},{}),({},{})", " ({}, {}),({}, {})<|endoftext|>", "({},{}), ({},{})", "({},{}),({},{}",
        "[{},{},{},{}]", "a ({},{}),({},{}) b (1,2),(3,4)", "({} {}),({},{})", "({},{},1),({},{})", "(x,{}),({},{}{})",
    )  # fmt: skip
    cases = []
    for _ in range(CASES):
        size = rng.randint(50, 900), rng.randint(50, 900)
        across, down = (sorted(rng.sample(range(side + 1), 2)) for side in size)
        box = [float(across[0]), float(down[0]), float(across[1]), float(down[1])]
        parts = [value / size[index % 2] * 999 for index, value in enumerate(box)]
        spread = rng.choice((5, 40, 150))
        said: list[Any] = [round(part + rng.gauss(0, spread)) for part in parts]
        if rng.random() < 0.1:
            said = [said[2], said[3], said[0], said[1]]
        if rng.random() < 0.1:
            said = [said[2], said[1], said[0], said[3]]
        if rng.random() < 0.1:
            said = [float(value) + 0.5 for value in said]
        cases.append((rng.choices(forms, (8, 4, 4, 2, 1, 1, 2, 1, 1, 1))[0].format(*said), box, size))
    return cases


def test_referring_is_that_of_the_published_script() -> None:
    hits = ""
    for reply, box, (width, height) in referred():
        truth = {"box": [box[0] / width, box[1] / height, box[2] / width, box[3] / height]}
        prediction = Prediction(
            "", "refcoco", "val", "en", "", "", reply, "stop", truth, decoding="greedy max=28 min=10 begin=<box>"
        )
        hits += str(int(places.refer(prediction, Markup())["acc_iou_50"][0]))
    assert len(hits) == CASES and 0.2 < hits.count("1") / CASES < 0.8
    assert hits == PEERS["referring"]["hits"]


AGREED = (
    "The given query happens in {} - {} seconds.", "The event happens in {} - {} seconds", "{} - {}", "{}s - {}s", "From {} to {}.",
    "The event starts at {}.\nIt ends at {}.", "I think the person happens in {} – {}", "{} s to {} s!", "no idea", "",
)  # fmt: skip
DIFFERENT = (
    "Between {} seconds and {} seconds.", '```json\n[{{"start_time": {}, "end_time": {}}}]\n```', "start time: {}, end time: {}",
    "It starts at {} seconds and ends at {} seconds.",
)  # fmt: skip
"""Where one sentence has no dash, lmms-eval takes one number of it, and so no span; here both are read."""


def timed(forms: tuple[str, ...], seed: int) -> list[tuple[str, tuple[float, float], tuple[float, float]]]:
    """(reply, true span, span that it says)."""
    rng = random.Random(seed)
    cases = []
    for _ in range(CASES):
        start, end = sorted(rng.sample(range(320), 2))
        said = [max(value / 10 + rng.gauss(0, 4), 0.0) for value in (start, end)]
        written = tuple(f"{value:.1f}" for value in sorted(said))
        cases.append((rng.choice(forms).format(*written), (start / 10, end / 10), (float(written[0]), float(written[1]))))
    return cases


def overlap(reply: str, span: tuple[float, float]) -> float:
    truth = {"span": list(span)}
    return temporal.when(Prediction("", "charades_sta", "test", "en", "", "", reply, "stop", truth))["miou"][0]


def test_spans_of_time_overlap_as_in_lmms_eval() -> None:
    ours = [overlap(reply, span) for reply, span, _ in timed(AGREED, 62)]
    assert sum(value > 0 for value in ours) > CASES / 3
    assert ours == pytest.approx(PEERS["temporal"]["overlaps"], abs=1e-5)


def test_spans_that_lmms_eval_does_not_read_are_read() -> None:
    for reply, span, said in timed(DIFFERENT, 63):
        assert overlap(reply, span) == pytest.approx(span_iou(said, span))


def counted() -> list[tuple[str, int]]:
    rng = random.Random(64)
    words = [*counting.WORDS, "none", "about five", "5.", "", "there are 4", "Two", " 7\n", "1e3", "²", "-3", "3.0"]
    return [(rng.choice((rng.choice(words), str(rng.randint(0, 20)))), rng.randint(0, 20)) for _ in range(CASES)]


def test_counts_are_exact_as_in_lmms_eval() -> None:
    hits = ""
    for reply, wanted in counted():
        prediction = Prediction("", "countbench", "test", "en", "", "", reply, "stop", {"count": wanted})
        hits += str(int(counting.count(prediction, Markup())["exact"][0]))
    assert hits.count("1") > 50
    assert hits == PEERS["counting"]["hits"]
