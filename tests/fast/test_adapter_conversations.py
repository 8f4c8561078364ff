"""Conversations from public files: placeholders become pictures, and what was written for one model becomes places again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwenvl.data.adapters.convert import census
from qwenvl.data.adapters.finetuning import resized
from qwenvl.data.adapters.registry import ADAPTERS
from qwenvl.data.places import for_markup
from qwenvl.data.sources import BadSample
from qwenvl.families import find_preset
from qwenvl.types import CoordinatesPart, ImagePart, QwenVLError, Region, RegionPart, Sample, TextPart, VideoPart
from tests.adapters import exchanged, samples_of

JSON = find_preset("qwen2.5-vl-nano").markup


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.png of 64 x 48 and big.png of 640 x 480, in images/; c.mp4 which nobody opens."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    for name, size in (("a", (64, 48)), ("big", (640, 480))):
        Image.new("RGB", size, "white").save(root / f"images/{name}.png")
    (root / "c.mp4").write_bytes(b"")
    return root


def read(name: str, root: Path, *turns: str, roles: tuple[str, str] = ("human", "gpt"), **about: Any) -> Sample:
    said = [{"from": roles[number % 2], "value": text} for number, text in enumerate(turns)]
    record = {"conversations": said, "file": "some/train.json", "number": 4, "folder": str(root), **about}
    [made] = ADAPTERS[name].samples(record, root, 4)
    return made


def answer(sample: Sample) -> tuple[Any, ...]:
    return sample.messages[-1].parts


def box(*sides: float, image: int = 0) -> Region:
    return Region.box(*sides, image=image)


# Turns and placeholders


def test_pictures_stand_where_their_placeholders_stood() -> None:
    first, pair, words = samples_of("llava")
    assert [type(part) for part in first.messages[0].parts] == [ImagePart, TextPart]
    assert [type(part) for part in pair.messages[0].parts] == [TextPart, ImagePart, TextPart, ImagePart, TextPart]
    assert [Path(part.image).name for part in pair.images] == ["000000000009.jpg", "000000000025.jpg"]
    assert not words.visuals and pair.extra["record"] == "pair"
    assert len(first.extra["turns"]) == 2


def test_a_placeholder_may_be_a_clip(folder: Path) -> None:
    for name, placeholder in (("llava_video", "<image>"), ("qwen2_5_vl", "<video>")):
        made = read(name, folder, f"{placeholder}\nWhat?", "A.", video="c.mp4")
        assert [type(part) for part in made.visuals] == [VideoPart]
        assert Path(made.visuals[0].video) == folder / "c.mp4"  # type: ignore[union-attr]
    both = read("qwen2_5_vl", folder, "<image><video> Same?", "No.", image="a.png", video="c.mp4")
    assert [type(part) for part in both.visuals] == [ImagePart, VideoPart]


def test_a_system_turn_and_other_roles(folder: Path) -> None:
    said = [{"from": "system", "value": "Be brief."}, {"from": "gpt", "value": "Hello!"}]
    said += [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hi."}]
    made = read("sharegpt", folder, conversations=said)
    assert [message.role for message in made.messages] == ["system", "user", "assistant"]
    assert read("qwen_vl", folder, "Hi", "Hi.", roles=("user", "assistant")).messages[1].role == "assistant"


@pytest.mark.parametrize(
    ("turns", "about", "message"),
    [
        (("<image> What?", "A."), {}, "<image> in turn 1, for which there is no file"),
        (("What?", "A."), {"image": "a.png"}, r"no placeholder for a\.png"),
        (("<image><image>", "A."), {"image": ["a.png"]}, "for which there is no file"),
        (("What?", "<image> A."), {"image": "a.png"}, "<image> in turn 2, which is no user's"),
        (("<video> What?", "A."), {"image": "a.png"}, "<video> in turn 1, for which there is no file"),
        (
            ("<image> What?", "A."),
            {"image": "gone.png"},
            r"picture is not there: some/gone\.png or gone\.png or images/",
        ),
        (("<image> What?", "A."), {"image": "x" * 5000}, "its picture is not there: some/xxx"),
        (("<video> What?", "A."), {"video": "gone.mp4"}, "its video is not there"),
        (("What?",), {}, "not questions and answers in turn"),
        (("What?", " "), {}, "turn 2 is empty"),
        (("What?", "A."), {"roles": ("human", "bing")}, "a turn of 'bing'; known are human"),
    ],
)
def test_bad_conversations_are_refused_with_their_id(
    folder: Path, turns: tuple[str, ...], about: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSample, match=message) as refused:
        read("qwen2_5_vl", folder, *turns, **about)
    assert refused.value.sample_id == "qwen2_5_vl some/train 4"


# Qwen-VL's tags


def test_places_belong_to_the_last_picture_shown(folder: Path) -> None:
    turns = (
        "Picture 1: <img>a.png</img>\nThe <ref>cat</ref>?",
        "<ref>The cat</ref><box>(100,200),(300,400)</box><box>(0,0),(500,999)</box> sits.",
        "Picture 2: <img>images/big.png</img>\nAnd <box>(1,2),(30,40)</box>?",
        "<quad>(10,10), (90,10), (90,50), (10,50)</quad> text",
    )  # fmt: skip
    made = read("qwen_vl", folder, *turns)
    assert [Path(part.image).name for part in made.images] == ["a.png", "big.png"]
    assert made.messages[0].parts[1:] == (TextPart("The "), RegionPart("cat"), TextPart("?"))
    found = [part for message in made.messages for part in message.parts if isinstance(part, RegionPart) and part.regions]
    assert [[region.image for region in part.regions] for part in found] == [[0, 0], [1], [1]]
    assert found[0].phrase == "The cat" and found[0].regions[0].points == ((0.1, 0.2), (0.3, 0.4))
    assert found[2].regions[0].kind == "quad"
    assert exchanged(made).split("|")[1] == turns[1]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("<ref>cat</ref><box>(100,200),(1300,400)</box>", "<ref>cat</ref><box>.* is no place: tags unpaired, out of range"),
        ("<ref>cat</ref><box>(300,200),(100,400)</box>", "is no place"),
        ("<box>(100,200)</box>", "is no place"),
        ("<ref>cat", "'<ref>cat' is no place: tags unpaired"),
        ("the cat</ref>", "is no place"),
        ("<box>(100,200),(101,400)</box>", "is degenerate"),
    ],
)
def test_tags_that_are_no_places_are_refused(folder: Path, said: str, message: str) -> None:
    with pytest.raises(QwenVLError, match=message) as refused:
        read("qwen_vl", folder, "<img>a.png</img>Where?", said)
    assert "qwen_vl some/train 4" in str(refused.value)


def test_a_place_needs_a_picture(folder: Path) -> None:
    for name, said in (("qwen_vl", "<box>(1,2),(30,40)</box>"), ("qwen2_5_vl", '{"bbox_2d": [1, 2, 30, 40]}')):
        with pytest.raises(BadSample, match="a place before any picture"):
            read(name, folder, "Where?", said)


# Qwen2.5-VL's JSON


def test_boxes_are_pixels_of_the_resized_picture(folder: Path) -> None:
    assert resized(str(folder / "images/a.png")) == (56, 56)  # no smaller
    width, height = resized(str(folder / "images/big.png"))
    assert (width, height) == (644, 476)
    said = f'[{{"bbox_2d": [0, 0, {width // 2}, {height}], "label": "left"}}]'
    [part] = answer(read("qwen2_5_vl", folder, "<image><image>Where?", said, images=["a.png", "big.png"]))
    assert part == RegionPart("left", (box(0, 0, (width // 2) / width, 1, image=1),))


@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```", "```\n{}\n```\n"])
@pytest.mark.parametrize("words", ["", "Here they are:\n"])
def test_a_list_of_places_is_every_familys_own(folder: Path, fence: str, words: str) -> None:
    width, height = resized(str(folder / "images/a.png"))
    boxes = [{"bbox_2d": [0, 0, width // 2, height], "label": "left"}, {"bbox_2d": [width // 2, 0, width, height]}]
    made = read("qwen2_5_vl", folder, "<image>Where?", words + fence.replace("{}", json.dumps(boxes)), image="a.png")
    half = (width // 2) / width
    marked = (RegionPart("left", (box(0, 0, half, 1),)), RegionPart(None, (box(half, 0, 1, 1),)))
    assert answer(made) == (*([TextPart(words)] if words else []), *marked)
    assert for_markup(made, JSON).messages == made.messages


@pytest.mark.parametrize(
    "said",
    [
        '{"bbox_2d": [28, 28, 56, 56], "text_content": "Tea"}',
        'The cat is at {"bbox_2d": [28, 28, 56, 56], "label": "cat"}.',
        '[{"bbox_2d": [28, 28, 56, 56], "label": "cat"}]\nIt sleeps.',
        '<tool_call>\n{"name": "look", "arguments": {"bbox_2d": [28, 28, 56, 56]}}\n</tool_call>',
    ],
)
def test_in_other_json_the_numbers_alone_are_replaced(folder: Path, said: str) -> None:
    made = answer(read("qwen2_5_vl", folder, "<image>Where?", said, image="big.png"))
    width, height = resized(str(folder / "images/big.png"))
    before, after = said.split("28, 28, 56, 56")
    assert made[0] == TextPart(before) and made[2] == TextPart(after)
    assert isinstance(made[1], CoordinatesPart) and made[1].separator == ", "
    assert made[1].region == box(28 / width, 28 / height, 56 / width, 56 / height)


def test_points_are_places_too(folder: Path) -> None:
    width, height = resized(str(folder / "images/big.png"))
    said = f'[{{"point_2d": [{width // 4}, {height // 2}], "label": "eye"}}]'
    [part] = answer(read("qwen2_5_vl", folder, "<image>Where?", said, image="big.png"))
    assert part == RegionPart("eye", (Region("point", ((width // 4 / width, height // 2 / height),)),))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"bbox_2d": [0, 0, 5000, 20]}', "leaves the picture"),
        ('{"bbox_2d": [40, 0, 20, 20]}', "swapped|empty"),
        ('{"bbox_2d": [0, 0, 20]}', r"bbox_2d \[0, 0, 20\] is no box"),
        ('{"bbox_2d": ["left", 0, 20, 20]}', r"bbox_2d \['left', 0, 20, 20\] is no box"),
        ('{"point_2d": [1, 2, 3]}', r"point_2d \[1, 2, 3\] is no point"),
        ('At "bbox_2d": [one, two].', r"\[one, two\] are no coordinates"),
        ('{"point_2d": [-40, 2], "text": "a"}', r"leaves \[0, 1\]"),
        ('At {"bbox_2d": [one, two]}', r"bbox_2d \[\] is no box"),
    ],
)
def test_json_that_is_no_place_is_refused(folder: Path, said: str, message: str) -> None:
    with pytest.raises(QwenVLError, match=message) as refused:
        read("qwen2_5_vl", folder, "<image>Where?", said, image="a.png")
    assert "qwen2_5_vl" in str(refused.value)


def test_boxes_in_another_frame_are_found_together(folder: Path) -> None:
    """Thousandths, as Qwen-VL and Qwen3-VL write them, in a file that should have pixels."""
    about = {"folder": str(folder), "file": "train.json", "image": "big.png"}
    records = []
    for number in range(60):
        left, top = 90 * (number % 10), 150 * (number // 10)
        said = json.dumps({"bbox_2d": [left, top, 999, 999] if number % 2 else [left, top, left + 90, top + 90]})
        records.append({"conversations": [{"from": "gpt", "value": said}], **about})
    verdict = census(ADAPTERS["qwen2_5_vl"], records)
    assert verdict is not None and "thousandths" in str(verdict.likelier)
