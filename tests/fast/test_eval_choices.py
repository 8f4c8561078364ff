"""What the benchmarks of multiple choice, mathematics, yes or no, text and video do besides the key's and the babbler's answers."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from qwenvl.data.sources import SourceError
from qwenvl.eval.benchmark import Benchmark, question_of
from qwenvl.eval.runner import to_prediction
from qwenvl.eval.scorers.arithmetic import value_of
from qwenvl.eval.scorers.choices import by_vlmevalkit, choice_score
from qwenvl.eval.scorers.circular import majority
from qwenvl.eval.scorers.maths import mathvista_extracted
from qwenvl.eval.scorers.yes_no import hallusion_values, mme_value
from qwenvl.eval.scoring import score_benchmark, score_groups
from qwenvl.eval.spreadsheet import MAIN, workbook
from qwenvl.eval.subtitles import Subtitle, frame_moments, read_srt, shown_with
from qwenvl.eval.task import Answer, EvaluationError, Prediction
from qwenvl.eval.tasks import benchmark_named
from qwenvl.processing.video_file import VideoError
from tests.fast.eval_fixtures import choices, maths, text_only, truthfulness, videos
from tests.fast.test_benchmarks import Key

FIXTURES = choices.FIXTURES | maths.FIXTURES | text_only.FIXTURES | truthfulness.FIXTURES | videos.FIXTURES


def answered(name: str, folder: Path, split: str, version: str, replies: dict[str, str] | str, **more: Any) -> list[Prediction]:
    """Predictions of a split of a fixture; `replies` by id, or one for all."""
    FIXTURES[name].build(folder)
    benchmark, key = benchmark_named(name), Key()
    predictions = []
    for item in benchmark.read(folder, split):
        question = question_of(benchmark, split, benchmark.prompts[version], item, key)
        reply = replies if isinstance(replies, str) else replies[item.id]
        predictions.append(to_prediction(question, Answer(reply, **more), key.markup))
    return predictions


def value(benchmark: Benchmark, predictions: list[Prediction], measure: str) -> float:
    return score_benchmark(benchmark, predictions, Key().markup)[measure].value


def test_likelihood_decides_before_words_do() -> None:
    truth = {"choices": {"A": "a cat", "B": "a dog"}, "answer": "B"}
    prediction = Prediction("1", "t", "c", "en", "", "", " A", "stop", truth, ranked=(-2.0, -1.0))
    assert choice_score(by_vlmevalkit)(prediction, Key().markup) == {"accuracy": (1.0, 1.0)}
    written = replace(prediction, ranked=(), reply="It is hard to say")
    assert choice_score(by_vlmevalkit)(written, Key().markup) == {"accuracy": (0.0, 1.0), "decided": (0.0, 1.0)}


def test_circular_counts_questions_and_majority_shares_what_is_tied(tmp_path: Path) -> None:
    benchmark = benchmark_named("mmbench")
    replies = {"7": "C", "1000007": "B", "2000007": "A", "3000007": "D", "9": "A", "1000009": "A"}
    predictions = answered("mmbench", tmp_path, "dev", "chat", replies)
    assert value(benchmark, predictions, "circular") == 0.5  # the second question is right once
    assert value(benchmark, predictions, "majority") == 0.75  # ... and its two texts are tied
    assert value(benchmark, predictions, "accuracy") == pytest.approx(5 / 6)
    assert majority([None, None], "x") == 0.0


def test_mmbench_hands_in_replies_and_of_ranked_options_one_text_for_all_rotations(tmp_path: Path) -> None:
    replies = {"7": "C", "1000007": "B", "2000007": "A", "3000007": "A", "9": "hard to say", "1000009": ""}
    submitted = benchmark_named("mmbench_v11").submit
    assert submitted is not None
    written = answered("mmbench_v11", tmp_path, "test", "chat", replies)
    rows = table(submitted(written)["mmbench.xlsx"])
    assert rows[0][0] == "index" and rows[0][-1] == "prediction" and "image" not in rows[0]
    assert {row[0]: row[-1] for row in rows[1:]} == replies
    ranked = []
    for one, letter in zip(written, "CBAAAA", strict=True):
        ranked.append(replace(one, ranked=tuple(-float(option != letter) for option in one.truth["choices"])))
    rows = table(submitted(ranked)["mmbench.xlsx"])
    assert {row[0]: row[-1] for row in rows[1:]} == {
        "7": "C", "1000007": "B", "2000007": "A", "3000007": "D", "9": "A", "1000009": "B",
    }  # fmt: skip


def table(content: bytes) -> list[list[str]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {"[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"} <= set(archive.namelist())
        sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    return [["".join(cell.itertext()) for cell in row] for row in sheet.iter(f"{{{MAIN}}}row")]


def test_workbooks_hold_any_text_and_are_the_same_again() -> None:
    rows: list[dict[str, str | int]] = [{"a": 1, "b": "<&>\x07 \n左"}]
    assert table(workbook(rows)) == [["a", "b"], ["1", "<&> \n左"]]
    assert workbook(rows) == workbook(rows)


def test_rotations_share_a_picture_and_a_lost_one_is_named(tmp_path: Path) -> None:
    choices.build_mmbench(tmp_path)
    items = list(benchmark_named("mmbench").read(tmp_path, "dev"))
    assert len({id(item.visuals[0]) for item in items}) == 2
    rows = choices.mmbench_rows(answers=True)
    choices.write_tsv(tmp_path / "MMBench_DEV_EN.tsv", rows[1:])
    with pytest.raises(SourceError, match=r"row 1000007: its picture is that of row 7,"):
        list(benchmark_named("mmbench").read(tmp_path, "dev"))


def test_an_answer_that_is_no_option_is_named(tmp_path: Path) -> None:
    rows = choices.mmbench_rows(answers=True)
    choices.write_tsv(tmp_path / "MMBench_DEV_EN.tsv", [{**rows[4], "answer": "D", "image": rows[0]["image"]}])
    with pytest.raises(EvaluationError, match="9: its answer is 'D', its options are A, B"):
        list(benchmark_named("mmbench").read(tmp_path, "dev"))


def test_options_that_are_no_list_are_one_line(tmp_path: Path) -> None:
    row = {"id": "validation_Math_1", "question": "?", "options": "['4', ", "answer": "A", "question_type": "multiple-choice"}
    choices.write_parquet(tmp_path / "Math" / "validation-00000-of-00001.parquet", [row])
    with pytest.raises(SourceError, match=r"item 1 of validation: not of the benchmark's form"):
        list(benchmark_named("mmmu_val").items(tmp_path, "validation"))


def test_a_chinese_question_is_asked_in_chinese() -> None:
    from qwenvl.eval.lettered import choice_fields

    assert choice_fields("哪个？", {"A": "x"})["ask"] == "请直接回答选项字母。"
    assert choice_fields("Which?", {"A": "x"}, "hint")["hint"] == "Hint: hint\n"


def test_seed_bench_shows_a_video_as_four_pictures(tmp_path: Path) -> None:
    choices.build_seed_bench(tmp_path)
    (item,) = benchmark_named("seed_bench").read(tmp_path, "video")
    parts = benchmark_named("seed_bench").prompts["paper"].parts(item)
    assert [type(part).__name__ for part in parts] == ["ImagePart", "TextPart"] * 4
    (picture,) = benchmark_named("seed_bench").read(tmp_path, "image")
    assert picture.id == "101669"


def test_mmmu_accepts_each_of_several_answers_and_shows_both_settings_of_pro(tmp_path: Path) -> None:
    replies = {"validation_Art_1": "Klee", "validation_Math_1": "(C)", "validation_Math_15": "so it is 3.43 or so, about 3.429"}
    assert value(benchmark_named("mmmu_val"), answered("mmmu_val", tmp_path, "validation", "chat", replies), "accuracy") > 0.6
    assert value(benchmark_named("mmmu_pro"), answered("mmmu_pro", tmp_path, "vision", "chat", "Answer: J"), "accuracy") == 1.0
    standard = next(iter(benchmark_named("mmmu_pro").read(tmp_path, "standard")))
    assert len(standard.visuals) == 2 and "[image] beside [image]" in standard.fields["words"]


def test_mme_adds_up_subtasks_and_is_told_by_subtask(tmp_path: Path) -> None:
    assert mme_value([("color", (True, False)), ("color", (True, True)), ("count", (False, False))]) == 0.75 + 0.5
    benchmark, predictions = benchmark_named("mme"), answered("mme", tmp_path, "test", "chat", "Yes")
    assert value(benchmark, predictions, "perception") == 5.0  # half of the questions, no picture whole
    assert score_groups(benchmark, predictions, Key().markup)["OCR"]["perception"].value == 0.5


def test_hallusion_counts_figures_that_there_are(tmp_path: Path) -> None:
    assert hallusion_values([[("", "0", True), ("1", "0", False)]]) == (0.5, 0.0, 0.0)
    replies = {"VS_chart_0_0_0": "No", "VS_chart_0_1_0": "Yes", "VS_chart_0_2_0": "Yes"}
    scores = answered("hallusionbench", tmp_path, "all", "chat", replies)
    assert value(benchmark_named("hallusionbench"), scores, "average") == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize(("reply", "kind", "found"), [
    ("14", "integer", "14"), ("The number missing is 14.", "integer", "14"), ("It has 3 of 4, so the answer is 7", "integer", "7"),
    ("\\boxed{1,200}", "integer", "1200"), ("Between 2 and 3", "integer", None), ("-.5", "float", "-.5"),
    ("They are [2007, 2008].", "list", "[2007, 2008]"), ("nothing", "float", None),
])  # fmt: skip
def test_mathvista_s_numbers_are_found_where_there_is_one(reply: str, kind: str, found: str | None) -> None:
    assert mathvista_extracted(reply, (), kind) == found


def test_mathvista_s_choices_are_read_as_choices() -> None:
    assert mathvista_extracted("(B) yes", ["no", "yes"], "text") == "B"
    assert mathvista_extracted("yes", ["no", "yes"], "text") == "yes"


def test_formulas_have_values_and_sentences_none() -> None:
    assert value_of("\\frac{3}{4} + 2\\sqrt{4}") == 4.75
    assert value_of("-2^2") == -4 and value_of("2(3)") == 6 and value_of("3^{1000}/3^{999}") == 3
    for text in ("x", "", "1/0", "2^{99999}", "\\sqrt{-1}", "(1", "1 2 x", "9^{9^9}", "(-8)^{0.5}"):
        with pytest.raises(ValueError):
            value_of(text)


def test_examples_of_an_examination_are_the_subject_s_own(tmp_path: Path) -> None:
    text_only.build_mmlu(tmp_path)
    items = list(benchmark_named("mmlu").read(tmp_path, "test"))
    assert [item.fields["examples"].count("Question: ") for item in items] == [5] * 4
    assert "virology" not in items[0].fields["examples"] and items[1].fields["C"] == "NA"
    text_only.write_csv(tmp_path / "dev" / "virology_dev.csv", [["q", "0", "1", "2", "3", "A"]])
    with pytest.raises(SourceError, match="virology: 1 examples"):
        list(benchmark_named("mmlu").read(tmp_path, "test"))
    text_only.write_csv(tmp_path / "dev" / "virology_dev.csv", [["q", "0", "1"]])
    with pytest.raises(SourceError, match="row 1: 3 cells instead of 6"):
        list(benchmark_named("mmlu").read(tmp_path, "test"))


def test_subjects_count_alike_whatever_their_size(tmp_path: Path) -> None:
    """agronomy has three questions with answers A, B and C, world_history one with answer A."""
    benchmark = benchmark_named("cmmlu")
    predictions = answered("cmmlu", tmp_path, "test", "paper", "A", ranked=(0.0, -1.0, -1.0, -1.0))
    assert value(benchmark, predictions, "accuracy") == 0.5
    assert value(benchmark, predictions, "subjects") == pytest.approx((1 / 3 + 1) / 2)


def test_withheld_answers_are_handed_in(tmp_path: Path) -> None:
    def handed_in(name: str, split: str, version: str, reply: str, **more: Any) -> Any:
        benchmark = benchmark_named(name)
        assert benchmark.submit is not None and not benchmark.splits[split].answers
        predictions = answered(name, tmp_path / name, split, version, reply, **more)
        assert not score_benchmark(benchmark, predictions, Key().markup)
        ((_, content),) = benchmark.submit(predictions).items()
        return json.loads(content)

    for name in ("ceval", "egoschema", "perception_test", "longvideobench"):
        (tmp_path / name).mkdir()
    ranked = {"ranked": (-1.0, 0.0, -1.0, -1.0)}
    assert handed_in("ceval", "test", "paper", "B", **ranked)["law"] == {"0": "B", "1": "B", "2": "B"}
    assert set(handed_in("egoschema", "test", "chat", "C. C does thing 2.").values()) == {2}
    videos.build_perception_test(tmp_path / "perception_test")
    (tmp_path / "perception_test" / "mc_question_valid.json").rename(tmp_path / "perception_test" / "mc_question_test.json")
    assert handed_in("perception_test", "test", "chat", "B") == {"video_8241": [{"id": 0, "answer_id": 1, "answer": "moving"}]}
    (tmp_path / "longvideobench" / "lvb_test_wo_gt.json").write_text(json.dumps([{
        "id": "x_0", "question": "?", "candidates": ["a", "b"], "video_path": "86CxyhFV9MI.mp4", "duration_group": 15,
    }]))  # fmt: skip
    assert handed_in("longvideobench", "test", "chat", "B. b") == {"x_0": "B. b"}


def test_subtitles_are_those_of_the_frames(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(videos.SRT, encoding="utf-8")
    found = read_srt(tmp_path / "a.srt")
    assert found[:2] == [Subtitle(0.0, 0.9, "Hi guys,"), Subtitle(0.9, 1.6, "I'm going to show you how it is done.")]
    assert shown_with(found, [0.1, 0.5, 1.0, 1.7]) == ["Hi guys,", "I'm going to show you how it is done."]
    clip = videos.clip_at(tmp_path / "a.mp4")  # 2 s
    assert frame_moments(clip, 2.0, 768) == pytest.approx([0.0, 0.5, 1.0, 1.5], abs=0.1)
    assert len(frame_moments(clip, 2.0, 3)) == 3
    (tmp_path / "b.srt").write_text("nothing", encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"b\.srt: no subtitles"):
        read_srt(tmp_path / "b.srt")
    with pytest.raises(VideoError, match=r"b\.srt: not a video"):
        frame_moments(tmp_path / "b.srt", 2.0, 3)


def test_videomme_without_subtitles_says_nothing_of_them(tmp_path: Path) -> None:
    videos.build_videomme(tmp_path)
    benchmark = benchmark_named("videomme")
    assert {item.fields["subtitles"] for item in benchmark.read(tmp_path, "no_subs")} == {""}
    with_them = next(iter(benchmark.read(tmp_path, "subs"))).fields["subtitles"]
    assert with_them.startswith("This video's subtitles are listed below:\nHi guys,\n") and "Long after" not in with_them


def test_a_lost_video_is_named(tmp_path: Path) -> None:
    videos.build_mvbench(tmp_path)
    (tmp_path / "video" / "ssv2" / "1.mp4").unlink()
    with pytest.raises(EvaluationError, match=r"mvbench action_antonym/0: its video is not there"):
        list(benchmark_named("mvbench").read(tmp_path, "test"))


def test_mlvu_is_the_mean_of_its_tasks(tmp_path: Path) -> None:
    """Two of its seven tasks have the answer A, with one question each; three others have two."""
    benchmark, predictions = benchmark_named("mlvu"), answered("mlvu", tmp_path, "dev", "chat", "(A)")
    assert value(benchmark, predictions, "m_avg") == pytest.approx(2 / 7)
    assert value(benchmark, predictions, "accuracy") == pytest.approx(2 / 10)
