"""Public datasets: a fixture in each true schema becomes Samples, which go to tokens and back for every family."""

from __future__ import annotations

import json
import pickle
import re
import tarfile
from collections.abc import Sequence
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
from qwenvl.types import IGNORE_INDEX, QwenVLError, Region, RegionPart, TextPart
from tests.adapters import FIXTURES, exchanged, samples_of
from tests.fast import test_native_rows

PAGE = Path(__file__).resolve().parents[2] / "docs/data_adapters.md"
FAMILIES = ("qwen_vl", "qwen2_vl", "qwen2_5_vl")

CAPTIONED = "Generate the caption in English:| "
BOAT = "<box>(125,250),(625,750)</box>"
REFERRED = [
    f"<ref>boat in front</ref>|{BOAT}", f"<ref>This</ref>{BOAT}| is boat in front",
    f"<ref>small boat</ref>|{BOAT}", f"<ref>This</ref>{BOAT}| is small boat",
]  # fmt: skip
HANGER = "a wire hanger with a paper cover that reads thanks"
COVER, WIRE = "<box>(250,250),(750,750)</box>", "<box>(0,125),(999,999)</box>"

# Question and answer of every Sample of a fixture, as the published Qwen-VL writes them.
EXPECTED = {
    "laion": [f"{CAPTIONED}A red kite over the bay", "用中文生成图片描述：|海边的红色风筝"],
    "laion_coco": [f"{CAPTIONED}a kite flies over the water"],
    "coyo": [f"{CAPTIONED}Wooden boat at the pier"],
    "datacomp": [f"{CAPTIONED}Blue enamel teapot, 1 litre"],
    "cc3m": [f"{CAPTIONED}a teapot on the table in the garden ."],
    "cc12m": [f"{CAPTIONED}<PERSON> pours tea in the garden"],
    "sbu": [f"{CAPTIONED}My cat in the green chair"],
    "coco_captions": [f"{CAPTIONED}Two plates of rice on a mat.", f"{CAPTIONED}Rice and beans for two."] * 2,
    "vqav2": [" What colour is the boat? Answer:| grey"],
    "gqa": [" Is the boat grey? Answer:| yes"],
    "vgqa": [" What stands on the table? Answer:| A teapot."],
    "ocr_vqa": [" Who wrote this book? Answer:| Ada Quill", " What is the title of this book? Answer:| Tea for Boats"],
    "docvqa": [" What is the total? Answer:| $12.50"],
    "textvqa": [" what is the brand of this kettle? Answer:| steam"],
    "dvqa": [" How many units did item tea sell? Answer:| 7"],
    "chartqa": [" Which bar is red? Answer:| Tea", " What was the value in 2018? Answer:| 4.2"],
    "ai2d": [
        "\nQuestion: What is A in the diagram?\nOptions: A. ears\nB. nose\nC. mouth\nD. face\nAnswer:| B",
        "\nQuestion: What do ears do?\nOptions: A. hear\nB. see\nAnswer:| A",
    ],
    "grit": [
        f"Generate the caption in English with grounding:| <ref>a wire hanger</ref>{WIRE} with "
        f"<ref>a paper cover that reads thanks</ref>{COVER}",
        f"<ref>{HANGER}</ref>|{WIRE}", f"<ref>This</ref>{WIRE}| is {HANGER}",
        f"<ref>a paper cover that reads thanks</ref>|{COVER}", f"<ref>This</ref>{COVER}| is a paper cover that reads thanks",
    ],
    "vg_regions": [
        "<ref>the lid of a teapot</ref>|<box>(250,250),(750,750)</box>",
        "<ref>This</ref><box>(250,250),(750,750)</box>| is the lid of a teapot",
        "<ref>a table</ref>|<box>(500,792),(999,999)</box>",  # as annotators draw: a pixel beyond the picture's edge
        "<ref>This</ref><box>(500,792),(999,999)</box>| is a table",
    ],
    "refcoco": REFERRED, "refcoco+": REFERRED, "refcocog": REFERRED,
    "synthdog": ["Read all the text in the image.|Tea keeps warm under a cosy", "读出图中的所有文字。|茶在壶中保温"],
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
        [picture] = sample.images
        assert open_image(picture.image).width > 0
        assert sample.language == ("zh" if re.search("[一-鿿]", exchanged(sample)) else "en")
        assert {"kind", "question", "answer"} <= sample.extra.keys()
        assert json.loads(json.dumps(sample.extra)) == sample.extra


@cache
def processor(family: str) -> Processor:
    return test_native_rows.processor(family)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_samples_go_to_tokens_and_back(name: str, family: str) -> None:
    """Decoded, the supervised tokens are the answer, with every region within one unit of the family's coordinates."""
    ours = processor(family)
    for made in samples_of(name):
        sample = for_markup(made, ours.markup)
        encoded = ours.encode(sample, "raw")
        supervised = encoded.labels != IGNORE_INDEX
        asked, said = (ours.tokenizer.decode(encoded.input_ids[chosen]) for chosen in (~supervised, supervised))
        assert said.endswith("<|endoftext|>")
        _, rows, columns = encoded.grids[0].tolist()
        frame = (columns * ours.config.vision.patch_size, rows * ours.config.vision.patch_size)
        for message, text in zip(sample.messages, (asked, said), strict=True):
            assert all(part.text in text for part in message.parts if isinstance(part, TextPart))
            marked = [part for part in message.parts if isinstance(part, RegionPart)]
            assert all((part.phrase or "") in text for part in marked)
            found = read_places(text, ours.markup, frame=frame).regions
            units = frame if style_of(ours.markup).in_pixels else (1000, 1000)
            check_near(found, [region for part in marked for region in part.regions], units)


def check_near(found: Sequence[Region], expected: Sequence[Region], units: tuple[int, int]) -> None:
    assert [region.kind for region in found] == [region.kind for region in expected]
    for one, other in zip(found, expected, strict=True):
        for point, true in zip(one.points, other.points, strict=True):
            assert all(abs(a - b) * unit <= 1 + 1e-9 for a, b, unit in zip(point, true, units, strict=True))


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
