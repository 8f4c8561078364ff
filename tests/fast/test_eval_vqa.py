"""Answers: what each rule takes for right, and what is handed in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenvl.data.sources import SourceError
from qwenvl.eval.benchmark import Shots, questions
from qwenvl.eval.runner import ask
from qwenvl.eval.scorers import reading, vqa
from qwenvl.eval.task import Prediction
from qwenvl.eval.tasks import benchmark_named
from qwenvl.eval.tasks.text_vqa import score_ai2d
from qwenvl.families.spec import Markup
from qwenvl.types import StoredPicture
from tests.fast.eval_fixtures import text_vqa as text_fixtures
from tests.fast.eval_fixtures import vqa as vqa_fixtures
from tests.fast.test_benchmarks import Key

FIXTURES = vqa_fixtures.FIXTURES | text_fixtures.FIXTURES


def test_three_of_the_other_nine_make_an_answer_right() -> None:
    answers = ["red"] * 3 + ["blue"] * 6 + ["pink"]
    assert vqa.official_accuracy("blue", answers) == 1.0
    assert vqa.official_accuracy("red", answers) == pytest.approx(0.9)  # each of the three has but two others beside them
    assert vqa.official_accuracy("pink", answers) == pytest.approx(0.3)
    assert vqa.official_accuracy("", answers) == 0.0


def test_answers_are_normalised_as_the_variant_says() -> None:
    agreed, divided = ["2"] * 10, ["2"] * 9 + ["3"]
    assert vqa.official_accuracy("Two", divided) == 1.0
    assert vqa.official_accuracy("Two", agreed) == 0.0  # nothing is normalised where all agree
    assert vqa.script_accuracy("Two", agreed) == vqa.textvqa_accuracy("Two", agreed) == vqa.vizwiz_accuracy("Two", agreed) == 1.0
    bears = ["the bear"] * 9 + ["a dog"]
    assert vqa.official_accuracy("the bear", bears) == 1.0
    assert vqa.script_accuracy("the bear", bears) == 0.0  # articles are left out of the reply alone
    assert vqa.normalise_answer("Don't, the 1,000 dont. isnt") == "don't 1000 don't isn't"
    assert vqa.normalise_answer("red/white 3.5 u.s.a.") == "red white 3.5 usa"


def test_gqa_is_cleaned_up_as_published() -> None:
    assert vqa.gqa_answer("The man is on the left, of course.") == "left"
    assert vqa.gqa_answer("pizza on it") == "on it"  # "pizza " ends in "a "
    assert vqa.gqa_answer("Yes!") == "yes"


def test_relaxed_accuracy_and_the_traps_of_the_script() -> None:
    assert reading.relaxed_accuracy("10.5", ["10"]) == 1.0
    assert reading.relaxed_accuracy("10.6", ["10"]) == 0.0
    assert reading.relaxed_accuracy_by_script("10.52", ["10"]) == 1.0  # 5 % of the reply are more than of the target
    assert reading.relaxed_accuracy("0.0", ["0"]) == 1.0
    assert reading.relaxed_accuracy_by_script("0", ["0.0"]) == 0.0  # a reply of 0 is compared as text
    assert reading.relaxed_accuracy("5%", ["0.05"]) == reading.relaxed_accuracy("yes", ["Yes"]) == 1.0


def test_anls_counts_nothing_below_one_half() -> None:
    assert reading.anls("Invoice ", ["invoice"]) == 1.0
    assert reading.anls("invoise", ["invoice", "bill"]) == pytest.approx(6 / 7)
    assert reading.anls("inv", ["invoice"]) == 0.0
    assert reading.anls("", [""]) == 1.0


def test_ai2d_reads_letters_only_where_they_were_asked_for(tmp_path: Path) -> None:
    text_fixtures.build_ai2d(tmp_path)
    benchmark = benchmark_named("ai2d")

    def earned(version: str, reply: str) -> list[float]:
        found = ask(list(questions(benchmark, tmp_path, "test", version, Key())), Key(), batch=8)
        for one in found:
            one.truth["answer"], one.truth["answers"] = "D", ["A"]  # of the options C, B, D, A
            one.truth["choices"] = dict(zip("ABCD", "CBDA", strict=True))
        return [score_ai2d(replace(one, reply=reply), Markup())["accuracy"][0] for one in found]

    assert earned("paper", "A") == [1.0, 1.0] and earned("paper", "D") == [0.0, 0.0]
    assert earned("chat", "A") == [0.0, 0.0] and earned("chat", "D") == [1.0, 1.0]


def test_labels_that_a_question_speaks_of_are_drawn(tmp_path: Path) -> None:
    text_fixtures.build_ai2d(tmp_path)
    lettered, plain = (item.visuals[0] for item in benchmark_named("ai2d").read(tmp_path, "test"))
    assert isinstance(getattr(lettered, "image", None), StoredPicture) and isinstance(getattr(plain, "image", None), str)


HANDED_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "vqav2": ("testdev", {"question_id": 1000, "answer": "a dog"}),
    "vizwiz": ("test", {"image": "VizWiz_test_00000000.jpg", "answer": "a dog"}),
    "textvqa": ("test", {"question_id": 34602, "answer": "a dog"}),
    "docvqa": ("test", {"questionId": 49153, "answer": "a dog"}),
    "infovqa": ("test", {"questionId": 98313, "answer": "a dog"}),
}


@pytest.mark.parametrize("name", HANDED_IN)
def test_withheld_answers_are_handed_in_as_the_server_takes_them(name: str, tmp_path: Path) -> None:
    FIXTURES[name].build(tmp_path)
    split, row = HANDED_IN[name]
    benchmark = benchmark_named(name)
    assert benchmark.submit is not None and not benchmark.splits[split].answers
    asked = list(questions(benchmark, tmp_path, split, "chat", Key()))
    assert all("answers" not in question.truth for question in asked)
    predictions: list[Prediction] = [replace(one, reply="a dog\n") for one in ask(asked, Key(), batch=8)]
    [(file, content)] = benchmark.submit(predictions).items()
    assert file == f"{name}_{split}.json" and json.loads(content)[0] == row and len(json.loads(content)) == len(asked)


@pytest.mark.parametrize("name", FIXTURES)
def test_examples_come_from_the_training_split(name: str, tmp_path: Path) -> None:
    FIXTURES[name].build(tmp_path)
    benchmark = benchmark_named(name)
    split = FIXTURES[name].split
    assert benchmark.splits[split].shots == "train" and benchmark.splits["train"].shots is None
    answers = {str(item.answer) for item in benchmark.read(tmp_path, "train")}
    [first, *_] = questions(benchmark, tmp_path, split, next(iter(benchmark.prompts)), Key(), Shots(1))
    said = "".join(getattr(part, "text", "") for message in first.sample.messages[:-1] for part in message.parts)
    assert len(first.sample.images) == 2 and any(answer in said for answer in answers)


def test_a_row_of_another_form_is_named_in_one_line(tmp_path: Path) -> None:
    vqa_fixtures.build_vizwiz(tmp_path)
    (tmp_path / "val.json").write_text(json.dumps([{"image": "x.jpg"}]), encoding="utf-8")
    with pytest.raises(SourceError, match=r"val\.json, question 1: .*no field 'answers'"):
        list(benchmark_named("vizwiz").read(tmp_path, "val"))
