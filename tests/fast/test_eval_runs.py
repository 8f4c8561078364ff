"""Runs of benchmarks: what names a run, what its folder gives, how two are compared, what is said of files that are not right.

Pages and the command are in test_eval_pages.py and test_eval_commands.py.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenvl.data.sources import SourceError
from qwenvl.eval.benchmark import Benchmark, Item, Prompt, Shots, Split, questions
from qwenvl.eval.check_data import check
from qwenvl.eval.compare_runs import what_differs
from qwenvl.eval.page import explained, row_of
from qwenvl.eval.runner import PREDICTIONS, RUN, open_run, predict, read_predictions, write_json
from qwenvl.eval.runs import ScoredRun, data_hash, score_folder, settings, write_submission
from qwenvl.eval.shots import draw_shots, pictures_of
from qwenvl.eval.task import Answer, Decoding, EvaluationError, Question
from qwenvl.eval.tasks import NAMES, benchmark_named
from qwenvl.types import ImagePart
from tests.fast.eval_fixtures.drawn import png
from tests.fast.test_benchmarks import PRESETS, Babbler, Key, fixtures

NONE = Shots()


def files_of(name: str, folder: Path) -> Path:
    """The fixture's files in a folder of the benchmark's name."""
    (folder / name).mkdir(parents=True)
    fixtures()[name].build(folder / name)
    return folder / name


def run_of(
    name: str, files: Path, out: Path, answerer: Any = None, model: str = "Qwen-VL", split: str | None = None,
    prompt: str | None = None, shots: Shots = NONE, limit: int | None = None,
) -> ScoredRun:  # fmt: skip
    """As `qwenvl eval run` makes it."""
    benchmark, answerer = benchmark_named(name), answerer or Key()
    split, prompt = benchmark.split(split), benchmark.prompt(prompt, answerer.style)
    asked = list(questions(benchmark, files, split, prompt, answerer, shots, limit))
    known = {"model": model, "fingerprint": {"weights": "0" * 12}, "versions": {"python": "3"}, "folder": str(files)}
    open_run(out, known | settings(benchmark, split, prompt, asked, answerer, shots, limit))
    predict(asked, answerer, out, batch=8)
    return score_folder(out)


def told(
    files: Path, answerer: Any, benchmark: Benchmark | None = None, shots: Shots = NONE, split: str = "val"
) -> dict[str, Any]:
    """What run.json would say of VQAv2."""
    benchmark = benchmark or benchmark_named("vqav2")
    asked = list(questions(benchmark, files, split, "paper", answerer, shots))
    return settings(benchmark, split, "paper", asked, answerer, shots, None)


def seen_at(most: int) -> Key:
    """A model whose pictures have so many pixels at most."""
    key = Key("qwen2-vl-nano")
    key.spec = replace(key.spec, images=replace(key.spec.images, max_pixels=most))
    return key


class Fixed(Key):
    """A model that sees every picture in one size."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.side, self.side


def worded(**changes: Any) -> Benchmark:
    """VQAv2 with something else in its wording of the paper."""
    benchmark = benchmark_named("vqav2")
    return replace(benchmark, prompts={"paper": replace(benchmark.prompts["paper"], **changes)})


def test_a_runs_key_changes_with_all_that_decides_its_score(tmp_path: Path) -> None:
    files, changed = files_of("vqav2", tmp_path / "a"), files_of("vqav2", tmp_path / "b")
    annotations = changed / "v2_mscoco_val2014_annotations.json"
    annotations.write_text(annotations.read_text().replace("at table", "at chair"))
    decoding = Decoding(10, min_new_tokens=1)
    benchmark = benchmark_named("vqav2")
    runs = {
        "as it is": told(files, Fixed(448)),
        "words": told(files, Fixed(448), worded(text="{question} A:")),
        "system": told(files, Fixed(448), worded(system="Be brief.")),
        "limit of tokens": told(files, Fixed(448), worded(decoding=replace(decoding, max_new_tokens=9))),
        "temperature": told(files, Fixed(448), worded(decoding=replace(decoding, temperature=0.5))),
        "size of pictures": told(files, Fixed(224)),
        "native pictures": told(files, seen_at(1000)),
        "fewer pixels": told(files, seen_at(900)),
        "answers": told(changed, Fixed(448)),
        "examples": told(files, Fixed(448), shots=Shots(1)),
        "other examples": told(files, Fixed(448), shots=Shots(1, seed=1)),
        "more examples": told(files, Fixed(448), shots=Shots(2)),
        "split": told(files, Fixed(448), split="train"),
        "scoring": told(files, Fixed(448), replace(benchmark, version=2)),
    }
    assert len({run["key"] for run in runs.values()}) == len(runs)
    assert len({json.dumps(run["pixels"]) for run in runs.values()}) == 4
    parts = {name: {part.split(".")[0] for part, _, _ in what_differs(runs["as it is"], run)} for name, run in runs.items()}
    assert parts["as it is"] == set() and parts["words"] == {"prompt"} and parts["limit of tokens"] == {"prompt", "decoding"}
    assert parts["size of pictures"] == {"pixels"} and parts["answers"] == {"data"} and parts["examples"] == {"shots"}


def test_a_runs_key_is_the_same_in_any_order_and_on_any_machine(tmp_path: Path) -> None:
    benchmark = benchmark_named("vqav2")
    here, there = files_of("vqav2", tmp_path / "here"), files_of("vqav2", tmp_path / "there")
    first = told(here, Key())
    asked = list(questions(benchmark, there, "val", "paper", Key()))
    assert len(asked) > 1
    assert settings(benchmark, "val", "paper", asked[::-1], Key(), Shots(), None) == first
    assert not {"versions", "folder", "fingerprint", "batch"} & first.keys(), "none of these is in the key"
    assert settings(benchmark, "val", "paper", asked, Key(), Shots(), 10) == first, "a limit beyond the last question is none"
    assert settings(benchmark, "val", "paper", asked[:1], Key(), Shots(), 1)["limit"] == 1


def test_frames_of_clips_are_pinned_where_clips_are_asked_about(tmp_path: Path) -> None:
    benchmark, files = benchmark_named("mvbench"), files_of("mvbench", tmp_path)
    version, key = next(iter(benchmark.prompts)), Key("qwen2-vl-nano")
    few = Key("qwen2-vl-nano")
    assert few.spec.videos is not None
    few.spec = replace(few.spec, videos=replace(few.spec.videos, max_frames=4))
    runs = []
    for answerer in (key, few):
        asked = list(questions(benchmark, files, "test", version, answerer))
        runs.append(settings(benchmark, "test", version, asked, answerer, Shots(), None))
    assert runs[0]["key"] != runs[1]["key"] and runs[1]["pixels"]["videos"]["max_frames"] == 4
    pictures = files_of("vqav2", tmp_path)
    assert told(pictures, key)["key"] == told(pictures, few)["key"], "no clip is shown"


@pytest.mark.parametrize("name", NAMES)
def test_all_families_are_asked_the_same_data_wherever_it_lies(name: str, tmp_path: Path) -> None:
    benchmark, split, version = benchmark_named(name), fixtures()[name].split, next(iter(benchmark_named(name).prompts))
    hashes = set()
    for preset in PRESETS:
        files = files_of(name, tmp_path / preset)
        hashes.add(data_hash(list(questions(benchmark, files, split, version, Key(preset)))))
    assert len(hashes) == 1


def test_data_differ_by_one_truth_one_picture_and_one_embedded_picture(tmp_path: Path) -> None:
    def hashed(name: str, files: Path, split: str, version: str) -> str:
        return data_hash(list(questions(benchmark_named(name), files, split, version, Key())))

    files = files_of("vqav2", tmp_path)
    before = hashed("vqav2", files, "val", "paper")
    file = files / "v2_OpenEnded_mscoco_val2014_questions.json"
    content = file.read_text()
    file.write_text(content.replace('"image_id": 42,', '"image_id": 262148,'))
    assert hashed("vqav2", files, "val", "paper") != before
    file.write_text(content)
    assert hashed("vqav2", files, "val", "paper") == before
    file = files / "v2_mscoco_val2014_annotations.json"
    file.write_text(file.read_text().replace('"yes"', '"no"', 1))
    assert hashed("vqav2", files, "val", "paper") != before

    files = files_of("touchstone", tmp_path)
    (table,) = (path for path in files.iterdir() if "zh" not in path.name)
    before, content = hashed("touchstone", files, "en", "chat"), table.read_text(encoding="utf-8")
    embedded = [base64.b64encode(png(size)).decode() for size in ((200, 100), (200, 101))]
    table.write_text(content.replace(*embedded, 1), encoding="utf-8")
    assert hashed("touchstone", files, "en", "chat") != before


def test_withheld_answers_give_the_official_file_once_all_are_there(tmp_path: Path) -> None:
    files = files_of("grit_refexp", tmp_path)
    run = run_of("grit_refexp", files, tmp_path / "out", Babbler("<box>(100,100),(600,600)</box>"))
    assert run.scores == {} and run.groups == {} and run.points == {} and run.main is None and run.complete
    (path,) = write_submission(run)
    rows = json.loads(path.read_text())
    assert path.name == "refexp.json" and {row["example_id"] for row in rows} == {"refexp_0", "refexp_1"}
    lines = (tmp_path / "out" / PREDICTIONS).read_text(encoding="utf-8").splitlines()
    (tmp_path / "out" / PREDICTIONS).write_text(lines[0] + "\n", encoding="utf-8")
    path.unlink()
    part = score_folder(tmp_path / "out")
    with pytest.raises(EvaluationError, match="out: 1 questions have no answer yet; go on with the run"):
        write_submission(part)
    assert not path.exists() and not part.complete and "1 of 2 questions answered" in explained(part)
    assert write_submission(run_of("gqa", files_of("gqa", tmp_path), tmp_path / "gqa")) == [], "its answers are known"


def test_a_folder_that_cannot_be_scored_says_why(tmp_path: Path) -> None:
    files, out = files_of("gqa", tmp_path), tmp_path / "out"
    run = run_of("gqa", files, out)
    for change, why in (
        ({"version": 0}, "made by version 0 of gqa, scored by 1; ask it again in another folder"),
        ({"task": "gqaa"}, "no benchmark 'gqaa'"),
        ({"task": "scenes"}, "scenes are drawn on the spot"),
    ):
        write_json(out / RUN, dict(run.run) | change)
        with pytest.raises(EvaluationError, match=why):
            score_folder(out)
    write_json(out / RUN, dict(run.run))
    (out / PREDICTIONS).write_text("")
    with pytest.raises(EvaluationError, match="no predictions there yet"):
        score_folder(out)
    (out / PREDICTIONS).write_text('{"id": 1}\n')
    with pytest.raises(EvaluationError, match=r"predictions.jsonl:1: not a prediction .* remove the line"):
        score_folder(out)


def test_saved_files_tell_all_and_scores_come_back_without_the_model(tmp_path: Path) -> None:
    files, out = files_of("vqav2", tmp_path), tmp_path / "out"
    run = run_of("vqav2", files, out)
    scores = json.loads((out / "scores.json").read_text())
    assert scores == json.loads(json.dumps(run.to_json()))
    assert scores["scores"]["vqa_accuracy"]["value"] == 1.0 and scores["answered"] == scores["questions"] == 2
    assert set(scores["groups"]) == {"other", "yes/no"} and scores["groups"]["other"]["vqa_accuracy"]["n"] == 1
    (out / "scores.json").unlink()
    assert score_folder(out).scores == run.scores and (out / "scores.json").is_file()


def test_predictions_stand_in_the_order_of_the_questions_whatever_was_asked_first(tmp_path: Path) -> None:
    asked = list(questions(benchmark_named("mme"), files_of("mme", tmp_path), "test", "chat", Key()))
    for name, order in (("a", asked), ("b", asked[::-1])):
        (tmp_path / name).mkdir()
        predict(order[5:9], Key(), tmp_path / name, batch=2)
        found = predict(order, Key(), tmp_path / name, batch=3)
        lines = (tmp_path / name / PREDICTIONS).read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] == [one.id for one in found] == [question.id for question in order]


def test_reading_a_run_that_goes_on_takes_nothing_from_it(tmp_path: Path) -> None:
    """A line that is half written is no torn one: only who writes the file may cut it."""
    files, out = files_of("gqa", tmp_path), tmp_path / "out"
    run_of("gqa", files, out)
    lines = (out / PREDICTIONS).read_bytes().splitlines(keepends=True)
    (out / PREDICTIONS).unlink()
    part = out / "predictions.part0.jsonl"
    part.write_bytes(lines[0] + lines[1][:40])
    assert len(read_predictions(out)) == 1 and len(score_folder(out).predictions) == 1
    assert part.read_bytes() == lines[0] + lines[1][:40]
    again = run_of("gqa", files, out)
    assert again.complete and (out / PREDICTIONS).read_bytes() == b"".join(lines) and not part.exists()


def test_the_published_number_stands_beside_ours_with_what_explains_the_difference(tmp_path: Path) -> None:
    files = files_of("refcoco", tmp_path)
    run = run_of("refcoco", files, tmp_path / "a")
    assert run.published == 89.36
    split, model, measure, ours, published, apart, why = map(html.unescape, row_of(run)[1:])
    assert (split, model, measure, published, apart) == ("val", "Qwen-VL", "acc_iou_50", "89.36", "+10.6")
    assert ours == "100.0 (34.2–100.0)" and why == f"within our interval; prompt paper, {run.run['decoding']}"
    limited = run_of("refcoco", files, tmp_path / "b", Babbler("zzz"), limit=1)
    assert "the first 1 questions" in explained(limited) and "within our interval" not in explained(limited)
    lost = run_of("refcoco", files, tmp_path / "c", Lost())
    assert "1 without an answer" in explained(lost) and lost.main is not None and lost.main.value == 0.5
    unknown = run_of("refcoco", files, tmp_path / "d", model="mine")
    assert unknown.published is None and row_of(unknown)[5:] == ("–", "", "")
    assert run_of("refcoco", files, tmp_path / "e", model="org/Qwen2-VL-7B-Instruct").published is not None
    shown = run_of("vqav2", files_of("vqav2", tmp_path), tmp_path / "f", shots=Shots(2))
    assert "2 examples before each question" in explained(shown)


class Lost(Key):
    """Its server gives no reply to the first question."""

    def answer(self, asked: Sequence[Question]) -> list[Answer]:
        first, *others = sorted(super().answer(asked), key=lambda answer: answer.text)
        return [replace(first, text="", error="HTTP 500"), *others]


def few_shot(test: Sequence[str], train: Sequence[str]) -> Benchmark:
    """A benchmark of items named after their pictures."""

    def read(folder: Path, split: str) -> Any:
        names = train if split == "train" else test
        return (Item(f"{split}-{number}", {}, (ImagePart(f"{split}/{name}"),), name) for number, name in enumerate(names))

    prompts = {"paper": Prompt("?", "ours", Decoding(4))}
    return Benchmark("x", "X", "", "", {"test": Split((), shots="train"), "train": Split(())}, prompts, read, "m")


def test_examples_come_from_another_split_and_never_show_the_tests_picture() -> None:
    benchmark = few_shot(["a", "b", "c", "y", "z"], ["a", "b", "d", "e", "f", "g", "h", "i", "j", "k", "l"])
    items = list(benchmark.items(Path(), "test"))
    drawn = draw_shots(benchmark, Path(), "test", Shots(4, seed=1))
    chosen = {item.id: drawn(item) for item in items}
    assert chosen == {item.id: draw_shots(benchmark, Path(), "test", Shots(4, seed=1))(item) for item in reversed(items)}
    for item in items:
        assert len({one.id for one in chosen[item.id]}) == 4
        assert all(one.id.startswith("train-") and not pictures_of(one) & pictures_of(item) for one in chosen[item.id])
    assert len({tuple(one.id for one in found) for found in chosen.values()}) == 5, "each question has its own"
    other = draw_shots(benchmark, Path(), "test", Shots(4, seed=2))
    assert {item.id: other(item) for item in items} != chosen
    with pytest.raises(EvaluationError, match="x: train has 10 examples for test-0, and 11 are wanted; give fewer --shots"):
        draw_shots(benchmark, Path(), "test", Shots(11))(items[0])
    of_itself = replace(benchmark, splits={"test": Split((), shots="test")})
    for known, split in ((benchmark, "train"), (of_itself, "test")):
        with pytest.raises(EvaluationError, match=f"x: no split to take examples from for {split}; leave --shots out"):
            draw_shots(known, Path(), split, Shots(1))


def test_no_benchmark_takes_its_examples_from_what_it_asks(tmp_path: Path) -> None:
    drawn = 0
    for name in NAMES:
        benchmark = benchmark_named(name)
        for split in benchmark.splits.values():
            assert split.shots is None or benchmark.splits[split.shots].answers, "examples without answers"
            assert split.shots != "test", "of a test split"
        fixture, source = fixtures()[name], benchmark.splits[fixtures()[name].split].shots
        assert source != fixture.split
        if source is not None:
            files = files_of(name, tmp_path)
            known = {item.id for item in benchmark.items(files, source)}
            draw = draw_shots(benchmark, files, fixture.split, Shots(1))
            for item in benchmark.items(files, fixture.split):
                (example,) = draw(item)
                assert example.id in known and example.answer and not pictures_of(example) & pictures_of(item)
                drawn += 1
    assert drawn > 10


JUNK = (b"", b"\0junk{", b"[1, 2]\n", b'{"a": 1}\n')


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_wrong_with_files_is_one_line_each(name: str, tmp_path: Path) -> None:
    """A split whose files are whole is ready; without files, or with others of that name, it is a line and never a traceback."""
    benchmark, fixture = benchmark_named(name), fixtures()[name]
    files = files_of(name, tmp_path)
    ready = {found.split: found for found in check(benchmark, files)}
    assert ready[fixture.split].problem == "" and 0 < ready[fixture.split].read <= 3
    missing = [found.problem for found in check(benchmark, tmp_path / "nowhere")]
    assert len(missing) == len(benchmark.splits)
    assert all(line.startswith(f"{name} ") and ": no " in line and "nowhere" in line and "\n" not in line for line in missing)
    tables = [path for path in files.rglob("*") if path.is_file() and path.suffix not in (".jpg", ".jpeg", ".png", ".mp4")]
    for junk in JUNK:
        for path in tables:
            path.write_bytes(junk)
        problems = [found.problem for found in check(benchmark, files)]
        assert all(line.startswith(f"{name} ") and len(line) > len(name) + 20 for line in problems), (junk, problems)


def test_a_missing_picture_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    files = files_of("vqav2", tmp_path)
    (files / "val2014" / "COCO_val2014_000000000042.jpg").unlink()
    found = {one.split: one.problem for one in check(benchmark_named("vqav2"), files)}
    assert "COCO_val2014_000000000042.jpg" in found["val"] and found["val"].startswith("vqav2 val: ") and found["train"] == ""


def made_of(name: str, read: Callable[[Path, str], Any]) -> Benchmark:
    return replace(few_shot([], []), name=name, read=read)


def test_a_field_that_is_not_there_is_told_with_the_place_of_the_item() -> None:
    def read(folder: Path, split: str) -> Any:
        yield Item("0")
        yield Item({}["id"])

    benchmark = made_of("y", read)
    items = benchmark.items(Path("here"), "test")
    assert next(items).id == "0"
    with pytest.raises(SourceError, match=r"here, item 2 of test: not of the benchmark's form \(no field 'id'\)"):
        next(items)
