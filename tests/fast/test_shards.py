"""Samples to Parquet and back: nothing lost, files whole or absent, damage named in one line."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from qwenvl.data.record import RecordError, record_to_sample, sample_to_record
from qwenvl.data.shards import ShardError, ShardReader, ShardWriter, write_shard
from qwenvl.data.sources import BadSample, Shards, SourceError, records
from qwenvl.processing.image import ImageError, open_image, picture_size
from qwenvl.types import ImagePart, Message, Region, RegionPart, Sample, VideoPart

RED = Image.new("RGB", (30, 20), "red")


def sample(number: int = 0, picture: object = RED) -> Sample:
    places = (Region.box(0.1, 0.2, 0.3, 0.4, "the dog", 1), Region("quad", ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5))))
    return Sample(
        (
            Message.of("system", "Answer."),
            Message.of("user", ImagePart(picture, max_pixels=900), ImagePart(RED), "狗在哪里?", VideoPart([RED, RED], fps=2.0)),
            Message("assistant", (RegionPart("the dog", places), RegionPart(None, places[:1]), RegionPart("no place"))),
        ),
        id=f"s{number}", task="referring", language="zh", source="tests", extra={"value": [1.5, None], "deep": {"a": "b"}},
    )  # fmt: skip


def test_a_sample_survives_the_round_trip() -> None:
    before, record = sample(), sample_to_record(sample())
    after = record_to_sample(record | {name: json.loads(json.dumps(record[name])) for name in ("id", "messages", "extra")})
    assert [part for message in after.messages for part in message.parts if not isinstance(part, ImagePart | VideoPart)] == [
        part for message in before.messages for part in message.parts if not isinstance(part, ImagePart | VideoPart)
    ]
    assert (after.id, after.task, after.language, after.source, after.extra) == (
        before.id, before.task, before.language, before.source, before.extra,
    )  # fmt: skip
    assert after.images[0].max_pixels == 900 and after.images[1].max_pixels is None
    np.testing.assert_array_equal(np.asarray(open_image(after.images[0].image)), np.asarray(RED))
    clip = after.visuals[2]
    assert isinstance(clip, VideoPart) and len(clip.video) == 2 and clip.fps == 2.0


def test_a_picture_shown_twice_is_stored_once() -> None:
    record = sample_to_record(sample())
    assert len(record["images"]) == 1 and record["image_sizes"] == [[30, 20]]


def test_files_are_stored_as_they_are_or_by_name(tmp_path: Path) -> None:
    RED.save(tmp_path / "red.jpg")
    stored = sample_to_record(sample(picture=str(tmp_path / "red.jpg")))
    assert stored["images"][0]["bytes"] == (tmp_path / "red.jpg").read_bytes()
    named = sample_to_record(sample(picture=str(tmp_path / "red.jpg")), embed=False)
    assert named["images"][0] == {"bytes": None, "path": str(tmp_path / "red.jpg")}
    moved = named | {"images": [{"bytes": None, "path": "red.jpg"}, *named["images"][1:]]}
    assert record_to_sample(moved, tmp_path).images[0].image == str(tmp_path / "red.jpg")


def test_what_cannot_be_stored_or_read_names_the_sample() -> None:
    with pytest.raises(RecordError, match="sample 's0': cannot be stored"):
        sample_to_record(Sample(sample().messages, "s0", extra={"model": object()}))
    with pytest.raises(ImageError, match=r"sample 's0': /nowhere\.png: no such file"):
        sample_to_record(sample(picture="/nowhere.png"))
    with pytest.raises(RecordError, match="sample 'x': not a record of a Sample"):
        record_to_sample({"id": "x", "messages": '[{"role": "user", "parts": [{"type": "smell"}]}]'})


def test_shards_are_read_in_any_order(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "out", rows_per_shard=90) as writer:
        for number in range(200):
            writer.add(sample(number))
    reader = ShardReader(tmp_path / "out", groups_kept=1)
    assert writer.written == len(reader) == 200
    assert reader.group_rows == [64, 26, 64, 26, 20]
    assert [reader.sample(index).id for index in (199, 0, 64, 89, 90)] == ["s199", "s0", "s64", "s89", "s90"]
    assert Shards(tmp_path / "out").size == 200
    with pytest.raises(IndexError):
        reader.sample(200)


def test_shards_show_their_pictures_to_other_readers(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [sample()])
    schema = pq.read_schema(tmp_path / "a.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["images"] == {"feature": {"_type": "Image"}, "_type": "List"}


def test_a_writer_that_fails_leaves_whole_shards_alone(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, rows_per_shard=2) as writer:
        for number in range(3):
            writer.add(sample(number))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.parquet"]
    with pytest.raises(ShardError, match=r"part-00000\.parquet: there already"), ShardWriter(tmp_path):
        pass


def test_a_writer_says_at_once_that_its_folder_cannot_be_and_leaves_no_empty_shard(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="a file, not a folder"), ShardWriter(tmp_path / "file"):
        raise AssertionError("samples would be drawn for nothing")
    with ShardWriter(tmp_path / "none"):
        pass
    assert not list((tmp_path / "none").iterdir()), "the same command with better settings may go on here"


def test_bad_records_are_named_and_the_others_read(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [sample(number) for number in range(4)])
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    rows[1]["messages"] = "no JSON"
    rows[2]["images"][0]["bytes"] = b"no picture"
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(tmp_path / "a.parquet")), tmp_path / "b.parquet")
    refused: list[str] = []
    assert [good.id for good in ShardReader(tmp_path / "b.parquet").readable(refused)] == ["s0", "s3"]
    assert [line.split(":")[0] for line in refused] == ["sample 's1'", "sample 's2'"]


@pytest.mark.parametrize("about", [{"id": "\ud83d"}, {"extra": {"answer": "\ud83d"}}])
def test_half_of_a_character_is_refused_by_name(about: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="half of a character"):
        sample_to_record(replace(sample(), **about))
    with pytest.raises(RecordError, match=r"sample 'x': a text with half of a character \('\\ud83d'\)"):
        sample_to_record(Sample((Message.of("user", "a dog \ud83d"),), "x"))


def test_hidden_files_are_no_shards(tmp_path: Path) -> None:
    write_shard(tmp_path / "part-00000.parquet", [sample()])
    (tmp_path / "._part-00000.parquet").write_bytes(b"what macOS leaves beside a copy")
    assert len(ShardReader(tmp_path)) == 1


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no Parquet file there"):
        ShardReader(tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ShardError, match=r"bad\.parquet: not a readable Parquet file"):
        ShardReader(tmp_path / "bad.parquet")
    pq.write_table(pq.read_table(write(tmp_path)).select(["id"]), tmp_path / "ids.parquet")
    with pytest.raises(ShardError, match=r"ids\.parquet: no column images, messages"):
        ShardReader(tmp_path / "ids.parquet")


def write(folder: Path) -> Path:
    write_shard(folder / "good.parquet", [sample()])
    return folder / "good.parquet"


def test_records_of_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"text": "a", "n": "1"}, {"text": "猫, \"quoted\"", "n": "2"}]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text('text,n\na,1\n"猫, ""quoted""",2\n', encoding="utf-8")
    for name in ("a.json", "a.jsonl", "a.csv"):
        assert list(records(tmp_path / name)) == rows, name
    assert next(records(write(tmp_path)))["id"] == "s0"


def test_tar_files_of_one_stem_are_one_record(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        members = {"__meta__.json": b"{}", "0/a.JPG": b"1", "0/a.txt": b"2", "0/b.b.json": b"3", "README": b""}
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert list(records(tmp_path / "a.tar")) == [{"__key__": "0/a", "jpg": b"1", "txt": b"2"}, {"__key__": "0/b", "b.json": b"3"}]
    (tmp_path / "cut.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1100])
    with pytest.raises(SourceError, match=r"cut\.tar"):
        list(records(tmp_path / "cut.tar"))


def test_bad_records_name_file_and_line(tmp_path: Path) -> None:
    for name, content, message in [
        ("a.jsonl", '{"a": 1}\n{"a": ', "a.jsonl, line 2: not JSON"),
        ("b.json", '["x"]', "b.json, record 1: a str"),
        ("c.csv", "a,b\n1\n", "c.csv, line 2: not as many fields"),
        ("d.xlsx", "", "d.xlsx: not a kind of file"),
    ]:
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(SourceError, match=message):
            list(records(tmp_path / name))
    with pytest.raises(SourceError, match="no such file"):
        list(records(tmp_path / "none.json"))


def test_a_refusal_travels_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(BadSample("7", "its box is empty")))
    assert (error.sample_id, error.reason, str(error)) == ("7", "its box is empty", "sample '7': its box is empty")


def test_size_of_a_picture_is_that_of_the_upright_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    RED.save(tmp_path / "turned.jpg", exif=exif)
    assert picture_size(str(tmp_path / "turned.jpg")) == open_image(tmp_path / "turned.jpg").size == (20, 30)
    assert picture_size(RED) == (30, 20)
    with pytest.raises(ImageError, match="no such file"):
        picture_size("/nowhere.png")
