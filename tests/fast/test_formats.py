"""Formats of training tasks: those that the paper shows, to the letter."""

from __future__ import annotations

import pytest
from PIL import Image

from qwenvl.data import formats
from qwenvl.types import ImagePart, Message, Region, RegionPart, Sample, TextPart
from tests.adapters import exchanged

PICTURE = Image.new("RGB", (28, 28))


def box(*numbers: int) -> Region:
    left, top, right, bottom = (number / 1000 for number in numbers)
    return Region.box(left, top, right, bottom)


def quad(*numbers: int) -> Region:
    thousandths = [number / 1000 for number in numbers]
    return Region("quad", tuple(zip(thousandths[::2], thousandths[1::2], strict=True)))


BEES = RegionPart("bees", (box(661, 612, 833, 812), box(120, 555, 265, 770)))
FLOWER = RegionPart("an apricot flower", (box(224, 13, 399, 313),))
SHOT = (TextPart("Beautiful shot of "), BEES, TextPart(" gathering nectars from "), FLOWER)
LINES = [
    ("It is managed", quad(568, 121, 625, 131, 624, 182, 567, 172)),
    ("by South", quad(560, 224, 629, 232, 628, 283, 559, 277)),
]
WRIST = ("Does the bandage have a different color than the wrist band?", "No, both the bandage and the wrist band are white.")
BOOK = (
    "What is the title of this book?",
    "Asi Se Dice!, Volume 2: Workbook And Audio Activities (Glencoe Spanish) (Spanish Edition)",
)

# Prefix and label of each task in Box B of arXiv 2308.12966, parted by "|".
BOX_B = [
    (
        formats.caption(PICTURE, "the beautiful flowers for design.", "en"),
        "Generate the caption in English:| the beautiful flowers for design.",
    ),
    (formats.vqa(PICTURE, *WRIST, "en"), f" {WRIST[0]} Answer:| {WRIST[1]}"),
    (formats.vqa(PICTURE, *BOOK, "en"), f" {BOOK[0]} Answer:| {BOOK[1]}"),
    (
        formats.grounded_caption(PICTURE, SHOT, "en"),
        "Generate the caption in English with grounding:| Beautiful shot of <ref>bees</ref><box>(661,612),(833,812)</box>"
        "<box>(120,555),(265,770)</box> gathering nectars from <ref>an apricot flower</ref><box>(224,13),(399,313)</box>",
    ),
    (
        formats.referring(PICTURE, "the ear on a giraffe", [box(176, 106, 232, 160)]),
        "<ref>the ear on a giraffe</ref>|<box>(176,106),(232,160)</box>",
    ),
    (
        formats.naming(PICTURE, box(360, 542, 476, 705), "Yellow cross country ski racing gloves", "en"),
        "<ref>This</ref><box>(360,542),(476,705)</box>| is Yellow cross country ski racing gloves",
    ),
    (
        formats.ocr_quad(PICTURE, LINES, "en"),
        "OCR with grounding:| <ref>It is managed</ref><quad>(568,121), (625,131), (624,182), (567,172)</quad>"
        "<ref>by South</ref><quad>(560,224), (629,232), (628,283), (559,277)</quad>",
    ),
]


@pytest.mark.parametrize(("messages", "text"), BOX_B)
def test_formats_are_those_of_box_b(messages: tuple[Message, ...], text: str) -> None:
    assert isinstance(messages[0].parts[0], ImagePart)
    assert exchanged(Sample(messages)) == text


def test_chinese_answers_follow_their_prompts_without_a_space() -> None:
    assert exchanged(Sample(formats.vqa(PICTURE, "这是什么？", "一只猫", "zh"))) == "这是什么？答案：|一只猫"
    assert exchanged(Sample(formats.naming(PICTURE, box(1, 2, 3, 4), "猫", "zh"))) == "<ref>这</ref><box>(1,2),(3,4)</box>|是猫"


def test_options_are_lettered() -> None:
    """The layout of eval_mm/seed_bench/eval.py, QwenLM/Qwen-VL @ aa00ed0."""
    messages = formats.multiple_choice(PICTURE, "Which?", ["tea", "{question}"], 1, "en")
    assert exchanged(Sample(messages)) == "\nQuestion: Which?\nOptions: A. tea\nB. {question}\nAnswer:| B"
