"""Every benchmark on a few rows in its true format: a model that knows the key gets the most, one that babbles the least, and the
exact prompt of every wording stays what it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from qwenvl.data.record import sample_to_record
from qwenvl.eval.asking import begin_of, with_specials
from qwenvl.eval.benchmark import Benchmark, questions
from qwenvl.eval.runner import ask, plain_text
from qwenvl.eval.scoring import score_benchmark
from qwenvl.eval.shelf import Shelf
from qwenvl.eval.task import Answer, Question
from qwenvl.eval.tasks import MODULES, NAMES, benchmark_named
from qwenvl.families import family_of_preset, find_preset
from qwenvl.processing.chat import render
from qwenvl.processing.image import describe, open_image, picture_size
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import ImagePart, Message, Sample, StoredPicture
from qwenvl.weights.hub import resolve
from tests.fast.eval_fixtures import Fixture
from tests.fast.eval_fixtures.drawn import png

SNAPSHOTS = Path(__file__).parent / "eval_fixtures" / "prompts"
PRESETS = ("qwen-vl-nano", "qwen2-vl-nano", "qwen2.5-vl-nano")


@cache
def fixtures() -> dict[str, Fixture]:
    found: dict[str, Fixture] = {}
    for module in MODULES:
        found |= import_module(f"tests.fast.eval_fixtures.{module}").FIXTURES
    return found


class Key:
    """Says word for word what a perfect model would say."""

    def __init__(self, preset: str = "qwen-vl-nano", chat: bool = False) -> None:
        self.style: Any = "chat" if chat else "raw"
        self.preset, self.markup, self.spec = preset, find_preset(preset).markup, family_of_preset(find_preset(preset))

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def answer(self, asked: Sequence[Question]) -> list[Answer]:
        return [self._one(question) for question in asked]

    def _one(self, question: Question) -> Answer:
        frame = tuple(question.truth["frame"]) if "frame" in question.truth else None
        said = plain_text([question.sample.messages[-1]], self.markup, frame)
        if question.options:
            # Only one of them is the answer.
            return Answer(said, ranked=tuple(-1.0 if option == said else -2.0 for option in question.options))
        return Answer(said.strip())


class Babbler(Key):
    def __init__(self, words: str, preset: str = "qwen-vl-nano") -> None:
        super().__init__(preset)
        self.words = words

    def _one(self, question: Question) -> Answer:
        if question.options:
            said = plain_text([question.sample.messages[-1]], self.markup)
            wrong = [option for option in question.options if option != said]
            return Answer(wrong[0], ranked=tuple(-1.0 if option == wrong[0] else -2.0 for option in question.options))
        return Answer(self.words)


def asked_of(benchmark: Benchmark, folder: Path, split: str, version: str, answerer: Any) -> list[Question]:
    return list(questions(benchmark, folder, split, version, answerer))


@pytest.mark.parametrize("name", NAMES)
def test_the_key_gets_the_most_and_nonsense_the_least(name: str, tmp_path: Path) -> None:
    fixture, benchmark = fixtures()[name], benchmark_named(name)
    fixture.build(tmp_path)
    for version in benchmark.prompts:
        for answerer, expected in ((Key(), fixture.best), (Babbler(fixture.nonsense), fixture.worst)):
            found = asked_of(benchmark, tmp_path, fixture.split, version, answerer)
            assert found and len(found) == (fixture.questions or len(found))
            predictions = ask(found, answerer, batch=8)
            if fixture.submission:
                assert benchmark.submit is not None
                assert set(benchmark.submit(predictions)) == set(fixture.submission)
                continue
            scores = score_benchmark(benchmark, fixture.judged(predictions), answerer.markup)
            for measure, value in expected.items():
                assert scores[measure].value == pytest.approx(value, abs=0.02), (version, measure)
            assert benchmark.measure in expected


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_what_they_were(name: str, tmp_path: Path) -> None:
    path = SNAPSHOTS / f"{name}.json"
    assert path.is_file(), f"write it with: python -m tests.fast.eval_fixtures.snapshot {name}"
    assert prompts_of(name, tmp_path) == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_no_picture_stays_in_memory(name: str, tmp_path: Path) -> None:
    """All questions of a benchmark are, and some have thousands of pictures in one file."""
    fixture, benchmark = fixtures()[name], benchmark_named(name)
    fixture.build(tmp_path)
    for item in benchmark.items(tmp_path, fixture.split):
        assert all(isinstance(part.image, str | StoredPicture) for part in item.visuals if isinstance(part, ImagePart))


def test_pictures_on_a_shelf_are_read_as_they_were_by_many_at_once() -> None:
    shelf = Shelf()
    contents = [png((index + 1, 2)) for index in range(40)]
    kept = [shelf.keep(content) for content in contents]
    assert kept[0] == Shelf().keep(contents[0]) != kept[1]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda picture: picture.read(), kept * 5)) == contents * 5
    assert [picture_size(picture) for picture in kept] == [(index + 1, 2) for index in range(40)]
    assert open_image(kept[6]).size == (7, 2) and describe(kept[6]) == f"picture of {len(contents[6])} bytes"
    sample = Sample((Message("user", (ImagePart(kept[6]),)),), id="one")
    [stored] = sample_to_record(sample)["images"]
    assert stored["bytes"] == contents[6]


def prompts_of(name: str, folder: Path) -> dict[str, Any]:
    """Wording -> preset -> the text with its picture slots, and the ids, of the first question. Without presets that take no video
    where there is one."""
    fixture, benchmark = fixtures()[name], benchmark_named(name)
    fixture.build(folder)
    found: dict[str, Any] = {}
    for version, prompt in benchmark.prompts.items():
        found[version] = {"source": prompt.source}
        for key in map(Key, PRESETS):
            question = asked_of(benchmark, folder, fixture.split, version, key)[0]
            if key.spec.videos is not None or len(question.sample.images) == len(question.sample.visuals):
                found[version][key.preset] = written(question, key)
    return found


def written(question: Question, key: Key) -> dict[str, Any]:
    """The prompt as the renderer writes it, one slot a picture."""
    tokenizer = shipped_tokenizer().of_family(key.spec)
    sample = replace(question.sample, messages=question.sample.messages[:-1])
    counts, frames = [1] * len(sample.visuals), [(1000, 1000)] * len(sample.visuals)
    style = question.style or key.style
    rendered = render(
        sample, tokenizer, key.spec, style, counts, True, key.markup, numbered=question.numbered, frames=frames,
    )  # fmt: skip
    ids = list(rendered.input_ids) + with_specials(tokenizer, begin_of(question.decoding, key.markup))
    return {"text": tokenizer.decode(ids), "ids": " ".join(map(str, ids))}


@cache
def shipped_tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(resolve("qwen-vl-nano"))


def test_the_page_lists_every_benchmark(repository: Path) -> None:
    """A row each, with its splits in their order and its wordings."""
    page = (repository / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(" `"): cells for line in page.splitlines() if len(cells := line.split("|")) == 7}
    for name in NAMES:
        benchmark, cells = benchmark_named(name), rows[name]
        assert cells[2].strip() == benchmark.title
        splits = [f"`{split}`" + ("" if of.answers else "†") for split, of in benchmark.splits.items()]
        assert [cell.strip() for cell in cells[3:6]] == [", ".join(splits), f"`{benchmark.measure}`", ", ".join(benchmark.prompts)]
    assert "Fifty-five" in (repository / "README.md").read_text(encoding="utf-8") and len(NAMES) == 55
