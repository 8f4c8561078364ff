"""What the inspection page shows is what the model is taught: pixels out of its patches, places out of its tokens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from qwenvl.cli.main import main
from qwenvl.data.inspect_samples import read_back, samples_page
from qwenvl.data.places import for_markup
from qwenvl.data.shards import write_shard
from qwenvl.data.sources import BadSample
from qwenvl.data.stats import gather
from qwenvl.processing.encode import Processor
from qwenvl.processing.image import open_image
from qwenvl.processing.patches import cut_patches, uncut_patches
from qwenvl.types import CoordinatesPart, ImagePart, Message, Region, RegionPart, Sample, VideoPart
from tests.fast.test_packed_rows import NANOS, Captions, processor


def boxed(count: int = 1) -> Sample:
    """Questions about `count` pictures; the answer has a box in each."""
    pictures = [ImagePart(Image.new("RGB", (150 + 20 * number, 110), "navy")) for number in range(count)]
    boxes = [Region.box(0.1, 0.2, 0.55, 0.8 - 0.1 * number, "a dog", number) for number in range(count)]
    regions = [RegionPart("a dog", (box,)) for box in boxes]
    asked, said = Message.of("user", *pictures, "Where?"), Message("assistant", tuple(regions))
    return Sample((asked, said), f"boxed{count}", "referring", "en")


@pytest.mark.parametrize("name", NANOS)
def test_patches_give_back_the_pixels_they_were_cut_from(name: str) -> None:
    ours = processor(name)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 56, 84, 3), np.uint8)
    config, spec = ours.config, ours.spec
    depth = config.vision.temporal_patch_size
    patches = cut_patches(pixels, config, spec)
    grid = (len(patches) // (4 * 6), 4, 6)
    frames = uncut_patches(patches, grid, config, spec)
    wanted = pixels if depth == 1 else np.concatenate([pixels, pixels[-1:]])
    np.testing.assert_array_equal(frames, wanted)


@pytest.mark.parametrize("name", NANOS)
@pytest.mark.parametrize("style", ["raw", "chat"])
@pytest.mark.parametrize("count", [1, 2])
def test_places_are_read_back_where_they_are(name: str, style: Any, count: int) -> None:
    ours = processor(name)
    sample = for_markup(boxed(count), ours.markup)
    places = read_back(sample, ours.encode(sample, style), ours)
    assert [place.region.image for place in places] == list(range(count))
    assert all(place.error is not None and place.error < 1.0 for place in places)


def shifted(ours: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the processor as a wrong frame would: the text says pixels of a picture twice as wide."""
    import qwenvl.processing.encode as encode

    real = encode.frame_size
    monkeypatch.setattr(encode, "frame_size", lambda grid, patch: (real(grid, patch)[0] * 2, real(grid, patch)[1]))


def test_a_wrong_frame_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = processor("qwen2.5-vl-nano")
    sample = boxed()
    shifted(ours, monkeypatch)
    (place,) = read_back(sample, ours.encode(sample, "chat"), ours)
    assert place.error is not None and place.error > 10


def test_the_page_holds_pictures_marks_tokens_and_refusals() -> None:
    ours = processor("qwen2.5-vl-nano")
    frames = VideoPart([Image.new("RGB", (60, 60))] * 4, fps=2.0)
    clip = Sample((Message.of("user", frames, "When?"), Message.of("assistant", "now")))
    place = CoordinatesPart(Region("point", ((0.5, 0.5),)))
    action = Sample((Message.of("user", *boxed().images), Message.of("assistant", place)))
    broken = Sample((Message.of("user", ImagePart("/nowhere.png")), Message.of("assistant", "x")), "gone")
    page = samples_page("<taught>", [boxed(), clip, action, broken, BadSample("7", "its box is <empty>")], ours, "chat")
    assert page.count("<svg") == 1 + 4 + 1 and page.count("<polygon") == 1
    assert "read back within 0." in page and "&lt;taught&gt;" in page
    assert "gone&#x27;, picture 1: /nowhere.png: no such file" in page and "its box is &lt;empty&gt;" in page
    supervised = re.findall(r'<span class="s"[^>]*>([^<]*)</span>', page)
    assert "now" in "".join(supervised) and "Where" not in "".join(supervised)
    assert not re.search(r'(src|href)="(?!data:)', page), "it stands alone"


def test_stats_count_what_encoding_gives(tmp_path: Path) -> None:
    ours = processor()
    samples = [Captions().sample(number) for number in range(30)]
    found = gather([*samples, BadSample("x", "y")], ours, "raw")
    record = found.record()
    encoded = [ours.encode(sample, "raw") for sample in samples]
    assert record["tokens"]["sum"] == sum(map(len, encoded)) and record["tokens"]["max"] == max(map(len, encoded))
    assert record["visual_tokens"]["sum"] == sum(len(one.visual_slots) for one in encoded)
    assert record["patches"]["sum"] == sum(len(one.patches) for one in encoded)
    assert record["refused"] == {"BadSample": 1} and record["samples"] == 30
    assert record["longest"][0]["tokens"] == record["tokens"]["max"]
    found.draw(tmp_path / "stats.png", "captions")
    assert open_image(tmp_path / "stats.png").size == (1100, 700)


def test_commands_look_at_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "shards" / "part-00000.parquet", [boxed(), *(Captions().sample(number) for number in range(4))])
    assert main(["data", "inspect", str(tmp_path / "shards"), "--out", str(tmp_path / "page.html"), "--count", "3"]) == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<section>") == 3
    assert main(["data", "stats", str(tmp_path / "shards"), "--out", str(tmp_path / "stats.png"), "--model", "qwen-vl-nano"]) == 0
    assert (tmp_path / "stats.json").exists() and '"samples": 5' in capsys.readouterr().out
    assert main(["data", "inspect", str(tmp_path / "none"), "--out", str(tmp_path / "page.html")]) == 1
    assert "no Parquet file there" in capsys.readouterr().err


def test_commands_say_how_many_there_were_and_fail_without_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard, page = str(tmp_path / "a.parquet"), str(tmp_path / "page.html")
    write_shard(shard, [boxed()])
    assert main(["data", "inspect", shard, "--out", page]) == 0
    assert capsys.readouterr().out == f"{page}: 1 samples of {shard}\n"
    assert main(["data", "inspect", shard, "--out", page, "--start", "7"]) == 1
    assert "no sample from number 7 on" in capsys.readouterr().err
    table = pq.read_table(shard)
    pq.write_table(table.set_column(table.schema.get_field_index("messages"), "messages", pa.array(["no JSON"])), shard)
    assert main(["data", "inspect", shard, "--out", page]) == 1
    assert "0 samples" in (said := capsys.readouterr().out) and "1 refused" in said
    assert main(["data", "stats", shard]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["samples"] == 0 and told.err.startswith("qwenvl: refused: 1, the first: sample ")
    pq.write_table(table.slice(0, 0), shard)
    assert main(["data", "stats", shard]) == 1
    assert capsys.readouterr().err == f"qwenvl: {shard}: has no samples; give other shards\n"
