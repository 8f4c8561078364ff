"""The evaluation as a whole, with models that are not models: one that knows every answer, one that babbles, one that is killed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenvl.cli.main import main
from qwenvl.data.tasks import has_phrasings
from qwenvl.eval.answers import SHEET_BYTES, draw_questions, write_page
from qwenvl.eval.asking import ModelAnswerer, within
from qwenvl.eval.report import MAIN, table
from qwenvl.eval.runner import (
    PREDICTIONS,
    batches,
    fingerprint,
    open_run,
    plain_text,
    predict,
    read_predictions,
    score_run,
    to_prediction,
)
from qwenvl.eval.scorers.scenes import make_scorer, named_values, split_strings
from qwenvl.eval.task import Answer, Decoding, EvaluationError, Prediction, Question
from qwenvl.eval.tasks import scenes
from qwenvl.families import family_of_preset, find_preset
from qwenvl.families.spec import Markup
from qwenvl.inference.model import load
from qwenvl.types import Message, Style
from tests.fast.tiny import write_tiny

LIMIT, SEED = 8, 7
MARKUP = Markup(digits=3)
STYLES: tuple[Style, ...] = ("raw", "chat")
NATIVE = ("qwen2-vl-nano", "qwen2.5-vl-nano")


class Oracle:
    """Says word for word what a trained answer would be."""

    def __init__(self, style: Style, preset: str = "qwen-vl-nano") -> None:
        self.style, self.markup = style, find_preset(preset).markup
        self.spec = family_of_preset(find_preset(preset))

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        return 9 * size[0], 7 * size[1]

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        samples = [question.sample for question in questions]
        frames = [self.frame(sample.images[0].image.size) if sample.images else None for sample in samples]
        said = [plain_text([sample.messages[-1]], self.markup, frame) for sample, frame in zip(samples, frames, strict=True)]
        return [Answer(text.strip()) for text in said]


class Babbler(Oracle):
    def __init__(self, style: Style, words: str = "I think <box>banana</box> 漂亮 42424", preset: str = "qwen-vl-nano") -> None:
        super().__init__(style, preset)
        self.words = words

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        return [Answer(self.words) for _ in questions]


class Killed(Oracle):
    """Dies after some batches."""

    def __init__(self, style: Style, batches: int) -> None:
        super().__init__(style)
        self.left = batches

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().answer(questions)


@pytest.fixture(scope="module")
def asked() -> dict[Style, list[Question]]:
    return {style: scenes.questions(LIMIT, SEED, Oracle(style)) for style in STYLES}


def described(answerer: Any, questions: Sequence[Question]) -> dict[str, Any]:
    return {"model": "stub", **scenes.settings(questions, LIMIT, SEED, answerer)}


def meant(question: Question) -> tuple[str, ...]:
    """The answer's value; with the colour where it belongs to the answer."""
    return (question.truth["value"], question.truth["colour"] or "") if question.task == "naming" else (question.truth["value"],)


def evaluate(answerer: Any, questions: Sequence[Question], folder: Path) -> dict[str, Any]:
    open_run(folder, described(answerer, questions))
    predict(questions, answerer, folder, batch=16)
    return score_run(folder, make_scorer)


@pytest.mark.parametrize("style", ["raw", "chat"])
def test_a_perfect_model_scores_one_on_everything(asked: dict[Style, list[Question]], style: Style, tmp_path: Path) -> None:
    result = evaluate(Oracle(style), asked[style], tmp_path)
    for condition, measures in [(MAIN, result["scores"]), *result["held_out"].items()]:
        for measure, by_language in measures.items():
            # Written coordinates have three digits: an IoU cannot be exactly 1.
            least = 0.97 if measure.endswith("_iou") else 1.0
            assert set(by_language) == {"en", "zh"}, (condition, measure)
            assert all(value >= least for value in by_language.values()), (condition, measure, by_language)
    assert set(result["held_out"]) == {"pairs", "font", "phrasings"}
    assert set(result["chance"]) == set(result["scores"])
    assert result["n"] == LIMIT and result["seeds"] == [SEED] and result["answered"] == result["questions"]


@pytest.mark.parametrize("style", ["raw", "chat"])
@pytest.mark.parametrize("words", ["", "I think <box>banana</box> 漂亮 42424", "<ref>it</ref><box>(000,000),(001,001)</box>"])
def test_a_babbling_model_scores_nothing(asked: dict[Style, list[Question]], style: Style, words: str, tmp_path: Path) -> None:
    result = evaluate(Babbler(style, words), asked[style], tmp_path)
    for measures in (result["scores"], *result["held_out"].values()):
        for measure, by_language in measures.items():
            most = 0.35 if measure.endswith("similarity") else 0.0
            assert all(value <= most for value in by_language.values()), (measure, by_language)


@pytest.mark.parametrize("preset", NATIVE)
@pytest.mark.parametrize("style", STYLES)
def test_native_models_are_asked_more_and_a_perfect_one_scores_one(preset: str, style: Style, tmp_path: Path) -> None:
    oracle = Oracle(style, preset)
    asked = scenes.questions(4, SEED, oracle)
    result = evaluate(oracle, asked, tmp_path / "right")
    wrong = evaluate(Babbler(style, preset=preset), asked, tmp_path / "wrong")
    points = {"point"} if preset == "qwen2.5-vl-nano" else set()
    added = {"clip_when_iou", "clip_when_acc50", "clip_what", "clip_direction", *points}
    assert added <= result["scores"].keys() and ("point" in result["scores"]) == bool(points)
    assert set(result["held_out"]) == {"pairs", "font", "phrasings", "aspect"}
    assert {"main-clip", "aspect-mixed"} <= result["hashes"]["specs"].keys()
    for measures in (result["scores"], *result["held_out"].values()):
        for measure, by_language in measures.items():
            assert min(by_language.values()) >= (0.97 if measure.endswith("_iou") else 1.0), (measure, by_language)
    for measures in (wrong["scores"], *wrong["held_out"].values()):
        for measure, by_language in measures.items():
            assert max(by_language.values()) <= (0.35 if measure.endswith("similarity") else 0.0), (measure, by_language)
    assert added <= wrong["scores"].keys()
    assert set(result["chance"]) == set(result["scores"])


def test_what_qwen_vl_is_asked_is_what_it_was(asked: dict[Style, list[Question]]) -> None:
    """Ids and words of the questions, and what run.json says of them: an evaluation begun earlier can be gone on with."""
    known = {"raw": "d41d66a5c9c398d0", "chat": "fac370c85c75851c"}
    for style, questions in asked.items():
        assert not any(question.sample.visuals != question.sample.images for question in questions)
        settings = described(Oracle(style), questions)
        assert "style" not in settings["markup"] and set(settings["hashes"]["specs"]) == {
            "main-mixed", "main-text", "pairs-mixed", "font-text", "phrasings-mixed",
        }  # fmt: skip
        if settings["sources"]["files"] == "a53e5bb1a2423e05":
            assert settings["hashes"]["questions"] == known[style]


def test_an_answer_meant_for_another_question_earns_nothing(asked: dict[Style, list[Question]]) -> None:
    """The scorers tell right from wrong within a task too: every reference given where the truth differs scores 0."""
    scorer = make_scorer(described(Oracle("chat"), asked["chat"]))
    closed = ("naming", "left_right", "above_below", "yes_no", "colour", "where", "count")
    checked = 0
    for question, other in itertools.permutations([question for question in asked["chat"] if question.task in closed], 2):
        same_form = (other.task, other.language) == (question.task, question.language)
        if not same_form or meant(other) == meant(question):
            continue
        reply = plain_text([other.sample.messages[-1]], MARKUP)
        prediction = Prediction(question.id, question.task, MAIN, question.language, "", "", reply, "stop", question.truth)
        assert {earned for earned, _ in scorer(prediction).values()} == {0.0}, (question.truth, reply)
        checked += 1
    assert checked > 100


def test_two_answer_tasks_are_balanced_and_their_chance_is_one_half(tmp_path: Path) -> None:
    questions = scenes.questions(24, SEED, Oracle("raw"), blocks=[replace(scenes.BLOCKS[0], tasks=tuple(scenes.BALANCED))])
    for task, values in scenes.BALANCED.items():
        for language in ("en", "zh"):
            said = [question.truth["value"] for question in questions if (question.task, question.language) == (task, language)]
            assert set(said) == set(values)
            assert abs(said.count(values[0]) - len(said) / 2) <= len(said) / 4
    result = evaluate(Babbler("raw"), questions, tmp_path)
    for task in scenes.BALANCED:
        assert 0.5 <= result["chance"][task] <= 0.75


def test_questions_are_the_same_again_and_never_of_the_training_stream(asked: dict[Style, list[Question]]) -> None:
    again = scenes.questions(LIMIT, SEED, Oracle("raw"))
    assert [(question.id, question.truth) for question in again] == [(question.id, question.truth) for question in asked["raw"]]
    assert described(Oracle("raw"), again) == described(Oracle("raw"), asked["raw"])
    assert all(block.spec.split == "held_out" for block in scenes.BLOCKS)
    other = scenes.questions(1, SEED + 1, Oracle("raw"))
    assert described(Oracle("raw"), other)["hashes"]["questions"] != described(Oracle("raw"), again)["hashes"]["questions"]


def test_held_out_phrasings_are_asked_only_where_there_are_some(asked: dict[Style, list[Question]]) -> None:
    for style, questions in asked.items():
        for question in questions:
            if question.condition == "phrasings":
                assert has_phrasings(scenes.TASKS[question.task][0], style)
    words: dict[str, set[str]] = {MAIN: set(), "phrasings": set()}
    for question in asked["raw"]:
        if question.task == "colour":
            words[question.condition].add(question.truth["question"])
    assert words["phrasings"] and words[MAIN].isdisjoint(words["phrasings"])


def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(asked: dict[Style, list[Question]], tmp_path: Path) -> None:
    questions = asked["raw"][:120]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    open_run(killed, described(Oracle("raw"), questions))
    with pytest.raises(KeyboardInterrupt):
        predict(questions, Killed("raw", batches=3), killed, batch=8)
    saved = len(read_predictions(killed))
    assert 0 < saved < len(questions)
    with open(killed / PREDICTIONS, "a", encoding="utf-8") as file:
        file.write('{"id": "cut in the mid')  # as a kill within a write leaves it
    settled: list[int] = []
    open_run(killed, described(Oracle("raw"), questions))
    predict(questions, Oracle("raw"), killed, batch=8, advance=settled.append)
    assert settled[0] == saved and sum(settled) == len(questions)
    assert score_run(killed, make_scorer) == evaluate(Oracle("raw"), questions, whole)


def test_a_folder_holds_one_evaluation_only(asked: dict[Style, list[Question]], tmp_path: Path) -> None:
    settings = described(Oracle("raw"), asked["raw"])
    open_run(tmp_path, settings)
    open_run(tmp_path, settings | {"versions": {"torch": "another"}})
    with pytest.raises(EvaluationError, match="seeds differs"):
        open_run(tmp_path, settings | {"seeds": [8]})
    with pytest.raises(EvaluationError, match=r"no predictions"):
        score_run(tmp_path, make_scorer)
    with pytest.raises(EvaluationError, match=r"no run\.json"):
        score_run(tmp_path / "nowhere", make_scorer)


def test_saved_predictions_are_scored_again_without_the_model(asked: dict[Style, list[Question]], tmp_path: Path) -> None:
    first = evaluate(Oracle("raw"), asked["raw"][:60], tmp_path)
    lines = (tmp_path / PREDICTIONS).read_text(encoding="utf-8").splitlines()
    spoilt = [json.dumps(json.loads(line) | {"reply": "?"}) for line in lines]
    (tmp_path / PREDICTIONS).write_text("\n".join(spoilt) + "\n", encoding="utf-8")
    again = score_run(tmp_path, make_scorer)
    assert max(score for by_language in first["scores"].values() for score in by_language.values()) == 1.0
    assert max(score for by_language in again["scores"].values() for score in by_language.values()) == 0.0
    assert table(again).row_count > 0


def test_batches_share_a_limit_and_hold_every_question_once(asked: dict[Style, list[Question]]) -> None:
    groups = list(batches(asked["raw"], 16))
    assert sorted(question.id for group in groups for question in group) == sorted(question.id for question in asked["raw"])
    for group in groups:
        assert len(group) <= 16
        assert len({question.decoding for question in group}) == 1
    with pytest.raises(EvaluationError):
        list(batches(asked["raw"], 0))


def test_closed_answers_name_one_value() -> None:
    truth = {"choices": {"left": ["left"], "top left": ["top left"], "right": ["right"]}}
    assert named_values("At the top left.", truth) == {"top left"}
    assert named_values("left or right", truth) == {"left", "right"}
    assert named_values("nowhere", truth) == set()
    chinese = {"choices": {"yes": ["有", "是"], "no": ["没有", "不是"]}}
    assert named_values("没有，图中没有狗。", chinese) == {"no"}
    assert named_values("有，图中有一只狗。", chinese) == {"yes"}


def test_readings_are_split_at_commas_of_both_languages() -> None:
    assert split_strings(" AB12, 345") == split_strings("AB12，345。") == ["AB12", "345"]
    assert split_strings("") == []


def test_a_fingerprint_changes_with_the_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    before = fingerprint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 99 + b"\1")
    after = fingerprint(tmp_path)
    assert before["weights"] != after["weights"] and before["config"] == after["config"]


@pytest.mark.parametrize(("name", "group"), [("preprocessor_config.json", "config"), ("merges.txt", "vocabulary")])
def test_a_fingerprint_changes_with_sizes_of_pictures_and_with_the_vocabulary(name: str, group: str, tmp_path: Path) -> None:
    before = fingerprint(tmp_path)
    (tmp_path / name).write_text("{}")
    after = fingerprint(tmp_path)
    assert {key for key in before if before[key] != after[key]} == {group}


def test_the_page_of_random_answers_shows_what_was_drawn(asked: dict[Style, list[Question]], tmp_path: Path) -> None:
    drawn = draw_questions(asked["raw"], 40, seed=3)
    assert drawn == draw_questions(list(reversed(asked["raw"])), 40, seed=3)
    assert drawn != draw_questions(asked["raw"], 40, seed=4)
    settings = described(Oracle("raw"), drawn)
    predictions = [replace(to_prediction(question, Answer("<box>"), MARKUP), question="q|<ref>") for question in drawn]
    predictions[0] = replace(predictions[0], reply="")
    pictures = [question.sample.images[0].image for question in drawn]
    sheet = write_page(tmp_path / "answers.md", predictions, pictures, make_scorer(settings), ["# Answers"])
    page = (tmp_path / "answers.md").read_text(encoding="utf-8")
    assert page.count("\n| ") == 40 + 1 and "images/answers.png" in page and "q|" not in page and "<box>" not in page
    assert sheet.stat().st_size <= SHEET_BYTES
    with pytest.raises(EvaluationError):
        draw_questions(asked["raw"], 10**6, seed=0)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A random model's folder; questions end after four tokens, and runs go below tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scenes, "TASKS", {task: (source, 4) for task, (source, _) in scenes.TASKS.items()})
    return str(write_tiny(tmp_path / "tiny", chat_format="raw"))


def test_the_command_measures_a_model_and_scores_again(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "run", "scenes", "--model", tiny, "--limit", "2", "--seed", "5", "--json", "--device", "cpu"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"model", "n", "seeds", "scores", "chance", "held_out", "versions", "hashes", "fingerprint"} <= result.keys()
    assert (result["model"], result["n"], result["seeds"], result["style"]) == ("tiny", 2, [5], "raw")
    assert set(result["scores"]["yes_no"]) == {"en", "zh"} and result["scores"].keys() == result["chance"].keys()
    (folder,) = (tmp_path / "runs" / "eval").iterdir()
    assert main(["eval", "score", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result
    assert main(["eval", "score", str(folder)]) == 0
    assert "yes_no" in capsys.readouterr().out
    assert main(["eval", "score", str(tmp_path)]) == 1
    assert "no run.json" in capsys.readouterr().err
    assert main(["eval", "run", "scenes", "--model", tiny, "--limit", "0", "--device", "cpu"]) == 2
    assert "0 is too small" in capsys.readouterr().err


def test_a_batch_of_questions_is_answered_as_each_alone(tiny: str) -> None:
    model = ModelAnswerer(load(tiny, device="cpu"))
    asked = [replace(question, decoding=Decoding(4)) for question in scenes.main_questions(1, SEED, Oracle("raw"))[:6]]
    assert timeless(model.answer(asked)) == timeless([model.answer([question])[0] for question in asked])


def timeless(answers: Sequence[Answer]) -> list[Answer]:
    return [replace(answer, seconds=0.0) for answer in answers]


def test_the_reference_answer_is_never_shown(tiny: str) -> None:
    model = ModelAnswerer(load(tiny, device="cpu"))
    question = replace(scenes.main_questions(1, SEED, Oracle("raw"))[0], decoding=Decoding(8))
    other = replace(question.sample, messages=(*question.sample.messages[:-1], Message.of("assistant", "quite another")))
    assert timeless(model.answer([question])) == timeless(model.answer([replace(question, sample=other)]))


def test_the_command_writes_the_page_of_answers(tiny: str, tmp_path: Path) -> None:
    out = tmp_path / "pages" / "answers.md"
    assert main(["eval", "answers", "--model", tiny, "--count", "3", "--scenes", "2", "--out", str(out), "--device", "cpu"]) == 0
    assert out.read_text(encoding="utf-8").count("\n| ") == 3 + 1
    assert (tmp_path / "pages" / "images" / "answers.png").exists()


def test_a_batch_takes_no_more_tokens_than_it_may(tiny: str) -> None:
    """Padding and answers counted; what is longer is asked alone; and the answers are the same."""
    asked = [replace(question, decoding=Decoding(4)) for question in scenes.main_questions(2, SEED, Oracle("raw"))[:9]]
    free = ModelAnswerer(load(tiny, device="cpu"))
    prompts = [free._prompt(question) for question in asked]
    lengths = [len(prompt) for prompt in prompts]
    budget = 2 * (max(lengths) + 4)
    groups = list(within(prompts, 4, budget))
    assert [prompt for group in groups for prompt in group] == prompts and 1 < len(groups) < len(prompts)
    assert all(len(group) * (max(map(len, group)) + 4) <= budget for group in groups)
    assert [len(group) for group in within(prompts, 4, 1)] == [1] * len(prompts)
    tight = ModelAnswerer(free.model, budget)
    assert timeless(tight.answer(asked)) == timeless(free.answer(asked))
