"""Captions: what is scored, in which words, and where examples come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qwenvl.eval.benchmark import Shots, questions
from qwenvl.eval.runner import ask
from qwenvl.eval.scorers import captions as scorer
from qwenvl.eval.scorers.chinese import Cutter, written_words
from qwenvl.eval.scorers.lexer import Lexer, Rule
from qwenvl.eval.scorers.ptb import tokenize
from qwenvl.eval.scoring import score_benchmark
from qwenvl.eval.task import EvaluationError, Prediction
from qwenvl.eval.tasks import benchmark_named
from qwenvl.types import ImagePart
from tests.fast.eval_fixtures.captions import FIXTURES
from tests.fast.test_benchmarks import Key


def test_the_longest_match_wins_and_of_equals_the_first_rule() -> None:
    lexer = Lexer([Rule("ab|abcd"), Rule("{letters}", "[!?]"), Rule("{letters}"), Rule(".{0,2}|{any}")], {"letters": "[a-z]+"}, {
        "any": lambda char: True,
    })  # fmt: skip
    assert lexer.match("abx", 0) == (2, 3)
    assert lexer.match("ab ", 0) == (0, 2)
    assert lexer.match("abcde!", 0) == (1, 5)  # what follows counts for the length, and is left
    assert lexer.match("ABCD", 0) == (0, 4)  # letters of a pattern match both cases, those of a class their own
    assert lexer.match("..x", 0) == (3, 2)
    with pytest.raises(ValueError, match="no rule"):
        Lexer([Rule("a")], {}, {}).match("b", 0)


def test_words_are_those_of_the_penn_treebank() -> None:
    """Brackets stay, as in pycocoevalcap, which leaves them out in capitals only."""
    assert tokenize(["A man (left) isn't riding, he's \"walking\"..."]) == ["a man -lrb- left -rrb- is n't riding he 's walking"]
    assert tokenize(["Vitamin C.", "A bottle", "Vitamin C.", "bottle"]) == ["vitamin c", "a bottle", "vitamin c.", "bottle"]
    # A line end of another kind does not shift the captions behind it.
    assert tokenize(["one\u2028two\r", "three"]) == ["one two", "three"]


def test_a_rare_match_counts_more_in_cider() -> None:
    references = [["a red bird sits"], ["a red dog sits"], ["the old car"]]
    rare, common = scorer.cider(["bird", "", ""], references)[0], scorer.cider(["red", "", ""], references)[0]
    assert rare > common > 0
    assert scorer.cider(["a red bird sits"], references[:1]) == [0.0]  # alone no word is rarer than another


def test_chinese_replies_are_cut_as_the_references_are() -> None:
    cutter = Cutter(["一个 男人 穿着 衬衫", "穿着 红色 衬衫 的 男人", "一 只 狗"])
    assert cutter.cut("一个穿着红色衬衫的男人。") == "一个 穿着 红色 衬衫 的 男人"
    assert cutter.cut("一只猫 and a 狗") == "一 只 猫 狗"  # Latin letters are left out, a new character is a word
    assert cutter.cut("ok.") == "."
    assert cutter.cut("") == ""
    assert written_words("红色:a 的:u ，:wd 狗:n") == "红色 的  狗"


def test_parts_of_speech_and_marks_of_references_are_left_out(tmp_path: Path) -> None:
    FIXTURES["flickr30k_cn"].build(tmp_path)
    lines = tmp_path / "flickr30kzhmbosontest" / "TextData" / "seg.flickr30kzhmbosontest.caption.txt"
    lines.write_text(lines.read_text(encoding="utf-8").replace("滑板:n", "滑板:n 。:wj"), encoding="utf-8")
    item = next(iter(benchmark_named("flickr30k_cn").read(tmp_path, "test")))
    assert item.answer == "一个男人正在玩滑板" and item.language == "zh"
    assert item.truth["references"][0].split() == ["一个", "男人", "正在", "玩", "滑板"]


def test_examples_never_come_from_the_test_set(tmp_path: Path) -> None:
    """The published script takes those for Flickr30K from the file of the test set."""
    for name, split in (("flickr30k", "test"), ("flickr30k_cn", "test"), ("coco_cn", "test")):
        folder = tmp_path / name
        folder.mkdir()
        FIXTURES[name].build(folder)
        benchmark = benchmark_named(name)
        own = {part.image for item in benchmark.read(folder, split) for part in item.visuals if isinstance(part, ImagePart)}
        for question in questions(benchmark, folder, split, benchmark.prompt(None, "raw"), Key(), Shots(2, seed=1)):
            *examples, last = [part.image for part in question.sample.images]
            assert len(examples) == 2 and last in own and not own & set(examples)
    nocaps = tmp_path / "nocaps"
    nocaps.mkdir()
    FIXTURES["nocaps"].build(nocaps)
    with pytest.raises(EvaluationError, match="no split to take examples from"):
        list(questions(benchmark_named("nocaps"), nocaps, "val", "paper", Key(), Shots(1)))


def test_captions_are_scored_in_the_order_of_the_files(tmp_path: Path) -> None:
    """Words depend on the caption that follows, so the order of predictions must not count."""
    FIXTURES["flickr30k"].build(tmp_path)
    benchmark = benchmark_named("flickr30k")
    found = ask(list(questions(benchmark, tmp_path, "test", "paper", Key())), Key(), batch=8)
    found = [replace(one, reply=f"A jar with vitamin C. {one.reply}"[: 21 if number else 99]) for number, one in enumerate(found)]
    assert score_benchmark(benchmark, found, Key().markup) == score_benchmark(benchmark, found[::-1], Key().markup)


def test_captions_that_are_withheld_are_handed_in(tmp_path: Path) -> None:
    FIXTURES["nocaps"].build(tmp_path)
    benchmark = benchmark_named("nocaps")
    assert benchmark.submit is not None and not benchmark.splits["test"].answers
    asked = list(questions(benchmark, tmp_path, "test", "paper", Key()))
    predictions: list[Prediction] = [replace(one, reply=" A dog. ") for one in ask(asked, Key(), batch=8)]
    assert all("references" not in one.truth for one in predictions)
    with pytest.raises(EvaluationError, match="its captions are withheld"):
        score_benchmark(benchmark, predictions, Key().markup)
    [(name, content)] = benchmark.submit(predictions).items()
    assert name == "nocaps_test.json"
    assert json.loads(content) == [{"image_id": 0, "caption": "A dog."}, {"image_id": 1, "caption": "A dog."}]


def test_a_picture_without_a_caption_is_named(tmp_path: Path) -> None:
    FIXTURES["coco_cn"].build(tmp_path)
    file = tmp_path / "merged_captions_coco-cn_test.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 8]
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(EvaluationError, match="COCO_val2014_000000412975 has no caption"):
        list(benchmark_named("coco_cn").read(tmp_path, "test"))
