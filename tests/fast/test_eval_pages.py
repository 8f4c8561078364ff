"""The page about runs: boxes of both sorts, words of models as words, something to see where there is no score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qwenvl.cli.eval_report import with_pictures
from qwenvl.eval.compare_runs import paired
from qwenvl.eval.page import markdown, shown_of, write_page
from qwenvl.eval.page_charts import histogram
from qwenvl.eval.runs import ScoredRun
from qwenvl.eval.tasks import benchmark_named
from tests.fast.eval_fixtures.drawn import SIZE
from tests.fast.test_benchmarks import Babbler, Key
from tests.fast.test_eval_compare import made_up
from tests.fast.test_eval_runs import files_of, run_of


class Page(HTMLParser):
    """Fails for an element that is not closed where it should be, and keeps what there is."""

    VOID = ("meta", "img", "br", "image")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def named(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag and (kind is None or attrs.get("class") == kind)]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(*runs: ScoredRun) -> Page:
    return Page(write_page([with_pictures(run, None) for run in runs]))


def corners(attrs: dict[str, str | None]) -> list[float]:
    return [float(number) for number in re.split("[ ,]", attrs["points"] or "")]


@pytest.mark.parametrize("preset", ["qwen-vl-nano", "qwen2-vl-nano", "qwen2.5-vl-nano"])
def test_boxes_that_were_said_and_the_true_ones_lie_over_the_picture(preset: str, tmp_path: Path) -> None:
    key = Key(preset)
    page = page_of(run_of("refcoco", files_of("refcoco", tmp_path), tmp_path / "run", key))
    pictures = page.named("image")
    assert len(pictures) == 2 and all(picture["href"].startswith("data:image/jpeg;base64,") for picture in pictures)  # type: ignore[union-attr]
    assert {(picture["width"], picture["height"]) for picture in pictures} == {tuple(map(str, SIZE))}
    said, true = page.named("polygon", "said"), page.named("polygon", "true")
    assert len(said) == len(true) == 2
    for drawn in (said, true):
        first, second = sorted(corners(one) for one in drawn)
        assert first == pytest.approx([20, 10, 120, 10, 120, 60, 20, 60], abs=1.1), "as the fixture has it"
        assert second == pytest.approx([130.5, 0.25, 200, 0.25, 200, 100, 130.5, 100], abs=1.1)


def test_a_wrong_box_lies_where_the_model_said(tmp_path: Path) -> None:
    page = page_of(run_of("refcoco", files_of("refcoco", tmp_path), tmp_path / "run", Babbler("<box>(500,500),(750,1000)</box>")))
    for said in page.named("polygon", "said"):
        assert corners(said) == pytest.approx([100, 50, 150, 50, 150, 100, 100, 100], abs=0.3)
    assert sorted(corners(one)[0] for one in page.named("polygon", "true")) == pytest.approx([20, 130.5], abs=1)
    assert len(page.named("polygon", "said")) == len(page.named("b", "wrong")) == 2


HOSTILE = "<script>alert(1)</script></figure><b onclick=x>&amp; \"'"


def test_words_of_a_model_stay_words(tmp_path: Path) -> None:
    run = run_of("vqav2", files_of("vqav2", tmp_path), tmp_path / "run", Babbler(HOSTILE), model="<i>mine</i>")
    first = replace(run.predictions[0], question="Is <u>this</u> it?", reference="</p><table>", id="val/<x>")
    hostile = replace(run, predictions=[first, *run.predictions[1:]], scores=run.scores | {"<measure>": run.scores["vqa_accuracy"]})
    page = page_of(hostile)
    assert not page.named("script") and not page.named("u") and not page.named("i") and not page.named("measure")
    assert page.text.count(HOSTILE) == 2
    for words in ("Is <u>this</u> it?", "</p><table>", "val/<x>", "<i>mine</i>", "<measure>"):
        assert words in page.text


def test_the_table_in_markdown_has_neither_tags_nor_more_columns(tmp_path: Path) -> None:
    files = files_of("refcoco", tmp_path)
    text = markdown([run_of("refcoco", files, tmp_path / "a", model="a|b"), run_of("refcoco", files, tmp_path / "b")])
    assert text.count("\n") == 4 and len({line.count("|") for line in text.splitlines()}) == 1
    assert "a/b" in text and "begin=&lt;box>" in text and "<" not in text


def test_withheld_answers_and_measures_of_all_replies_have_a_page(tmp_path: Path) -> None:
    withheld = run_of("vqav2", files_of("vqav2", tmp_path), tmp_path / "a", split="testdev")
    pooled = run_of("odinw13", files_of("odinw13", tmp_path), tmp_path / "b")
    judged = run_of("touchstone", files_of("touchstone", tmp_path), tmp_path / "c")
    words = run_of("mmlu", files_of("mmlu", tmp_path), tmp_path / "d")
    page = page_of(withheld, pooled, judged, words)
    assert "answers withheld" in page.text and "not judged yet" in page.text and "Is the ball flying" in page.text
    assert page.text.count("the first") == 3 and page.text.count("the worst and the best") == 1
    assert {"map", "overlap", "accuracy"} <= set(page.text.split())
    assert len(page.named("figure")) == 1 + 8 + 2 + len(shown_of(words))
    # 13 pictures of ODinW, of which eight are shown; texts have none.
    assert len(page.named("image")) == 1 + 8 + 2 and page.named("polygon", "true")


def test_the_worst_and_the_best_are_shown_once_each() -> None:
    replies = ["yes"] * 30 + ["no"] * 3
    shown = [prediction.id for prediction in shown_of(made_up("a", replies))]
    assert shown == [f"testdev/{number:04d}" for number in (30, 31, 32, 0, 26, 27, 28, 29)]
    assert [prediction.reply for prediction in shown_of(made_up("a", ["no", "yes"]))] == ["no", "yes"]


def test_runs_that_were_compared_stand_with_their_names(tmp_path: Path) -> None:
    files = files_of("vqav2", tmp_path)
    runs = [run_of("vqav2", files, tmp_path / name, answerer) for name, answerer in (("one", Key()), ("two", Babbler("yes")))]
    page = Page(write_page([with_pictures(run, None) for run in runs], [(*runs, paired(*runs))]))
    assert "vqav2 val one two vqa_accuracy -50.0 -100.0 to +0.0" in page.text, "of one model, by their folders"
    runs[1] = replace(runs[1], run=dict(runs[1].run) | {"model": "another"})
    page = Page(write_page([], [(*runs, paired(*runs))]))
    assert "vqav2 val Qwen-VL another vqa_accuracy" in page.text


def test_a_page_without_the_data_has_no_pictures_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = files_of("refcoco", tmp_path)
    run = run_of("refcoco", files, tmp_path / "run")
    files.rename(tmp_path / "away")
    assert with_pictures(run, None).pictures == {} and "no pictures for " in capsys.readouterr().err
    assert not Page(write_page([with_pictures(run, None)])).named("image")
    (tmp_path / "data").mkdir()
    (tmp_path / "away").rename(tmp_path / "data" / "refcoco")
    assert len(with_pictures(run, tmp_path / "data").pictures) == 2


def bars(values: Sequence[float]) -> list[float]:
    return [float(bar["height"] or 0) for bar in Page(histogram("x", values)).named("rect")]


def test_histograms_count_every_value() -> None:
    alone = bars([7.0] * 5)
    assert len(alone) == 12 and alone[0] == 80 and not any(alone[1:])
    assert Page(histogram("x", [7.0] * 5)).words == ["x", "5", *["0"] * 11, "7"], "name, counts, the one value"
    spread = bars([0.0, 1.0])
    assert spread[0] == spread[-1] == 80 and sum(height > 0 for height in spread) == 2
    tall = bars([*[0.0] * 4, *[0.55] * 2, 1.0])
    assert (tall[0], max(tall[6:8]), tall[-1]) == (80, 40, 20)


def test_names_of_benchmarks_are_written_by_the_radar(tmp_path: Path) -> None:
    runs = [run_of(name, files_of(name, tmp_path), tmp_path / f"run {name}") for name in ("gqa", "vqav2", "refcoco")]
    page = page_of(*runs)
    assert {"gqa testdev", "vqav2 val", "refcoco val"} <= {words.strip() for words in page.words}
    (polygon,) = (one for one in page.named("polygon") if (one.get("class") or "").startswith("radar"))
    assert len(corners(polygon)) == 6
    assert not any((one.get("class") or "").startswith("radar") for one in page_of(*runs[:2]).named("polygon"))
    assert benchmark_named("gqa").title in page.text
