"""`qwenvl data adapters|convert`: a dataset's files become shards and a report; what is refused is counted and named."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from qwenvl.cli.data_convert import Adapters, Convert, convert, list_adapters
from qwenvl.data.adapters.frames import FrameError
from qwenvl.data.adapters.registry import ADAPTERS, AdapterError, adapter_named, markdown
from qwenvl.data.shards import ShardReader
from tests.adapters import FIXTURES, exchanged


def copies(tmp_path: Path, count: int, box: Callable[[int], list[float]]) -> Path:
    """RefCOCO's fixture with `count` references whose boxes `box(number)` gives."""
    folder = tmp_path / "refcoco"
    (folder / "train2014").mkdir(parents=True)
    source = FIXTURES / "refcoco"
    name = "COCO_train2014_000000000009.jpg"
    (folder / "train2014" / name).write_bytes((source / "images/mscoco/images/train2014" / name).read_bytes())
    instances = json.loads((source / "refcoco/instances.json").read_text())
    [annotation] = instances["annotations"]
    instances["annotations"] = [annotation | {"id": number, "bbox": box(number)} for number in range(count)]
    (folder / "instances.json").write_text(json.dumps(instances))
    same = {"image_id": 9, "sentences": [{"sent": "boat", "sent_id": 1}]}
    refs = [same | {"ref_id": n, "ann_id": n, "split": "train" if n % 2 else "testA"} for n in range(count)]
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=0))
    return folder


def spread(number: int) -> list[float]:
    """Boxes xywh all over a picture of 64 x 48, some at its right and lower edge."""
    left, top = 6.0 * (number % 10), 8.0 * (number % 6)
    return [left, top, 64 - left, 48 - top] if number % 3 == 0 else [left / 2, top / 2, 10.0, 8.0]


def test_a_folder_becomes_shards_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def box(number: int) -> list[float]:
        return [60.0, 10.0, 20.0, 10.0] if number == 5 else spread(number)

    folder, out = copies(tmp_path, 40, box), tmp_path / "shards"
    assert convert(Convert("refcoco", folder, out)) == 0
    samples = [ShardReader(out).sample(number) for number in range(38)]
    assert len(ShardReader(out)) == 38
    assert isinstance(samples[0].images[0].image, bytes)
    assert [sample.task for sample in samples] == ["referring", "naming"] * 19
    assert exchanged(samples[0]).startswith("<ref>boat</ref>|<box>(")
    report = json.loads((out / "report.json").read_text())
    assert (report["records"], report["samples"], report["bad"]) == (40, 38, 1)
    assert report["by_task"] == {"naming": 19, "referring": 19} and report["not_wanted"] == {"test": 40}
    [bad] = [json.loads(line) for line in (out / "bad.jsonl").read_text().splitlines()]
    assert bad["id"] == "refcoco 5-1" and "leaves the picture" in bad["reason"] and report["first_bad"] == [bad]
    printed = capsys.readouterr().out
    assert "38 samples (naming 19, referring 19) of 40 records" in printed and "refcoco 5-1" in printed

    assert convert(Convert("refcoco", folder, tmp_path / "some", split="all", tasks=("naming",), limit=3, paths=True)) == 0
    some = ShardReader(tmp_path / "some")
    assert [some.sample(number).extra["kind"] for number in range(len(some))] == ["naming"] * 3
    assert isinstance(some.sample(0).images[0].image, str)
    assert json.loads((tmp_path / "some/report.json").read_text())["not_wanted"] == {"referring": 3}
    assert convert(Convert("refcoco", folder, tmp_path / "none", split="val")) == 1


def test_a_dataset_in_another_frame_is_refused_whole(tmp_path: Path) -> None:
    def corners(number: int) -> list[float]:
        left, top, width, height = spread(number)
        return [left, top, left + width, top + height]

    folder = copies(tmp_path, 40, corners)
    with pytest.raises(FrameError, match=r"read as xywh in pixels .* as xyxy in pixels nearly all do.*--trust-boxes"):
        convert(Convert("refcoco", folder, tmp_path / "shards"))
    assert not (tmp_path / "shards").exists()
    assert convert(Convert("refcoco", folder, tmp_path / "shards", trust_boxes=True)) == 0
    assert json.loads((tmp_path / "shards/report.json").read_text())["bad"] > 5


@pytest.mark.parametrize(("verify", "bad"), [(False, 1), (True, 2)])
def test_pictures_that_cannot_be_read_are_named(tmp_path: Path, verify: bool, bad: int) -> None:
    folder = tmp_path / "chartqa/train"
    (folder / "png").mkdir(parents=True)
    file = io.BytesIO()
    Image.effect_noise((64, 48), 50).save(file, "png")
    for name, content in (("whole", file.getvalue()), ("cut", file.getvalue()[:-900]), ("none", b"<html>")):
        (folder / f"png/{name}.png").write_bytes(content)
    rows = [{"imgname": f"{name}.png", "query": "What?", "label": "Noise"} for name in ("whole", "cut", "none", "gone")]
    (folder / "train_human.json").write_text(json.dumps(rows))
    assert convert(Convert("chartqa", tmp_path / "chartqa", tmp_path / "out", verify=verify)) == 0
    named = [json.loads(line)["id"] for line in (tmp_path / "out/bad.jsonl").read_text().splitlines()]
    ids = [f"chartqa train human {number} vqa" for number in (1, 2)][2 - bad :]
    assert named == [*ids, "chartqa train human 3"]


def test_adapters_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_adapters(Adapters()) == 0
    listed = capsys.readouterr().out
    assert all(f"{name} " in listed for name in ADAPTERS)
    assert list_adapters(Adapters(markdown=True)) == 0
    assert capsys.readouterr().out == markdown()
    with pytest.raises(AdapterError, match="did you mean 'refcoco'"):
        adapter_named("refcooc")
    with pytest.raises(AdapterError, match="vqav2 makes vqa"):
        convert(Convert("vqav2", FIXTURES, FIXTURES, tasks=("caption",)))


def test_a_text_that_was_cut_in_a_character_is_refused_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "a good text"}, {"text": "cut \ud83d"}]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c4-train.0.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert convert(Convert("c4", tmp_path / "in", tmp_path / "out")) == 0
    assert len(ShardReader(tmp_path / "out")) == 1
    [bad] = (json.loads(line) for line in (tmp_path / "out" / "bad.jsonl").read_text(encoding="utf-8").splitlines())
    assert "half of a character" in bad["reason"] and "refused: 1" in capsys.readouterr().out


def test_nothing_converted_is_said_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c4-train.0.jsonl").write_text(json.dumps({"text": "cut \ud83d"}))
    assert convert(Convert("c4", tmp_path / "in", tmp_path / "out")) == 1
    assert capsys.readouterr().err == f"qwenvl: {tmp_path / 'in'}: all records were refused\n"
    assert not list((tmp_path / "out").glob("*.parquet"))
