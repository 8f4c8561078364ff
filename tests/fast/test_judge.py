"""A judge is asked in both orders, fails in the open, is paid once, and scores nothing that it did not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwenvl.data.instruct.api import Api, ApiError, Usage
from qwenvl.data.instruct.cache import Cache
from qwenvl.eval.judge import JUDGE, VERDICTS, judge, read_verdicts, save_verdicts, with_verdicts
from qwenvl.eval.runner import ask
from qwenvl.eval.scoring import score_benchmark
from qwenvl.eval.task import EvaluationError, Prediction
from qwenvl.eval.tasks.judged import BENCHMARKS, RUBRIC
from tests.fake_api import FakeApi, completion, serve
from tests.fast.eval_fixtures.judged import build_touchstone
from tests.fast.test_benchmarks import Babbler, Key, asked_of

TOUCHSTONE = BENCHMARKS["touchstone"]


def predictions(folder: Path, answerer: Any, split: str = "en") -> list[Prediction]:
    build_touchstone(folder)
    return ask(asked_of(TOUCHSTONE, folder, split, "chat", answerer), answerer, batch=4)


def by_rule(body: dict[str, Any], number: int) -> str:
    """10 for what speaks of red, 2 for anything else."""
    asked = body["messages"][1]["content"]
    answers = [asked.split(f"[The Start of Assistant {side}'s Answer]\n")[1].split("\n\n[The End")[0] for side in (1, 2)]
    return " ".join("10" if "red" in answer.lower() else "2" for answer in answers) + "\nBecause of the colour."


def client(fake: FakeApi, cache: Path | None = None, **options: Any) -> Api:
    return Api(fake.url, "judge", cache=Cache(cache) if cache else None, sleep=lambda seconds: None, **options)


def test_both_orders_are_asked_in_the_published_words(tmp_path: Path) -> None:
    replies = predictions(tmp_path, Babbler("nothing", "qwen2-vl-nano"))
    with serve(FakeApi(by_rule)) as fake:
        verdicts = judge(replies, RUBRIC, client(fake))
    assert [verdict.scores for verdict in verdicts] == [(2.0, 2.0)] * 2 and [verdict.id for verdict in verdicts] == [
        reply.id for reply in replies
    ]
    asked = sorted(body["messages"][1]["content"] for body in fake.bodies)
    assert len(asked) == 4, "two orders of two replies"
    first, second = (words for words in asked if "[Question]\nWhat is in the picture?" in words)
    assert ("Assistant 1's Answer]\nnothing" in first) != ("Assistant 1's Answer]\nnothing" in second)
    for body in fake.bodies:
        assert (body["temperature"], body["stop"]) == (0, ["\n"])
        assert body["messages"][0]["content"].startswith("You are a helpful and precise assistant")


def test_scores_are_the_mean_of_both_orders_beside_the_rule(tmp_path: Path) -> None:
    def liking_the_first(body: dict[str, Any], number: int) -> str:
        return "8 4"

    replies = predictions(tmp_path, Key("qwen2-vl-nano"))
    with serve(FakeApi(liking_the_first)) as fake:
        verdicts = judge(replies, RUBRIC, client(fake))
    scores = score_benchmark(TOUCHSTONE, with_verdicts(replies, {verdict.id: verdict for verdict in verdicts}), Key().markup)
    assert scores["judge"].value == 6.0 and scores["judge"].value * TOUCHSTONE.scale == 600
    assert scores["judge Recognition"].n == 2 and scores["judge Storytelling"].n == 1, "a question may have two categories"
    assert scores["overlap"].value == 1.0 and scores["judge_failed"].value == 0.0
    assert set(score_benchmark(TOUCHSTONE, replies, Key().markup)) == {"overlap"}, "nobody judged: the rule alone"


def test_a_failure_is_counted_and_not_scored(tmp_path: Path) -> None:
    def strange(body: dict[str, Any], number: int) -> str | tuple[int, dict[str, str], bytes]:
        asked = body["messages"][1]["content"]
        if "Assistant 1's Answer]\nThere is" in asked:
            return "Both are fine."
        return (400, {}, b'{"error": {"message": "too long"}}') if "short poem" in asked else "9 3"

    replies = predictions(tmp_path, Babbler("blue", "qwen2-vl-nano"))
    with serve(FakeApi(strange)) as fake:
        api = client(fake)
        verdicts = judge(replies, RUBRIC, api)
        about = save_verdicts(tmp_path, verdicts, RUBRIC, api)
    assert [verdict.scores for verdict in verdicts] == [(None, 9.0), (None, None)]
    assert about["failed"] == {"HTTP 400": 2, "no two scores in its first line": 1} and about["rounds"] == 4
    scores = score_benchmark(TOUCHSTONE, with_verdicts(replies, read_verdicts(tmp_path)), Key().markup)
    assert (scores["judge"].value, scores["judge"].n, scores["judge"].possible) == (9.0, 1, 1.0)
    assert scores["judge_failed"].value == 0.75


def test_what_was_judged_is_paid_once_and_its_cost_is_written_down(tmp_path: Path) -> None:
    replies = predictions(tmp_path, Babbler("a red thing", "qwen2-vl-nano"))
    with serve(FakeApi(by_rule)) as fake:
        paid = client(fake, tmp_path / "replies", usage=Usage(price_in=10, price_out=30))
        first = judge(replies, RUBRIC, paid, workers=2)
        about = save_verdicts(tmp_path, first, RUBRIC, paid)
        again = judge(replies, RUBRIC, client(fake, tmp_path / "replies"))
        assert len(fake.bodies) == 4 and fake.most_at_work <= 2
    assert first == again and list(read_verdicts(tmp_path).values()) == first
    assert about["usage"] == {
        "requests": 4, "from_cache": 0, "retries": 0, "prompt_tokens": 400, "completion_tokens": 80, "cost": 0.0064,
    }  # fmt: skip
    assert json.loads((tmp_path / JUDGE).read_text())["source"].startswith("OFA-Sys/TouchStone @ 3d85f92, eval.py")


def test_what_passes_is_tried_again(tmp_path: Path) -> None:
    def busy_at_first(body: dict[str, Any], number: int) -> str | tuple[int, dict[str, str], bytes]:
        return (503, {}, b"busy") if number < 2 else (200, {}, completion("7 7"))

    with serve(FakeApi(busy_at_first)) as fake:
        api = client(fake)
        verdicts = judge(predictions(tmp_path, Key("qwen2-vl-nano")), RUBRIC, api, workers=1)
    assert [verdict.scores for verdict in verdicts] == [(7.0, 7.0)] * 2 and api.usage.retries == 2


def test_a_wrong_key_ends_it_in_one_line(tmp_path: Path) -> None:
    refused = FakeApi(lambda body, number: (401, {}, b'{"error": {"message": "no such key"}}'))
    with serve(refused) as fake, pytest.raises(ApiError, match="401 no such key; check the address"):
        judge(predictions(tmp_path, Key("qwen2-vl-nano")), RUBRIC, client(fake))


def test_chinese_questions_and_the_table_to_hand_in(tmp_path: Path) -> None:
    (reply,) = predictions(tmp_path, Key("qwen2-vl-nano"), "zh")
    assert reply.language == "zh" and reply.reply == "一个红色的方块。"
    assert score_benchmark(TOUCHSTONE, [reply], Key().markup)["overlap"].value == 1.0
    assert TOUCHSTONE.submit is not None
    (table,) = TOUCHSTONE.submit([reply]).values()
    header, row = table.decode().splitlines()
    assert header.split("\t")[-1] == "response" and row.split("\t")[-1] == reply.reply


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert read_verdicts(tmp_path) == {}
    (tmp_path / VERDICTS).write_text('{"id": "a", "scores": [1]\n')
    with pytest.raises(EvaluationError, match=r"verdicts.jsonl:1: not a verdict .*; remove the file"):
        read_verdicts(tmp_path)
