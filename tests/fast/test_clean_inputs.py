"""Pairs as they lie on disk: every layout gives the same rows, nothing is fetched, and what cannot be read is named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qwenvl.data.clean.config import Columns, Dataset
from qwenvl.data.clean.inputs import InputError, Pair, pairs, shard_files
from qwenvl.data.sources import SourceError
from tests.clean_corpus import WRITERS, Case, Maker


def dataset(path: Path, **options: Any) -> Dataset:
    return Dataset(name="x", inputs=(str(path),), **options)


def read(path: Path, **options: Any) -> list[Pair]:
    return list(pairs(path, dataset(path, **options)))


@pytest.mark.parametrize("kind", range(len(WRITERS)))
def test_every_layout_gives_the_same_rows(tmp_path: Path, kind: int) -> None:
    make = Maker(0)
    cases = [Case("", text, make.file()) for text in ('a dog\nand "a cat", both', "两只猫", "")]
    suffix, write = WRITERS[kind]
    write(tmp_path / f"00000{suffix}", cases, 0)
    found = read(tmp_path / f"00000{suffix}")
    assert [pair.text for pair in found] == [case.text for case in cases]
    assert [pair.content() for pair in found] == [case.image for case in cases]
    assert [pair.row for pair in found] == [0, 1, 2]


def test_metadata_of_img2dataset_beside_a_tar_is_no_shard(tmp_path: Path) -> None:
    WRITERS[0][1](tmp_path / "00000.tar", [Case("", "a dog", Maker(0).file())], 0)
    for name in ("00000_stats.json", "00001_stats.json", "notes.bin"):
        (tmp_path / name).write_text("{}")
    pq.write_table(pa.table({"text": ["x"], "url": ["http://x.org"]}), tmp_path / "00001.parquet")
    assert [file.name for file in shard_files(dataset(tmp_path))] == ["00000.tar", "00001.parquet"]
    assert [file.name for file in shard_files(dataset(tmp_path / "*.tar"))] == ["00000.tar"]
    for missing in (tmp_path / "none", tmp_path / "*.csv"):
        with pytest.raises(InputError, match="no such file"):
            shard_files(dataset(missing))
    with pytest.raises(InputError, match=r"notes.bin: not a kind of file"):
        shard_files(dataset(tmp_path / "notes.bin"))


def test_an_address_is_not_fetched_but_a_saved_file_is_found(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    saved, gone, upwards = (
        "https://Example.org/a/b%20c.jpg?size=1",
        "https://example.org/gone.jpg",
        "https://example.org/../rows.csv",
    )
    table.write_text("\n".join(["url,text", *(f"{url},a dog" for url in (saved, gone, upwards, "http://[", ""))]))
    (tmp_path / "example.org" / "a").mkdir(parents=True)
    (tmp_path / "example.org" / "a" / "b c.jpg").write_bytes(b"picture")
    found = read(table)
    assert [pair.image for pair in found] == [tmp_path / "example.org" / "a" / "b c.jpg", None, None, None, None]
    assert [pair.url for pair in found] == [saved, gone, upwards, "http://[", None]
    assert found[0].content() == b"picture"


def test_paths_start_from_the_folder_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("file_name,caption\na.jpg,a dog\n")
    assert read(tmp_path / "rows.csv")[0].image == tmp_path / "a.jpg"
    assert read(tmp_path / "rows.csv", images="/pictures")[0].image == Path("/pictures/a.jpg")
    with pytest.raises(OSError, match=r"a\.jpg"):
        read(tmp_path / "rows.csv")[0].content()


def test_a_path_that_leads_nowhere_is_not_fetched_where_there_is_an_address(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("path,text,url\na.jpg,a dog,http://x.org/a.jpg\nb.jpg,a dog,\n")
    fetched_later, never = read(tmp_path / "rows.csv")
    assert (fetched_later.image, fetched_later.url) == (None, "http://x.org/a.jpg")
    assert (never.image, never.url) == (tmp_path / "b.jpg", None)


def test_names_that_are_too_long_for_a_file_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.org").mkdir()
    long = "a" * 300
    (tmp_path / "rows.csv").write_text(f"path,text,url\n,a dog,http://x.org/{long}.jpg\n{long}.jpg,a dog,http://x.org/a.jpg\n")
    assert [pair.image for pair in read(tmp_path / "rows.csv")] == [None, None]


def test_the_synthetic_caption_of_laion_coco_counts_and_the_file_of_a_tar_before_its_metadata(tmp_path: Path) -> None:
    """img2dataset as dataset_examples/laion-coco.md there runs it: the web's text as KEY.txt, `top_caption` among the metadata."""
    about = {"caption": "web text", "TEXT": "web text", "image": "http://x.org/a.jpg", "url": "http://x.org/a.jpg"}
    for name, more in (("laion-coco.tar", {"top_caption": "a dog on a lawn"}), ("laion.tar", {"TEXT": "another"})):
        with tarfile.open(tmp_path / name, "w") as archive:
            for suffix, content in (("jpg", b"picture"), ("txt", b"web text"), ("json", json.dumps(about | more).encode())):
                member = tarfile.TarInfo(f"000000000.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    [synthetic], [plain] = read(tmp_path / "laion-coco.tar"), read(tmp_path / "laion.tar")
    assert (synthetic.text, plain.text) == ("a dog on a lawn", "web text")
    assert synthetic.image == plain.image == b"picture"


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("Bild,Satz,text\na.jpg,a dog,other\n")
    named = Columns(text="Satz", image="Bild", key="Bild")
    assert read(tmp_path / "rows.csv", columns=named) == [Pair(0, "a.jpg", "a dog", tmp_path / "a.jpg", None)]
    for columns, message in [
        (Columns(text="Wort"), "no column 'Wort'; it has bild, satz, text"),
        (Columns(), "which column is the picture?"),
    ]:
        with pytest.raises(InputError, match=message):
            read(tmp_path / "rows.csv", columns=columns)
    (tmp_path / "rows.csv").write_text("url,Satz\nhttp://x.org/a.jpg,a dog\n")
    with pytest.raises(InputError, match=r"rows.csv: which column is the text\? It has url, satz"):
        read(tmp_path / "rows.csv")


def test_a_tar_with_odd_metadata_is_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as archive:
        for name, content in [
            ("a.json", b"not json"),
            ("a.png", b"picture"),
            ("a.txt", b"caf\xe9"),
            ("b.json", json.dumps({"caption": "c"}).encode()),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    one, other = read(tmp_path / "00000.tar")
    assert (one.key, one.text, one.image) == ("a", "caf\ufffd", b"picture")
    assert (other.key, other.text, other.image) == ("b", "c", None)
    with pytest.raises(ValueError, match="no picture"):
        other.content()


def test_a_truncated_tar_gives_the_rows_before_the_damage(tmp_path: Path) -> None:
    make = Maker(0)
    path = tmp_path / "00000.tar"
    WRITERS[0][1](path, [make.good("") for _ in range(20)], 0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found: list[Pair] = []
    with pytest.raises(SourceError, match=r"00000.tar: damaged"):
        found.extend(pairs(path, dataset(path)))
    assert 5 < len(found) < 15


def test_half_of_a_character_becomes_the_sign_for_one(tmp_path: Path) -> None:
    row = {"text": "a dog \ud83d and \ud83d\ude00", "url": "http://x.org/\ud83d", "key": "\ud83d"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    [pair] = read(tmp_path / "a.jsonl")
    assert (pair.text, pair.url, pair.key) == ("a dog \ufffd and \U0001f600", "http://x.org/\ufffd", "\ufffd")


def test_a_folder_of_pictures_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,text\n")
    with pytest.raises(InputError, match="nowhere: no folder that paths of pictures could start from"):
        shard_files(dataset(tmp_path / "a.csv", images=str(tmp_path / "nowhere")))


def test_what_is_no_tar_is_said_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(SourceError, match=r"a\.tar: damaged after 'its start'") as error:
        read(tmp_path / "a.tar")
    assert "\n" not in str(error.value)
