"""The views of what is taught show what is in the labels, and sheets of scenes and clips show all that is in them."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qwenvl.cli.main import main
from qwenvl.data.film import COLOURS, film_sheet, film_strip
from qwenvl.data.inspect import contact_sheet, scene_page, tokens_view
from qwenvl.data.synth.clip import ClipSpec, generate_clip
from qwenvl.data.synth.scene import SceneSpec, generate_scene
from qwenvl.families import family_of_preset, find_preset
from qwenvl.processing.grid import image_grid
from qwenvl.processing.tokenizer import Tokenizer
from qwenvl.types import IGNORE_INDEX, Encoded
from qwenvl.weights.hub import builtin_models


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(builtin_models()["qwen-vl-nano"])


def encoded(tokenizer: Tokenizer, read: str, taught: str, placeholders: int) -> Encoded:
    picture = [tokenizer.special("<img>"), *[tokenizer.special("<imgpad>")] * placeholders, tokenizer.special("</img>")]
    before, answer = picture + tokenizer.encode(read), tokenizer.encode(taught)
    ids = np.array(before + answer)
    labels = np.array([IGNORE_INDEX] * len(before) + answer)
    slots = np.arange(1, 1 + placeholders)
    return Encoded(ids, labels, np.zeros((3, len(ids))), np.zeros((0, 1)), np.zeros((0, 3)), slots)


def test_red_is_what_is_supervised_and_nothing_else(tokenizer: Tokenizer) -> None:
    view = tokens_view(encoded(tokenizer, "Where is the dog?\n", "在左边。", 36), tokenizer)
    red = [view.plain[span.start : span.end] for span in view.spans if str(span.style).startswith("#ffffff")]
    read = [view.plain[span.start : span.end] for span in view.spans if not str(span.style).startswith("#ffffff")]
    assert "".join(read) == "<img><imgpad> x 36</img>Where is the dog?⏎"
    assert "".join(red) == "在左边。"
    assert len(red) == len(tokenizer.encode("在左边。"))


def test_each_of_several_pictures_has_its_own_number_of_placeholders(tokenizer: Tokenizer) -> None:
    one, two = encoded(tokenizer, "", "a", 3), encoded(tokenizer, "", "b", 5)
    ids, labels = (np.concatenate([getattr(one, name), getattr(two, name)]) for name in ("input_ids", "labels"))
    both = one.with_(input_ids=ids, labels=labels, visual_slots=np.concatenate([one.visual_slots, two.visual_slots + len(one)]))
    assert tokens_view(both, tokenizer).plain == "<img><imgpad> x 3</img>a<img><imgpad> x 5</img>b"


@pytest.mark.usefixtures("scene_sources")
def test_the_page_writes_places_as_the_family_does() -> None:
    scenes = [generate_scene(SceneSpec(aspect=(2.0, 2.0)), 0, index) for index in (0, 1)]
    presets = [find_preset(name) for name in ("qwen-vl-nano", "qwen2-vl-nano", "qwen2.5-vl-nano")]
    tags, tokens, lists = (html.unescape(scene_page(scenes, ["en"], ["chat"], 0, preset)) for preset in presets)
    assert re.search(r"<ref>[^<]+</ref><box>\(\d{3},\d{3}\),", tags) and "bbox_2d" not in tags
    assert re.search(r"<\|object_ref_start\|>[^<]+<\|object_ref_end\|><\|box_start\|>\(\d{3},", tokens) and "<box>" not in tokens
    assert "<box>" not in lists and "<|box_start|>" not in lists and '{"point_2d": [' in lists
    # In pixels of the picture as the model sees it, and about the right one of two pictures.
    preset = presets[2]
    pairs = [image_grid(preset.config, family_of_preset(preset), scene.width, scene.height)[1:] for scene in scenes]
    height, width = (14 * max(sides) for sides in zip(*pairs, strict=True))
    boxes = [json.loads(box) for box in re.findall(r'"bbox_2d": (\[[^]]*\])', lists)]
    assert boxes and all(0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height for box in boxes)
    assert max(box[2] for box in boxes) > height, "wider than it is high"


@pytest.mark.usefixtures("scene_sources")
def test_a_long_scene_keeps_its_shape_on_the_sheet() -> None:
    wide = generate_scene(SceneSpec(kind="text", aspect=(2.0, 2.0)), 0, 0)
    sheet = np.asarray(contact_sheet([wide], side=100))
    assert sheet.shape == (100, 100, 3) and (sheet[round(100 * wide.height / wide.width) :] == 255).all()


@pytest.mark.usefixtures("scene_sources")
def test_every_scene_is_on_the_sheet_with_its_boxes() -> None:
    scenes = [generate_scene(SceneSpec(), 0, index) for index in range(5)]
    sheet = contact_sheet(scenes, columns=3, side=100, gap=4)
    assert sheet.size == (3 * 104 - 4, 2 * 104 - 4)
    left, top, _, _ = (round(value * 100 / scenes[4].width) for value in scenes[4].things[0].box)
    magenta = np.all(np.asarray(sheet) == (255, 0, 255), axis=2)
    assert magenta[104 + top - 1 : 104 + top + 2, 104 + left - 1 : 104 + left + 2].any()


@pytest.mark.usefixtures("scene_sources")
def test_a_view_is_saved_as_a_picture_that_fetches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "tokens", "--out", str(tmp_path / "tokens.svg")]) == 0
    saved = (tmp_path / "tokens.svg").read_text(encoding="utf-8")
    assert "imgpad" in saved and "url(http" not in saved and "@font-face" not in saved
    assert main(["data", "tokens", "--out", str(tmp_path / "tokens.pdf")]) == 1
    assert "ends in .svg or .html" in capsys.readouterr().err


@pytest.mark.usefixtures("scene_sources")
@pytest.mark.parametrize("index", range(8))
def test_a_box_stands_above_the_bar_of_its_colour(index: int) -> None:
    clip, side, gap = generate_clip(ClipSpec(), 0, index), 80, 4
    strip = np.asarray(film_strip(clip, columns=12, side=side))
    assert strip.shape[1] == 12 * (side + gap) - gap
    for row, colour in enumerate(COLOURS[: len(clip.tracks)]):
        painted = (strip == colour).all(axis=2)
        bar = painted[20 + side + gap + row * 20 + 10]
        seen = [painted[20 : 20 + side, left : left + side].sum() > 8 for left in range(0, strip.shape[1], side + gap)]
        for column, boxed in enumerate(seen):
            below = bar[column * (side + gap) + side // 2 + np.arange(-3, 4)]
            assert boxed in below, (row, column)  # both at an end of the bar
        assert any(seen)


@pytest.mark.usefixtures("scene_sources")
def test_clips_are_drawn_and_their_questions_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clips.png"
    assert main(["data", "clip", str(out), "--index", "1", "--count", "2", "--language", "both"]) == 0
    said = capsys.readouterr().out
    assert "clip 1: 8 seconds, 16 frames" in said and "clip 2: " in said
    assert "-> A dog, a white triangle and an umbrella." in said and "-> 它向左移动。" in said
    drawn = film_sheet([generate_clip(ClipSpec(), 0, index) for index in (1, 2)])
    assert (np.asarray(Image.open(out)) == np.asarray(drawn)).all()
    for wrong, told in ((["clips.html"], "ends in .png"), ([str(out), "--count", "0"], "at least one clip")):
        assert main(["data", "clip", *wrong]) == 1
        error = capsys.readouterr().err
        assert told in error and len(error.splitlines()) == 1
