"""Promises of Samples about pages of text, and of `qwenvl data synth`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli.main import main
from qwenvl.data import formats
from qwenvl.data.outlines import COLOUR, outlined, sheet
from qwenvl.data.record import record_to_sample, sample_to_record
from qwenvl.data.shards import ShardReader
from qwenvl.data.synth.generators import GENERATORS, Generated
from qwenvl.data.synth.text.page import make_page
from qwenvl.data.synth.text.samples import page_samples, samples
from qwenvl.data.synth.text.scripts import Script
from qwenvl.data.synth.text.spec import TextSpec
from qwenvl.data.synth.text.truth import Page
from qwenvl.types import ImagePart, Region, RegionPart, Sample, TextPart
from tests.round_trip import FAMILIES, check_round_trip
from tests.text_pages import need_fonts, small

ALL = ("ocr_quad", "ocr_words", "ocr_spotting", "ocr", "find_text", "read_place", "reading_order")


@pytest.fixture(autouse=True, scope="module")
def _fonts() -> None:
    need_fonts()


@cache
def page(script: Script = "en", index: int = 1) -> Page:
    return make_page(small(script, {"wave": {"share": 1.0}}), 3, index)


def asked(task: str, script: Script = "en", index: int = 1) -> Sample:
    [sample] = page_samples(page(script, index), (task,))  # type: ignore[arg-type]
    return sample


def regions(sample: Sample) -> list[Region]:
    return [region for turn in sample.messages for part in turn.parts if isinstance(part, RegionPart) for region in part.regions]


def test_ocr_is_box_b_of_the_paper() -> None:
    sample = asked("ocr_quad")
    question, answer = sample.messages
    assert question.parts[1:] == (TextPart("OCR with grounding:"),)
    assert answer.parts[0] == TextPart(" ")
    lines = [part for part in answer.parts[1:] if isinstance(part, RegionPart)]
    assert [line.phrase for line in lines] == [line.text for line in page().lines]
    width, height = page().picture.size
    for part, line in zip(lines, page().lines, strict=True):
        assert part.regions[0].kind == "quad"
        assert np.allclose(part.regions[0].points, np.asarray(line.quad) / (width, height))


def test_chinese_pages_are_asked_about_in_chinese_and_others_in_either() -> None:
    assert asked("ocr_quad", "zh").messages[0].parts[1] == TextPart(formats.OCR_QUAD_PROMPT["zh"])
    languages = {asked("ocr", "ru", index).extra["question_language"] for index in range(12)}
    assert languages == {"en", "zh"} and asked("ocr", "ru").language == "ru"


def test_words_are_asked_of_a_page_or_of_one_line() -> None:
    few = asked("ocr_words")
    assert few.extra["texts"] == [word.text for line in page().lines for word in line.words]
    full = make_page(small(layout={"rows": (9, 9), "text_scale": (0.03, 0.03), "stack_full": 1.0}), 3, 1)
    [sample] = page_samples(full, ("ocr_words",))
    assert regions(sample)[0].kind == "box" and " ".join(sample.extra["texts"]) in [line.text for line in full.lines]


def test_reading_finding_and_order_agree_with_the_page() -> None:
    lines = page().lines
    assert asked("ocr").messages[1].parts == (TextPart("\n".join(line.text for line in lines)),)
    found = asked("find_text")
    [line] = [line for line in lines if line.text == found.extra["texts"][0]]
    [box] = regions(found)
    corners = np.asarray(line.quad) / page().picture.size
    assert np.allclose(box.points, [corners.min(axis=0), corners.max(axis=0)])
    read = asked("read_place")
    assert read.messages[1].parts == (TextPart(read.extra["texts"][0]),) and regions(read)[0].kind == "box"
    order = asked("reading_order")
    numbers = [int(number) for number in order.extra["answer"].split(", ")]
    shown = regions(order)
    assert sorted(numbers) == list(range(1, len(shown) + 1)) and len(shown) >= 3
    places = [tuple(shown[number - 1].points) for number in numbers]
    boxes = [np.asarray(line.quad) / page().picture.size for line in lines if line.text in order.extra["texts"]]
    assert np.allclose(places, [[box.min(axis=0), box.max(axis=0)] for box in boxes])


@pytest.mark.parametrize("script", ["en", "zh", "ar"])
def test_samples_are_whole_and_come_back_from_shards(script: Script) -> None:
    made = page_samples(page(script), ALL)
    assert [sample.task for sample in made] == list(ALL) and len({sample.id for sample in made}) == len(ALL)
    for sample in made:
        assert sample.source == "synth/text" and sample.language == script
        assert all(region.check(sample.id) for region in regions(sample))
        assert len(sample.extra["quads"]) == len(sample.extra["texts"]) > 0
        assert json.loads(json.dumps(sample.extra)) == sample.extra
        assert record_to_sample(sample_to_record(sample)) == sample


@pytest.mark.parametrize("family", FAMILIES)
def test_places_come_back_from_the_tokens_of_every_family(family: str) -> None:
    for sample in page_samples(page(), ALL):
        check_round_trip(sample, family)


def test_a_page_without_text_has_no_samples() -> None:
    empty = make_page(small(layout={"text_scale": (0.9, 1.0), "margin": (0.3, 0.3), "columns": (3, 3)}), 0, 0)
    assert not empty.lines and page_samples(empty, ALL) == []


def test_signs_have_no_order() -> None:
    """They lie anywhere, so that nobody could say which one is read first."""
    spec = small(preset="signs", kind="signs", tasks=("ocr", "reading_order"))
    assert [sample.task for index in range(3) for sample in samples(spec, 0, index)] == ["ocr"] * 3


def test_the_generator_is_the_module() -> None:
    spec = GENERATORS["text"].read_spec({"short_size": [280, 300], "languages": ["en"], "tasks": ["ocr"]}, "test")
    assert isinstance(spec, TextSpec)
    assert GENERATORS["text"].samples(spec, 0, 0) == samples(spec, 0, 0)


# To look at


def test_outlines_are_drawn_on_a_copy() -> None:
    picture = Image.new("RGB", (80, 60), "white")
    square = Region("quad", ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)))
    sample = Sample(formats.ocr_quad(picture, [("a", square)], "en"))
    [drawn] = outlined(sample)
    assert COLOUR in (drawn.getpixel((40, 14)), drawn.getpixel((40, 15))) and drawn.getpixel((40, 30)) == (255, 255, 255)
    assert picture.getextrema() == ((255, 255),) * 3
    assert sheet([drawn] * 5, columns=4, side=40).size == (4 * 40 + 3 * 6, 2 * 30 + 6)


# The command


SMALL = ["--set", "short_size=[260,300]", "paper.short_size=[200,260]", "layout.text_scale=[0.06,0.1]"]


def test_synth_writes_the_samples_of_the_generator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shards"
    command = ["data", "synth", "text", str(out), "--count", "3", "--index", "5", "--seed", "2", "--languages", "en", *SMALL]
    assert main([*command, "--pictures", "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "3 samples" in capsys.readouterr().out
    made = json.loads((out / "synth.json").read_text(encoding="utf-8"))
    assert made["generator"] == "text" and made["spec"]["short_size"] == [260, 300] and made["refused"] == []
    source = Generated("text", made["spec"], 2)
    reader = ShardReader(out)
    for number in range(3):
        stored, drawn = reader.sample(number), source.sample(5 + number)
        assert (stored.id, stored.extra, stored.images) == (drawn.id, drawn.extra, drawn.images)
        assert isinstance(stored.images[0], ImagePart) and stored.images[0].image[:2] == b"\xff\xd8"
    saved = sorted((out / "pictures").iterdir())
    assert [path.name[:8] for path in saved] == ["000005-0", "000006-0", "000007-0"]
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width == 3 * 320 + 2 * 6


def test_synth_lists_generators_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "synth"]) == 0
    assert all(name in capsys.readouterr().out for name in ("text ",)) and main(["data", "synth", "text"]) == 2
    assert "give the folder to write into" in capsys.readouterr().err
    for arguments, message in (
        (["txt", "x"], "generator 'txt' is not known; did you mean 'text'?"),
        (["text", "x", "--languages", "en", "de"], "languages.1"),
        (["chart", "x", "--languages", "ar"], "not a choice of generator chart"),
        (["text", "x", "--set", "effects.curl.shar=1"], "did you mean 'share'?"),
        (["text", "x", "--count", "0"], "ask for at least one sample"),
        (["text", "x", "--seed", "-1"], "--seed: -1 is too small; give 0 or more"),
        (["text", "x", "--set", "short_size=[1000,100000]"], "a picture or paper may have 67,108,864 pixels"),
        (["text", "x", "--sheet", str(tmp_path)], "is a folder; give the name of a file"),
    ):
        assert main(["data", "synth", *arguments]) != 0
        assert message in capsys.readouterr().err
    assert not Path("x").exists()
