"""Texts, clips, screens, classes and web documents: what their schemas leave open, and what is refused for it."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwenvl.data.adapters import samples
from qwenvl.data.adapters.registry import ADAPTERS
from qwenvl.data.formats import CAPTION_PROMPT
from qwenvl.data.shards import arrow
from qwenvl.data.sources import BadSample, SourceError, records
from qwenvl.types import ImagePart, QwenVLError, Sample, TextPart, VideoPart
from tests.adapters import FIXTURES, folder_of, samples_of

ROW = '{"text": "Tea."}\n'


def made(name: str, folder: Path) -> list[Sample]:
    adapter = ADAPTERS[name]
    return [sample for number, record in enumerate(adapter.read(folder)) for sample in adapter.samples(record, folder, number)]


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder_of(name), tmp_path / name))


# Texts


def test_lines_of_json_may_be_packed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.jsonl", ROW), archive.writestr("b.jsonl", ROW)
    (tmp_path / "one.json.gz").write_bytes(gzip.compress(ROW.encode()) + gzip.compress(ROW.encode()))
    for name in ("two.zip", "one.json.gz"):
        assert list(records(tmp_path / name)) == [{"text": "Tea."}] * 2


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_damaged_packed_files_are_named(tmp_path: Path, suffix: str) -> None:
    whole = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.jsonl", ROW * 50)
    else:
        whole.write(gzip.compress((ROW * 50).encode()))
    file, content = tmp_path / f"a{suffix}", whole.getvalue()
    broken = bytearray(content)
    broken[40 if suffix == ".zip" else 14] ^= 255  # in what is packed, after its header
    for damaged in (content[:-9], bytes(broken), b"Tea.", content[: len(content) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(SourceError, match=str(file)):
            list(records(file))


def test_texts_of_one_name_in_two_folders_have_ids_of_their_own(tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "c4-train.00000-of-01024.json.gz").write_bytes(gzip.compress(ROW.encode()))
        (tmp_path / part / "x.txt").write_text("Tea.\n\n \nMore tea.\n")
    for name, count in (("c4", 2), ("text", 4), ("text_files", 2)):
        found = made(name, tmp_path)
        assert len({sample.id for sample in found}) == len(found) == count
    pa = arrow()
    (tmp_path / "table").mkdir()
    pa.parquet.write_table(pa.Table.from_pylist([{"text": "Tea."}, {"text": ""}]), tmp_path / "table/a.parquet")
    with pytest.raises(BadSample, match=r"c4 a\.parquet 1': its text is '', not a text"):
        made("c4", tmp_path / "table")
    (tmp_path / "table/a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SourceError, match="not UTF-8"):
        made("text_files", tmp_path / "table")


def test_an_english_caption_with_a_chinese_word_is_asked_for_in_english() -> None:
    for text, language in (("A sign that reads 出口 above a door", "en"), ("一只iPhone手机", "zh")):
        made = samples.caption(b"", text, id="x", source="x")
        assert made.language == language and made.messages[0].parts[-1] == TextPart(CAPTION_PROMPT[language])


# Clips


def test_clips_lie_in_the_folder_or_in_one_in_it(tmp_path: Path) -> None:
    for name in ("activitynet_qa", "nextqa", "charades_sta", "activitynet_captions"):
        for sample in samples_of(name):
            [clip] = sample.visuals
            assert isinstance(clip, VideoPart) and Path(clip.video).suffix == ".mp4"
        gone = copied(name, tmp_path)
        for file in gone.rglob("*.mp4"):
            file.unlink()
        with pytest.raises(BadSample, match=f"{name} .*its video is not there"):
            made(name, gone)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AO8RW 0.0 6.9 a person puts a book on a shelf.", "is not VIDEO START END##SENTENCE"),
        ("AO8RW 0.0##a person puts a book on a shelf.", "is not VIDEO START END##SENTENCE"),
        ("AO8RW 6.9 6.9##a person", "from 6.9 to 6.9 s"),
        ("AO8RW 6.9 0.0##a person", "from 6.9 to 0 s"),
        ("AO8RW -1 2.0##a person", "from -1 to 2 s"),
        ("AO8RW 0.0 soon##a person", "could not convert"),
    ],
)
def test_times_that_are_none_are_refused(line: str, message: str) -> None:
    with pytest.raises(BadSample, match=message):
        ADAPTERS["charades_sta"].samples({"line": line, "split": "train", "number": 0}, FIXTURES / "charades_sta", 0)


@pytest.mark.parametrize(
    ("times", "ends"),
    [([0, 1.5], 1.5), ([0, 2.9], 2.0), ([0, 3.1], None), ([1, 0.5], None), ([-1, 1], None), ([2.5, 2.9], None)],
)
def test_an_event_may_end_a_little_late(times: list[float], ends: float | None) -> None:
    about = {"duration": 2.0, "timestamps": [times], "sentences": ["Tea."]}
    record = {"video": "v_QOlSCBRmfWY", "file": "val_1", "about": about}
    if ends is None:
        with pytest.raises(BadSample, match=r"event 0': from .* of a video of 2 s"):
            ADAPTERS["activitynet_captions"].samples(record, FIXTURES / "activitynet_captions", 0)
        return
    events, asked = ADAPTERS["activitynet_captions"].samples(record, FIXTURES / "activitynet_captions", 0)
    assert events.extra["spans"] == [[0, ends, "Tea."]] and asked.extra["span"] == [0, ends]
    assert events.extra["split"] == "val"


# Screens


def screen(name: str, **change: Any) -> list[Sample]:
    records = [record for record in ADAPTERS[name].read(FIXTURES / name) if "elements" not in record]
    return ADAPTERS[name].samples(records[0] | change, FIXTURES / name, 0)


@pytest.mark.parametrize(
    ("name", "box", "message"),
    [
        ("screenspot", [8, 12, 60, 24], "screenspot web 0: box .* leaves the picture"),
        ("os_atlas", [0.1, 0.2, 1.3, 0.4], "os_atlas windows_splited 0, element 0: box .* leaves the picture"),
        ("seeclick", [0.5, 0.2, 0.3, 0.4], "seeclick widget_captioning 0, element 0: box"),
    ],
)
def test_bad_elements_are_refused_with_their_id(name: str, box: list[float], message: str) -> None:
    with pytest.raises(QwenVLError, match=message):
        screen(name, bbox=box)


def test_elements_that_are_not_on_the_screen_are_left_out() -> None:
    assert screen("seeclick", bbox=[-0.1, 0.2, 0.3, 0.4]) == []
    assert [sample.extra["phrase"] for sample in samples_of("seeclick")] == ["Home", "Home", "go back", "go back"]
    assert {sample.extra["split"] for sample in samples_of("screenspot")} == {"test"}  # a benchmark stays out of training


def test_splits_that_are_not_known_are_not_guessed(tmp_path: Path) -> None:
    """Without the list of what is for testing, it would be trained on."""
    for name, file in (("ai2d", "ai2d_test_ids.csv"), ("android_control", "splits.json")):
        folder = copied(name, tmp_path)
        (folder / file).unlink()
        with pytest.raises(SourceError, match=f"no {file} there"):
            made(name, folder)


# Classes


def test_class_folders_without_splits_or_names(tmp_path: Path) -> None:
    for folder in ("grey_boat/deep", "茶壶", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "grey_boat/deep/1.PNG")
    Image.new("RGB", (8, 6)).save(tmp_path / "茶壶/1.webp")
    (tmp_path / "grey_boat/notes.txt").write_text("no picture")
    found = made("image_folder", tmp_path)
    assert [(sample.extra["answer"], sample.language) for sample in found] == [("grey boat", "en"), ("茶壶", "zh")]
    assert all("split" not in sample.extra for sample in found)
    with pytest.raises(SourceError, match="no CLASS/PICTURE there"):
        made("image_folder", tmp_path / "empty")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"language": "fr"}, "'fr', neither English nor Chinese"), ({"is_main_image": "False"}, "not the main picture"),
     ({"page_title": " "}, "not a text")],
)  # fmt: skip
def test_titles_that_name_no_picture_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = copied("wit", tmp_path)
    file = folder / "00000/000000000.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BadSample, match=f"wit 000000000': .*{message}"):
        made("wit", folder)


# Web documents


def kinds(sample: Sample) -> list[str]:
    return [part.text if isinstance(part, TextPart) else Path(str(part.image)).name for part in sample.messages[0].parts]  # type: ignore[union-attr]


def test_pictures_stand_in_reading_order(tmp_path: Path) -> None:
    assert kinds(samples_of("obelics")[0])[1] == "000000000.jpg"
    assert kinds(samples_of("mmc4")[0])[1] == "b9040a0dbb22.jpg"  # before the sentence that it is matched to
    folder = copied("mmc4", tmp_path)
    pictures = folder / "docs_no_face_shard_0_v3_images"
    shutil.copy(pictures / "b9040a0dbb22.jpg", pictures / "db1c21bc8474.jpg")
    [both] = made("mmc4", folder)
    assert [isinstance(part, ImagePart) for part in both.messages[0].parts] == [False, True, False, True, False]
    assert both.extra["missing"] == 0 and both.extra["similarities"] == [[0.24, 0.31, 0.21], [0.2, 0.22, 0.27]]


def test_documents_without_their_pictures_are_refused(tmp_path: Path) -> None:
    for name in ("obelics", "mmc4"):
        folder = copied(name, tmp_path)
        for file in folder.rglob("*.jpg"):
            file.unlink()
        with pytest.raises(BadSample, match=f"{name} .*none of its 2 pictures is there"):
            made(name, folder)


def test_pictures_of_obelics_may_be_in_its_rows(tmp_path: Path) -> None:
    picture = (FIXTURES / "obelics/images/00000/000000000.jpg").read_bytes()
    row = {"texts": [None, "Tea for two."], "images": [{"bytes": picture, "path": None}, None], "general_metadata": None}
    pa = arrow()
    pa.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    [sample] = made("obelics", tmp_path)
    assert sample.images[0].image == picture and sample.extra["missing"] == 0
