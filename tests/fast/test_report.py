"""report.html tells what the run's files hold: of a run that has just begun, of an old one, a long one, and one in trouble."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from qwenvl.config import ConfigError
from qwenvl.data.charts import Curve, chart, short, smoothed, thinned, ticks
from qwenvl.models.quantised import QuantisedLinear
from qwenvl.train.parallel import World
from qwenvl.train.sight.evaluations import Evaluation, EvaluationLog, ShownAnswer
from qwenvl.train.sight.report import duration, write_report
from qwenvl.train.sight.run_folder import count_weights, note_start, read_run
from qwenvl.types import Region

RECIPE = """\
name: <small>
summary: a run & its story
deviations: [The batch is small.]
model: {preset: qwen-vl-nano}
objective: {kind: next_token}
train: {steps: 200, unfreeze_after: {vision_tower: 40}}
"""
VOID = {"meta", "br", "img"}
OPTIONAL_ENDS = {"tr", "td", "th", "p", "li"}


class Page(HTMLParser):
    """A page read strictly: every element is closed where it must be, and what it would load is noted."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.counts: dict[str, int] = {}
        self.words = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in VOID | OPTIONAL_ENDS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPTIONAL_ENDS:
            assert self.open and self.open.pop() == tag, f"</{tag}> at line {self.getpos()[0]}"

    def handle_data(self, data: str) -> None:
        self.words += data if not self.open or self.open[-1] != "style" else ""


def line(step: int, **more: Any) -> dict[str, Any]:
    loss = 2.0 * math.exp(-step / 100)
    return {
        "step": step, "rate": 1e-4, "refused": 0, "loss": loss, "losses": {"next_token": loss}, "tasks": {"caption": loss},
        "grad_norm": 1.0, "tokens_per_s": 900.0, "images_per_s": 5.0, "step_seconds": 2.0, "data_share": 0.1, **more,
    }  # fmt: skip


def a_run(folder: Path, steps: range = range(9, 100, 10), **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line(step, **more)) + "\n" for step in steps))
    return folder


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_report_says_what_was_logged(tmp_path: Path) -> None:
    page = page_of(a_run(tmp_path / "run"))
    assert "<small>" in page.words and "a run & its story" in page.words, "texts are escaped, not taken as markup"
    assert "100of 200" in page.words and "0.743" in page.words  # 2 exp(-0.99)
    assert "3 min" in page.words, "100 steps of 2 seconds; and as many to go"
    assert "The batch is small." in page.words and "preset: qwen-vl-nano" in page.words
    assert page.counts["svg"] == 6 + 1, "six curves that are there, and one task"
    assert not any(heading in page.words for heading in ("Scores", "Answers", "Trouble", "Preferences", "MFU", "Memory"))


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    EvaluationLog(run, 0).add(0, 1.0, Evaluation({"what": 0.5}, {}, (shown("a dog"),)))
    page = page_of(run)
    assert page.loads and all(load.startswith(("data:image/", "#")) for load in page.loads)
    assert not re.search(r"<script|@import|url\(", (run / "report.html").read_text())


@pytest.mark.parametrize("steps", [range(0), range(9, 10), range(9, 20, 10)])
def test_report_of_a_run_that_has_just_begun(tmp_path: Path, steps: range) -> None:
    page = page_of(a_run(tmp_path / "run", steps))
    assert f"{10 * len(steps)}of 200" in page.words
    assert ("no step is logged yet" in page.words) == (not steps)


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        write_report(tmp_path)


def test_long_run_is_thinned_and_keeps_its_spike(tmp_path: Path) -> None:
    steps = range(9, 50_000, 10)
    tasks = {f"task{number}": 0.5 for number in range(18)}
    run = a_run(tmp_path / "run", steps, tasks=tasks, logged={}, memory_gb=1.0, visual_tokens_per_s=100.0)
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    lines[3210]["losses"]["next_token"] = 400.0
    (run / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    assert write_report(run).stat().st_size < 400_000
    points = read_run(run).points("losses", "next_token")
    assert len(points) == 5000 and len(thinned(points)) <= 240
    assert (32110.0, 400.0) in thinned(points)
    assert thinned(points)[0][0] == 10 and thinned(points) == sorted(thinned(points))


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", range(9, 40, 10), mfu=None)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line(49, loss=math.nan, losses={"next_token": math.nan}, grad_norm=math.inf)) + "\n")
    assert [step for step, _ in read_run(run).points("loss")] == [10, 20, 30, 40]
    page_of(run)
    drawn = re.sub(r"<style>.*?</style>", "", (run / "report.html").read_text(), flags=re.DOTALL)
    assert not re.search(r'd="[^"]*(nan|inf)', drawn)


def test_trouble_is_marked_and_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    entries = [
        {"step": 40, "kind": "spike", "loss": 9.5, "grad_norm": 3.0, "worst": ["shard-1/17"], "samples": ["shard-1/17"]},
        {"step": 77, "kind": "not finite", "loss": "nan", "grad_norm": "nan", "samples": [f"sample-{n}" for n in range(20)]},
    ]
    (run / "trouble.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in [*entries, entries[0]]))
    (run / "refused.json").write_text(json.dumps({"counts": {"web: LengthError": 1234}, "named": ["web: a/7: too long"]}))
    page = page_of(run)
    assert all(words in page.words for words in ("41spike9.53shard-1/17", "78not finitenannan", "sample-7 …"))
    assert "1,234" in page.words and "web: a/7: too long" in page.words
    text = (run / "report.html").read_text()
    assert text.count('class="trouble"') == 2 * 2, "two steps, in the charts of the loss and of the gradient"
    assert "troubles2steps" in page.words.replace(" ", ""), "what a resumed run met again counts once"


def test_preferences_are_drawn_where_there_are_any(tmp_path: Path) -> None:
    logged = {"margin": 0.4, "accuracy": 0.75, "chosen_reward": 0.1, "rejected_reward": -0.3}
    page = page_of(a_run(tmp_path / "run", logged=logged))
    assert all(word in page.words for word in ("Preferences", "Accuracy", "Margin", "Rewards", "rejected reward -0.3"))


def shown(answer: str, left: float = 0.25) -> ShownAnswer:
    asked, true = (Region("point", ((0.5, 0.5),)),), (Region.box(0.25, 0.25, 0.75, 0.75),)
    answered = (Region.box(left, 0.25, 0.75, 0.75, "a <dog>"),)
    picture = Image.new("RGB", (80, 60), "navy")
    return ShownAnswer("main/referring/en/3", "Where is it?", answer, "there", picture, asked, true, answered)


def test_scores_and_answers_over_steps(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    log = EvaluationLog(run, 0)
    for number in range(7):
        log.add(20 * number, 3.0, Evaluation({"what": 0.1 * number, "where": 0.5}, {"what": 0.2}, (shown(f"answer {number}"),)))
    page = page_of(run)
    assert "60 %" in page.words and "chance 20 %" in page.words and "Mean of 2 scores" in page.words
    assert [number for number in range(7) if f"answer {number}" in page.words] == [0, 2, 4, 6]
    text = (run / "report.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 1 and text.count('href="#picture0"') == 3, "the picture stands there once"
    assert text.count('<polygon class="true" points="20.0,15.0 60.0,15.0 60.0,45.0 20.0,45.0">') == 4
    assert text.count("<title>a &lt;dog&gt;</title>") == 4


def test_answers_without_their_picture_are_still_shown(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    record = EvaluationLog(run, 0).add(0, 1.0, Evaluation({}, {}, (shown("an answer"),)))
    (run / record["shown"][0]["picture"]).unlink()
    assert "an answer" in page_of(run).words


def test_start_says_where_and_what_trains(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    model = nn.ModuleDict({"connector": nn.Linear(64, 3), "decoder": nn.ModuleDict({"layers": nn.Linear(64, 2)})})
    model["connector"].weight.requires_grad_(False)
    note_start(run, 0, model, World())
    note_start(run, 40, model, World())
    page = page_of(run)
    assert f"torch {torch.__version__}" in page.words and "resumed once" in page.words
    assert "connector1953" in page.words and "decoder.layers130130" in page.words
    assert "vision_tower: from step 40 on" in page.words


def test_weights_stored_in_few_bits_count_as_what_they_stand_for() -> None:
    linear = nn.Linear(64, 4, bias=False)
    model = nn.ModuleDict({"decoder": nn.ModuleDict({"layers": nn.ModuleDict({"q": QuantisedLinear.of(linear, "nf4")})})})
    assert count_weights(model) == {"decoder.layers": (256, 0)}


def test_smoothed_curve_is_the_running_mean() -> None:
    values = np.random.default_rng(0).random(600)
    points = [(float(step), float(value)) for step, value in enumerate(values)]
    smooth = dict(smoothed(points))
    assert len(smooth) == 120 and smooth[599.0] == pytest.approx(values[-11:].mean())
    assert smooth[0.0] == pytest.approx(values[:3].mean()), "a steep start is kept"
    middle = min(smooth, key=lambda step: abs(step - 300))
    assert smooth[middle] == pytest.approx(values[int(middle) - 10 : int(middle) + 11].mean())
    logarithmic = dict(smoothed(points, log=True))
    assert logarithmic[middle] == pytest.approx(np.exp(np.log(values[int(middle) - 10 : int(middle) + 11]).mean()))


def test_curve_lies_where_its_values_are() -> None:
    """The lowest value at the foot of the chart, the highest at its head, half way up in the logarithm."""
    drawn = chart([Curve("loss", [(0, 0.1), (50, 1.0), (100, 10.0)])], log=True)
    [path] = re.findall(r'<path class="curve k0" d="M([^"]+)"', drawn)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split()) for point in path.split("L"))
    assert (x0 + x2) / 2 == pytest.approx(x1, abs=0.1) and (y0 + y2) / 2 == pytest.approx(y1, abs=0.1)
    assert y0 > y1 > y2 and x0 < x1 < x2
    assert chart([Curve("nothing", [(0, math.nan)])]) == ""


@pytest.mark.parametrize("low, high, log", [(0, 5e4, False), (-0.2, 0.9, False), (3, 7, False), (0.3, 0.34, True), (1e-7, 9, True)])
def test_ticks_are_few_and_inside(low: float, high: float, log: bool) -> None:
    found = ticks(low, high, log)
    assert 2 <= len(found) <= 7 and found == sorted(found) and low <= found[0] <= found[-1] <= high
    assert len({short(tick) for tick in found}) == len(found), "they can be told apart"


def test_durations_in_words() -> None:
    assert [duration(seconds) for seconds in (12.3, 200, 11_520, 500_000)] == ["12 s", "3 min", "3 h 12 min", "5 d 19 h"]
