"""The views of what is taught show what is in the labels, and the sheet of scenes shows every scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwenvl.cli.main import main
from qwenvl.data.inspect import contact_sheet, tokens_view
from qwenvl.data.synth.scene import SceneSpec, generate_scene
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
