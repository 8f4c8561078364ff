"""Public datasets: a fixture in each true schema becomes Samples, which go to tokens and back for every family."""

from __future__ import annotations

import json
import pickle
import re
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from qwenvl.data.adapters.captions import read_img2dataset
from qwenvl.data.adapters.regions import read_refcoco
from qwenvl.data.adapters.registry import ADAPTERS, markdown
from qwenvl.data.adapters.vqa import most_confident
from qwenvl.data.places import for_markup
from qwenvl.data.shards import arrow
from qwenvl.data.sources import BadSample, SourceError
from qwenvl.processing.encode import Processor
from qwenvl.processing.image import open_image
from qwenvl.processing.regions import read_places, style_of
from qwenvl.processing.video import VideoError
from qwenvl.types import IGNORE_INDEX, CoordinatesPart, QwenVLError, RegionPart
from tests.adapter_cases import EXPECTED
from tests.adapters import FIXTURES, check_near, check_text, exchanged, samples_of
from tests.fast import test_native_rows

PAGE = Path(__file__).resolve().parents[2] / "docs/data_adapters.md"
FAMILIES = ("qwen_vl", "qwen2_vl", "qwen2_5_vl")
TRUTH = {
    "document": set(), "conversation": {"turns"}, "preference": {"turns", "rejected"},
    "phone_step": {"question", "call"}, "phone_instruction": {"question", "call"},
}  # fmt: skip

# Every adapter


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_fixture_becomes_its_samples(name: str) -> None:
    made = samples_of(name)
    assert [exchanged(sample) for sample in made] == EXPECTED[name]
    assert {sample.task for sample in made} == set(ADAPTERS[name].tasks)
    assert {sample.source for sample in made} == {name}
    assert len({sample.id for sample in made}) == len(made)
    for sample in made:
        assert all(open_image(part.image).width > 0 for part in sample.images)
        assert sample.language == ("zh" if re.search("[一-鿿]", exchanged(sample)) else "en")
        assert sample.extra["kind"] == sample.task
        assert TRUTH.get(sample.task, {"question", "answer"}) <= sample.extra.keys()
        assert json.loads(json.dumps(sample.extra)) == sample.extra


@cache
def processor(family: str) -> Processor:
    """With room for the phone's tool, whose words alone fill the context of the small presets."""
    ours = test_native_rows.processor(family)
    decoder = ours.config.decoder.model_copy(update={"max_position_embeddings": 4096})
    return Processor(ours.config.model_copy(update={"decoder": decoder}), ours.spec, ours.tokenizer, ours.markup)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_samples_go_to_tokens_and_back(name: str, family: str) -> None:
    """Decoded, the supervised tokens are the answers, with every place within one unit of the family's coordinates."""
    ours = processor(family)
    for made in samples_of(name):
        sample = for_markup(made, ours.markup)
        if len(sample.visuals) > len(sample.images):
            pytest.importorskip("av")
            if ours.spec.image_tokens.video_pad is None:
                with pytest.raises(VideoError, match="takes no video"):
                    ours.encode(sample, "raw")
                continue
        encoded = ours.encode(sample, "raw")
        supervised = encoded.labels != IGNORE_INDEX
        texts = [ours.tokenizer.decode(encoded.input_ids[chosen]) for chosen in (~supervised, supervised)]
        assert len(texts[1].split("<|endoftext|>")) == 1 + sum(message.role == "assistant" for message in sample.messages)
        _, rows, columns = encoded.grids[0].tolist() if len(encoded.grids) else (0, 0, 0)
        frame = (columns * ours.config.vision.patch_size, rows * ours.config.vision.patch_size)
        units = frame if style_of(ours.markup).in_pixels else (1000, 1000)
        for answers, text in enumerate(texts):
            messages = [message for message in sample.messages if answers == (message.role == "assistant")]
            check_text(messages, text, units)
            parts = [part for message in messages for part in message.parts]
            marked = [part for part in parts if isinstance(part, RegionPart)]
            assert all((part.phrase or "") in text for part in marked)
            if not any(isinstance(part, CoordinatesPart) for part in parts):
                found = read_places(text, ours.markup, frame=frame).regions
                check_near(found, [region for part in marked for region in part.regions], units)


def test_every_adapter_has_a_fixture_and_names_where_its_schema_was_read() -> None:
    assert {folder.name for folder in FIXTURES.iterdir()} == set(ADAPTERS) == set(EXPECTED)
    for name, adapter in ADAPTERS.items():
        assert re.search(r"[\w.-]+/[\w.-]+ @ [0-9a-f]{7}\b|https://", adapter.source), name
        assert (FIXTURES / name / "SOURCE.txt").read_text().strip() == adapter.source
        assert (adapter.boxes is None) == (adapter.convention is None)


def test_the_page_has_the_table_of_the_registry() -> None:
    assert markdown() in PAGE.read_text(encoding="utf-8")


# Files as they are distributed


def test_all_outputs_of_img2dataset_read_alike(tmp_path: Path) -> None:
    files = sorted((FIXTURES / "laion/00000").iterdir())
    tars, tables = tmp_path / "tars", tmp_path / "tables"
    tars.mkdir(), tables.mkdir()
    with tarfile.open(tars / "00000.tar", "w") as archive:
        for file in files:
            archive.add(file, file.name)
    about = [file for file in files if file.suffix == ".json"]
    rows = [json.loads(file.read_text()) | {"jpg": file.with_suffix(".jpg").read_bytes()} for file in about]
    failed = {**rows[0], "key": "000000002", "status": "failed_to_download", "error_message": "HTTP Error 404", "jpg": None}
    pa = arrow()
    pa.parquet.write_table(pa.Table.from_pylist([*rows, failed]), tables / "00000.parquet")
    for folder in (tars, tables):
        made = []
        for number, record in enumerate(read_img2dataset(folder)):
            try:
                made += ADAPTERS["laion"].samples(record, folder, number)
            except BadSample as error:
                assert (error.sample_id, error.reason) == ("laion 000000002", "not downloaded: HTTP Error 404")
        assert [exchanged(sample) for sample in made] == EXPECTED["laion"]
        assert [sample.extra for sample in made] == [sample.extra for sample in samples_of("laion")]
    pa.parquet.write_table(pa.Table.from_pylist([{"url": "https://example.org/1.jpg", "caption": "a"}]), tables / "00000.parquet")
    with pytest.raises(SourceError, match="has no pictures"):
        list(read_img2dataset(tables))


# Protocol 0, in which byte strings, Python 2's `str`, are S'...'.
PYTHON_2 = rb"""(lp0
(dp1
S'ref_id'
I7
sS'ann_id'
I540661
sS'image_id'
I9
sS'split'
S'val'
sS'sentences'
(lp2
(dp3
S'sent_id'
I1
sS'sent'
S'caf\xc3\xa9 boat'
sasa."""


def test_references_that_python_2_pickled_are_read_and_code_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "refcoco"
    folder.mkdir()
    (folder / "instances.json").write_text((FIXTURES / "refcoco/refcoco/instances.json").read_text())
    (folder / "refs(unc).p").write_bytes(PYTHON_2)
    [record] = read_refcoco(folder)
    assert record["ref"]["sentences"] == [{"sent_id": 1, "sent": "café boat"}]
    assert record["annotation"]["bbox"] == [8.0, 12.0, 32.0, 24.0] and record["image"]["width"] == 64
    for content, message in ((pickle.dumps(print), "builtins.print"), (b"", "not a pickle"), (pickle.dumps({}), "not a list")):
        (folder / "refs(unc).p").write_bytes(content)
        with pytest.raises(SourceError, match=message):
            list(read_refcoco(folder))


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    for name, adapter in ADAPTERS.items():
        with pytest.raises(SourceError, match=re.escape(str(tmp_path))):
            list(adapter.read(tmp_path))
            pytest.fail(f"{name} found something in an empty folder")


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_record_of_another_schema_is_refused_with_its_number(name: str) -> None:
    with pytest.raises(BadSample, match=re.escape(f"{name} record 5")):
        ADAPTERS[name].samples({"something": "else"}, FIXTURES, 5)


# What single schemas need


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        (["red"] * 4 + ["blue"] * 6, "blue"),
        (["red:maybe"] * 5 + ["blue:yes"] * 5, "blue"),
        (["red:yes"] * 3 + ["blue:maybe"] * 4 + ["grey:yes"] * 3, "blue"),
        (["red"] * 5 + ["blue"] * 5, "red"),
    ],
)
def test_the_answer_of_maximum_confidence(answers: list[str], chosen: str) -> None:
    parted = [answer.partition(":") for answer in answers]
    assert most_confident([{"answer": answer, "answer_confidence": own or "yes"} for answer, _, own in parted]) == chosen


def test_questions_about_letters_see_letters() -> None:
    lettered, plain = (open_image(sample.images[0].image) for sample in samples_of("ai2d"))
    red, white = (204, 51, 51), (255, 255, 255)
    assert plain.getpixel((10, 10)) == red and lettered.getpixel((10, 10)) == white
    label = lettered.crop((8, 8, 41, 25))
    dark = label.convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert dark is not None and dark[0] >= 4 and dark[2] <= 29, "a letter stands in the middle of the label"
    outside = [lettered.getpixel((x, y)) == plain.getpixel((x, y)) for x in range(64) for y in range(48) if x > 41 or y > 25]
    assert all(outside)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noun_chunks": [[0, 13, 0.0, 0.1, 1.2, 1.0, 0.7]]}, r"grit 000000000, characters 0 to 13: box .* leaves the picture"),
        ({"noun_chunks": [[0, 13, 10, 20, 300, 200, 0.7]]}, "wrong frame"),
        ({"noun_chunks": [[0, 99, 0.0, 0.1, 1.0, 1.0, 0.7]]}, "caption of 50 characters"),
        ({"original_width": 480, "original_height": 480}, "were drawn on one of 480x480"),
        ({"caption": " "}, "caption"),
        ({"ref_exps": None}, "not of the schema"),
    ],
)
def test_bad_grit_is_refused_with_its_id(change: dict[str, Any], message: str) -> None:
    [record] = read_img2dataset(FIXTURES / "grit")
    about = json.loads(record["json"]) | change
    with pytest.raises(QwenVLError, match=message) as refused:
        ADAPTERS["grit"].samples({**record, "json": about}, FIXTURES, 0)
    assert "grit" in str(refused.value)
